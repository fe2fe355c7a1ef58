"""Traps of detectors: what looks like an object's evidence, its table or its boxes, and is not."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers import detector_forms as forms
from helpers.detectors import CLASSES, PLACES, SIZE, corners, kept_by_hand, one_table
from helpers.models import build, images, session, tensors
from onnx_xcam import contract, instrument
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.analysis import Request, analyse

FAR = 64
"""The sides of a picture with places for objects that are out of each other's sight."""


def explained(model, feeds, **inputs):
    """The outputs of an instrumented detector by name."""
    made = session(model)
    names = [out.name for out in made.get_outputs()]
    whole = {**feeds, **{name: np.array(value, np.int64) for name, value in inputs.items()}}
    return dict(zip(names, made.run(names, whole), strict=True))


def replaced(model, **arrays):
    """The model with other weights."""
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return model


def test_a_constant_objectness_drops_out():
    """YOLOv6 writes the objectness 1 for each place: the score is the class's logit, as without it."""
    text = forms.per_level("sc# = Sigmoid(cls#) all# = Concat<axis=1>(box#, one#, sc#)\n")
    text += forms.flat("all", 5 + CLASSES) + "output = Transpose<perm=[0,2,1]>(all)"
    ones = {f"one{k}": np.ones((1, 1, SIZE // k, SIZE // k), np.float32) for k in (4, 8)}
    outputs = {"output": (1, PLACES, 5 + CLASSES)}
    model = forms.detector(text, {"box": 4, "cls": CLASSES}, outputs, more={**forms.to(5 + CLASSES), **ones}, n=1)
    image = images(1, SIZE)
    found = explained(instrument(model), {"image": image}, xcam_object=[list(range(PLACES))])
    levels = tensors(model, ["cls4", "cls8"], image)
    logits = np.concatenate([np.moveaxis(one, 1, -1).reshape(-1, CLASSES) for one in levels.values()])
    np.testing.assert_allclose(found["xcam_scores"][0], logits.max(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [3, "N"])
def test_one_image_of_a_batch_without_objects(n):
    """Also where the number of images is fixed."""
    model = one_table(n)
    image = images(3, SIZE)
    found = explained(instrument(model), {"image": image}, xcam_object=[[-1, -2]])
    best = found["xcam_probabilities"][:, 0]
    conf = float(np.sort(best)[:2].mean())
    assert best.min() < conf < np.sort(best)[1], "exactly one image must be without objects, or the test shows nothing"
    found = explained(instrument(model, conf=conf, emit=("map", "status")), {"image": image}, xcam_object=[[-1, -2]])
    empty = int(best.argmin())
    assert (found["xcam_objects"][empty] == -1).all() and not found["xcam_map"][empty].any()
    assert (found["xcam_status"][empty] == contract.NO_OBJECT).all()
    for other in {0, 1, 2} - {empty}:
        alone = explained(instrument(one_table(), conf=conf), {"image": image[[other]]}, xcam_object=[[-1, -2]])
        assert found["xcam_objects"][other, 0] >= 0
        assert found["xcam_objects"][other].tolist() == alone["xcam_objects"][0].tolist()
        np.testing.assert_allclose(found["xcam_map"][other], alone["xcam_map"][0], rtol=1e-4, atol=1e-6)


def test_pixels_that_the_file_itself_prepares():
    """A picture uint8 [N,H,W,3], made a float picture [N,3,H,W] inside, is explained as that picture."""
    model = one_table()
    given = images(2, SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    prepared = ((pixels.astype(np.float32) - 127) / 64).transpose(0, 3, 1, 2)
    assert prepared.shape == given.shape
    nodes = [
        helper.make_node("Cast", ["pixels"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["as_float", "mean"], ["shifted"]),
        helper.make_node("Div", ["shifted", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["image"], perm=[0, 3, 1, 2]),
    ]
    inside = onnx.ModelProto.FromString(model.SerializeToString())
    for index, node in enumerate(nodes):
        inside.graph.node.insert(index, node)
    inside.graph.initializer.append(numpy_helper.from_array(np.array(127, np.float32), "mean"))
    inside.graph.initializer.append(numpy_helper.from_array(np.array(64, np.float32), "std"))
    del inside.graph.input[:]
    inside.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3]))
    asked = {"xcam_object": [[-1, -2, 0]]}
    found = explained(instrument(inside), {"pixels": pixels}, **asked)
    plain = explained(instrument(model), {"image": prepared}, **asked)
    for name in ("xcam_objects", "xcam_classes", "xcam_boxes", "xcam_map"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_lies_out_of_sight_does_not_change_a_map():
    """The map of an object A stays as it is when an object B moves about outside of what A's score depends on."""
    model = _of_far_objects()
    made = instrument(model, conf=0.0)
    image = images(1, FAR)
    moved = image.copy()
    moved[..., FAR // 2 :, FAR // 2 :] = np.roll(moved[..., FAR // 2 :, FAR // 2 :], 5, axis=(2, 3))
    asked = {"xcam_object": [[0, (FAR // 4) ** 2 - 1]]}
    first, then = (explained(made, {"image": one}, **asked) for one in (image, moved))
    for name in ("xcam_scores", "xcam_map"):
        np.testing.assert_allclose(first[name][0, 0], then[name][0, 0], rtol=1e-5, atol=1e-6, err_msg=name)
        assert not np.allclose(first[name][0, 1], then[name][0, 1]), "B must have changed, or the test shows nothing"
    assert first["xcam_map"][0, 0].any() and not first["xcam_map"][0, 0, FAR // 8 :, FAR // 8 :].any()


def _of_far_objects():
    """The detector of `one_table` for a large picture."""
    model = one_table(1)
    centres, strides = [], []
    for stride in (4, 8):
        line = (np.arange(FAR // stride) + 0.5) * stride
        centres.append(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2))
        strides.append(np.full(len(centres[-1]), stride))
    count = sum(map(len, strides))
    replaced(
        model,
        centres=np.concatenate(centres).T[None].astype(np.float32),
        strides=np.concatenate(strides)[None, None].astype(np.float32),
    )
    for value, dims in ((model.graph.input[0], (1, 3, FAR, FAR)), (model.graph.output[0], (1, 4 + CLASSES, count))):
        for dim, size in zip(value.type.tensor_type.shape.dim, dims, strict=True):
            dim.dim_value = size
    return model


def test_boxes_that_are_moved_apart_by_class_for_suppression_are_told_as_they_are():
    """Many files add class times a large number to the boxes that NonMaxSuppression sees, so that classes are apart."""
    model, image = _moved_apart(), images(1, SIZE)
    table = tensors(model, ["boxes", "pt"], image)
    best = table["pt"][0].max(1)
    expected = kept_by_hand(table["pt"][0], table["boxes"][0])
    assert len(expected) > 2 and len({one.label for one in expected}) > 1
    found = explained(instrument(model), {"image": image}, xcam_object=[-1 - np.arange(len(expected) + 1)])
    order = np.argsort(-found["confidence"], kind="stable")
    np.testing.assert_allclose(found["xcam_boxes"][0, :-1], found["found"][order], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found["xcam_probabilities"][0, :-1], [one.p for one in expected], rtol=1e-5)
    np.testing.assert_allclose(found["xcam_boxes"][0, :-1], [one.box for one in expected], rtol=1e-4, atol=1e-3)
    assert found["xcam_classes"][0, :-1].tolist() == [one.label for one in expected]
    assert found["xcam_objects"][0, -1] == -1 and best.max() > 0.25


def _moved_apart():
    """Suppression of the best class of each place, over boxes that are moved by their class: rows of one image."""
    text = forms._CORNERS + """
      score = ReduceMax<axes=[2], keepdims=0>(pt)
      labels = ArgMax<axis=2, keepdims=0>(pt)
      labelf = Cast<to=1>(labels)
      away = Mul(labelf, far)
      column = Unsqueeze(away, two_1)
      apart = Add(boxes, column)
      scores = Unsqueeze(score, one)
      chosen = NonMaxSuppression(apart, scores, most, iou, conf)
      place = Gather<axis=1>(chosen, two)
      box0 = Gather<axis=0>(boxes, zero)
      found = Gather<axis=0>(box0, place)
      p0 = Gather<axis=0>(score, zero)
      confidence = Gather<axis=0>(p0, place)
      label0 = Gather<axis=0>(labels, zero)
      label = Gather<axis=0>(label0, place)
    """  # fmt: skip
    points, strides = forms.grid(0.5)
    more = {
        "points": points[None].astype(np.float32), "strides": strides[None].astype(np.float32),
        "far": np.array(4096, np.float32), "one": np.array([1]), "two": np.array(2), "two_1": np.array([2]),
        "zero": np.array(0),
        "most": np.array([PLACES]), "iou": np.array([0.45], np.float32), "conf": np.array([0.25], np.float32),
        **forms.to(4, CLASSES),
    }  # fmt: skip
    outputs = {"found": ("n", 4), "confidence": ("n",), "label": ("n",)}
    model = forms.detector(text, {"cls": CLASSES, "box": 4}, outputs, more=more, n=1)
    model.graph.output[2].type.tensor_type.elem_type = TensorProto.INT64
    return model


def test_a_picture_of_any_size_has_a_table_that_can_be_read():
    """A count of places that depends on the picture is shown as a symbol, not as a formula a screen long."""
    text = "clst = Transpose<perm=[0,2,1]>(cls) boxt = Transpose<perm=[0,2,1]>(box) "
    text = forms.flat("cls", CLASSES) + forms.flat("box", 4) + text + "scores = Sigmoid(clst) boxes = Identity(boxt)"
    outputs = {"scores": ("N", "A", CLASSES), "boxes": ("N", "A", 4)}
    model = forms.detector(text, {"cls": CLASSES, "box": 4}, outputs, more=forms.to(4, CLASSES), size="S")
    analysis = analyse(Source(model), Request(task="detection"))
    assert all(len(str(length)) < 30 for length in analysis.target.shape), analysis.target.shape
    made = instrument(model)
    stated = json.loads(next(one.value for one in made.metadata_props if one.key == "onnx_xcam"))
    assert all(len(note) < 1000 for note in stated["notes"])
    for side in (16, 32):
        found = explained(made, {"image": images(1, side)}, xcam_object=[[0, side**2 // 16 + side**2 // 64 - 1]])
        assert found["xcam_map"].shape[2:] == (side // 4, side // 4)


def test_boxes_that_a_second_input_scales_are_said_to_be():
    """RT-DETR as deployed multiplies boxes by sizes that are fed; those of the photo would make them wrong here."""
    model = _moved_apart()
    for node in model.graph.node:
        if node.output[0] == "found":
            node.output[0] = "unscaled"
    model.graph.node.append(helper.make_node("Mul", ["unscaled", "target_sizes"], ["found"]))
    model.graph.input.append(helper.make_tensor_value_info("target_sizes", TensorProto.FLOAT, [1, 4]))
    notes = analyse(Source(model), Request(task="detection")).target.notes
    assert [note for note in notes if "scaled by the input 'target_sizes'" in note and "not the photo's" in note]
    assert not any("scaled by" in note for note in analyse(Source(_moved_apart())).target.notes)


def test_an_output_whose_lengths_have_symbols_that_nothing_else_has():
    """As PyTorch's exporter writes them behind a Transpose, of a picture of any size."""
    fixed = forms.yolox()
    model = onnx.ModelProto.FromString(fixed.SerializeToString())
    for value, dims in ((model.graph.input[0], ("batch", 3, "height", "width")), (model.graph.output[0], "abc")):
        for dim, length in zip(value.type.tensor_type.shape.dim, dims, strict=True):
            if isinstance(length, str):
                dim.dim_param = length
    feeds = {"image": images(2, SIZE)}
    found, expected = (explained(instrument(one), feeds, xcam_object=[[-1, -2, 0]]) for one in (model, fixed))
    for name in ("xcam_objects", "xcam_classes", "xcam_scores", "xcam_boxes", "xcam_map"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_table_in_float16_keeps_the_same_objects():
    """Half precision: the same objects as by hand on the values that the file gives."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(one_table(1), keep_io_types=True)
    image = images(1, SIZE)
    found = explained(instrument(model), {"image": image}, xcam_object=[[-1, -2, -3]])
    rows = found["output0"][0]
    expected = kept_by_hand(rows[4:].T, corners(rows[:4].T))[:3]
    assert found["xcam_objects"][0, : len(expected)].tolist() == [one.candidate for one in expected]
    assert found["xcam_map"].any()


def test_products_of_products_take_no_longer_for_each():
    """Each tensor is read twice by the next node, so that there are 2**60 ways through the model."""
    chain = " ".join(f"t{i + 1} = Mul(t{i}, t{i})" for i in range(60))
    body = (
        "c = Conv(image, w) f = Reshape(c, to) t0 = Sigmoid(f) " + chain + " boxes = Reshape(c, four) p = Identity(t60)"
    )
    weights = {"w": (4, 3, 1, 1), "to": np.array([0, 144, 4]), "four": np.array([0, 144, 4])}
    model = build(body, weights, outputs="float[N,144,4] p, float[N,144,4] boxes")
    with pytest.raises(ScoreError):
        instrument(model)


@pytest.mark.parametrize(
    "stated", [(1, 7, 5), ("n", "a", "b"), (1, 4 + CLASSES, PLACES)], ids=["wrong", "names", "one"]
)
def test_a_fixed_batch_whose_output_states_other_sizes(stated):
    """Exporters leave placeholders in the shapes of outputs; ONNX Runtime goes by the nodes, and so do objects."""
    model, image = one_table(n=2), images(2, SIZE)
    tables = session(model).run(["output0"], {"image": image})[0]
    expected = [kept_by_hand(table[4:].T, corners(table[:4].T)) for table in tables]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output0", TensorProto.FLOAT, stated))
    found = explained(instrument(model), {"image": image}, xcam_object=[[-1, -2]])
    for n, objects in enumerate(expected):
        assert found["xcam_objects"][n].tolist() == [one.candidate for one in objects[:2]]
        np.testing.assert_allclose(found["xcam_boxes"][n], [one.box for one in objects[:2]], rtol=1e-5, atol=1e-4)
