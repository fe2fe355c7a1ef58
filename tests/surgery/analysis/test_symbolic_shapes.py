"""Shapes that onnx's own inference loses, found again by following the computations behind them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, C, build, cnn, images, run, tensors
from onnx_xcam import check, instrument
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.symbolic_shapes import reshaped
from onnx_xcam.surgery.ir import dims


def shape_of(body, name, *, inputs="float[N,C,H,W] x", weights=None, opset=17):
    """The shape that the analysis finds for a tensor of these nodes."""
    model = build(body, weights, inputs=inputs, outputs=f"float {name}", opset=opset)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return prepare(model).shape(name)


def ints(name, *values):
    return f"{name} = Constant<value_ints=[{', '.join(map(str, values))}]>() "


def number(name, value):
    return f"{name} = Constant<value_int={value}>() "


DIM = "s = Shape(x) " + ints("zero", 0)
"""What exporters write before a dimension is taken out."""


def dim(axis, name):
    return f"{number(f'i{name}', axis)} g{name} = Gather(s, i{name})  {name} = Unsqueeze(g{name}, zero) "


SHUFFLE = (
    DIM + dim(0, "n") + dim(2, "h") + dim(3, "w") + ints("two", 2) + ints("c2", 29)
    + "t5 = Concat<axis=0>(n, two, c2, h, w)  five = Reshape(x, t5)  turned = Transpose<perm=[0,2,1,3,4]>(five) "
    + ints("c", 58) + "t4 = Concat<axis=0>(n, c, h, w)  y = Reshape(turned, t4)"
)  # fmt: skip
CASES = {
    "channel shuffle, symbolic batch": (SHUFFLE, "float[N,58,7,7] x", ("N", 58, 7, 7)),
    "channel shuffle, symbolic space": (SHUFFLE, "float[1,58,H,W] x", (1, 58, "H", "W")),
    "channel shuffle, all static": (SHUFFLE, "float[3,58,7,9] x", (3, 58, 7, 9)),
    "flatten by hand": (DIM + dim(0, "n") + ints("m", -1) + "t = Concat<axis=0>(n, m)  y = Reshape(x, t)",
                        "float[N,4,5,6] x", ("N", 120)),
    "batch taken by -1": (ints("t", -1, 8, 6) + "y = Reshape(x, t)", "float[N,4,2,6] x", ("N", 8, 6)),
    "zero copies": (ints("t", 0, 0, -1) + "y = Reshape(x, t)", "float[N,4,5,6] x", ("N", 4, 30)),
    "product of dimensions": (
        DIM + dim(0, "n") + dim(1, "c") + dim(2, "h") + dim(3, "w") + "hw = Mul(h, w)  t = Concat<axis=0>(n, c, hw) "
        "y = Reshape(x, t)", "float[N,4,5,6] x", ("N", 4, 30)),
    "half the channels": (
        DIM + dim(0, "n") + dim(1, "c") + ints("two", 2) + "half = Div(c, two)  " + ints("r", 2) + ints("m", -1)
        + "t = Concat<axis=0>(n, r, half, m)  y = Reshape(x, t)", "float[N,6,5,4] x", ("N", 2, 3, 20)),
    "slice of the shape": (DIM + ints("b", 2) + ints("o", 1) + ints("m", -1)
                           + "sl = Slice(s, zero, b, zero, o)  t = Concat<axis=0>(sl, m)  y = Reshape(x, t)",
                           "float[N,C,5,4] x", ("N", "C", 20)),
    "slice from behind": (DIM + ints("b", -2) + ints("e", 9223372036854775807) + ints("m", -1)
                          + "sl = Slice(s, b, e, zero)  t = Concat<axis=0>(m, sl)  y = Reshape(x, t)",
                          "float[2,3,H,W] x", (6, "H", "W")),
    "shape with start and end": ("sl = Shape<start=1, end=3>(x)  " + ints("m", -1)
                                 + "t = Concat<axis=0>(sl, m)  y = Reshape(x, t)", "float[2,C,H,4] x", ("C", "H", 8)),
    "expand": (DIM + dim(0, "n") + ints("k", 1, 4) + "t = Concat<axis=0>(n, k)  o = Constant<value_float=1.0>() "
               "y = Expand(o, t)", "float[N,C,H,W] x", ("N", 1, 4)),
    "expand by Where and Equal, as torch writes it": (
        DIM + dim(0, "n") + ints("k", -1, 4) + "t = Concat<axis=0>(n, k) " + ints("m", -1) + ints("ones", 1, 1, 1)
        + "e = Equal(t, m)  u = Where(e, ones, t)  o = Constant<value_float=1.0>()  y = Expand(o, u)",
        "float[N,C,H,W] x", ("N", 1, 4)),
    "cast back and forth": (
        DIM + dim(0, "n") + "f = Cast<to=6>(n)  l = Cast<to=7>(f) " + ints("m", -1)
        + "t = Concat<axis=0>(l, m)  y = Reshape(x, t)", "float[N,2,3,4] x", ("N", 24)),
    "behind a found shape": (SHUFFLE.replace("y = Reshape", "z = Reshape") + " y = Relu(z)", "float[N,58,7,7] x",
                             ("N", 58, 7, 7)),
    "split of a found shape": (SHUFFLE.replace("y = Reshape", "z = Reshape")
                               + " y, rest = Split<axis=1, num_outputs=2>(z)", "float[N,58,7,7] x", ("N", 29, 7, 7)),
    "unknown product stays unknown": (DIM + dim(2, "h") + dim(3, "w") + "hw = Mul(h, w) " + ints("m", -1)
                                      + "t = Concat<axis=0>(m, hw)  y = Reshape(x, t)",
                                      "float[N,C,H,W] x", (None, None)),
    "an unknown operand makes no rank": (ints("k", 1) + "t = Add(k, u)  y = Reshape(x, t)",
                                         "float[N,4,5,6] x, int64[2] u", (None, None)),
    "a slice of nothing": (DIM + ints("m", -9) + ints("o", 1) + "e = Slice(s, zero, m, zero, o)  "
                           + ints("f", 3, -1) + "t = Concat<axis=0>(e, f)  y = Reshape(x, t)",
                           "float[N,4,5,6] x", (3, None)),
    "sum of a symbol stays unknown": (DIM + dim(2, "h") + ints("k", 1) + "h1 = Add(h, k)  " + ints("m", -1)
                                      + "t = Concat<axis=0>(m, h1)  y = Reshape(x, t)",
                                      "float[2,2,H,4] x", (None, None)),
}  # fmt: skip


def known(shape):
    """The shape without names that inference invented for what it does not know."""
    return tuple(None if isinstance(d, str) and d.startswith("unk__") else d for d in shape)


@pytest.mark.parametrize("case", CASES)
def test_followed_shapes(case):
    body, inputs, expected = CASES[case]
    opset = 18 if "num_outputs" in body else 17
    assert known(shape_of(body, "y", inputs=inputs, opset=opset)) == expected


def test_half_a_spectrum_where_values_are_followed_as_well():
    """STFT without `onesided` gives half of the spectrum, in a model with a computed shape as in any other."""
    spectrum = number("step", 16) + number("length", 16) + "y = STFT(x, step, , length) "
    computed = DIM + dim(0, "n") + ints("m", -1) + "t = Concat<axis=0>(n, m)  flat = Reshape(x, t)"
    assert shape_of(spectrum + computed, "y", inputs="float[1,64,1] x") == (1, 4, 9, 2)


@pytest.mark.parametrize("seed", range(30))
def test_reshaped_against_numpy(seed):
    """Random shapes with some dimensions as symbols: what is claimed is what numpy does."""
    random = np.random.default_rng(seed)
    true = random.integers(1, 6, random.integers(1, 5)).tolist()
    names = {axis: f"s{axis}" for axis in range(len(true)) if random.random() < 0.5}
    given = tuple(names.get(axis, size) for axis, size in enumerate(true))
    for cut in range(len(true)):
        for target in ([*true[:cut], -1], [-1, *true[cut + 1 :]], [0] * cut + [-1]):
            named = [names.get(axis, size) if size > 0 and axis < len(true) and size == true[axis] else size
                     for axis, size in enumerate(target)]  # fmt: skip
            result = reshaped(given, named)
            full = [true[axis] if size == 0 else size for axis, size in enumerate(target)]
            if -1 not in named:
                continue
            rest = np.prod([d for d in full if d != -1], dtype=int)
            if np.prod(true) % rest:
                continue
            actual = np.zeros(true).reshape(full).shape
            symbols = {name: true[axis] for axis, name in names.items()}
            for claimed, size in zip(result, actual, strict=True):
                assert claimed is None or symbols.get(claimed, claimed) == size


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((2, 1), (1, 3), (2, 3)),
        (("N", 1), (1, "N"), ("N", "N")),
        (("N", 4), ("N", 4), ("N", 4)),
        (("N", 4), (4,), ("N", 4)),
        (("N",), ("M",), (None,)),
        (("N",), (3,), (3,)),
        ((None,), (None,), (None,)),
        ((None,), (1,), (None,)),
        ((1,), (), (1,)),
    ],
)
def test_broadcast(a, b, expected):
    assert dims.broadcast(a, b) == expected
    assert dims.broadcast(b, a) == expected


def test_what_is_known_is_not_forgotten():
    """A computed shape that is known worse than the declared one does not replace it."""
    body = "s = Shape(x)  " + ints("k", 0) + "f = Cast<to=1>(s)  l = Cast<to=7>(f)  y = Reshape(x, l)  z = Relu(y)"
    model = build(body, inputs="float[N,3,4,4] x", outputs="float[N,3,4,4] z")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("y", 1, ["N", 3, 4, 4]))
    assert prepare(model).shape("y") == ("N", 3, 4, 4)


# --- and what it is for: models that such shapes lie in --------------------------------------------------------------

SHUFFLE_HEAD = """
  s = Shape(r2)  zero = Constant<value_ints=[0]>()
  i0 = Constant<value_int=0>()  g0 = Gather(s, i0)  n = Unsqueeze(g0, zero)
  i2 = Constant<value_int=2>()  g2 = Gather(s, i2)  h = Unsqueeze(g2, zero)
  i3 = Constant<value_int=3>()  g3 = Gather(s, i3)  w = Unsqueeze(g3, zero)
  two = Constant<value_ints=[2]>()  four = Constant<value_ints=[4]>()
  t5 = Concat<axis=0>(n, two, two, h, w)  five = Reshape(r2, t5)  turned = Transpose<perm=[0,2,1,3,4]>(five)
  t4 = Concat<axis=0>(n, four, h, w)  y4 = Reshape(turned, t4)
  c4 = Conv<pads=[1,1,1,1]>(y4, w3, b3)  a = Relu(c4)
"""


@pytest.mark.parametrize("size", [12, "?"])
@pytest.mark.parametrize("n", [2, "N"])
def test_a_channel_shuffle_in_the_way(n, size):
    """The layer lies before the shuffle: its gradient is that of the network with channels permuted by hand."""
    weights = {**GAP_WEIGHTS, "w3": (4, 4, 3, 3), "b3": (4,)}
    model = cnn(GAP, act="r2 = Relu(c2) " + SHUFFLE_HEAD, n=n, size=size, weights=weights)
    plain = cnn(
        GAP,
        act="r2 = Relu(c2)  order = Constant<value_ints=[0,2,1,3]>()  y4 = Gather<axis=1>(r2, order) "
        "c4 = Conv<pads=[1,1,1,1]>(y4, w3, b3)  a = Relu(c4)",
        weights=weights,
    )
    image = images(2)
    for layer in ("auto", "r2"):
        found = run(instrument(model, layers=layer), image, [[0, -1]])
        expected = run(instrument(plain, layers=layer), image, [[0, -1]])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    if size == 12:
        assert check(model, images(2), layers="r2").passed


@pytest.mark.parametrize("n", [1, 2])
def test_nothing_of_the_batch_is_baked_in(n):
    """A symbolic batch of any size, with shapes computed from it in the head."""
    head = """
      s = Shape(a)  i = Constant<value_int=0>()  g = Gather(s, i)  ax = Constant<value_ints=[0]>()  u = Unsqueeze(g, ax)
      m = Constant<value_ints=[-1]>()  t = Concat<axis=0>(u, m)  flat = Reshape(a, t)  logits = Gemm(flat, fc)
    """
    model = cnn(head, weights={"fc": (144, C)})
    made = instrument(model)
    found = run(made, images(n), [[3]])
    fc = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "fc"))
    expected = np.broadcast_to(fc[:, 3].reshape(1, 1, 4, 6, 6), (n, 1, 4, 6, 6))
    np.testing.assert_array_equal(found["xcam_gradients"], expected)
    np.testing.assert_array_equal(found["xcam_activations"], tensors(model, ["a"], images(n))["a"])
