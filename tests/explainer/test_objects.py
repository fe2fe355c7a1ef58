"""Objects of a detector: chosen by rank, number, box or point, in the photo's own coordinates, and contrasted."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest

from helpers.detectors import SIZE, corners, kept_by_hand, one_table
from helpers.models import cnn, session
from onnx_xcam import Explainer, contract, instrument
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.errors import ClassError, InputError, LayerError, XcamError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.places import LEAST_OVERLAP, overlap, read_places
from onnx_xcam.explainer.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

LABELS = ("cat", "dog", "bird")
LETTERBOX = {"scale": "1/255", "resize": "letterbox", "size": [SIZE, SIZE]}
PHOTO = np.random.default_rng(5).integers(0, 256, (48, 96, 3), np.uint8)
"""Twice as wide as high: the model sees it between two borders, each pixel of the input is 6 of the photo."""
GUIDED = "guided-xgrad-cam"
BLANK = np.full((48, 96, 3), 128, np.uint8)


def explainer_of(model=None, **options):
    given = {"preprocess": LETTERBOX, "labels": LABELS, "providers": "cpu", **options}
    return Explainer(one_table() if model is None else model, **given)


@pytest.fixture(scope="module")
def explainer():
    return explainer_of()


def by_hand(explainer, photo):
    """The kept objects of a photo, boxes in its own pixels, by suppression written with loops."""
    item = explainer.prepare(photo).item[None]
    (table,) = session(one_table()).run(["output0"], {"image": item})
    found = kept_by_hand(table[0, 4:].T, corners(table[0, :4].T))
    return [one._replace(box=(one.box - [0, 4, 0, 4]) * 6) for one in found]


# --- chosen by rank and number ---------------------------------------------------------------------------------------


def test_the_best_objects_with_their_boxes_in_the_photo(explainer):
    kept = by_hand(explainer, PHOTO)
    assert len(kept) > 1
    found = explainer.explain(PHOTO, top=len(kept) + 1)
    assert found.objects.tolist() == [[*(one.candidate for one in kept), -1]]
    assert found.classes.tolist() == [[*(one.label for one in kept), -1]]
    np.testing.assert_allclose(found.probabilities[0, :-1], [one.p for one in kept], rtol=1e-5)
    np.testing.assert_allclose(found.boxes[0, :-1], [one.box for one in kept], rtol=1e-4, atol=1e-3)
    assert found.boxes[0, -1].tolist() == [0] * 4 and found.scores[0, -1] == 0 and not found.maps[0, -1].any()
    assert found.status[0, -1] == contract.NO_OBJECT
    assert set(found.status[0, :-1].tolist()) <= {contract.GOOD, contract.MAP_ZERO} and contract.GOOD in found.status
    assert (found.task, found.layers) == ("detection", ("cut",))


def test_what_is_not_there_is_no_warning(explainer):
    found = explainer.explain(PHOTO, top=90)
    assert (found.objects == -1).any() and not [one for one in found.map_warnings() if "no such object" in one]


def test_objects_in_any_form_give_the_same(explainer):
    first, second = explainer.explain(PHOTO, top=2).objects[0].tolist()
    assert explainer.explain(PHOTO).objects.tolist() == [[first]]
    assert explainer.explain(PHOTO, objects=-2).objects.tolist() == [[second]]
    assert explainer.explain(PHOTO, objects=[-2, -1]).objects.tolist() == [[second, first]]
    assert explainer.explain(PHOTO, objects=second).objects.tolist() == [[second]]
    assert explainer.explain([PHOTO, PHOTO], objects=[[-2], [0]]).objects.tolist() == [[second], [0]]


def test_a_class_is_asked_of_the_object(explainer):
    found = explainer.explain(PHOTO, objects=[3], classes=["dog", 0, -1])
    assert found.objects.tolist() == [[3, 3, 3]]
    assert found.classes[0, :2].tolist() == [1, 0]
    item = explainer.prepare(PHOTO).item[None]
    (table,) = session(one_table()).run(["output0"], {"image": item})
    p = table[0, 4:, 3]
    np.testing.assert_allclose(found.probabilities[0], [p[1], p[0], p.max()], rtol=1e-4)
    np.testing.assert_allclose(found.scores[0, :2], np.log(p[[1, 0]] / (1 - p[[1, 0]])), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ({"objects": 99}, ClassError, "object 99 is out of range: the model has 20 candidates, 0 to 19"),
        ({"objects": "a"}, ClassError, "object 'a' is none; give -1 for the best"),
        ({"objects": 1.5}, ClassError, "objects is 1.5; it must be a number, or a list of them"),
        ({"objects": []}, ClassError, "list of objects is empty; leave it out to explain the best object"),
        ({"objects": [-1], "top": 3}, ClassError, "Give one of objects, boxes, points and top, not objects and top"),
        ({"objects": [1, 2], "classes": [0, 1, 2]}, ClassError, "2 objects for 3 classes; give one, or as many"),
        ({"classes": -2}, ClassError, "class -2 is none: of an object, -1 is its own class"),
        ({"classes": -9}, ClassError, r"class -9 is out of range: the model has 3 classes, 0 to 2$"),
        ({"classes": "cow"}, ClassError, "no class is labelled 'cow'"),
        ({"boxes": [1, 1, 1, 2]}, InputError, r"The box 1,1 1,2 has no area"),
        ({"boxes": [[1, 2]]}, InputError, r"it must be a box \[x1, y1, x2, y2\] in the photo"),
        ({"points": [1, float("nan")]}, InputError, "not finite"),
        ({"points": [[[1, 1]], [[2, 2]]]}, InputError, "points are given for 2 photos, but there are 1"),
        ({"points": "10,20"}, InputError, r"it must be a point \[x, y\]"),
    ],
)
def test_what_cannot_be_chosen_is_told(explainer, wanted, error, said):
    with pytest.raises(error, match=said):
        explainer.explain(PHOTO, **wanted)


def test_a_candidate_beyond_the_last_of_an_instrumented_file():
    made = explainer_of(instrument(one_table(), emit=("map", "status")))
    with pytest.raises(ClassError, match="object 99 is out of range: the model has fewer candidates"):
        made.explain(PHOTO, objects=99)
    with pytest.raises(ClassError, match="object 99 is out of range"):
        explainer_of(method=["xgrad-cam", "grad-cam"])._engine._recorder.record(
            made.prepare(PHOTO), Cells(objects=np.array([[99]]), classes=np.array([[-1]]))
        )


def test_thresholds():
    few, many = explainer_of(conf=0.9), explainer_of(conf=0.01, iou=1.0)
    counts = [(one.explain(PHOTO, top=20).objects >= 0).sum() for one in (few, explainer_of(), many)]
    assert counts == sorted(counts) and counts[0] < counts[2] == 20
    for wrong in ({"conf": 1.5}, {"iou": -0.1}, {"conf": "high"}):
        with pytest.raises(XcamError, match=r"must be a number from 0 to 1"):
            explainer_of(**wrong)


def test_an_instrumented_file_has_its_own_thresholds_and_task():
    made = instrument(one_table(), emit=("map",), conf=0.5)
    assert explainer_of(made, conf=0.5, task="detection").task == "detection"
    for wanted, said in (({"conf": 0.3}, "above the probability 0.3"), ({"task": "classification"}, "the task")):
        with pytest.raises(LayerError, match=said):
            explainer_of(made, **wanted)


def test_fixed_objects():
    made = instrument(one_table(), emit=("map", "status"), class_input="fixed", objects=[-1, -2])
    explainer = explainer_of(made)
    expected = explainer_of().explain(PHOTO, top=2)
    assert explainer.explain(PHOTO).objects.tolist() == expected.objects.tolist()
    with pytest.raises(ClassError, match="explains only what it was instrumented for"):
        explainer.explain(PHOTO, objects=-1)


# --- boxes and points ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "instrumented"])
def test_boxes_and_points_stand_for_the_objects_at_them(kind):
    explainer = explainer_of(one_table() if kind == "plain" else instrument(one_table(), emit=("map", "status")))
    kept = by_hand(explainer, PHOTO)
    boxes = np.array([one.box for one in kept])
    np.testing.assert_array_equal(explainer.explain(PHOTO, boxes=boxes).objects[0], [one.candidate for one in kept])
    inside = np.array([np.clip(one.box, 0, [96, 48, 96, 48]) for one in kept])
    points = (inside[:, :2] + inside[:, 2:]) / 2
    for point, chosen in zip(points, explainer.explain(PHOTO, points=points).objects[0], strict=True):
        holding = [
            (np.prod(box[2:] - box[:2]), one.candidate)
            for box, one in zip(inside, kept, strict=True)
            if (box[:2] <= point).all() and (point <= box[2:]).all()
        ]
        assert chosen == min(holding)[1]


def test_the_nearest_object_is_named_where_none_covers_the_place(explainer):
    first = by_hand(explainer, PHOTO)[0]
    with pytest.raises(InputError, match=r"image 0: no object covers the point 5000,5000; the nearest is \w+  p \d"):
        explainer.explain(PHOTO, points=[5000, 5000])
    with pytest.raises(InputError, match=r"no object covers the box 5000,5000 5100,5100; the nearest is"):
        explainer.explain(PHOTO, boxes=[5000, 5000, 5100, 5100])
    x, y = first.box[:2].clip(0) + 1
    with pytest.raises(InputError, match=rf"they overlap by 0\.\d\d, less than {LEAST_OVERLAP}"):
        explainer.explain(PHOTO, boxes=[x, y, x + 1, y + 1])


def test_a_photo_without_objects_has_none_at_a_point():
    explainer = explainer_of(conf=1.0)
    with pytest.raises(InputError, match="the model keeps no object there, so none covers the point 3,4"):
        explainer.explain(PHOTO, points=[3, 4])
    assert explainer.explain(PHOTO).status.tolist() == [[contract.NO_OBJECT]]
    assert explainer.explain(PHOTO).caption() == "no object"


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [3, 3, 1, 1]], np.float64)
    np.testing.assert_allclose(overlap(np.array([0.0, 0, 2, 2]), boxes), [1, 1 / 7, 0, 0])


def test_places_of_each_photo():
    places = read_places("boxes", [[[0, 0, 1, 1]], [[1, 1, 2, 2]]], 2)
    assert places.of_image(1).tolist() == [[1, 1, 2, 2]]
    assert read_places("points", [3, 4], 2).of_image(1).tolist() == [[3, 4]]


def test_a_stream_finds_places_in_each_photo(explainer):
    box = by_hand(explainer, PHOTO)[1].box
    alone = explainer.explain(PHOTO, boxes=box)
    first, second = explainer.stream([PHOTO, PHOTO], boxes=box)
    for one in (first, second):
        np.testing.assert_array_equal(one.unwrap().objects, alone.objects)
    (failed,) = explainer.stream([PHOTO], points=[5000, 5000])
    assert "no object covers the point" in str(failed.error)


# --- contrast --------------------------------------------------------------------------------------------------------


def test_a_contrast_is_the_difference_of_the_scores(tmp_path):
    onnx.save(one_table(), tmp_path / "m.onnx")
    explainer = explainer_of(tmp_path / "m.onnx")
    plain = explainer.explain(PHOTO, objects=4, classes=[0, 2])
    assert explainer._contrasting is None, "nobody has asked for a contrast yet"
    found = explainer.explain(PHOTO, objects=4, classes=[0], against=[2, -1])
    np.testing.assert_allclose(
        found.scores[0], [plain.scores[0, 0] - plain.scores[0, 1], plain.scores[0, 0]], rtol=1e-4
    )
    assert found.against.tolist() == [[2, -1]]
    assert found.caption().startswith("cat, not bird  p 0.") and found.caption(0, 1).startswith("cat  p 0.")
    (one,) = explainer.stream([PHOTO], objects=4, classes=0, against="bird")
    np.testing.assert_allclose(one.unwrap().scores[0, 0], found.scores[0, 0], rtol=1e-5)


def test_a_contrast_of_a_model_in_memory_is_opened_for():
    with pytest.raises(ClassError, match=r"cannot contrast classes; .* --contrast \(contrast=True\)"):
        explainer_of().explain(PHOTO, against=0)
    assert explainer_of(contrast=True).explain(PHOTO, against=0).against.tolist() == [[0]]
    with pytest.raises(ClassError, match="class -2 is none to contrast with"):
        explainer_of(contrast=True).explain(PHOTO, against=-2)
    with pytest.raises(ClassError, match="class 2 is contrasted with itself; give another class"):
        explainer_of(contrast=True).explain(PHOTO, objects=[4, 5], classes=[0, 2], against=2)


def test_a_classifier_contrasts_too_and_has_no_objects():
    image = np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)
    explainer = Explainer(cnn("gap"), preprocess="unit", providers="cpu", contrast=True)
    scores = explainer.explain(image, classes=[0, 1]).scores[0]
    found = explainer.explain(image, classes=0, against=1)
    np.testing.assert_allclose(found.scores[0, 0], scores[0] - scores[1], rtol=1e-5)
    assert ", not class 1  score" in found.caption() and found.objects is None
    for wanted in ({"objects": -1}, {"boxes": [0, 0, 1, 1]}, {"points": [1, 1]}):
        with pytest.raises(ClassError, match=r"has no objects to choose by .*: its task is classification"):
            explainer.explain(image, **wanted)


# --- the same by numpy, in batches, and again ------------------------------------------------------------------------


def test_several_methods_give_the_maps_that_the_model_emits():
    emitted = explainer_of().explain([PHOTO, BLANK], top=3)
    recorded = explainer_of(method=["auto", "xgrad-cam", "score-cam", "ablation-cam", GUIDED]).explain(
        [PHOTO, BLANK], top=3
    )
    assert recorded.methods == ("local-xgrad-cam", "xgrad-cam", "score-cam", "ablation-cam", GUIDED)
    np.testing.assert_allclose(recorded.maps, emitted.maps, rtol=1e-3, atol=1e-5 * emitted.maps.max())
    for name in ("objects", "classes", "status", "boxes", "probabilities"):
        np.testing.assert_allclose(getattr(recorded, name), getattr(emitted, name), rtol=1e-5, atol=1e-5)
    one = explainer_of(method="xgrad-cam").explain([PHOTO, BLANK], top=3)
    np.testing.assert_allclose(recorded.by("xgrad-cam").maps, one.maps, rtol=1e-3, atol=1e-5 * one.maps.max())
    guided = explainer_of(method=GUIDED).explain([PHOTO, BLANK], top=3)
    np.testing.assert_allclose(recorded.by(GUIDED).maps, guided.maps, rtol=1e-3, atol=1e-5 * guided.maps.max())


def test_a_cut_has_one_record_whose_map_is_the_sum_of_its_layers():
    recorder = Recorder(one_table(), methods=["auto"], preprocess=LETTERBOX, providers="cpu")
    recording = recorder.record(recorder.prepare(PHOTO), recorder.choose(top=2))
    (cut,) = recording.layers
    assert [member.name for member in cut.members] == ["n4", "n8"] and recording.layer("n8") is cut
    parts = [member.raw("local-xgrad-cam") for member in cut.members]
    grown = NumpyArrays().resize_linear(parts[1][None], parts[0].shape[1:])[0]
    np.testing.assert_allclose(cut.raw("local-xgrad-cam"), parts[0] + grown, rtol=1e-5, atol=1e-7)
    shares = np.concatenate([member.shares("xgrad-cam") for member in cut.members], axis=1)
    np.testing.assert_array_equal(cut.shares("xgrad-cam"), shares)


def test_confidences_are_those_of_the_very_object():
    recorder = Recorder(one_table(), methods=["auto"], preprocess=LETTERBOX, providers="cpu")
    picture = recorder.prepare(PHOTO)
    recording = recorder.record(picture, recorder.choose([0, 1, 2], objects=3))
    assert recorder.confidence_kind == "probability"
    changed = np.stack([picture.item, 20 * picture.item])
    (tables,) = session(one_table()).run(["output0"], {"image": changed})
    expected = tables[:, 4:, 3]
    np.testing.assert_allclose(recorder.confidences(changed, recording.cells), expected, rtol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2, "or the test shows nothing"


@pytest.mark.parametrize("n", [1, 2, "N"])
def test_a_batch_gives_each_photo_its_own_objects(n):
    explainer = explainer_of(one_table(n))
    photos = [PHOTO, BLANK, PHOTO[:, ::-1]]
    together = explainer.explain(photos, top=4)
    for index, photo in enumerate(photos):
        alone = explainer_of().explain(photo, top=4)
        np.testing.assert_array_equal(together.objects[index], alone.objects[0])
        np.testing.assert_allclose(together.maps[index], alone.maps[0], rtol=1e-3, atol=1e-5 * alone.maps.max())


def test_a_copy_explains_the_same_objects(tmp_path):
    onnx.save(one_table(), tmp_path / "m.onnx")
    explainer = explainer_of(tmp_path / "m.onnx", conf=0.6, iou=0.3)
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again.explain(PHOTO, top=5).objects, explainer.explain(PHOTO, top=5).objects)


# --- captions and pictures -------------------------------------------------------------------------------------------


def test_captions_name_class_probability_and_box(explainer):
    found = explainer.explain(PHOTO)
    first = by_hand(explainer, PHOTO)[0]
    x1, y1, x2, y2 = np.round(np.clip(first.box, 0, [96, 48, 96, 48])).astype(int)
    assert found.caption() == f"{LABELS[first.label]}  p {first.p:.2f}  at {x1},{y1} {x2},{y2}"
    assert "1 object(s) each" in repr(found)
    unlabelled = Explainer(one_table(), preprocess=LETTERBOX, providers="cpu").explain(PHOTO)
    assert unlabelled.caption().startswith(f"class {first.label}  p ")


def test_pictures_show_the_boxes(explainer, tmp_path):
    found = explainer.explain(PHOTO, top=20)
    one, every, bare = found.picture(), found.picture(k=None), found.overlay()
    assert one.shape == every.shape and one.shape[0] > bare.shape[0] == 48, "a small photo is enlarged for labels"
    factor = one.shape[0] // 48
    assert (one != bare.repeat(factor, 0).repeat(factor, 1)).any() and (one != every).any()
    assert found.picture(beside=True).shape[1] > 2 * one.shape[1] - 1
    assert found.save(tmp_path / "all.png", k=None).stat().st_size > 0


def test_only_what_is_there_is_left(explainer):
    found = explainer.explain(PHOTO, top=20)
    kept = found.without_missing()
    count = int((found.objects >= 0).sum())
    assert 0 < count < 20 and kept.classes.shape == (1, count) and kept.maps.shape[1] == count
    assert len(kept.labels[0]) == count and kept.boxes.shape == (1, count, 4)
    assert found.classes.shape == (1, 20), "the explanation itself is as it was"
    with pytest.raises(ValueError, match="an image of its own"):
        explainer.explain([PHOTO, BLANK]).without_missing()


def test_cells():
    cells = Cells(classes=np.array([[1, 1, 2]]), objects=np.array([[5, 5, -2]]))
    assert cells.count == 3 and cells.columns(1, 3).objects.tolist() == [[5, -2]]
    assert cells.distinct().objects.tolist() == [[5, -2]] and cells.distinct().classes.tolist() == [[1, 2]]
    assert set(cells.feeds()) == {contract.CLASS_INPUT, contract.OBJECT_INPUT}
    results = {contract.CLASSES: np.array([[1, 1, -1]]), contract.OBJECTS: np.array([[5, 5, -1]])}
    resolved = cells.resolved(results)
    assert resolved.objects.tolist() == [[5, 5, -2]], "what is not there stays as it was asked for"
    assert resolved.classes.tolist() == [[1, 1, 2]]
    assert Cells().count is None and Cells().feeds() == {} and Cells().distinct().count is None
    rows = Cells(classes=np.arange(6).reshape(3, 2))
    assert rows.rows(1, 2).classes.tolist() == [[2, 3]] and rows.padded(4).classes[3].tolist() == [4, 5]


def test_a_notebook_shows_the_objects_that_are_there(explainer):
    found = explainer.explain(PHOTO, top=20)
    shown = found._repr_html_()
    assert shown.count("<figure>") == int((found.objects >= 0).sum()) < 20
    assert found.caption() in shown and "no object" not in shown
