"""Each form of outputs as one table: scores are the logits, objects those of suppression by hand."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers import detector_forms as forms
from helpers.detectors import CLASSES, PLACES, SIZE, kept_by_hand
from helpers.models import images, session, tensors
from onnx_xcam.surgery import instrument
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


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_one_map_with_powers_of_objectness_and_class():
    model, image = forms.one_map(), images(2, SIZE)
    found, _ = table(model, image)
    box, cls, obj = (logits(model, image, name)[:, -4:] for name in ("box", "cls", "obj"))
    np.testing.assert_allclose(found["probabilities"], sigmoid(obj) ** 0.6 * softmax(cls) ** 0.4, rtol=1e-5)
    np.testing.assert_allclose(found["scores"], np.log(sigmoid(obj)) + np.log(softmax(cls)), rtol=1e-4, atol=1e-5)
    points = forms.grid(0)[0][-4:]
    boxes = around(points + np.tanh(box[..., :2]) * 8, sigmoid(box[..., 2:]) * SIZE)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)


def test_a_softmax_over_places_has_the_background_first():
    model, image = forms.decoded("x1y1x2y2 pixels", softmax=True), images(2, SIZE)
    found, target = table(model, image)
    cls = logits(model, image, "cls")
    np.testing.assert_allclose(found["scores"], cls, rtol=1e-5, atol=1e-6)
    assert not found["probabilities"][..., 0].any(), "class 0 is never an object's own"
    np.testing.assert_allclose(found["probabilities"][..., 1:], softmax(cls)[..., 1:], rtol=1e-5)
    assert target.class_count == CLASSES


def test_queries_have_no_object_last_and_are_not_suppressed():
    model, image = forms.queries(), images(2, SIZE)
    found, target = table(model, image)
    cls = logits(model, image, "cls")
    np.testing.assert_allclose(found["scores"], cls[..., :-1], rtol=1e-5, atol=1e-6)
    p = softmax(cls)[..., :-1]
    np.testing.assert_allclose(found["probabilities"], p, rtol=1e-5)
    np.testing.assert_allclose(found["ranks"], np.where(p.max(-1) > 0.25, p.max(-1), -1), rtol=1e-5)
    told = tensors(model, ["pred_boxes"], image)["pred_boxes"]
    np.testing.assert_allclose(found["boxes"], around(told[..., :2], told[..., 2:]) * SIZE, rtol=1e-4, atol=1e-4)
    assert target.class_count == CLASSES


@pytest.mark.parametrize("told_by", ["points of reference", "the number of names"])
def test_queries_with_a_sigmoid_for_each_class(told_by):
    by_names = told_by == "the number of names"
    names = [f"class {n}" for n in range(CLASSES + 1)] if by_names else ()
    model, image = forms.queries(names=names, reference=not by_names), images(1, SIZE)
    found, target = table(model, image)
    np.testing.assert_allclose(found["probabilities"], sigmoid(logits(model, image, "cls")), rtol=1e-5)
    assert target.class_count == CLASSES + 1


@pytest.mark.parametrize("faces", [False, True])
def test_heat_maps(faces):
    model, image = forms.heat_map(faces=faces), images(2, SIZE)
    found, _ = table(model, image)
    cls, size, offset = (logits(model, image, name)[:, :16] for name in ("cls", "size", "offset"))
    np.testing.assert_allclose(found["scores"], cls, rtol=1e-5, atol=1e-6)
    points = forms.grid(0.5 if faces else 0)[0][:16]
    if faces:
        boxes = around(points + offset[..., ::-1] * 4, np.exp(size[..., ::-1]) * 4)
    else:
        boxes = around(points + offset * 4, size * 4)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-4)


def test_a_heat_map_of_any_size_whose_outputs_have_symbols_of_their_own():
    model, image = forms.heat_map(faces=True), images(2, SIZE)
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis != 1:
                dim.dim_param = f"{value.name}_{axis}"
    fixed, _ = table(forms.heat_map(faces=True), image)
    found, _ = table(model, image)
    for name, values in fixed.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


def test_rows_of_the_best_cells():
    model, image = forms.rows(), images(2, SIZE)
    found, target = table(model, image)
    cls = logits(model, image, "cls")
    best = np.sort(cls.reshape(2, -1), axis=1)[:, ::-1][:, :8]
    told = tensors(model, ["output"], image)["output"]
    own = told[..., 5].astype(int)
    assert target.class_count == CLASSES
    np.testing.assert_allclose(np.take_along_axis(found["scores"], own[..., None], 2)[..., 0], best, rtol=1e-5)
    np.testing.assert_array_equal(found["probabilities"].argmax(-1), own)
    np.testing.assert_allclose(found["probabilities"].max(-1), told[..., 4], rtol=1e-6)
    np.testing.assert_allclose(found["boxes"], told[..., :4], rtol=1e-6)
    np.testing.assert_allclose(found["ranks"], np.where(told[..., 4] > 0.25, told[..., 4], -1), rtol=1e-6)


@pytest.mark.parametrize("order", ["ibcp", "ibpc"])
def test_rows_of_all_images_in_one_table(order):
    model, image = forms.suppressed(order), images(3, SIZE)
    found, _ = table(model, image)
    told = tensors(model, ["output"], image)["output"]
    c, p = (5, 6) if order == "ibcp" else (6, 5)
    assert len(set(told[:, 0])) > 1, "the rows must be of several images, or the test shows nothing"
    for n in range(3):
        mine = told[:, 0] == n
        np.testing.assert_allclose(found["probabilities"][n, :-1].max(-1), np.where(mine, told[:, p], 0), rtol=1e-6)
        np.testing.assert_array_equal(found["probabilities"][n, :-1].argmax(-1)[mine], told[mine, c].astype(int))
        scores = found["scores"][n, :-1][mine, told[mine, c].astype(int)]
        np.testing.assert_allclose(scores, np.log(told[mine, p] / (1 - told[mine, p])), rtol=1e-3, atol=1e-4)
    assert (found["ranks"][:, -1] == -1).all(), "the row behind the last is no object"


def test_rows_of_zeros_that_fill_up_are_no_objects():
    model, image = forms.rows(filled_up=True), images(1, SIZE)
    plain, _ = table(forms.rows(), image)
    found, _ = table(model, image)
    for name in ("scores", "probabilities", "boxes", "ranks"):
        np.testing.assert_allclose(found[name][:, :8], plain[name], rtol=1e-6)
    assert (found["ranks"][:, 8:] == -1).all()
    assert not found["probabilities"][:, 8:].any()


@pytest.mark.parametrize(
    ("op", "settings", "conf", "iou"),
    [("EfficientNMS_TRT", {"score_threshold": 0.4, "iou_threshold": 0.6, "box_coding": 1}, 0.4, 0.6),
     ("EfficientNMS_TRT", {"score_threshold": 0.3, "iou_threshold": 0.5, "box_coding": 0}, 0.3, 0.5),
     ("BatchedNMSDynamic_TRT", {"scoreThreshold": 0.35, "iouThreshold": 0.7, "isNormalized": 0}, 0.35, 0.7)],
)  # fmt: skip
def test_plugins_of_tensorrt_are_cut_off(op, settings, conf, iou):
    model, image = forms.plugin(op, **settings), images(2, SIZE)
    found, target = table(model, image)
    plain, _ = table(forms.decoded("x1y1x2y2 pixels"), image)
    np.testing.assert_allclose(found["boxes"], plain["boxes"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["scores"], plain["scores"], rtol=1e-6)
    for n in range(2):
        expected = np.full(PLACES, -1.0)
        for one in kept_by_hand(plain["probabilities"][n], plain["boxes"][n], conf, iou):
            expected[one.candidate] = one.p
        np.testing.assert_allclose(found["ranks"][n], expected, rtol=1e-5)
    assert (target.candidates.conf, target.candidates.iou) == (conf, iou)
    analysis = analyse(Source(model))
    assert any(op in change and "cut off" in change for change in analysis.changes)
    made = instrument(model)
    assert {"boxes", "scores"} < {out.name for out in made.graph.output}
    assert not {"num_dets", "det_boxes"} & {out.name for out in made.graph.output}
    session(made)


@pytest.mark.parametrize("raw", [False, True])
def test_levels_with_anchors_have_scores_and_no_boxes(raw):
    model, image = forms.anchors_apart(raw=raw), images(2, SIZE)
    found, target = table(model, image)
    told = tensors(model, ["p4", "p8"], image)
    rows = np.concatenate([value.reshape(2, -1, 5 + CLASSES) for value in told.values()], 1).astype(np.float64)
    rows = sigmoid(rows) if raw else rows
    p = rows[..., 4:5] * rows[..., 5:]
    np.testing.assert_allclose(found["probabilities"], p, rtol=1e-5)
    np.testing.assert_allclose(found["scores"], np.log(p), rtol=1e-4, atol=1e-5)
    assert not target.has_boxes


FORMS = {
    "objectness": forms.yolox,
    "classes first": forms.nanodet,
    "levels": lambda: forms.levels_apart(4, {"cls": 1, "obj": 1}),
    "one map": forms.one_map,
    "decoded": lambda: forms.decoded("x1y1x2y2 pixels"),
    "queries": forms.queries,
    "heat map": forms.heat_map,
    "rows": forms.rows,
    "rows that are filled up": lambda: forms.rows(filled_up=True),
    "plugin": lambda: forms.plugin("EfficientNMS_TRT", score_threshold=0.3, iou_threshold=0.5),
    "anchors": forms.anchors_apart,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_the_best_object_is_that_of_finite_differences(form):
    model, image = FORMS[form](), images(1, SIZE)
    made = instrument(model, emit=("activations", "gradients"))
    ours = session(made)
    names = [out.name for out in ours.get_outputs()]
    found = dict(zip(names, ours.run(names, {"image": image}), strict=True))
    q, c = int(found["xcam_objects"][0, 0]), int(found["xcam_classes"][0, 0])
    stated = json.loads(next(one.value for one in made.metadata_props if one.key == "onnx_xcam"))
    cut = [one["layer"] for one in stated["cut"]]
    whole = analyse(Source(model), Request(task="detection")).source.load()
    whole.graph.output.append(onnx.ValueInfoProto(name="xcam/scores"))
    given = tensors(model if form != "plugin" else forms.decoded("x1y1x2y2 pixels"), cut, image)
    behind = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(whole)).extract_model(
        [*cut, "image"], ["xcam/scores"]
    )
    score = session(behind)

    def score_at(values):
        return score.run(None, {**values, "image": image})[0][0, q, c]

    largest = 0.0
    for k, layer in enumerate(cut):
        gradient = found["xcam_gradients" + (f"_{k}" if k else "")][0, 0]
        for place in np.random.default_rng(k).permutation(gradient.size)[:25]:
            at = np.unravel_index(place, gradient.shape)
            moved = [{**given, layer: given[layer].copy()} for _ in range(2)]
            for sign, values in zip((1, -1), moved, strict=True):
                values[layer][(0, *at)] += sign * 0.01
            numeric = (score_at(moved[0]) - score_at(moved[1])) / 0.02
            assert abs(gradient[at] - numeric) < 2e-3 * max(1, abs(numeric)), (layer, at)
            largest = max(largest, abs(numeric))
    assert largest > 0.05, "the gradient must not vanish, or the test shows nothing"


def test_no_row_at_all_is_an_ordinary_result():
    model = forms.suppressed()
    for tensor in model.graph.initializer:
        if tensor.name == "conf":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0.9999], np.float32), "conf"))
    found, _ = table(model, images(2, SIZE))
    assert (found["ranks"] == -1).all() and found["ranks"].shape == (2, 1)


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
    assert any("each row has the logits of all classes" in note for note in target.notes)
    assert target.shape[2] == CLASSES and target.candidates.iou is None
    for row, (one, label, box) in enumerate(zip(p, labels, boxes, strict=True)):
        candidate = np.abs(of_all[:, label] - one).argmin()
        np.testing.assert_allclose(found["scores"][0, row], score[candidate], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"][0, row, label], one, rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][0, row], box, rtol=1e-5)
        np.testing.assert_allclose(found["ranks"][0, row], one, rtol=1e-5)
    assert (found["ranks"][0, len(p) :] == -1).all()


def test_rows_of_one_image_without_any_object():
    model, image = forms.picked_rows("sigmoid", 1.0), images(1, SIZE)
    found, _ = table(model, image)
    assert not len(session(model).run(["scores"], {"image": image})[0])
    assert (found["ranks"] == -1).all() and found["ranks"].size


@pytest.mark.parametrize(
    ("numbers", "of_all"), [([0, 2, 1], False), ([0, 1, 5], False), ([0, 1, 2], True), ([0, 1, 2] * 4, True)]
)
def test_labels_that_a_table_renumbers_have_the_logit_of_their_own_class_alone(numbers, of_all):
    """Class 0 has the number of its column by chance, and the other columns of its rows are still other labels'."""
    model, image = forms.picked_rows("sigmoid", 0.3), images(1, SIZE)
    plain, _ = table(model, image)
    node = next(node for node in model.graph.node if node.output[0] == "labels")
    node.output[0] = "columns"
    model.graph.node.append(onnx.helper.make_node("Gather", ["renumbered", "columns"], ["labels"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers), "renumbered"))
    found, target = table(model, image)
    columns, labels = tensors(model, ["columns", "labels"], image).values()
    assert (columns == 0).any(), "or the test shows nothing"
    note = "logits of all classes" if of_all else "logit of its own class, since labels are looked up in 'renumbered'"
    assert any(note in one for one in target.notes)
    if of_all:
        np.testing.assert_array_equal(found["scores"], plain["scores"])
        return
    for row, (column, label) in enumerate(zip(columns, labels, strict=True)):
        expected = np.zeros(CLASSES)
        if label < CLASSES:
            expected[label] = plain["scores"][0, row, column]
        np.testing.assert_allclose(found["scores"][0, row], expected, rtol=1e-6)
