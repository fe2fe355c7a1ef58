"""Where positions of a layer lie on the picture: flips, rolls, crops, sorts, and what undoes them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, build
from onnx_xcam import Explainer, inspect, instrument
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.axes.table import EFFECTS
from onnx_xcam.surgery.ir.op_facts import AxisEffect

BACKWARDS = "s = Constant<value = int64[1] {-1}>() e = Constant<value = int64[1] {-1000}>() "
BACKWARDS += "axis = Constant<value = int64[1] {3}>() "
FLIP = "Slice(%s, s, e, axis, s) "
WEIGHTS = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), **GAP_WEIGHTS}
FIRST = "c = Conv<pads=[1,1,1,1]>(image, w) r = Relu(c) "
LAST = "d = Conv<pads=[1,1,1,1]>(m, v) a = Relu(d) " + GAP


def between(text: str, *, opset: int = 17, **arrays: np.ndarray) -> onnx.ModelProto:
    """A model that does something to a feature map r [N,4,12,12], which becomes m, before its last convolution a."""
    return build(FIRST + text + LAST, {**WEIGHTS, **arrays}, opset=opset)


def default(model: onnx.ModelProto) -> tuple[str, str]:
    """The default layer and the sentence on it."""
    report = inspect(model)
    return next(one.name for one in report.layers if one.default), report.notes[0]


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_every_effect_on_axes_has_its_rule():
    assert set(EFFECTS) == set(get_args(AxisEffect))


ORDER = np.random.default_rng(0).permutation(12).astype(np.int64)
MOVED = {
    "Slice backwards": (BACKWARDS + "m = " + FLIP % "r", {}, "a mirror image of the picture's width"),
    "Gather backwards": (
        "m = Gather<axis=2>(r, i)",
        {"i": np.arange(12)[::-1].copy()},
        "a mirror image of the picture's height",
    ),
    "Gather in another order": (
        "m = Gather<axis=3>(r, i)",
        {"i": ORDER},
        "does not hold the picture's width in its order",
    ),
    "ReverseSequence": (
        "t = Transpose<perm=[2,0,1,3]>(r) q = ReverseSequence<time_axis=0, batch_axis=3>(t, n) "
        "m = Transpose<perm=[1,2,0,3]>(q)",
        {"n": np.full(12, 12)},
        "a mirror image of the picture's height",
    ),
    "an exchange matrix": ("m = MatMul(r, j)", {"j": np.eye(12, dtype=np.float32)[::-1].copy()}, "a mirror image"),
    "a dense layer over columns": ("m = MatMul(r, j)", {"j": (12, 12)}, "lost behind the MatMul"),
    "a roll": (
        "l, q = Split<axis=2>(r, n) m = Concat<axis=2>(q, l)",
        {"n": ints(3, 9)},
        "does not hold the picture's height in its order",
    ),
    "TopK": ("m, i = TopK<axis=2>(r, k)", {"k": ints(12)}, "lost behind the TopK"),
    "GatherElements": (
        "m = GatherElements<axis=3>(r, i)",
        {"i": np.zeros((1, 4, 12, 12), np.int64)},
        "lost behind the Gath",
    ),
    "GridSample": ("m = GridSample(r, g)", {"g": (1, 12, 12, 2)}, "lost behind the GridSample"),
    "Tile": ("m = Tile(r, n)", {"n": ints(1, 1, 1, 2)}, "lost behind the Tile"),
    "a map beside a map": ("m = Concat<axis=3>(r, r)", {}, "does not hold the picture's width in its order"),
    "maps in one batch": (BACKWARDS + "f = " + FLIP % "r" + "m = Concat<axis=0>(r, f)", {}, "into one batch"),
    "a map and its mirror image": (
        BACKWARDS + "f = " + FLIP % "r" + "m = Add(r, f)",
        {},
        "lie on the picture differently",
    ),
    "a map beside its mirror image": (
        BACKWARDS + "f = " + FLIP % "r" + "b = Concat<axis=1>(r, f) m = Conv(b, u)",
        {"u": (4, 8, 1, 1)},
        "lie on the picture differently",
    ),
}


@pytest.mark.parametrize("how", MOVED)
def test_what_moves_places_is_passed_over_aloud(how):
    text, arrays, why = MOVED[how]
    model = between(text, **arrays)
    layer, note = default(model)
    assert layer == "r"
    assert "passed over" in note and why in note
    with pytest.raises(LayerError, match=r"on the picture.*; the default would be 'r'"):
        instrument(model, layers="a")


KEPT = {
    "a flip that is undone": (BACKWARDS + "f = " + FLIP % "r" + "g = Relu(f) m = " + FLIP % "g", {}),
    "a roll that is undone": (
        "l, q = Split<axis=2>(r, n) b = Concat<axis=2>(q, l) x, y = Split<axis=2>(b, o) m = Concat<axis=2>(y, x)",
        {"n": ints(3, 9), "o": ints(9, 3)},
    ),
    "a transpose that is undone": (
        "t = Transpose<perm=[0,1,3,2]>(r) q = Conv<pads=[1,1,1,1]>(t, v) m = Transpose<perm=[0,1,3,2]>(q)",
        {},
    ),
    "channels in another order": ("m = Gather<axis=1>(r, i)", {"i": ints(3, 2, 1, 0)}),
    "a focus": (
        "q = Slice(r, n, e, x, t) f = Slice(r, o, e, x, t) b = Concat<axis=1>(q, f) m = Conv(b, u)",
        {"n": ints(0), "o": ints(1), "e": ints(1000), "x": ints(3), "t": ints(2), "u": (4, 8, 1, 1)},
    ),
    "blocks of pixels": ("q = SpaceToDepth<blocksize=2>(r) m = Conv(q, u)", {"u": (4, 16, 1, 1)}),
    "a resize by a matrix": ("m = MatMul(r, j)", {"j": np.repeat(np.eye(12, dtype=np.float32), 2, axis=1)}),
    "a padding and a window without one": (
        "q = Pad(r, n) m = MaxPool<kernel_shape=[3,3]>(q)",
        {"n": ints(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "a reflection at the borders": (
        "q = Gather<axis=2>(r, i) m = MaxPool<kernel_shape=[3,1]>(q)",
        {"i": ints(1, *range(12), 10)},
    ),
    "rows and columns that are weighed together": (  # coordinate attention
        "h = ReduceMean<axes=[3]>(r) q = ReduceMean<axes=[2]>(r) l = Transpose<perm=[0,1,3,2]>(q) "
        "y = Concat<axis=2>(h, l) z = Conv(y, u) k, o = Split<axis=2>(z, n) b = Transpose<perm=[0,1,3,2]>(o) "
        "s1 = Sigmoid(k) s2 = Sigmoid(b) j = Mul(r, s1) m = Mul(j, s2)",
        {"u": (4, 4, 1, 1), "n": ints(12, 12)},
    ),
    "values that are sorted beside": ("f, i = TopK<axis=3>(r, k) m = Add(r, f)", {"k": ints(12)}),
    "a deformable convolution": (
        "o = Conv<pads=[1,1,1,1]>(r, ow) m = DeformConv<pads=[1,1,1,1], kernel_shape=[3,3]>(r, v, o)",
        {"ow": (18, 4, 3, 3)},
    ),
}


@pytest.mark.parametrize("how", KEPT)
def test_what_is_undone_or_stays_in_place_is_no_obstacle(how):
    text, arrays = KEPT[how]
    opset = 19 if "Deform" in text else 17
    layer, note = default(between(text, opset=opset, **arrays))
    assert layer == "a"
    assert "passed over" not in note
    assert "covers" not in note


def test_the_upright_half_of_a_model_that_looks_at_a_mirror_image_too():
    """The map is the upright branch's own, as if there were no other; the note says that it is a part."""
    branch = "c%(n)s = Conv<pads=[1,1,1,1]>(%(x)s, w) r%(n)s = Relu(c%(n)s) p%(n)s = GlobalAveragePool(r%(n)s) "
    text = (
        BACKWARDS + branch % {"n": 1, "x": "image"} + "flipped = " + FLIP % "image" + branch % {"n": 2, "x": "flipped"}
    )
    both = build(text + "p = Add(p1, p2) flat = Flatten(p) logits = Gemm<transB=1>(flat, fc, fb)", WEIGHTS)
    one = build(branch % {"n": 1, "x": "image"} + "flat = Flatten(p1) logits = Gemm<transB=1>(flat, fc, fb)", WEIGHTS)
    layer, note = default(both)
    assert layer == "r1"
    assert "this one a part; another is passed over, since it is a mirror image of the picture's width" in note
    assert {row.name: row.carries_all for row in inspect(both).layers} == {"c1": False, "r1": False}
    photo = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    maps = [
        Explainer(model, preprocess="unit", providers="cpu", relu=False).explain(photo, classes=[1]).maps
        for model in (both, one)
    ]
    np.testing.assert_allclose(*maps, atol=1e-6)


@pytest.mark.parametrize("join", ["m = Add(r1, r2)", "m = Concat<axis=1>(r1, r2)", "m = Max(r2, r1)"])
def test_rows_of_one_branch_beside_columns_of_another_are_no_map(join):
    """A picture and the same one turned by a quarter, where they are square."""
    branch = "c%(n)s = Conv<pads=[1,1,1,1]>(%(x)s, w) r%(n)s = Relu(c%(n)s) "
    text = BACKWARDS + branch % {"n": 1, "x": "image"} + "y = Transpose<perm=[0,1,3,2]>(image) x = " + FLIP % "y"
    text += branch % {"n": 2, "x": "x"} + join + " p = GlobalAveragePool(m) flat = Flatten(p) "
    text += "logits = Gemm<transB=1>(flat, fc, fb)"
    model = build(text, {**WEIGHTS, "fc": (5, 8 if "Concat" in join else 4)})
    layer, note = default(model)
    assert layer == "r1"
    assert "another is passed over" in note
    with pytest.raises(LayerError, match="where maps meet that lie on the picture differently"):
        instrument(model, layers="m")


@pytest.mark.parametrize(
    ("text", "arrays", "said"),
    [
        (
            "m = Slice(r, n, e, x)",
            {"n": ints(2), "e": ints(8), "x": ints(3)},
            "17 to 67 % of the width (the Slice 'm')",
        ),
        ("m = Pad(r, n)", {"n": ints(0, 0, 0, 0, 0, 0, 6, 0)}, "0 to 150 % of the height (the Pad 'm')"),
        ("m = Pad(r, n)", {"n": ints(0, 0, -3, 0, 0, 0, -3, 0)}, "25 to 75 % of the height (the Pad 'm')"),
        ("m = CenterCropPad<axes=[2,3]>(r, n)", {"n": ints(6, 12)}, "25 to 75 % of the height (the CenterCropPad 'm')"),
    ],
)
def test_a_map_of_a_part_of_the_picture_says_which(text, arrays, said):
    layer, note = default(between(text, opset=18, **arrays))
    assert layer == "a"
    assert f"its map covers {said} but is stretched over the whole picture" in note
    asked = instrument(between(text, opset=18, **arrays), layers="a").metadata_props[0].value
    assert f"as asked; its map covers {said}" in asked


def test_a_picture_that_is_turned_before_the_first_convolution():
    text = "x = Transpose<perm=[0,1,3,2]>(image) c = Conv<pads=[1,1,1,1]>(x, w) a = Relu(c) " + GAP
    with pytest.raises(LayerError, match=r"is not a spatial layer: .* its axes are N, C, W, H"):
        instrument(build(text, WEIGHTS), layers="a")
    blue_first = "x = Gather<axis=1>(image, i) c = Conv<pads=[1,1,1,1]>(x, w) a = Relu(c) " + GAP
    assert default(build(blue_first, {**WEIGHTS, "i": ints(2, 1, 0)}))[0] == "a"


@pytest.mark.parametrize(("taken", "layer"), [(list(range(16))[::-1], "a"), ([0], "r"), ([1, 0, *range(2, 16)], "r")])
def test_tokens_turned_round_and_back_or_picked(taken, layer):
    """Tokens in the reverse order, twice, are upright; one token is no grid, and two that change places are none."""
    text = (
        "c = Conv<kernel_shape=[3,3], strides=[3,3]>(image, w) r = Relu(c) l = Reshape(r, lines) "
        "t = Transpose<perm=[0,2,1]>(l) f = Gather<axis=1>(t, i) g = Gather<axis=1>(f, i) a = MatMul(g, v) "
        "p = ReduceMean<axes=[1], keepdims=0>(a) logits = Gemm<transB=1>(p, fc, fb)"
    )
    arrays = {"w": (4, 3, 3, 3), "v": (4, 4), "lines": ints(0, 4, 16), "i": ints(*taken), **GAP_WEIGHTS}
    assert default(build(text, arrays))[0] == layer


BRANCHES = (
    "m = If<then_branch = t () => (float[N,4,12,12] u) {{ u = {one} }}, "
    "else_branch = e () => (float[N,4,12,12] v) {{ v = {other} }}>({condition})"
)


@pytest.mark.parametrize("condition", ["flag", "big"])
@pytest.mark.parametrize(
    ("one", "other", "upright"),
    [
        ("Identity(r)", "Neg(r)", True),
        ("Identity(r)", "Slice(r, s, e, axis, s)", False),
        ("Slice(r, s, e, axis, s)", "Identity(r)", False),
    ],
)
def test_a_choice_between_branches_is_what_both_of_them_are(one, other, upright, condition):
    """Also where the picture does not decide."""
    text = "mean = ReduceMean<keepdims=0>(r) zero = Constant<value_float=0.0>() big = Greater(mean, zero) " + BACKWARDS
    text += BRANCHES.format(one=one, other=other, condition=condition)
    model = build(FIRST + text + LAST, WEIGHTS, inputs="float[N,3,12,12] image, bool flag")
    name, note = default(model)
    assert name == ("a" if upright else "r")
    assert ("is lost behind the If 'm'" in note) is not upright


def test_views_of_a_picture_in_one_batch_are_refused_with_the_reason():
    text = BACKWARDS + "f = " + FLIP % "image" + "both = Concat<axis=0>(image, f) c = Conv(both, w) a = Relu(c) " + GAP
    with pytest.raises(LayerError, match=r"that of '\w+' cannot, since .* the Concat 'both', which puts several pict"):
        instrument(build(text, WEIGHTS))


STN = (
    "l = Conv<strides=[4,4]>(image, wl) k = Relu(l) kf = Flatten(k) t = Gemm(kf, wt, bt) t3 = Reshape(t, two_by_three) "
    "n = Shape(image) g = AffineGrid(t3, n) x = GridSample(image, g) c = Conv<pads=[1,1,1,1]>(x, w) a = Relu(c) "
)
STN_WEIGHTS = {
    **WEIGHTS, "wl": (2, 3, 3, 3), "wt": (18, 6), "bt": np.array([1, 0, 0, 0, 1, 0], np.float32),
    "two_by_three": ints(-1, 2, 3),
}  # fmt: skip


def test_what_only_says_where_a_picture_is_read_is_no_default():
    """Of a spatial transformer the layers before the grid say nothing of what is seen; they can be named."""
    model = build(STN + GAP, STN_WEIGHTS, opset=20)
    with pytest.raises(LayerError, match=r"that of 'x' cannot, since .* is lost behind the GridSample 'x'\.$"):
        instrument(model)
    with pytest.raises(LayerError, match=r"'a' is not a spatial layer: .* is lost behind the GridSample 'x'\.$"):
        instrument(model, layers="a")
    report = inspect(model)
    assert [row.name for row in report.layers] == ["l", "k"] and not any(row.default for row in report.layers)
    assert "lost behind the GridSample 'x'" in report.notes[0]
    assert instrument(model, layers="k").graph.output[-1].name == "xcam_gradients"


def test_what_is_read_elsewhere_is_seen_all_the_same():
    """A transformer in the middle: what it reads from carries everything."""
    text = STN.replace("GridSample(image, g)", "GridSample(r, g)").replace("(x, w)", "(x, v)")
    layer, note = default(
        build(FIRST.replace("c =", "c0 =").replace("(c)", "(c0)") + text + GAP, STN_WEIGHTS, opset=20)
    )
    assert layer == "r"
    assert "another is passed over, since where its positions lie on the picture is lost behind the GridSample" in note
