"""`explain` of a detector: a picture and a line for each object, and one picture of all."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers.detectors import SIZE, one_table
from onnx_xcam import Explainer
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs import explain as job
from onnx_xcam.jobs.file_names import name_of_all, name_parts, picture_name, places, stems
from onnx_xcam.records.reading import read_explained

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

PREPROCESS = {"scale": "1/255", "size": [SIZE, SIZE], "resize": "letterbox"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a detector that states its labels and preprocessing, and two photos."""
    model = one_table()
    onnx.save(model, tmp_path / "detector.onnx")
    (tmp_path / "detector.preprocess.json").write_text(json.dumps(PREPROCESS))
    (tmp_path / "detector.labels.txt").write_text("cat\ndog\nbird\n")
    random = np.random.default_rng(7)
    for name, size in (("street", (48, 96)), ("yard", (90, 60))):
        write_image(tmp_path / f"{name}.png", random.integers(0, 256, (*size, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(folder):
    text = (folder / "explanations" / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def explained(folder, **options):
    """The explanation that the job should have written, by the Python interface."""
    return Explainer(folder / "detector.onnx", providers="cpu").explain(folder / "street.png", **options)


def test_every_kept_object_has_a_picture_and_all_have_one(run, folder):
    status, out, err = run("explain", "detector.onnx", "street.png", "yard.png")
    assert status == 0, err
    record, other = lines(folder)
    expected = explained(folder, top=5)
    count = int((expected.objects >= 0).sum())
    assert 0 < count <= 5
    assert record["task"] == "detection" and record["objects"] == expected.objects[0, :count].tolist()
    assert record["classes"] == expected.classes[0, :count].tolist() and len(record["status"]) == count
    np.testing.assert_allclose(record["boxes"], expected.boxes[0, :count], atol=0.01)
    names = [f"street.{k + 1}-{id_}.png" for k, id_ in enumerate(record["classes"])] + ["street.objects.png"]
    assert record["files"] == [f"explanations/{name}" for name in names]
    assert "against" not in record and record["layer"] == "cut" and record["method"] == "local-xgrad-cam"
    for k, name in enumerate(names):
        shown = expected.without_missing().picture(0, k if k < count else None)
        np.testing.assert_array_equal(read_image(folder / "explanations" / name), shown)
    assert out.splitlines()[0].startswith(f"street.png  {expected.caption()}  -> explanations/street.1-")
    assert len(other["objects"]) == len(other["classes"])


def test_no_object_is_a_result_and_no_failure(run, folder):
    status, out, _ = run("explain", "detector.onnx", "street.png", "--conf", "1", "--raw", "--html", "page.html")
    assert status == 0
    assert "street.png  no object with a probability above 1" in out
    (record,) = lines(folder)
    assert record["error"] is None and record["classes"] == record["objects"] == record["boxes"] == []
    assert record["files"] == ["explanations/street.npz"]
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert '<span class="top">no object</span>' in page and 'class="failed"' not in page
    status, out, _ = run("explain", "detector.onnx", "street.png", "--object", "-99")
    assert (status, out.splitlines()) == (0, ["street.png  no such object"])


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--object", "-2"], {"objects": [-2]}),
        (["--object", "3", "--class", "dog"], {"objects": [3], "classes": ["dog"]}),
        (["--class", "dog"], {"classes": ["dog"]}),
        (["--top", "2"], {"top": 2}),
        (["--point", "48,24"], {"points": [48, 24]}),
        (["--object", "-1", "--against", "bird", "--class", "cat"], {"objects": -1, "classes": 0, "against": 2}),
    ],
)
def test_what_is_chosen(run, folder, options, asked):
    status, _, err = run("explain", "detector.onnx", "street.png", *options)
    assert status == 0, err
    (record,) = lines(folder)
    expected = explained(folder, **asked).without_missing()
    assert record["objects"] == expected.objects[0].tolist() and record["classes"] == expected.classes[0].tolist()
    np.testing.assert_allclose(record["scores"], expected.scores[0], rtol=1e-5)
    assert record.get("against") == (None if expected.against is None else expected.against[0].tolist())


def test_a_box(run, folder):
    box = explained(folder, top=2).boxes[0, 1]
    status, _, err = run("explain", "detector.onnx", "street.png", "--box", ",".join(map(str, box.tolist())))
    assert status == 0, err
    assert lines(folder)[0]["objects"] == explained(folder, objects=-2).objects[0].tolist()


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--point", "9999,9"], 1, "street.png: no object covers the point 9999,9; the nearest is"),
        (["--object", "99"], 1, "object 99 is out of range: 'detector.onnx' has 20 candidates"),
        (["--conf", "1.5"], 1, "conf is 1.5; it must be a number from 0 to 1"),
        (["--iou", "-1"], 1, "iou is -1.0; it must be a number from 0 to 1"),
        (["--class", "cow"], 1, "no class is labelled 'cow'"),
        (["--against", "7"], 1, "class 7 is out of range"),
        (["--task", "cooking"], 1, "task is one of"),
        (["--box", "1,2,3"], 2, "'1,2,3' is not 4 numbers"),
        (["--point", "here"], 2, "'here' is not 2 numbers"),
        (["--object", "1", "--top", "2"], 2, "give one of --object and --top"),
        (["--fuse", "mean"], 1, "nothing to fuse"),
    ],
)
def test_bad_input_is_told_in_a_sentence(run, folder, options, status, said):
    ended, _, err = run("explain", "detector.onnx", "street.png", *options)
    assert (ended, said in " ".join(err.split())) == (status, True), err


def test_a_run_is_continued_and_its_page_made_again(run, folder):
    options = ["--raw", "--html", "page.html", "--method", "auto", "--method", "grad-cam"]
    assert run("explain", "detector.onnx", "street.png", *options)[0] == 0
    before = lines(folder)
    status, _, err = run("explain", "detector.onnx", "street.png", "yard.png", "--resume", *options)
    assert status == 0 and "1 of 2 photos are done already" in err
    assert lines(folder)[0] == before[0] and len(lines(folder)) == 2
    assert "cannot be shown again" not in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "other",
    [
        ["--object", "-1"],
        ["--box", "0,0,96,48"],
        ["--point", "9,9"],
        ["--conf", "0.9"],
        ["--iou", "0.9"],
        ["--top", "1"],
    ],
)
def test_a_run_is_continued_with_the_same_choice_of_objects_only(run, folder, other):
    assert run("explain", "detector.onnx", "street.png")[0] == 0
    status, _, err = run("explain", "detector.onnx", "street.png", "--resume", *other)
    assert status == 1 and "another choice of objects" in err


def test_a_line_of_a_model_of_objects_is_read(folder):
    job.run(job.ExplainRequest(model=folder / "detector.onnx", images=[folder / "street.png"], out=folder / "e"))
    record = read_explained((folder / "e" / "results.jsonl").read_bytes().splitlines()[0])
    assert record["task"] == "detection" and len(record["boxes"]) == len(record["objects"]) > 0


def test_compare_and_instrument_take_the_same_options(run, folder):
    status, out, err = run("compare", "detector.onnx", "street.png", "--object", "-1", "--method", "auto", "--json")
    assert status == 0, err
    assert json.loads(out)["maps"][0]["layer"] == "cut"
    options = ["--conf", "0.9", "--iou", "0.3", "--contrast", "--task", "detection"]
    status, _, err = run("instrument", "detector.onnx", "-o", "made.onnx", *options)
    assert status == 0, err
    made = onnx.load("made.onnx")
    assert [one.name for one in made.graph.input] == ["image", "xcam_object", "xcam_class", "xcam_against"]
    stated = json.loads({one.key: one.value for one in made.metadata_props}["onnx_xcam"])["candidates"]
    assert (stated["conf"], stated["iou"]) == (0.9, 0.3)
    status, _, err = run("instrument", "detector.onnx", "-o", "fixed.onnx", "--class-input", "fixed", "--object", "-1")
    assert status == 0, err
    assert [one.name for one in onnx.load("fixed.onnx").graph.input] == ["image"]


def test_inspect_shows_the_table_and_the_cut(run, folder):
    status, out, _ = run("inspect", "detector.onnx", "--conf", "0.5")
    assert status == 0
    assert "table   [N,20,3] (images, candidates, classes)" in out
    assert "cut     n4  stride 4 x 4" in out and "cut     n8  stride 8 x 8" in out
    assert "above 0.5" in out and "Task: detection, since" in out
    status, out, _ = run("inspect", "detector.onnx", "--json")
    report = json.loads(out)
    assert report["task"] == "detection" and report["cut"][1] == {"layer": "n8", "stride": [8, 8]}
    assert report["candidates"]["conf"] == 0.25 and report["table"] == ["N", 20, 3]


def test_file_names_of_objects():
    assert picture_name("street", "", "", 15, 1) == "street.1-15.png"
    assert picture_name("street", "grad-cam", "", 15, 1) == "street.grad-cam.1-15.png"
    assert name_of_all("street", "grad-cam", "") == "street.grad-cam.objects.png"
    assert name_parts(["a", "b"], ["cut"], of_objects=True) == ["a", "b", "a.objects", "b.objects"]
    assert places(["street.1-15.png", "street.2-3.png", "street.7.png"]) == {"street.png"}
    from pathlib import Path

    parts = name_parts(["a"], ["cut"], of_objects=True)
    assert stems([Path("x/street.png"), Path("x/street.objects.png")], parts) == ["street.png", "street.objects.png"]


def test_objects_are_evaluated_each_by_itself(run, folder):
    """Two objects of one class are two results, and an object that is not there is none."""
    options = ["--metrics", "axioms,deletion", "--steps", "2", "--method", "auto", "--html", "page.html", "-q"]
    status, _, err = run("evaluate", "detector.onnx", "street.png", "--top", "19", "-o", "out", *options)
    assert status == 0, err
    (record,) = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    expected = explained(folder, top=19).without_missing()
    assert record["objects"] == expected.objects[0].tolist() and len(set(record["classes"])) < len(record["classes"])
    names = [one["method"] for one in record["results"][:: len(record["objects"])]]
    assert names == ["local-xgrad-cam", "box", "gaussian"]
    assert [one["class"] for one in record["results"]] == record["classes"] * 3
    assert [one["object"] for one in record["results"]] == record["objects"] * 3
    assert [one.get("baseline", False) for one in record["results"]] == [
        name in ("box", "gaussian") for name in names for _ in record["objects"]
    ]
    np.testing.assert_allclose(record["boxes"], expected.boxes[0], atol=1e-3)
    np.testing.assert_allclose(record["confidences"], expected.probabilities[0], rtol=1e-4)
    assert [one["metrics"]["conservation"] is None for one in record["results"]] == [
        "baseline" in one for one in record["results"]
    ]
    rows = (folder / "out" / "results.csv").read_text().splitlines()
    header = rows[0].split(",")
    confidences = [float(row.split(",")[header.index("confidence")]) for row in rows[1:]]
    np.testing.assert_allclose(confidences, record["confidences"] * 3)
