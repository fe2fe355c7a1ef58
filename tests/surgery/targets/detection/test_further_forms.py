"""Outputs that are several levels of one table, rows of other orders, and maps that only look like a detector's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers import detector_forms as forms
from helpers.detectors import CLASSES, LEVELS, SIZE
from helpers.models import images, session, tensors
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.analysis import Request, analyse

SIDES = [SIZE // stride for stride in LEVELS]


def table(model, image):
    """Scores, probabilities, ranks and boxes of a detector's candidates."""
    analysis = analyse(Source(model), Request(task="detection"))
    whole = analysis.source.load()
    names = ["xcam/scores", "xcam/probabilities", "xcam/ranks", *(["xcam/boxes"] if analysis.target.has_boxes else [])]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, session(whole).run(names, {"image": image}), strict=True))


def test_tables_of_each_level_are_one_table():
    """YOLOX level by level: what is read is what its one table of all levels is read as."""
    columns = 5 + CLASSES
    text = forms.per_level("so# = Sigmoid(obj#) sc# = Sigmoid(cls#) level# = Concat<axis=1>(box#, so#, sc#)\n")
    outputs = {f"level{k}": ("N", columns, side, side) for k, side in zip(LEVELS, SIDES, strict=True)}
    image = images(2, SIZE)
    found = table(forms.detector(text, {"box": 4, "obj": 1, "cls": CLASSES}, outputs), image)
    whole = table(forms.yolox(), image)
    assert "xcam/boxes" in whole
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_heat_maps_of_one_grid_are_no_middles():
    """CornerNet has a heat map of the first corners and one of the last: read as middles, boxes would be wrong."""
    model = forms.heat_map()
    whole = model.SerializeToString()
    table(onnx.load_from_string(whole), images(1, SIZE))
    node = onnx.helper.make_node
    model.graph.node.extend([node("Neg", ["cls4"], ["other"]), node("Sigmoid", ["other"], ["br"])])
    model.graph.output.append(onnx.helper.make_tensor_value_info("br", 1, ["N", CLASSES, SIDES[0], SIDES[0]]))
    with pytest.raises(ScoreError, match="No output holds candidates with boxes"):
        _ = analyse(Source(model), Request(task="detection")).target


def rearranged(text, outputs, more):
    """`forms.suppressed`, with other outputs behind its columns, of one image."""
    model = forms.suppressed()
    del model.graph.node[-1], model.graph.output[:]
    parsed = onnx.parser.parse_graph(f"g () => () {{ {text} }}")
    model.graph.node.extend(parsed.node)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in more.items())
    for name, shape in outputs.items():
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, shape))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model


def test_rows_of_class_p_and_box():
    """PaddleDetection's rows of one image begin with class and probability."""
    model = rearranged("output = Concat<axis=1>(ccolf, pcol, bcols)", {"output": ("n", 6)}, {})
    image = images(1, SIZE)
    found, told = table(model, image), tensors(model, ["output"], image)["output"]
    assert len(told) > 1
    p = found["xcam/probabilities"][0, :-1]
    np.testing.assert_allclose(p.max(-1), told[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(p.argmax(-1), told[:, 0].astype(int))
    np.testing.assert_allclose(found["xcam/boxes"][0, :-1], told[:, 2:], rtol=1e-5)
    own = found["xcam/scores"][0, :-1][np.arange(len(told)), told[:, 0].astype(int)]
    np.testing.assert_allclose(own, np.log(told[:, 1] / (1 - told[:, 1])), rtol=1e-3, atol=1e-4)


def test_rows_without_a_number_of_several_images_are_refused():
    model = rearranged("output = Concat<axis=1>(ccolf, pcol, bcols)", {"output": ("n", 6)}, {})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ScoreError, match="No output holds candidates with boxes"):
        _ = analyse(Source(model), Request(task="detection")).target


def test_rows_that_zeros_fill_up_and_classes_counted_from_1():
    """TensorFlow's API: boxes y1 x1 y2 x2 of 0..1, classes from 1, zeros behind the objects."""
    text = """
      order = Constant<value_ints=[1,0,3,2]>()
      turned = Gather<axis=1>(bcols, order)
      parts = Div(turned, side)
      more_b = Concat<axis=0>(parts, none_b)
      detection_boxes = Unsqueeze(more_b, first)
      one_up = Add(ccolf, unit)
      flat_c = Squeeze(one_up, one)
      more_c = Concat<axis=0>(flat_c, none)
      detection_classes = Unsqueeze(more_c, first)
      more_p = Concat<axis=0>(pick, none)
      detection_scores = Unsqueeze(more_p, first)
    """
    more = {
        "side": np.array(SIZE, np.float32), "none_b": np.zeros((3, 4), np.float32), "none": np.zeros(3, np.float32),
        "unit": np.array(1, np.float32), "first": np.array([0]),
    }  # fmt: skip
    outputs = {"detection_boxes": (1, "n", 4), "detection_classes": (1, "n"), "detection_scores": (1, "n")}
    model, image = rearranged(text, outputs, more), images(1, SIZE)
    found, told = table(model, image), tensors(model, list(outputs), image)
    p, classes = told["detection_scores"][0], told["detection_classes"][0].astype(int)
    objects = int((p > 0).sum())
    assert objects == len(p) - 3 > 1 and classes.max() == CLASSES
    np.testing.assert_allclose(found["xcam/ranks"][0], [*p[:objects], -1, -1, -1, -1], rtol=1e-6)
    np.testing.assert_array_equal(found["xcam/probabilities"][0, :objects].argmax(-1), classes[:objects])
    own = found["xcam/scores"][0][np.arange(objects), classes[:objects]]
    np.testing.assert_allclose(own, np.log(p[:objects] / (1 - p[:objects])), rtol=1e-3, atol=1e-4)
    boxes = told["detection_boxes"][0, :objects][:, [1, 0, 3, 2]] * SIZE
    np.testing.assert_allclose(found["xcam/boxes"][0, :objects], boxes, rtol=1e-5, atol=1e-5)


def test_a_list_of_rows_that_is_filled_up_to_columns_known_from_an_expand_alone():
    """Simplified files reshape the list to a length that is only known in a run, and expand that to six columns."""
    text = """
      best = Concat<axis=1>(bcols, pcol, ccolf)
      list = Reshape(best, flat)
      count = Shape(list)
      missing = Sub(total, count)
      pads = Concat<axis=0>(nothing, missing)
      longer = Pad(list, pads)
      rows = Reshape(longer, to_rows)
      output = Expand(rows, whole)
    """
    most = 90
    more = {
        "flat": np.array([-1]), "total": np.array([6 * most]), "nothing": np.array([0]),
        "to_rows": np.array([1, most, -1]), "whole": np.array([1, most, 6]),
    }  # fmt: skip
    model, image = rearranged(text, {"output": (1, most, 6)}, more), images(1, SIZE)
    found, told = table(model, image), tensors(model, ["output"], image)["output"][0]
    objects = int((told[:, 4] > 0).sum())
    assert 1 < objects < most
    np.testing.assert_allclose(found["xcam/ranks"][0, :most], np.where(told[:, 4] > 0, told[:, 4], -1), rtol=1e-6)
    np.testing.assert_array_equal(found["xcam/probabilities"][0, :objects].argmax(-1), told[:objects, 5].astype(int))
    np.testing.assert_allclose(found["xcam/boxes"][0, :objects], told[:objects, :4], rtol=1e-5)


# --- quantised boxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["x1y1x2y2 pixels", "cxcywh fractions", "y1x1y2x2 pixels"])
def test_the_form_of_boxes_is_known_where_layers_and_constants_are_quantised(form):
    """The numbers of the boxes' layers pass through integers, as do the strides that they are multiplied with."""
    model, image = forms.decoded(form), images(2, SIZE)
    expected = table(model, image)
    graph, made = model.graph, onnx.helper.make_node
    for at, node in reversed(list(enumerate(graph.node))):
        if node.output[0] in [f"box{k}" for k in LEVELS]:
            name = node.output[0]
            node.output[0] = f"{name}_float"
            graph.node.insert(at + 1, made("DequantizeLinear", [f"{name}_q", "fine", "none"], [name]))
            graph.node.insert(at + 1, made("QuantizeLinear", [f"{name}_float", "fine", "none"], [f"{name}_q"]))
    strides = next(one for one in graph.initializer if one.name == "strides")
    values = onnx.numpy_helper.to_array(strides)
    graph.initializer.remove(strides)
    stored = {"fine": np.array(2**-8, np.float32), "none": np.array(0, np.int8), "unit": np.array(1, np.float32)}
    stored["strides_q"] = values.astype(np.int8)
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in stored.items())
    graph.node.insert(0, made("DequantizeLinear", ["strides_q", "unit", "none"], ["strides"]))
    found = table(model, image)
    assert "xcam/boxes" in found, "the form was not recognised"
    clipped = np.abs(found["xcam/boxes"] - expected["xcam/boxes"])
    assert np.median(clipped) < 0.5, "boxes are those of the float model but for rounding and clipping"


# --- maps of each level -----------------------------------------------------------------------------------------------


def level_maps(text, layers, names=(), more=None):
    """A detector whose outputs are maps `cls_#` and `box_#` of each level, and others that the text has."""
    extra = {"sum": 1} if "sum_#" in text else {}
    outputs = {
        f"{name}_{k}": ("N", count, side, side)
        for k, side in zip(LEVELS, SIDES, strict=True)
        for name, count in {**layers, **extra}.items()
    }
    return forms.detector(forms.per_level(text + "\n"), layers, outputs, more=more, names=names)


def layer_rows(model, image, name, per_cell=1):
    """A layer's levels as `[N, Q, columns]`, with several candidates in each cell."""
    found = tensors(model, [f"{name}{k}" for k in LEVELS], image).values()
    rows = [np.moveaxis(v, 1, -1).reshape(len(v), -1, v.shape[1] // per_cell) for v in found]
    return np.concatenate(rows, 1).astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("made", ["Sigmoid", "Identity"])
def test_maps_of_scores_and_of_distances_times_the_stride(made):
    text = f"cls_# = {made}(cls#) box_# = Mul(box#, stride#)"
    more = {f"stride{k}": np.array(k, np.float32) for k in LEVELS}
    model, image = level_maps(text, {"cls": CLASSES, "box": 4}, more=more), images(2, SIZE)
    found = table(model, image)
    cls, box = layer_rows(model, image, "cls"), layer_rows(model, image, "box")
    np.testing.assert_allclose(found["xcam/scores"], cls, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["xcam/probabilities"], sigmoid(cls), rtol=1e-5)
    points, strides = forms.grid(0)
    boxes = np.concatenate([points - box[..., :2] * strides, points + box[..., 2:] * strides], -1)
    np.testing.assert_allclose(found["xcam/boxes"], boxes, rtol=1e-4, atol=1e-4)


def test_maps_of_four_numbers_that_no_stride_is_multiplied_with_are_no_known_boxes():
    model = level_maps("cls_# = Sigmoid(cls#) box_# = Identity(box#)", {"cls": CLASSES, "box": 4})
    found = table(model, images(1, SIZE))
    assert "xcam/boxes" not in found
    np.testing.assert_allclose(found["xcam/scores"], layer_rows(model, images(1, SIZE), "cls"), rtol=1e-5, atol=1e-6)


def test_maps_of_scores_and_of_bins_beside_the_sum_of_the_scores():
    bins, text = 16, "cls_# = Sigmoid(cls#) box_# = Identity(box#) total# = ReduceSum(cls_#, channel) "
    text += "sum_# = Clip(total#, low, high)"
    more = {"channel": np.array([1]), "low": np.array(0, np.float32), "high": np.array(1, np.float32)}
    model, image = level_maps(text, {"cls": CLASSES, "box": 4 * bins}, more=more), images(2, SIZE)
    found = table(model, image)
    cls, box = layer_rows(model, image, "cls"), layer_rows(model, image, "box")
    np.testing.assert_allclose(found["xcam/scores"], cls, rtol=1e-5, atol=1e-6)
    powers = np.exp(box.reshape(*box.shape[:2], 4, bins))
    d = (powers / powers.sum(-1, keepdims=True) * np.arange(bins)).sum(-1)
    points, strides = forms.grid(0.5)
    boxes = np.concatenate([points - d[..., :2] * strides, points + d[..., 2:] * strides], -1)
    np.testing.assert_allclose(found["xcam/boxes"], boxes, rtol=1e-4, atol=1e-4)


def test_maps_of_several_anchors_in_each_cell_have_scores_and_no_boxes():
    """RetinaNet: each cell has its anchors one behind another, each with all classes."""
    k = 3
    model = level_maps("cls_# = Sigmoid(cls#) box_# = Identity(box#)", {"cls": k * CLASSES, "box": 4 * k})
    image = images(2, SIZE)
    found, cls = table(model, image), layer_rows(model, image, "cls", k)
    assert cls.shape[-1] == CLASSES and "xcam/boxes" not in found
    np.testing.assert_allclose(found["xcam/scores"], cls, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["xcam/probabilities"], sigmoid(cls), rtol=1e-5)


@pytest.mark.parametrize(("named", "columns"), [(0, None), (2, 2), (16, 16)])
def test_eight_bins_or_eight_anchors_are_told_apart_by_the_number_of_names(named, columns):
    text = "cls_# = Sigmoid(cls#) box_# = Identity(box#)"
    model = level_maps(text, {"cls": 16, "box": 32}, names=[f"c{i}" for i in range(named)])
    if columns is None:
        with pytest.raises(ScoreError, match="No output holds candidates with boxes"):
            table(model, images(1, SIZE))
    else:
        assert table(model, images(1, SIZE))["xcam/scores"].shape[-1] == columns


@pytest.mark.parametrize(
    ("text", "layers"),
    [("cls_# = Identity(cls#) box_# = Identity(box#)", {"cls": 4, "box": 4}),
     ("cls_# = Identity(cls#) box_# = Identity(box#)", {"cls": 12, "box": 12}),
     ("cls_# = Sigmoid(cls#) box_# = Sigmoid(box#)", {"cls": 7, "box": 4})],
)  # fmt: skip
def test_maps_of_which_none_is_surely_of_boxes_are_no_detectors(text, layers):
    with pytest.raises(ScoreError, match="No output holds candidates with boxes"):
        table(level_maps(text, layers), images(1, SIZE))
