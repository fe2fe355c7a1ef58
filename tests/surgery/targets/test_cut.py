"""The cut of a detector: which layers together carry the evidence of its scores, found by structure alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest

from helpers.models import Shapes, build, images, session
from onnx_xcam import inspect, instrument
from onnx_xcam.contract import Grid
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.concrete_size import sample_of
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.targets.detection.cut import cut_of, why_cut
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.layers import Layers

SIZE, CLASSES, CHANNELS, QUERIES = 16, 3, 6, 7


@dataclass(frozen=True, kw_only=True)
class Boxes(Reading):
    """A reading of which only the tensors of the boxes are asked."""

    form: ClassVar[str] = "boxes"

    def emit(self, graph, emitter):
        raise NotImplementedError


def stem(levels: Sequence[int] = (4, 8)) -> str:
    """Maps n4, n8, ... of these strides, each made of the one before."""
    text, before = "c2 = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w2)  n2 = Tanh(c2)  ", 2
    for k in levels:
        text += f"c{k} = Conv<pads=[1,1,1,1], strides=[2,2]>(n{before}, w{k})  n{k} = Tanh(c{k})  "
        before = k
    return text


def per_level(text: str, levels: Sequence[int] = (4, 8)) -> str:
    return "".join(text.replace("#", str(k)) for k in levels)


def concat(made: str, *names: str, axis: int = 2, levels: Sequence[int] = (4, 8)) -> str:
    """The levels' tensors, flattened and joined: `made = Concat(flat names)`."""
    flat = "".join(f"{name}_f{k} = Reshape({name}{k}, flat)  " for name in names for k in levels)
    return flat + f"{made} = Concat<axis={axis}>({', '.join(f'{name}_f{k}' for name in names for k in levels)})  "


def layer(name: str, given: str, columns: int, levels: Sequence[int] = (4, 8)) -> tuple[str, Shapes]:
    """A 3 x 3 convolution of each level's `given`."""
    weights = {f"{name}_w{k}": (columns, CHANNELS, 3, 3) for k in levels}
    return per_level(f"{name}# = Conv<pads=[1,1,1,1]>({given}#, {name}_w#)  ", levels), weights


WEIGHTS: Shapes = {"w2": (CHANNELS, 3, 3, 3)} | {f"w{k}": (CHANNELS, CHANNELS, 3, 3) for k in (4, 8, 16)}
CONSTANTS = {"flat": np.array([0, 0, -1]), "from4": np.array([4]), "to7": np.array([7]), "axis1": np.array([1])}


def made(text: str, *parts: tuple[str, Shapes], size: int | str = SIZE, more: Shapes | None = None) -> onnx.ModelProto:
    """A model with these nodes, whose output is the table S."""
    weights = {name: shape for _, shapes in parts for name, shape in shapes.items()}
    return build(
        text.format(*(part for part, _ in parts)),
        {**WEIGHTS, **CONSTANTS, **weights, **(more or {})},
        inputs=f"float[N,3,{size},{size}] image",
        outputs="float[N,c,q] S",
    )


def found(model: onnx.ModelProto, boxes: Sequence[str] = ("B",)) -> list:
    graph = prepare(model)
    layers = Layers(graph, "S", sample_of(model, graph))
    return cut_of(layers, Boxes(outputs=["S"], box_tensors=boxes))


def is_complete(model: onnx.ModelProto, members: Sequence[str]) -> bool:
    """Whether the table can be computed from the members alone, without the picture."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name for value in inferred.graph.value_info}
    assert set(members) <= known
    part = onnx.utils.Extractor(inferred).extract_model(list(members), ["S"])
    made_inside = {out for node in part.graph.node for out in node.output}
    stored = {tensor.name for tensor in part.graph.initializer}
    read = {name for node in part.graph.node for name in node.input if name}
    return read <= made_inside | stored | set(members)


COUPLED = made(
    stem() + "{0}" + concat("both", "o") + "S = Slice(both, from4, to7, axis1)  B = Slice(both, zero, from4, axis1)  ",
    layer("o", "n", 4 + CLASSES),
    more={"zero": np.array([0])},
)
OBJECTNESS = made(
    stem() + "{0}" + per_level("a# = Tanh(x#)  ") + "{1}{2}" + per_level("r# = Tanh(br#)  k# = Tanh(bk#)  ")
    + "{3}{4}{5}" + concat("B", "t") + concat("O", "o") + concat("K", "l") + "S = Add(K, O)  ",
    layer("x", "n", CHANNELS), layer("br", "a", CHANNELS), layer("bk", "a", CHANNELS),
    layer("t", "r", 4), layer("o", "r", 1), layer("l", "k", CLASSES),
)  # fmt: skip
TOWERS = made(
    stem() + "{0}" + per_level("k# = Tanh(bk#)  ") + "{1}{2}" + concat("B", "t") + concat("S", "l"),
    layer("bk", "n", CHANNELS), layer("t", "n", 4), layer("l", "k", CLASSES),
)  # fmt: skip
_THREE = (4, 8, 16)
ONE_PLACE = made(
    stem(_THREE) + "{0}{1}" + concat("B", "t", levels=_THREE) + concat("S", "l", levels=_THREE),
    layer("t", "n", 4, _THREE), layer("l", "n", CLASSES, _THREE),
)  # fmt: skip
ONE_GRID = made(stem((4,)) + "{0}{1}B = Sigmoid(t4)  S = Identity(l4)  ", layer("t", "n", 4, (4,)),
                layer("l", "n", CLASSES, (4,)))  # fmt: skip
SHARED_WEIGHTS = made(
    stem()
    + per_level("l# = Conv<pads=[1,1,1,1]>(n#, lw)  t# = Conv<pads=[1,1,1,1]>(n#, tw)  ")
    + concat("B", "t")
    + concat("S", "l"),
    more={"lw": (CLASSES, CHANNELS, 3, 3), "tw": (4, CHANNELS, 3, 3)},
)
COPIES = made(
    stem() + per_level("i# = Identity(n#)  ") + "{0}{1}" + concat("B", "t") + concat("S", "l"),
    layer("t", "i", 4), layer("l", "i", CLASSES),
)  # fmt: skip
CHANNELS_LAST = made(
    stem()
    + per_level("h# = Transpose<perm=[0,2,3,1]>(n#)  l# = MatMul(h#, lw)  lf# = Reshape(l#, rows)  ")
    + per_level("t# = MatMul(h#, tw)  tf# = Reshape(t#, boxes)  ")
    + "B = Concat<axis=1>(tf4, tf8)  S = Concat<axis=1>(lf4, lf8)  ",
    more={"lw": (CHANNELS, CLASSES), "tw": (CHANNELS, 4), "rows": np.array([0, -1, CLASSES]),
          "boxes": np.array([0, -1, 4])},
)  # fmt: skip
QUANTISED = made(
    stem()
    + per_level("q# = QuantizeLinear(n#, s, z)  d# = DequantizeLinear(q#, s, z)  ")
    + "{0}{1}" + concat("B", "t") + concat("S", "l"),
    layer("t", "d", 4), layer("l", "d", CLASSES),
    more={"s": np.array(0.01, np.float32), "z": np.array(128, np.uint8)},
)  # fmt: skip
EARLIER_BOXES = made(
    stem() + "t = Conv<strides=[2,2]>(n2, tw)  B = Sigmoid(t)  {0}" + concat("S", "l"), layer("l", "n", CLASSES),
    more={"tw": (4, CHANNELS, 1, 1)},
)  # fmt: skip

POINTWISE = made(
    stem((4,)) + "l4 = Conv(n4, lw)  t4 = Conv(n4, tw)  B = Sigmoid(t4)  S = Identity(l4)  ",
    more={"lw": (CLASSES, CHANNELS, 1, 1), "tw": (4, CHANNELS, 1, 1)},
)
_MAPS = per_level("f# = Reshape(n#, flat)  m# = Transpose<perm=[0,2,1]>(f#)  ") + "src = Concat<axis=1>(m4, m8)  "


def attention(made: str, queries: str, memory: str) -> str:
    """Attention of one head without an output layer."""
    return (
        f"{made}_k = MatMul({memory}, {made}_wk)  {made}_v = MatMul({memory}, {made}_wv)  "
        f"{made}_kt = Transpose<perm=[0,2,1]>({made}_k)  {made}_s = MatMul({queries}, {made}_kt)  "
        f"{made}_r = Softmax<axis=-1>({made}_s)  {made} = MatMul({made}_r, {made}_v)  "
    )


_SQUARE = (CHANNELS, CHANNELS)
_ENCODER = attention("ea", "src", "src") + "es = Add(src, ea)  mem = LayerNormalization<axis=-1>(es, one)  "
_DECODER = "S = MatMul(da, wc)  braw = MatMul(da, wb)  B = Sigmoid(braw)  "
_OF_QUERIES: Shapes = {
    **{f"{name}_w{part}": _SQUARE for name in ("ea", "da") for part in "kv"},
    "wc": (CHANNELS, CLASSES), "wb": (CHANNELS, 4), "query": (1, QUERIES, CHANNELS),
    "one": np.ones(CHANNELS, np.float32), "wsel": (CHANNELS, 1), "count": np.array([QUERIES]),
}  # fmt: skip
MEMORY = made(stem() + _MAPS + _ENCODER + attention("da", "query", "mem") + _DECODER, more=_OF_QUERIES)
FLATTENED = made(stem() + _MAPS + attention("da", "query", "src") + _DECODER, more=_OF_QUERIES)
SELECTED = made(
    stem() + _MAPS + _ENCODER
    + "sel = MatMul(mem, wsel)  flat_sel = Squeeze(sel, last)  best, at = TopK<axis=1>(flat_sel, count)  "
    "at3 = Unsqueeze(at, last)  wide = Expand(at3, wide_shape)  picked = GatherElements<axis=1>(mem, wide)  "
    + attention("da", "picked", "mem") + _DECODER,
    more={**_OF_QUERIES, "last": np.array([2]), "wide_shape": np.array([1, 1, CHANNELS])},
)  # fmt: skip
EXTRA_COLUMNS = made(
    stem((4,)) + "{0}{1}B = Sigmoid(t4)  e = Conv<strides=[4,4]>(image, ew)  both = Concat<axis=1>(l4, e)  "
    "scaled = Mul(both, gains)  S = Slice(scaled, zero, three, axis1)  ",
    layer("t", "n", 4, (4,)), layer("l", "n", CLASSES, (4,)),
    more={"ew": (2, 3, 4, 4), "gains": np.ones((1, CLASSES + 2, 1, 1), np.float32), "zero": np.array([0]),
          "three": np.array([CLASSES])},
)  # fmt: skip
TOKENS = made(
    stem((4,)) + "f4 = Reshape(n4, flat)  m4 = Transpose<perm=[0,2,1]>(f4)  "
    "n = Shape<start=0, end=1>(image)  rest = Constant<value_ints=[1, 1]>()  reps = Concat<axis=0>(n, rest)  "
    "det = Tile(query, reps)  src = Concat<axis=1>(m4, det)  " + _ENCODER + attention("la", "mem", "mem")
    + "last = Add(mem, la)  own = Slice(last, sixteen, end, axis1)  " + attention("da", "own", "own") + _DECODER,
    more={**_OF_QUERIES, "la_wk": _SQUARE, "la_wv": _SQUARE, "sixteen": np.array([16]),
          "end": np.array([16 + QUERIES])},
)  # fmt: skip
REGIONS = made(
    stem() + per_level("ra# = RoiAlign<output_height=2, output_width=2>(n#, rois#, images#)  ")
    + "r = Concat<axis=0>(ra4, ra8)  pooled = ReduceMean<axes=[2,3], keepdims=0>(r)  "
    "S = MatMul(pooled, wc)  B = MatMul(pooled, wb)  ",
    more={"wc": (CHANNELS, CLASSES), "wb": (CHANNELS, 4),
          **{f"rois{k}": np.array([[0, 0, 2, 2]], np.float32) for k in (4, 8)},
          **{f"images{k}": np.array([0]) for k in (4, 8)}},
)  # fmt: skip
LEVELS = [("n4", None), ("n8", None)]
STRUCTURES = {
    "one head for boxes and classes": (COUPLED, LEVELS),
    "an objectness from the branch of the boxes": (OBJECTNESS, [("a4", None), ("a8", None)]),
    "a tower of the classes": (TOWERS, LEVELS),
    "levels down to one place": (ONE_PLACE, [*LEVELS, ("n16", None)]),
    "one grid": (ONE_GRID, [("n4", None)]),
    "heads that share their weights": (SHARED_WEIGHTS, LEVELS),
    "copies before the heads": (COPIES, LEVELS),
    "channels last": (CHANNELS_LAST, LEVELS),
    "quantised": (QUANTISED, [("d4", None), ("d8", None)]),
    "heads that keep positions apart": (POINTWISE, [("n2", None)]),
    "boxes from an earlier map": (EARLIER_BOXES, [("n2", None)]),
    "a memory of two grids": (MEMORY, [("mem", Grid(4, 4, 0, 4)), ("mem", Grid(2, 2, 16, 0))]),
    "a memory of maps that are only flattened": (FLATTENED, LEVELS),
    "queries that are selected from the memory": (SELECTED, [("mem", Grid(4, 4, 0, 4)), ("mem", Grid(2, 2, 16, 0))]),
    "detection tokens behind those of the picture": (TOKENS, [("mem", Grid(4, 4, 0, QUERIES))]),
    "regions of two levels": (REGIONS, LEVELS),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_members_are_the_last_layers_of_classes_and_boxes(structure):
    model, expected = STRUCTURES[structure]
    onnx.checker.check_model(model)
    members = found(model)
    assert [(member.name, member.grid) for member in members] == expected
    assert not any(member.lacks for member in members)
    assert is_complete(model, [member.name for member in members])


def test_a_dynamic_size_changes_nothing():
    text = stem() + "{0}{1}" + concat("B", "t") + concat("S", "l")
    model = made(text, layer("t", "n", 4), layer("l", "n", CLASSES), size="side")
    assert [member.name for member in found(model)] == ["n4", "n8"]


def test_columns_of_another_branch_do_not_count():
    [member] = found(EXTRA_COLUMNS)
    assert member.name == "n4" and not member.lacks


def test_scores_among_the_tensors_of_boxes_do_not_count():
    assert [member.name for member in found(TOWERS, ["B", "l_f4", "l_f8"])] == ["n4", "n8"]


def test_what_is_missing_is_said():
    no_boxes = made(stem() + "{0}" + concat("S", "l") + "B = Identity(flat)  ", layer("l", "n", CLASSES))
    graph = prepare(no_boxes)
    layers = Layers(graph, "S")
    members = cut_of(layers, Boxes(outputs=["S"], box_tensors=["B"]))
    assert [member.name for member in members] == ["n4", "n8"]
    assert "classes and boxes have no layer in common" in why_cut(layers, members[0])


def test_a_layer_that_carries_a_part_is_said_to():
    two_trunks = made(
        stem() + "d4 = Conv<pads=[1,1,1,1], strides=[4,4]>(image, dw)  e4 = Tanh(d4)  {0}{1}s4 = Add(l4, k4)  "
        "{2}B = Sigmoid(t4)  S = Identity(s4)  ",
        layer("l", "n", CLASSES, (4,)), layer("k", "e", CLASSES, (4,)), layer("t", "n", 4, (4,)),
        more={"dw": (CHANNELS, 3, 3, 3)},
    )  # fmt: skip
    graph = prepare(two_trunks)
    layers = Layers(graph, "S")
    [member] = cut_of(layers, Boxes(outputs=["S"], box_tensors=["B"]))
    assert "no layer carries all that its scores get from the picture" in why_cut(layers, member)


def test_a_table_without_any_layer_is_refused():
    flat = build(
        "f = Flatten(image)  S = MatMul(f, w)  B = Identity(S)", {"w": (3 * SIZE * SIZE, CLASSES)},
        inputs=f"float[N,3,{SIZE},{SIZE}] image", outputs=f"float[N,{CLASSES}] S",
    )  # fmt: skip
    with pytest.raises(LayerError, match="No spatial layer was found"):
        found(flat)


def test_a_level_without_any_layer_is_refused_with_what_can_be_named():
    direct = made(
        stem((4,)) + "{0}{1}B = Sigmoid(t4)  l4f = Reshape(l4, flat)  "
        "l1 = Conv(image, direct)  l1f = Reshape(l1, flat)  S = Concat<axis=2>(l4f, l1f)  ",
        layer("t", "n", 4, (4,)), layer("l", "n", CLASSES, (4,)), more={"direct": (CLASSES, 3, 1, 1)},
    )  # fmt: skip
    with pytest.raises(
        LayerError, match=r"No layer lies between the picture and 'l1'.*among them 'c2', 'n2', 'c4', 'n4'\."
    ):
        found(direct)


def test_evidence_that_passes_no_layer_is_said_to():
    half = made(
        stem((4,)) + "{0}{1}B = Sigmoid(t4)  l4f = Reshape(l4, flat)  "
        "f = Flatten(image)  g = MatMul(f, w)  h = Unsqueeze(g, last)  S = Concat<axis=2>(l4f, h)  ",
        layer("t", "n", 4, (4,)), layer("l", "n", CLASSES, (4,)),
        more={"w": (3 * SIZE * SIZE, CLASSES), "last": np.array([2])},
    )  # fmt: skip
    [member] = found(half)
    assert member.name == "n4"
    assert "passes no layer at all" in member.lacks[0]


# --- from end to end -------------------------------------------------------------------------------------------------


def detr() -> onnx.ModelProto:
    """Logits and boxes of queries that read a memory of two grids."""
    model = build(
        stem() + _MAPS + _ENCODER + attention("da", "query", "mem")
        + "logits = MatMul(da, wc)  braw = MatMul(da, wb)  boxes = Sigmoid(braw)  ",
        {**WEIGHTS, **CONSTANTS, **_OF_QUERIES, "wc": (CHANNELS, CLASSES + 1)},
        inputs=f"float[N,3,{SIZE},{SIZE}] image",
        outputs=f"float[N,{QUERIES},{CLASSES + 1}] logits, float[N,{QUERIES},4] boxes",
    )  # fmt: skip
    return model


def explained(model, image, method="auto"):
    made_of = instrument(model, task="detection", method=method, conf=0.0, relu=False,
                         emit=("map", "activations", "gradients"))  # fmt: skip
    run = session(made_of)
    names = [out.name for out in run.get_outputs()]
    return dict(zip(names, run.run(names, {"image": image, "xcam_object": np.array([[2]])}), strict=True))


def test_a_memory_is_differentiated_once_and_its_grids_add_up():
    model, image = detr(), images(1, SIZE)
    got = explained(model, image, method="hires-cam")
    memory, slopes = got["xcam_activations"][0], got["xcam_gradients"][0, 0]
    np.testing.assert_array_equal(slopes, got["xcam_gradients_1"][0, 0])
    contributions = (memory * slopes).sum(-1)
    fine, coarse = contributions[:16].reshape(4, 4), contributions[16:].reshape(2, 2)
    weights = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])  # linear between the centres of two pixels
    np.testing.assert_allclose(got["xcam_map"][0, 0], fine + weights @ coarse @ weights.T, atol=1e-6)


def test_the_gradient_of_a_memory_is_that_of_finite_differences():
    model, image = detr(), images(1, SIZE)
    got = explained(model, image)
    label = int(got["xcam_classes"][0, 0])
    behind = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["mem"], ["logits"])
    run, memory = session(behind), got["xcam_activations"].astype(np.float64)
    slopes, step = np.zeros(memory.shape), 1e-2
    for at in np.ndindex(memory.shape):
        ends = []
        for sign in (1, -1):
            moved = memory.copy()
            moved[at] += sign * step
            ends.append(run.run(["logits"], {"mem": moved.astype(np.float32)})[0][0, 2, label])
        slopes[at] = (ends[0] - ends[1]) / (2 * step)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(got["xcam_gradients"][0, 0], slopes[0], atol=2e-3 * np.abs(slopes).max())


def test_the_parts_of_the_evidence_add_up_to_that_of_the_whole():
    got = explained(detr(), images(1, SIZE), method="xgrad-cam")
    share = (got["xcam_activations"] * got["xcam_gradients"][:, 0]).sum()
    parts = [
        (got[f"xcam_activations{end}"] * got[f"xcam_gradients{end}"][:, 0])[:, places].sum()
        for end, places in (("", slice(16)), ("_1", slice(16, 20)))
    ]
    np.testing.assert_allclose(sum(parts), share, rtol=1e-5)
    report = inspect(detr(), task="detection")
    assert [(one.name, one.grid) for one in report.layers if one.default] == [
        ("mem", [4, 4, 0, 4]),
        ("mem", [2, 2, 16, 0]),
    ]


def test_notes_name_the_layers_of_a_cut_together_and_what_a_named_memory_leaves_out():
    def notes(**options):
        stated = instrument(detr(), task="detection", **options).metadata_props
        return json.loads(next(one.value for one in stated if one.key == "onnx_xcam"))["notes"]

    [note] = [note for note in notes() if note.startswith(("Layer", "Cut"))]
    assert note.startswith("Cut: 'mem'") and note.endswith("; their maps are added up.")
    assert "4 x 4 tokens and others (4 after); 'mem'" in note
    [note] = [note for note in notes(layers="src") if note.startswith("Layer")]
    assert "leaves out 1 further grid of tokens" in note
