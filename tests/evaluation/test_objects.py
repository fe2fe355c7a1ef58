"""`evaluate` of a detector: which annotated object a detected one is, and each metric against numbers made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from helpers.detectors import CLASSES, SIZE, one_table
from helpers.models import session
from onnx_xcam.errors import TruthError, XcamError
from onnx_xcam.evaluation.annotations import Box, read_annotations
from onnx_xcam.evaluation.axioms import errors_of
from onnx_xcam.evaluation.compare import compare
from onnx_xcam.evaluation.evaluator import Evaluator, evaluate
from onnx_xcam.evaluation.objects import BASELINES, ObjectTruth, baseline, found, object_truth, score_object
from onnx_xcam.evaluation.sanity import sanity
from onnx_xcam.evaluation.similarity import rank_correlation
from onnx_xcam.evaluation.summary import summarise
from onnx_xcam.evaluation.truth import load_truth
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.write import write_image
from onnx_xcam.report import write_evaluation

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

PREPROCESS = {"scale": "1/255"}
METHODS = ["local-xgrad-cam", "xgrad-cam"]


def stated(folder: Path, objects: object, name: str = "objects.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(objects), encoding="utf-8")
    return path


def mask_file(folder: Path, name: str, mask: np.ndarray) -> None:
    done, data = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    assert done
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(bytes(data))


def rectangle(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


# --- which object, and where it is -----------------------------------------------------------------------------------


def test_the_annotated_object_is_the_one_that_overlaps_most_and_by_half():
    near, nearer, far = Box(0, 0, 10, 10), Box(0, 0, 10, 8), Box(20, 0, 30, 10)
    assert found(np.array([0, 0, 10, 8.0]), [near, nearer, far]) is nearer
    assert found(np.array([0, 0, 10, 8.0]), [near, far]) is near  # 80 / 100
    assert found(np.array([0, 0, 10, 5.0]), [near]) is near  # exactly a half
    assert found(np.array([0, 0, 10, 4.9]), [near]) is None
    assert found(np.array([0, 0, 10, 4.9]), []) is None


def test_own_pixels_go_before_those_of_others(tmp_path):
    objects = [
        {"class": "cat", "box": [0, 0, 10, 10], "mark": [2, 3, 4, 4]},
        {"class": "dog", "box": [8, 0, 20, 10]},
        {"class": 0, "box": [20, 10, 30, 20], "mask": "masks/third.png"},
    ]
    mask_file(tmp_path, "masks/third.png", rectangle(25, 15, 28, 20))
    truth = load_truth(stated(tmp_path, {"a.png": objects}), ["a.png"], labels=["cat", "dog"])
    box = np.array([0, 0, 10, 9.0])
    known = object_truth(truth, "a.png", (20, 30), box, class_id=0, label="cat")
    np.testing.assert_array_equal(known.own, rectangle(0, 0, 10, 10))
    np.testing.assert_array_equal(known.others, rectangle(10, 0, 20, 10) | rectangle(25, 15, 28, 20))
    np.testing.assert_array_equal(known.mark, rectangle(2, 3, 4, 4))
    assert object_truth(truth, "a.png", (20, 30), box, class_id=1, label="dog") is None
    third = object_truth(truth, "a.png", (20, 30), np.array([20, 10, 30, 20.0]), class_id=0, label="cat")
    np.testing.assert_array_equal(third.own, rectangle(25, 15, 28, 20))
    assert third.mark is None
    anything = load_truth(stated(tmp_path, {"a.png": objects}), ["a.png"], any_class=True)
    assert object_truth(anything, "a.png", (20, 30), box, class_id=1, label="dog") is not None
    # a classifier's map is held against all objects of the class
    own = truth.of("a.png", (20, 30), class_id=0, label="cat")
    np.testing.assert_array_equal(own, rectangle(0, 0, 10, 10) | rectangle(25, 15, 28, 20))


def test_a_mask_of_the_whole_photo_does_not_tell_objects_apart(tmp_path):
    mask_file(tmp_path, "masks/a.png", rectangle(0, 0, 5, 5))
    truth = load_truth(tmp_path / "masks", ["a.png"])
    with pytest.raises(TruthError, match="does not tell its objects apart"):
        object_truth(truth, "a.png", (20, 30), np.array([0, 0, 5, 5.0]), class_id=0, label=None)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "cat"}, "must be 4 finite numbers, not None"),
        ({"box": [0, 0, 1, 1], "Mask": "m.png"}, "an object has no 'Mask'"),
        ({"box": [0, 0, 1, 1], "class": 1.5}, "neither a label nor an id"),
        ({"box": [0, 0, 1, 1], "class": True}, "neither a label nor an id"),
        ({"box": [0, 0, 1, 1], "mask": "../m.png"}, "is no file in the folder"),
        ({"box": [0, 0, 1, 1], "mask": "/m.png"}, "is no file in the folder"),
        ({"box": [0, 0, 1, 1], "mask": 3}, "is no file in the folder"),
        ({"box": [0, 0, 1, 1], "mask": ""}, "is no file in the folder"),
        ({"box": [0, 0, 1, 1], "mark": [3, 3, 2, 4]}, "is empty"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, entry, message):
    with pytest.raises(TruthError, match=message):
        read_annotations(stated(tmp_path, {"a.png": [entry]}))


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_of_a_map_by_hand():
    heatmap = np.zeros((20, 30), np.float32)
    heatmap[1, 1], heatmap[5, 5], heatmap[2, 12], heatmap[19, 29] = 2, 3, 4, 1
    known = ObjectTruth(rectangle(0, 0, 10, 10), rectangle(10, 0, 20, 10), rectangle(5, 5, 6, 6))
    metrics = score_object(heatmap, known)
    assert metrics == pytest.approx(
        {
            "pointing": 0.0,  # the largest value lies on another object, 3 pixels beside its own
            "pointing_centre": 0.0,
            "energy": 5 / 10,
            "object_share": 100 / 600,
            "energy_others": 4 / 10,
            "mark_pointing": 0.0,
            "mark_energy": 3 / 10,
        }
    )
    heatmap[5, 5] = 7
    assert score_object(heatmap, known)["mark_pointing"] == score_object(heatmap, known)["pointing"] == 1
    alone = score_object(heatmap, ObjectTruth(rectangle(0, 0, 10, 10), None, None))
    assert not alone.keys() & {"energy_others", "mark_pointing", "mark_energy"}


def test_baselines_by_hand():
    box = np.array([2, 1, 6, 9], np.float32)
    np.testing.assert_array_equal(baseline("box", box, (12, 8)), rectangle(2, 1, 6, 9, (12, 8)))
    bell = baseline("gaussian", box, (12, 8))
    for y, x in ((4, 3), (0, 0), (11, 7)):  # sigma is 2 down and 1 across, and the middle at 5 and 4
        expected = np.exp(-0.5 * ((y + 0.5 - 5) / 2) ** 2) * np.exp(-0.5 * ((x + 0.5 - 4) / 1) ** 2)
        assert bell[y, x] == pytest.approx(expected, rel=1e-5)
    beyond = baseline("box", np.array([-5, -5, 3, 2], np.float32), (12, 8))
    np.testing.assert_array_equal(beyond, rectangle(0, 0, 3, 2, (12, 8)))
    for name in BASELINES:
        assert np.isfinite(baseline(name, np.array([3, 3, 3, 3], np.float32), (12, 8))).all()


# --- the evaluator ---------------------------------------------------------------------------------------------------


@pytest.fixture
def street(tmp_path):
    """A photo of the detector's own size."""
    pixels = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    write_image(tmp_path / "street.png", pixels)
    return tmp_path / "street.png", pixels


def kept(model, photo):
    """The recorder, and the recording of the five best objects, of which some are not there."""
    recorder = Recorder(model, methods=METHODS, ablations=True, preprocess=PREPROCESS, providers="cpu", conf=0.3)
    return recorder, recorder.record(recorder.prepare(photo), recorder.choose(top=5))


def test_records_of_objects(street, tmp_path):
    """Truth metrics at the objects' own boxes, and confidences at the candidate's own place in the plain model."""
    path, pixels = street
    model = one_table()
    recorder, recording = kept(model, path)
    there = [k for k in range(5) if recording.objects[k] >= 0]
    assert len(there) > 1
    boxes = np.clip(recording.boxes[there], 0, SIZE).astype(np.float64)
    objects = [
        {"class": int(recording.classes[k]), "box": box.tolist()} for k, box in zip(there[:-1], boxes, strict=False)
    ]
    truth = load_truth(stated(tmp_path, {"street.png": objects}), [path], class_count=CLASSES)
    evaluator = Evaluator(recorder, ["axioms", "deletion", "truth"], steps=2, truth=truth)
    assert evaluator.metrics[-1] == "energy_others" and evaluator.baselines == ("box", "gaussian")
    (record,) = evaluator.stream([path], recorder.choose(top=5))
    assert record["error"] is None and record["task"] == "detection"
    assert record["objects"] == recording.objects[there].tolist()
    assert record["annotated"] == [True] * (len(there) - 1) + [False]
    np.testing.assert_allclose(record["boxes"], recording.boxes[there], atol=1e-3)

    rows = [(method, k) for method in (*METHODS, *BASELINES) for k in there]
    assert [(one["method"], one["object"]) for one in record["results"]] == [
        (method, int(recording.objects[k])) for method, k in rows
    ]
    item = np.float32(pixels.transpose(2, 0, 1) / 255)
    away = np.broadcast_to(item.mean((1, 2), keepdims=True, dtype=np.float64).astype(np.float32), item.shape)
    opened = session(model)
    plain, without = (opened.run(None, {"image": one[None]})[0][0] for one in (item, away))
    for (method, k), one in zip(rows, record["results"], strict=True):
        cell = 4 + int(recording.classes[k]), int(recording.objects[k])
        assert one["curves"]["deletion"][0] == pytest.approx(plain[cell], rel=1e-4)
        assert one["curves"]["deletion"][-1] == pytest.approx(without[cell], rel=1e-4)
        assert one.get("baseline", False) == (method in BASELINES)
        assert (one["metrics"]["conservation"] is None) == (method in BASELINES)
        known = object_truth(truth, path, (SIZE, SIZE), recording.boxes[k], class_id=cell[0] - 4, label=None)
        assert (known is None) == (k == there[-1]) == (one["metrics"]["energy"] is None)
        if known is not None:
            raw = (
                baseline(method, recording.boxes[k], (SIZE, SIZE)) if method in BASELINES else recording.map(method)[k]
            )
            expected = score_object(recording.picture.placement.heatmap(np.maximum(raw, 0)), known)
            assert {name: one["metrics"][name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_photos_without_objects_and_what_is_not_annotated_are_counted(street, tmp_path):
    path, _ = street
    model = one_table()
    nothing = {"preprocess": PREPROCESS, "providers": "cpu", "metrics": ["drop"], "methods": METHODS, "top": 2}
    (record,) = evaluate(model, [path], conf=0.999, **nothing)
    assert record["error"] is None and record["results"] == record["objects"] == record["boxes"] == []
    truth = load_truth(stated(tmp_path, {"street.png": []}), [path], any_class=True)
    (other,) = evaluate(model, [path], truth=truth, **nothing)
    assert other["annotated"] == [False, False]
    (unknown,) = evaluate(model, [path.read_bytes()], truth=truth, **nothing)
    assert unknown["annotated"] == [None, None]
    names = {"layers": ["cut"], "methods": METHODS, "metrics": ["drop"], "confidence": "probability"}
    summary = summarise([record, other, unknown], model="m", baselines=BASELINES, of_objects=True, **names)
    assert summary["objects"] == {"explained": 4, "not_annotated": 2, "photos_without": 1}
    assert [row["method"] for row in summary["rows"]] == [*METHODS, *BASELINES]
    assert [row.get("baseline", False) for row in summary["rows"]] == [False, False, True, True]
    write_evaluation(tmp_path / "page.html", summary, [record, other])
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col">.*?</th>', source)
    assert [re.sub("<[^>]*>", "", one).strip() for one in heads[1:5]] == [
        *METHODS, "box (baseline)", "gaussian (baseline)",
    ]  # fmt: skip
    assert "3 photos" in source and "4 objects" in source and "2 not in the truth" in source


def test_the_command_takes_objects_and_names_baselines(run, street, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(one_table(), "detector.onnx")
    stated(tmp_path, PREPROCESS, "detector.preprocess.json")
    common = ["evaluate", "detector.onnx", "street.png", "--metrics", "drop", "-o", "out"]
    status, out, err = run(*common, "--object", "-2", "--against", "1")
    assert status == 0, err
    assert "local-xgrad-cam" in out and "(baseline)" in out and "Objects: 1 explained; 0 photos without any." in err
    status, _, err = run(*common, "--object", "-2", "--top", "2")
    assert status == 2 and "--object and --top" in err
    status, _, err = run(*common)
    assert status == 0, err
    record = json.loads(Path("out/results.jsonl").read_text(encoding="utf-8"))
    assert len(record["objects"]) == 5  # of more that are kept
    status, _, err = run(*common, "--metrics", "energy_others")
    assert status == 1 and "'energy_others' needs masks or boxes" in err


def test_marks_are_asked_for_only_where_they_are_stated(street, tmp_path):
    path, _ = street
    recorder, recording = kept(one_table(), path)
    box = np.clip(recording.boxes[0], 0, SIZE).tolist()
    truth = load_truth(stated(tmp_path, {"street.png": [{"box": box, "mark": box}]}), [path])
    assert Evaluator(recorder, [], truth=truth).metrics[-2:] == ("mark_pointing", "mark_energy")
    plain = load_truth(stated(tmp_path, {"street.png": [box]}), [path])
    assert "mark_energy" not in Evaluator(recorder, [], truth=plain).metrics
    with pytest.raises(XcamError, match="'mark_energy' needs a truth that states the mark"):
        Evaluator(recorder, ["mark_energy"], truth=plain)


# --- axioms and comparisons ------------------------------------------------------------------------------------------


def without_channel(member: str, channel: int, channels: int) -> onnx.ModelProto:
    """The detector whose head gets a member of the cut without a channel; the next level gets the whole member."""
    model = one_table()
    mask = np.ones((1, channels, 1, 1), np.float32)
    mask[0, channel] = 0
    model.graph.initializer.append(onnx.numpy_helper.from_array(mask, "mask"))
    for node in model.graph.node:
        if member in node.input and node.output[0] in (f"s{member[1:]}", f"t{member[1:]}"):
            node.input[:] = ["masked" if name == member else name for name in node.input]
    at = next(n for n, node in enumerate(model.graph.node) if member in node.output)
    model.graph.node.insert(at + 1, onnx.helper.make_node("Mul", [member, "mask"], ["masked"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    return model


def test_channels_of_a_cut_are_left_out_one_by_one(street):
    """The sensitivity error over both levels, from models whose heads lack a channel of one level."""
    path, _ = street
    recorder, recording = kept(one_table(), path)
    (cut,) = recording.layers
    assert [member.name for member in cut.members] == ["n4", "n8"]
    drops = []
    for member in cut.members:
        channels = len(member.A)
        for channel in range(channels):
            changed = without_channel(member.name, channel, channels)
            logits = session(changed).run(["logits"], {"image": recording.picture.item[None]})[0][0]
            drops.append(recording.scores[0] - logits[recording.classes[0], recording.objects[0]])
    shares = np.concatenate([member.shares("xgrad-cam")[0] for member in cut.members]).astype(np.float64)
    expected = np.abs(drops - shares).sum() / np.abs(drops).sum()
    assert errors_of(cut, "xgrad-cam").sensitivity[0] == pytest.approx(expected, rel=1e-4)
    assert errors_of(cut, "local-xgrad-cam").sensitivity[0] == pytest.approx(expected, rel=1e-4)
    evaluator = Evaluator(recorder, ["axioms"])
    (record,) = evaluator.stream([path], recorder.choose())
    (first, *_) = record["results"]
    assert first["metrics"]["sensitivity"] == pytest.approx(expected, rel=1e-4)
    assert first["metrics"]["unexplained"] is None and "unexplained is not measured" in evaluator.notes[-1]


def test_sanity_check_of_a_detector(street):
    """Weights of the detector itself are randomised, and the maps of the same candidate change."""
    path, _ = street
    options = {"preprocess": PREPROCESS, "providers": "cpu", "conf": 0.3}
    records = list(sanity(one_table(), [path], methods=METHODS, steps=3, **options))
    assert [(one.depth, one.method) for one in records] == [(depth, name) for depth in (1, 6, 10) for name in METHODS]
    assert all(one.of == 10 and one.rank_correlation is not None for one in records)
    # one place's gradient is zero beside a small window, in whatever weights, so that the maps stay alike there
    assert max(one.rank_correlation for one in records if one.depth == 10) < 0.999


def test_compare_of_objects(street):
    """Each object that is there has its place, and the rank correlation of its maps."""
    path, _ = street
    recorder, recording = kept(one_table(), path)
    far = recorder.choose(objects=[-1, -20])
    found = compare(recorder, recorder.prepare(path), far)
    assert [(one.object, one.method) for one in found.cells] == [(int(recording.objects[0]), one) for one in METHODS]
    np.testing.assert_allclose(found.cells[0].box, recording.boxes[0], atol=1e-3)
    assert found.cells[0].similarity == pytest.approx(1)
    expected = rank_correlation(*(recording.map(name)[0] for name in METHODS))
    assert found.cells[1].similarity == expected < 0.9
    assert found.panel().shape[2] == 3
