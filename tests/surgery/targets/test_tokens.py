"""Target layers of transformers: which one is the default, what the map is made of, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_xcam
from helpers.models import C, build
from helpers.token_models import CLASSES, HEIGHT, MODELS, WIDTH, token_model
from onnx_xcam import contract
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.axes.axes import fresh, grid_of, places_of, regrouped, roles_of, tokens

DEFAULTS = {
    "class token": ("x1", "NTC", [HEIGHT, WIDTH, 1, 0]),
    "class and distillation": ("x1", "NTC", [HEIGHT, WIDTH, 2, 0]),
    "registers behind": ("x1", "NTC", [HEIGHT, WIDTH, 1, 3]),
    "register behind alone": ("normed", "NTC", [HEIGHT, WIDTH, 0, 1]),
    "no other token": ("normed", "NTC", [HEIGHT, WIDTH, 0, 0]),
    "average without registers": ("only", "NTC", [HEIGHT, WIDTH, 0, 0]),
    "windows and merging": ("normed", "NHWC", None),
    "tokens first": ("x1", "TNC", [HEIGHT, WIDTH, 1, 0]),
    "cut by reshapes": ("x1", "NTC", [HEIGHT, WIDTH, 1, 0]),
}
PICKED = ("class token", "class and distillation", "registers behind", "tokens first", "cut by reshapes")
"""Models whose score reads single tokens in the end."""
IMAGES = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 12)).astype(np.float32)
CHOSEN = np.array([[-1, 3], [0, -2]], np.int64)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def explained(name: str, **options: object) -> dict[str, np.ndarray]:
    return run(onnx_xcam.instrument(token_model(name), **options), {"image": IMAGES, "xcam_class": CHOSEN})


@pytest.mark.parametrize("name", MODELS)
def test_default_layer(name):
    report = onnx_xcam.inspect(token_model(name))
    assert [(layer.name, layer.layout, layer.grid) for layer in report.layers if layer.default] == [DEFAULTS[name]]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_used_is_where_the_gradient_is(name):
    """A candidate is said to be partly used exactly if its gradient is zero at some of its grid's positions."""
    model, seen = token_model(name), set()
    for layer in onnx_xcam.inspect(model).layers:
        found = run(onnx_xcam.instrument(model, layers=layer.name), {"image": IMAGES, "xcam_class": CHOSEN})
        strength = np.abs(found["xcam_gradients"]).max(2 if layer.layout in ("NCHW", "NCT") else -1)
        if layer.grid:
            strength = strength[:, :, contract.Grid(*layer.grid).tokens]
        assert bool((strength == 0).any()) == layer.partly_used, layer.name
        seen.add(layer.partly_used)
    assert seen == ({False, True} if name in PICKED else {False})


@pytest.mark.parametrize("name", MODELS)
def test_map_is_the_formula_on_the_grid(name):
    """Token by token: position (i, j) is token before + i w + j; other tokens take no part."""
    found = explained(name)
    a, g = (found[key].astype(np.float64) for key in ("xcam_activations", "xcam_gradients"))
    before = (DEFAULTS[name][2] or [0, 0, 0])[2]
    expected = np.zeros((2, 2, HEIGHT, WIDTH))
    for n, k in np.ndindex(2, 2):
        places = list(np.ndindex(HEIGHT, WIDTH))
        at = [(n, before + i * WIDTH + j) if DEFAULTS[name][2] else (n, i, j) for i, j in places]
        for c in range(a.shape[-1]):
            values = np.array([a[(*place, c)] for place in at])
            slopes = np.array([g[(n, k, *place[1:], c)] for place in at])
            for part in (np.maximum(values, 0), np.minimum(values, 0)):
                weight = (slopes * part).sum() / part.sum() if part.any() else 0.0
                for (i, j), value in zip(places, part, strict=True):
                    expected[n, k, i, j] += weight * value
    expected = np.maximum(expected, 0)
    assert expected.max() > 0.01
    np.testing.assert_allclose(found["xcam_map"], expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("name", MODELS)
def test_check_passes(name):
    report = onnx_xcam.check(token_model(name), IMAGES)
    assert report.passed, report.text()
    assert report.nodes and report.layers[0].layer == DEFAULTS[name][0]


@pytest.mark.parametrize("name", MODELS)
def test_batch_classes_and_outputs(name):
    """A batch with two classes each gives what image by image and class by class gives; outputs are unchanged."""
    both = explained(name)
    np.testing.assert_allclose(both["logits"], run(token_model(name), {"image": IMAGES})["logits"], rtol=0, atol=1e-6)
    model = onnx_xcam.instrument(token_model(name, n=1))
    for n, k in np.ndindex(2, 2):
        one = run(model, {"image": IMAGES[n : n + 1], "xcam_class": CHOSEN[n : n + 1, k : k + 1]})
        for key in ("xcam_map", "xcam_gradients"):
            largest = np.abs(both[key]).max()
            np.testing.assert_allclose(one[key][0, 0], both[key][n, k], rtol=1e-4, atol=1e-5 * largest)


def test_metadata_tells_the_grid():
    model = onnx_xcam.instrument(token_model("registers behind"), layers=["auto", "patches"])
    (entry,) = (e for e in model.metadata_props if e.key == contract.METADATA_KEY)
    metadata = json.loads(entry.value)
    assert metadata["layouts"] == ["NTC", "NCHW"]
    assert metadata["grids"] == [[HEIGHT, WIDTH, 1, 3], None]
    assert "2 x 3 tokens and others (1 before, 3 after)" in " ".join(metadata["notes"])
    assert onnx_xcam.inspect(model).layers[0].grid == [HEIGHT, WIDTH, 1, 3]


def test_heatmap_and_status_of_tokens():
    found = explained("class token", emit=("map", "heatmap", "status"))
    assert found["xcam_heatmap"].shape == (2, 2, 8, 12)
    i, j = np.unravel_index(found["xcam_map"][0, 0].argmax(), (HEIGHT, WIDTH))
    y, x = np.unravel_index(found["xcam_heatmap"][0, 0].argmax(), (8, 12))
    assert (y // 4, x // 4) == (i, j)
    np.testing.assert_array_equal(found["xcam_status"], np.where(found["xcam_map"].any((2, 3)), 0, 1))


def test_last_norm_of_a_class_token_is_empty():
    """What the default avoids: behind the last attention only the class token has a gradient."""
    found = explained("class token", layers="normed", emit=("map", "gradients", "status"))
    assert np.abs(found["xcam_gradients"][:, :, 0]).min() > 0
    assert not found["xcam_map"].any()
    assert (found["xcam_status"] == contract.GRADIENT_ZERO).all()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("logits", r"its shape is \['N', 5\]"),
        ("x1_scores", "its axes are N, C, T, T where N,C,H,W or N,H,W,C is needed"),
        ("picked", r"its shape is \['N', 4\]; the default would be 'x1'"),
    ],
)
def test_refused_layers(layer, said):
    with pytest.raises(LayerError, match=said):
        onnx_xcam.instrument(token_model("class token"), layers=layer)


ANY_SIZE = ("class token", "class and distillation", "registers behind", "no other token")


@pytest.mark.parametrize("name", ANY_SIZE)
def test_symbolic_height_and_width(name):
    """The same default layer as for a fixed size, and the same maps; the grid follows the picture."""
    model = token_model(name, height="H", width="W")
    layer, layout, (_, _, before, after) = DEFAULTS[name]
    found = [one for one in onnx_xcam.inspect(model).layers if one.default]
    assert [(one.name, one.layout, one.grid) for one in found] == [(layer, layout, [None, None, before, after])]
    any_size = onnx_xcam.instrument(model, emit=("map", "activations", "gradients", "heatmap"))
    fixed = onnx_xcam.instrument(token_model(name), emit=("map", "activations", "gradients", "heatmap"))
    feeds = {"image": IMAGES, "xcam_class": CHOSEN}
    for key, value in run(fixed, feeds).items():
        np.testing.assert_allclose(run(any_size, feeds)[key], value, rtol=1e-4, atol=1e-5 * np.abs(value).max())
    larger = np.random.default_rng(2).normal(0, 1, (2, 3, 20, 12)).astype(np.float32)
    assert run(any_size, {"image": larger})["xcam_map"].shape == (2, 1, 5, 3)
    assert onnx_xcam.check(model, larger).passed


@pytest.mark.parametrize("side", [224, 64])
def test_symbols_for_a_size_that_is_fixed(side):
    """A table of positions fits pictures of one size only, whatever the exporter was told."""
    patch = 4
    model = token_model("class token", height="H", width="W")
    (first,) = (node for node in model.graph.node if node.output[0] == "x1_norm")
    add = onnx.helper.make_node("Add", ["x0", "positions"], ["placed"])
    model.graph.node.insert(list(model.graph.node).index(first), add)
    for node in model.graph.node:
        if node.output[0] in ("x1_norm", "x1"):
            node.input[0] = "placed"
    tokens = 1 + (side // patch) ** 2
    table = np.random.default_rng(0).normal(0, 1, (1, tokens, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "positions"))
    found = [one for one in onnx_xcam.inspect(model).layers if one.default]
    assert [(one.name, one.grid) for one in found] == [("x1", [side // patch, side // patch, 1, 0])]
    image = np.zeros((1, 3, side, side), np.float32)
    assert run(onnx_xcam.instrument(model), {"image": image})["xcam_map"].shape == (1, 1, side // patch, side // patch)
    if side == 64:  # check's own numbers are of that size, too
        report = onnx_xcam.check(model)
        assert report.passed, report.text()


def test_a_grid_that_no_tensor_tells():
    """Tokens that were thinned out: nobody knows their height and width."""
    model = onnx.ModelProto.FromString(token_model("no other token", height="H", width="W").SerializeToString())
    (identity,) = (node for node in model.graph.node if node.output[0] == "x0")
    identity.op_type = "Slice"
    numbers = {"s": [0], "e": [2**31], "ax": [1], "st": [2]}
    identity.input.extend(numbers)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in numbers.items())
    assert [one.name for one in onnx_xcam.inspect(model).layers if one.default] == ["patches"]
    with pytest.raises(LayerError, match="where its positions lie on the picture is lost behind the Slice"):
        onnx_xcam.instrument(model, layers="x1")


def test_a_picture_is_no_layer():
    """Dense layers on a whole picture keep nothing of height and width; the scaled picture itself is no feature map."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,8,12,3] image) => (float[N,5] logits) {
          scaled = Mul(image, scale)  turned = Transpose<perm=[0,3,1,2]>(scaled)  flat = Flatten(turned)
          hidden = MatMul(flat, w)  logits = Relu(hidden) }"""
    )
    weights = {"scale": np.float32(0.1), "w": np.ones((288, 5), np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    with pytest.raises(LayerError, match="No spatial layer was found"):
        onnx_xcam.instrument(model)


# --- axes through reshapes --------------------------------------------------------------------------------------------

NHWC = (fresh("N", "N"), fresh("H", 8), fresh("W", 12), fresh("C", 6))


@pytest.mark.parametrize(
    ("shapes", "roles"),
    [
        ([("N", 96, 6)], "NTC"),
        ([("N", 96, 2, 3)], "NTCC"),
        ([("N", 96, 2, 3), ("N", 96, 6)], "NTC"),
        ([("N", 8, 12, 6, 1)], "NHWC?"),
        ([("N", 48, 2, 6)], "NT?C"),
        ([("N", 48, 2, 6), ("N", 8, 12, 6)], "NHWC"),
        ([("N", 12, 8, 6)], "N??C"),
        ([(None, 6)], "?C"),
        ([(None, 6), ("N", 8, 12, 6)], "NHWC"),
        ([(None, 7)], "??"),
        ([("N", 4, 2, 12, 6)], "NH?WC"),
        ([("N", 4, 2, 12, 6), ("N", 8, 72)], "NH?"),
    ],
)
def test_reshapes(shapes, roles):
    axes = NHWC
    for shape in shapes:
        axes = regrouped(axes, shape)
        assert len(axes) == len(shape)
    assert roles_of(axes) == roles


def test_grids_stay_in_row_major_order():
    lined = regrouped((fresh("N", 1), fresh("W", 3), fresh("H", 2), fresh("C", 4)), (1, 6, 4))
    assert roles_of(lined) == "N?C", "columns first is no grid in the contract's order"
    grid = contract.Grid(2, 3, 1, 0)
    assert grid_of(tokens(grid)) == grid


def test_classes_differ():
    """The models are tests at all: other classes give other maps."""
    found = explained("class token")
    assert found["logits"].shape == (2, CLASSES)
    assert np.abs(found["xcam_map"][:, 0] - found["xcam_map"][:, 1]).max() > 0.01


@pytest.mark.parametrize("size", [32, 64, 518])
def test_a_transformer_of_one_size_that_is_exported_with_symbols(size):
    """As Optimum exports them: height and width are symbols, but the positions fix them."""
    patch = size // 4 if size < 100 else 37 * 2
    grid = size // patch
    model = build(
        f"patches = Conv<strides=[{patch},{patch}]>(image, w)  s = Shape<start=0, end=2>(patches)  "
        "m = Constant<value_ints=[-1]>()  target = Concat<axis=0>(s, m)  lined = Reshape(patches, target)  "
        "tokens = Transpose<perm=[0,2,1]>(lined)  x = Add(tokens, positions)  y = Tanh(x)  "
        "mean = ReduceMean<axes=[1], keepdims=0>(y)  logits = MatMul(mean, fc)",
        {"w": (4, 3, patch, patch), "positions": (1, grid * grid, 4), "fc": (4, C)},
        inputs="float[N,C,H,W] image",
    )
    (default,) = [layer for layer in onnx_xcam.inspect(model).layers if layer.default]
    assert default.name == "y"
    assert default.grid == [grid, grid, 0, 0]


def test_a_coarser_grid_is_not_read_off_where_the_whole_one_stands():
    """Hiera pools its tokens in windows; the patches' own height and width are then those of another grid."""
    height, width = fresh("H", 56, ("patches", 2)), fresh("W", 56, ("patches", 3))
    assert places_of((*height, *width)) == (("patches", 2), ("patches", 3))
    coarse = [axis[0].split(8)[0] for axis in (height, width)]
    assert grid_of(tuple(coarse))[:2] == (7, 7)
    assert places_of(tuple(coarse)) == ()


CLASS_TOKENS = {
    "ConstantOfShape": "zeros = ConstantOfShape(target) token = Add(zeros, c)",
    "Tile": "one3 = Constant<value = int64[2] {1, 1}>() times = Concat<axis=0>(batch, one3) token = Tile(c, times)",
    "Expand": "token = Expand(c, target)",
}


def _class_token_model(token: str, opset: int, before: str = "x0 = Identity(x)") -> onnx.ModelProto:
    """Two blocks of attention on 4 x 4 tokens and a class token that is made for as many images as there are."""
    block = (
        "q%(n)s = MatMul(%(x)s, wq) k%(n)s = MatMul(%(x)s, wk) t%(n)s = Transpose<perm=[0,2,1]>(k%(n)s) "
        "a%(n)s = MatMul(q%(n)s, t%(n)s) p%(n)s = Softmax<axis=-1>(a%(n)s) v%(n)s = MatMul(%(x)s, wv) "
        "o%(n)s = MatMul(p%(n)s, v%(n)s) x%(n)s = Add(%(x)s, o%(n)s) "
    )
    return build(
        "patches = Conv<kernel_shape=[4,4], strides=[4,4]>(image, w) lined = Reshape(patches, lines) "
        "tokens = Transpose<perm=[0,2,1]>(lined) zero = Constant<value = int64 {0}>() size = Shape(tokens) "
        "n = Gather(size, zero) batch = Unsqueeze<axes=[0]>(n) rest = Constant<value = int64[2] {1, 8}>() "
        f"target = Concat<axis=0>(batch, rest) {token} x = Concat<axis=1>(token, tokens) {before} "
        + block % {"n": 1, "x": "x0"}
        + block % {"n": 2, "x": "x1"}
        + "first = Gather<axis=1>(x2, zero) logits = Gemm(first, fc)",
        {
            **{"w": (8, 3, 4, 4), "lines": np.array([0, 8, 16]), "c": (1, 1, 8), "fc": (8, 5)},
            **dict.fromkeys(("wq", "wk", "wv"), (8, 8)),
        },
        inputs="float[N,3,16,16] image",
        opset=opset,
    )


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("how", CLASS_TOKENS)
def test_a_class_token_for_a_symbolic_batch(how, opset):
    """Whatever makes it as often as there are images: the default is what the last block reads."""
    report = onnx_xcam.inspect(_class_token_model(CLASS_TOKENS[how], opset))
    assert [layer.name for layer in report.layers if layer.default] == ["x1"]
    assert "attention" not in report.notes[0]


def test_a_default_before_all_attention_is_said():
    sort = "k = Constant<value = int64[1] {17}>() x0, order = TopK<axis=1>(x, k)"
    report = onnx_xcam.inspect(_class_token_model(CLASS_TOKENS["Expand"], 12, sort))
    assert [layer.name for layer in report.layers if layer.default] == ["x"]
    assert "it lies before all attention, so what positions tell each other is not in it" in report.notes[0]
