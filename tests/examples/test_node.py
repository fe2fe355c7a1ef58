"""examples/node, run as its README says, against the package in Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from helpers import web
from onnx_xcam import Explainer, Explanation, instrument_file
from onnx_xcam.images.read import read_image

FOLDER = web.ROOT / "examples/node"
SAMPLE = web.ROOT / "sample_models/efficientnet_lite0.onnx"
DETECTOR = web.ROOT / "sample_models/tiny_detector.onnx"
SHAPES = web.ROOT / "sample_models/pictures/shapes.png"
LABELS = web.ROOT / "sample_models/imagenet_labels.txt"
PHOTOS = sorted(web.PHOTOS.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node") / "explained.onnx"
    instrument_file(SAMPLE, path, emit=("map", "heatmap"), class_input="required")
    return path


def run(*arguments: str | Path, status: int = 0) -> tuple[list[dict], str]:
    """The results and the messages."""
    if not (FOLDER / "node_modules/onnxruntime-node").is_dir():
        web.missing("the modules of examples/node are not installed; run npm ci --ignore-scripts there")
    command = [web.node(), FOLDER / "explain.js", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == status, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
def test_photos(photo, model, tmp_path):
    """The map is the package's, of the same pixels: 1e-3 of its largest value is asked for, 1e-6 is what comes."""
    results, _ = run(model, photo, "--labels", LABELS, "--out", tmp_path)
    wanted = Explainer(SAMPLE, providers="cpu").explain(photo, top=3)
    assert [result["class"] for result in results] == wanted.classes[0].tolist()
    assert [result["label"] for result in results] == wanted.labels[0]
    for k, result in enumerate(results):
        found = np.array(result["map"]["values"], np.float32).reshape(result["map"]["size"])
        assert web.furthest(found, wanted.maps[0, k]) <= 2e-5
        assert result["score"] == pytest.approx(float(wanted.scores[0, k]), rel=1e-5)
        assert read_image(result["file"]).shape == (224, 224, 3)


def test_classes_are_chosen(model, tmp_path):
    """By number, by label and by rank; and it is what ONNX Runtime in Python gives for the same tensor."""
    results, _ = run(model, PHOTOS[0], "7", "Egyptian cat", "-2", "--labels", LABELS, "--out", tmp_path)
    explainer = Explainer(SAMPLE, providers="cpu")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {"image": explainer.prepare(PHOTOS[0]).item[None], "xcam_class": np.array([[7, 285, -2]])}
    classes, maps = session.run(["xcam_classes", "xcam_map"], feed)
    assert [result["class"] for result in results] == classes[0].tolist()
    for result, wanted in zip(results, maps[0], strict=True):
        assert web.furthest(np.array(result["map"]["values"]).reshape(7, 7), wanted) <= 2e-5


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny detector, which can be contrasted, and the file of its preprocessing."""
    folder = tmp_path_factory.mktemp("detector")
    emit = ("map", "heatmap")
    instrument_file(DETECTOR, folder / "explained.onnx", emit=emit, class_input="required", contrast=True)
    stated = json.dumps(Explainer(DETECTOR, providers="cpu").model.preprocess.to_dict())
    (folder / "preprocess.json").write_text(stated, encoding="utf-8")
    return folder / "explained.onnx", folder / "preprocess.json"


def on_wide_paper(folder: Path) -> Path:
    """The picture of shapes, twice as large and not square, so that a letterbox has to be undone."""
    larger = read_image(SHAPES).repeat(2, 0).repeat(2, 1)
    Image.fromarray(np.concatenate([np.full((192, 150, 3), 120, np.uint8), larger], 1)).save(folder / "wide.png")
    return folder / "wide.png"


@pytest.mark.parametrize("wide", [False, True])
def test_objects(wide, detector, tmp_path):
    """The objects are the package's, in its order, with their boxes in the photo's pixels; the maps within 2e-5."""
    model, preprocess = detector
    photo = on_wide_paper(tmp_path) if wide else SHAPES
    results, _ = run(model, photo, "--preprocess", preprocess, "--out", tmp_path)
    wanted = Explainer(DETECTOR, providers="cpu").explain(photo, top=5).without_missing()
    assert [result["object"] for result in results] == wanted.objects[0].tolist() != []
    assert wide or len(results) == 4, "an object that the photo does not have is left out"
    compare_objects(results, wanted)


def compare_objects(results: list[dict], wanted: Explanation) -> None:
    for k, result in enumerate(results):
        assert (result["object"], result["class"]) == (wanted.objects[0, k], wanted.classes[0, k])
        found = np.array(result["map"]["values"], np.float32).reshape(result["map"]["size"])
        assert web.furthest(found, wanted.maps[0, k]) <= 2e-5
        assert result["score"] == pytest.approx(float(wanted.scores[0, k]), rel=1e-5)
        assert result["probability"] == pytest.approx(float(wanted.probabilities[0, k]), rel=1e-5)
        assert result["box"] == pytest.approx(wanted.boxes[0, k].tolist(), abs=0.01)
        assert read_image(result["file"]).shape == (96, 96, 3)


def test_objects_are_chosen(detector, tmp_path):
    """By rank and by number; one of them by several classes; none of them is no error."""
    model, preprocess = detector
    options = ("--preprocess", preprocess, "--out", tmp_path)
    explainer = Explainer(DETECTOR, providers="cpu")
    results, _ = run(model, SHAPES, "--object", "-2", "--object", "176", *options)
    compare_objects(results, explainer.explain(SHAPES, objects=[-2, 176]))
    results, _ = run(model, SHAPES, "0", "1", "--object", "-1", *options)
    compare_objects(results, explainer.explain(SHAPES, objects=[-1, -1], classes=[0, 1]))
    assert len(results) == 2
    assert run(model, SHAPES, "--object", "-9", *options) == ([], "")


def test_what_goes_wrong_with_objects(model, detector, tmp_path):
    for arguments, says in [
        ([model, PHOTOS[0], "--object", "-1"], "a classifier, which has no objects"),
        ([detector[0], SHAPES, "0", "1"], "give one --object to ask for several classes"),
        ([detector[0], SHAPES, "--object", "best"], '"best" is no object'),
    ]:
        results, said = run(*arguments, "--out", tmp_path, status=1)
        assert results == [] and said.startswith("error: ") and says in said and len(said.splitlines()) == 1


def test_what_goes_wrong(model, tmp_path):
    """One sentence and status 1."""
    for arguments, says in [
        ([SAMPLE, PHOTOS[0]], "the model does not take xcam_class"),
        ([model, tmp_path / "no.png"], "Input file is missing"),
        ([model, PHOTOS[0], "no such class"], 'there is no class called "no such class"'),
        ([model], "give a model and a photo"),
    ]:
        results, said = run(*arguments, "--out", tmp_path, status=1)
        assert results == [] and said.startswith("error: ") and says in said and len(said.splitlines()) == 1


def test_the_preprocessing_is_the_sample_model_s():
    stated = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8"))
    props = {p.key: p.value for p in onnx.load(SAMPLE, load_external_data=False).metadata_props}
    own = json.loads(props["onnx_xcam.preprocess"])
    assert {key: value for key, value in stated.items() if key in own} == {k: v for k, v in own.items() if k != "size"}


def test_the_lock_file_names_no_registry():
    text = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text and '"integrity"' in text
    assert shutil.which("npm") is None or json.loads(text)["packages"][""]["dependencies"]["onnxruntime-node"]
