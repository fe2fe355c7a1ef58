"""Each form of outputs as one table: scores are the logits, objects those of suppression by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers import detector_forms as forms
from helpers.detectors import CLASSES, PLACES, SIZE, kept_by_hand
from helpers.models import images, session, tensors
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.analysis import Request, analyse


def table(model, image):
    """Scores, probabilities, boxes and ranks of a detector, and its Target."""
    analysis = analyse(Source(model), Request(task="detection"))
    target = analysis.target
    whole = analysis.source.load()
    names = ["xcam/scores", "xcam/probabilities", "xcam/ranks", *(["xcam/boxes"] if target.has_boxes else [])]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = dict(zip(names, session(whole).run(names, {"image": image}), strict=True))
    return {name.removeprefix("xcam/"): value for name, value in found.items()}, target


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def logits(model, image, name):
    """A layer's levels as `[N, Q, columns]`."""
    levels = [f"{name}4", f"{name}8"]
    have = {out for node in model.graph.node for out in node.output}
    found = tensors(model, [level for level in levels if level in have], image)
    rows = [np.moveaxis(value, 1, -1).reshape(len(value), -1, value.shape[1]) for value in found.values()]
    return np.concatenate(rows, 1).astype(np.float64)


def assert_kept(found, p, boxes):
    """The ranks are those of suppression by hand, image by image."""
    counts = []
    for n in range(len(p)):
        expected = np.full(p.shape[1], -1.0)
        for one in kept_by_hand(p[n], boxes[n]):
            expected[one.candidate] = one.p
        counts.append(int((expected > 0).sum()))
        np.testing.assert_allclose(found["ranks"][n], expected, rtol=1e-5)
    assert max(counts) > 1


def around(centre, size):
    return np.concatenate([centre - size / 2, centre + size / 2], -1)


def test_objectness_times_class_with_raw_boxes():
    model, image = forms.yolox(), images(2, SIZE)
    found, _ = table(model, image)
    box, obj, cls = (logits(model, image, name) for name in ("box", "obj", "cls"))
    log = np.log(sigmoid(obj)) + np.log(sigmoid(cls))
    np.testing.assert_allclose(found["scores"], log, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], np.exp(log), rtol=1e-5)
    points, strides = forms.grid(0)
    boxes = around(points + box[..., :2] * strides, np.exp(box[..., 2:]) * strides)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)
    assert_kept(found, np.exp(log), boxes)


def test_the_score_with_objectness_does_not_saturate():
    model = forms.yolox()
    for tensor in model.graph.initializer:
        if tensor.name in ("objb4", "clsb4", "objb8", "clsb8"):
            raised = onnx.numpy_helper.to_array(tensor) + 60
            tensor.CopyFrom(onnx.numpy_helper.from_array(raised, tensor.name))
    found, _ = table(model, images(1, SIZE))
    assert (found["probabilities"] == 1).all()
    assert np.isfinite(found["scores"]).all() and (found["scores"] < 0).any()


def test_classes_first_and_bins_of_distances():
    model, image = forms.nanodet(), images(2, SIZE)
    found, _ = table(model, image)
    box, cls = logits(model, image, "box"), logits(model, image, "cls")
    np.testing.assert_allclose(found["scores"], cls, rtol=1e-5, atol=1e-6)
    shares = np.exp(box.reshape(2, PLACES, 4, forms.BINS))
    d = (shares / shares.sum(-1, keepdims=True) * np.arange(forms.BINS)).sum(-1)
    points, strides = forms.grid(0)
    boxes = np.concatenate([points - d[..., :2] * strides, points + d[..., 2:] * strides], -1)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)
    assert_kept(found, sigmoid(cls), boxes)


@pytest.mark.parametrize("batch", [True, False])
def test_levels_in_outputs_of_their_own(batch):
    model = forms.levels_apart(4, {"cls": 1}, batch=batch, n="N" if batch else 1)
    image = images(2 if batch else 1, SIZE)
    found, _ = table(model, image)
    box, cls = logits(model, image, "box"), logits(model, image, "cls")
    np.testing.assert_allclose(found["scores"], cls, rtol=1e-5, atol=1e-6)
    points, strides = forms.grid(0)
    boxes = np.concatenate([points - box[..., :2] * strides, points + box[..., 2:] * strides], -1)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)


def test_levels_with_bins():
    model, image = forms.levels_apart(4 * forms.BINS, {"cls": CLASSES}), images(1, SIZE)
    found, _ = table(model, image)
    box = logits(model, image, "box").reshape(1, PLACES, 4, forms.BINS)
    d = (np.exp(box) / np.exp(box).sum(-1, keepdims=True) * np.arange(forms.BINS)).sum(-1)
    points, strides = forms.grid(0.5)
    boxes = np.concatenate([points - d[..., :2] * strides, points + d[..., 2:] * strides], -1)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["scores"], logits(model, image, "cls"), rtol=1e-5, atol=1e-6)


def test_levels_with_two_scores_have_the_root_of_their_product():
    model, image = forms.levels_apart(4, {"cls": 1, "obj": 1}), images(1, SIZE)
    found, _ = table(model, image)
    box, cls, obj = (logits(model, image, name) for name in ("box", "cls", "obj"))
    np.testing.assert_allclose(found["probabilities"], np.sqrt(sigmoid(cls) * sigmoid(obj)), rtol=1e-5)
    log = np.log(sigmoid(cls)) + np.log(sigmoid(obj))
    np.testing.assert_allclose(found["scores"], log, rtol=1e-4, atol=1e-5)
    points, strides = forms.grid(0)
    boxes = around(points + box[..., :2] * strides, np.exp(box[..., 2:]) * strides)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", ["pixels", "fractions"])
@pytest.mark.parametrize("order", ["x1y1x2y2", "y1x1y2x2", "cxcywh", "x1y1wh"])
def test_decoded_boxes_are_recognised_by_running_the_decoder(order, unit):
    model, image = forms.decoded(f"{order} {unit}"), images(2, SIZE)
    found, target = table(model, image)
    box, cls = logits(model, image, "box"), logits(model, image, "cls")
    points, strides = forms.grid(0.5)
    d = np.exp(box) * strides
    boxes = np.concatenate([points - d[..., :2], points + d[..., 2:]], -1)
    assert target.has_boxes, "the form was not recognised"
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["scores"], cls, rtol=1e-5, atol=1e-6)
    assert_kept(found, sigmoid(cls), boxes)


def test_logits_and_boxes_of_unknown_form_still_are_a_table():
    text = "cls_8 = Transpose<perm=[0,2,3,1]>(cls8) box_8 = Transpose<perm=[0,2,3,1]>(box8) "
    text += "scores = Reshape(cls_8, one) boxes = Reshape(box_8, four)"
    more = {"one": np.array([0, -1, 1]), "four": np.array([0, -1, 4])}
    outputs = {"scores": ("N", 4, 1), "boxes": ("N", 4, 4)}
    model, image = forms.detector(text, {"cls": 1, "box": 4}, outputs, more=more), images(2, SIZE)
    found, target = table(model, image)
    np.testing.assert_allclose(found["scores"], logits(model, image, "cls")[:, -4:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["probabilities"], sigmoid(found["scores"]), rtol=1e-5)
    assert not target.has_boxes
    assert any("not known" in note for note in target.notes)


def test_the_form_is_said():
    _, target = table(forms.decoded("cxcywh fractions"), images(1, SIZE))
    assert "Boxes: centre, width and height in fractions of the picture." in target.notes


@pytest.mark.parametrize("how", forms.PICKED)
def test_rows_of_one_image_have_the_logits_behind_them(how):
    """Outputs without an axis of images, picked by a suppression in a branch; a root is left out of the score."""
    model, image = forms.picked_rows(how, 0.3), images(1, SIZE)
    found, target = table(model, image)
    boxes, p, labels = session(model).run(["boxes", "scores", "labels"], {"image": image})
    cls = logits(model, image, "cls")[0]
    if how == "softmax":
        score, of_all = cls, np.exp(cls) / np.exp(cls).sum(-1, keepdims=True)
    else:
        score = cls if how == "sigmoid" else np.log(sigmoid(cls)) + np.log(sigmoid(logits(model, image, "obj")[0]))
        of_all = sigmoid(cls) if how == "sigmoid" else np.exp(score / 2)
    assert len(p) > 2 and (labels > 0).all() if how == "softmax" else len(p) > 2
    assert target.shape[2] == CLASSES and target.candidates.iou is None
    for row, (one, label, box) in enumerate(zip(p, labels, boxes, strict=True)):
        candidate = np.abs(of_all[:, label] - one).argmin()
        np.testing.assert_allclose(found["scores"][0, row, label], score[candidate, label], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"][0, row, label], one, rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][0, row], box, rtol=1e-5)
        np.testing.assert_allclose(found["ranks"][0, row], one, rtol=1e-5)
    assert (found["ranks"][0, len(p) :] == -1).all()


def test_rows_of_one_image_without_any_object():
    model, image = forms.picked_rows("sigmoid", 1.0), images(1, SIZE)
    found, _ = table(model, image)
    assert not len(session(model).run(["scores"], {"image": image})[0])
    assert (found["ranks"] == -1).all() and found["ranks"].size
