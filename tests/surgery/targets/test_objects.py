"""Objects of a detector: which are kept, which one is explained, and from where its gradient comes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers.detector_forms import anchors_apart, rows
from helpers.detectors import CLASSES, PLACES, SIZE, corners, kept_by_hand, one_table
from helpers.models import cnn, images, session, tensors
from onnx_xcam import contract, inspect, instrument
from onnx_xcam.errors import ClassError, ScoreError, XcamError

EMIT = ("map", "activations", "gradients", "status")


def explained(model, image, **inputs):
    """The outputs of an instrumented detector by name."""
    made = session(model)
    names = [out.name for out in made.get_outputs()]
    feeds = {name: np.array(value, np.int64) for name, value in inputs.items()}
    return dict(zip(names, made.run(names, {"image": image, **feeds}), strict=True))


def by_hand(table):
    """The kept objects of each image of `[N, 4 + C, Q]`."""
    return [kept_by_hand(one[4:].T, corners(one[:4].T)) for one in table]


def test_the_best_objects_are_those_that_suppression_by_hand_keeps():
    model, image = one_table(), images(3, SIZE)
    found = explained(instrument(model, emit=EMIT), image, xcam_object=[[-1, -2, -3, -4]])
    kept = by_hand(found["output0"])
    assert len({len(objects) for objects in kept}) > 1, "the images must differ, or the test shows nothing"
    for n, objects in enumerate(kept):
        for k in range(4):
            there = k < len(objects)
            assert found["xcam_objects"][n, k] == (objects[k].candidate if there else -1)
            assert found["xcam_classes"][n, k] == (objects[k].label if there else -1)
            np.testing.assert_allclose(found["xcam_probabilities"][n, k], objects[k].p if there else 0, rtol=1e-6)
            np.testing.assert_allclose(found["xcam_boxes"][n, k], objects[k].box if there else 0, rtol=1e-5, atol=1e-4)
            assert (found["xcam_status"][n, k] == contract.NO_OBJECT) == (not there)


def test_scores_are_the_logits():
    model, image = one_table(), images(2, SIZE)
    logits = tensors(model, ["logits"], image)["logits"]
    found = explained(instrument(model), image, xcam_object=[[7, 18]], xcam_class=[[0, 2]])
    np.testing.assert_allclose(found["xcam_scores"], logits[:, [0, 2], [7, 18]], rtol=1e-6)
    assert found["xcam_objects"].tolist() == [[7, 18]] * 2
    assert found["xcam_classes"].tolist() == [[0, 2]] * 2


def test_one_class_serves_all_objects_and_one_object_all_classes():
    model, image = instrument(one_table()), images(1, SIZE)
    one = explained(model, image, xcam_object=[[4, 5]], xcam_class=[[1]])
    assert (one["xcam_objects"].tolist(), one["xcam_classes"].tolist()) == ([[4, 5]], [[1, 1]])
    other = explained(model, image, xcam_object=[[4]], xcam_class=[[0, 1, 2]])
    assert (other["xcam_objects"].tolist(), other["xcam_classes"].tolist()) == ([[4, 4, 4]], [[0, 1, 2]])
    default = explained(model, image, xcam_class=[[0, 1, 2]])
    assert len(set(default["xcam_objects"][0].tolist())) == 1


def test_the_map_of_an_object_is_that_of_its_own_level():
    model, image = one_table(), images(1, SIZE)
    found = explained(instrument(model, emit=EMIT), image, xcam_object=[[5, 17]])
    fine, coarse = found["xcam_gradients"], found["xcam_gradients_1"]
    assert fine.shape[2:] == (6, 4, 4) and coarse.shape[2:] == (5, 2, 2)
    assert fine[0, 0].any() and not coarse[0, 0].any(), "candidate 5 lies on the fine grid"
    assert coarse[0, 1].any() and not fine[0, 1].any(), "candidate 17 lies on the coarse one, which is made of the fine"
    assert found["xcam_map"].shape == (1, 2, 4, 4)


def test_the_gradient_is_that_of_finite_differences():
    model, image = one_table(), images(1, SIZE)
    found = explained(instrument(model, emit=EMIT), image, xcam_object=[[5]], xcam_class=[[1]])
    layer = found["xcam_activations"].astype(np.float64)
    behind = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["n4"], ["logits"])
    run = session(behind)
    step, slopes = 1e-2, np.zeros(layer.shape)
    for at in np.ndindex(layer.shape):
        moved = [layer.copy() for _ in range(2)]
        moved[0][at] += step
        moved[1][at] -= step
        up, down = (run.run(["logits"], {"n4": one.astype(np.float32)})[0][0, 1, 5] for one in moved)
        slopes[at] = (up - down) / (2 * step)
    np.testing.assert_allclose(found["xcam_gradients"][0, 0], slopes[0], atol=2e-3 * np.abs(slopes).max())


def test_an_image_without_objects_is_an_ordinary_result():
    model = one_table()
    found = explained(instrument(model, emit=EMIT, conf=1.0), images(2, SIZE), xcam_object=[[-1, -2]])
    assert (found["xcam_status"] == contract.NO_OBJECT).all()
    assert (found["xcam_objects"] == -1).all()
    for name in ("xcam_map", "xcam_boxes", "xcam_scores", "xcam_probabilities", "xcam_gradients"):
        assert not found[name].any()


def test_more_objects_than_candidates_may_be_asked_for():
    found = explained(instrument(one_table()), images(1, SIZE), xcam_object=[[-500]])
    assert found["xcam_objects"].tolist() == [[-1]]


def test_contrast_is_the_difference_of_two_classes():
    model, image = instrument(one_table(), contrast=True, emit=EMIT), images(1, SIZE)
    both = explained(model, image, xcam_object=[[5, 5, 5]], xcam_class=[[0, 1, 0]], xcam_against=[[-1, -1, 1]])
    scores, gradients = both["xcam_scores"][0], both["xcam_gradients"][0]
    np.testing.assert_allclose(scores[2], scores[0] - scores[1], rtol=1e-5)
    np.testing.assert_allclose(gradients[2], gradients[0] - gradients[1], atol=1e-6)


def test_objects_fixed_at_surgery_need_no_input():
    model = instrument(one_table(), class_input="fixed", objects=[-1, 5], classes=[2])
    assert [value.name for value in model.graph.input] == ["image"]
    found = explained(model, images(1, SIZE))
    assert found["xcam_objects"][0, 1] == 5 and found["xcam_classes"].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"objects": [20]}, "An object 20 does not exist"), ({"classes": [CLASSES]}, "A class 3 does not exist"),
     ({"classes": [-2]}, "A class -2 does not exist: of an object, -1 is its own class"),
     ({"objects": [0, 1], "classes": [0, 1, 2]}, "2 objects and 3 classes")],
)  # fmt: skip
def test_what_does_not_exist_is_refused(options, said):
    with pytest.raises(ClassError, match=said):
        instrument(one_table(), class_input="fixed", **options)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "half", True])
def test_thresholds_are_numbers_from_0_to_1(threshold):
    with pytest.raises(XcamError, match=r"conf is .*; it must be a number from 0 to 1"):
        instrument(one_table(), conf=threshold)


@pytest.mark.parametrize("name", ["conf", "iou"])
def test_thresholds_that_decide_nothing_are_refused(name):
    for made in (instrument, inspect):
        with pytest.raises(ScoreError, match=rf"^{name} \(--{name}\) .* task is classification.*leave it out"):
            made(cnn(), **{name: 0.5})


@pytest.mark.parametrize(
    ("model", "why"), [(rows, "the model itself picks"), (anchors_apart, "the boxes are not known")]
)
def test_an_overlap_that_drops_nothing_is_refused(model, why):
    instrument(model(), conf=0.4)
    with pytest.raises(ScoreError, match=rf"^iou .*since {why}.*leave it out"):
        instrument(model(), iou=0.5)


def test_a_task_that_does_not_fit_says_that_it_was_stated():
    for model, task in ((cnn(), "detection"), (one_table(), "classification")):
        with pytest.raises(ScoreError, match=rf"It was tried as {task} only, since the task was stated .*leave it out"):
            instrument(model, task=task)


def test_the_metadata_say_what_was_made():
    model = instrument(one_table(), conf=0.4, iou=0.6)
    stated = json.loads(next(one.value for one in model.metadata_props if one.key == "onnx_xcam"))
    assert stated["task"] == "detection"
    assert stated["candidates"].pop("form")
    assert stated["candidates"] == {"tensor": "xcam/scores", "axis": 1, "boxes": True, "conf": 0.4, "iou": 0.6}
    assert stated["cut"] == [{"layer": "n4", "stride": [4, 4]}, {"layer": "n8", "stride": [8, 8]}]
    assert stated["method"] == "local-xgrad-cam"
    assert stated["class_count"] == CLASSES


@pytest.mark.parametrize("where", [(0, 4, 7), (0, slice(None), slice(None))], ids=["one class", "all"])
def test_what_is_no_number_is_not_taken_for_a_picture_without_objects(where):
    model, image = one_table(n=2), images(2, SIZE)
    at = np.zeros((2, 4 + CLASSES, PLACES), np.float32)
    at[where] = np.nan
    model.graph.initializer.append(onnx.numpy_helper.from_array(at[:, 4:], "overflow"))
    final = next(node for node in model.graph.node if node.output[0] == "p")
    model.graph.node.insert(
        list(model.graph.node).index(final), onnx.helper.make_node("Add", ["logits", "overflow"], ["z"])
    )
    final.input[0] = "z"
    found = explained(instrument(model, emit=EMIT), image)
    assert found["xcam_status"].tolist() == [[contract.NOT_FINITE], [contract.GOOD]]
    assert np.isnan(found["xcam_probabilities"][0]).all()
