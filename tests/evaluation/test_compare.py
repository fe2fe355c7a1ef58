"""`compare`: one picture of several methods, and the errors of the axioms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import tiny_models
from helpers.command_line import KNOWN, PHOTOS
from helpers.models import cnn, images
from onnx_xcam import Explainer
from onnx_xcam.cams.methods import METHODS
from onnx_xcam.errors import InputError
from onnx_xcam.evaluation.axioms import axiom_errors
from onnx_xcam.evaluation.compare import compare, shown
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.panel import CELL, Cell, Row, panel
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), "model.onnx")
    write_image(Path("a.png"), PHOTOS["a.png"])
    return tmp_path


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_each_cell_has_the_errors_of_its_method():
    recorder = Recorder(cnn("dense"), ["a", "r1"], methods=list(METHODS), ablations=True, providers="cpu")
    (picture,) = recorder.model.pictures(images(1))
    found = compare(recorder, picture, Cells(np.array([[3, 0]])))
    recording = recorder.record(picture, Cells(np.array([[3, 0]])))
    assert [(c.class_id, c.layer, c.method) for c in found.cells] == [
        (k, layer, method) for k in (3, 0) for layer in ("a", "r1") for method in METHODS
    ]
    for cell in found.cells:
        k, record = [3, 0].index(cell.class_id), recording.layer(cell.layer)
        assert cell.score == recording.scores[k]
        if METHODS[cell.method].is_guided:
            assert (cell.conservation, cell.sensitivity) == (None, None)
            continue
        shares = record.shares(cell.method)[k].astype(float)
        drops = cell.score - record.ablated[k].astype(float)
        assert cell.conservation == pytest.approx(abs(cell.score - shares.sum()) / abs(shares).sum(), rel=1e-5)
        assert cell.sensitivity == pytest.approx(abs(drops - shares).sum() / abs(drops).sum(), rel=1e-5)
        assert cell.scaled_sensitivity <= cell.sensitivity * (1 + 1e-9)
        assert (
            axiom_errors(record.scores, record.shares(cell.method), record.ablated).sensitivity[k] == cell.sensitivity
        )
    with pytest.raises(InputError, match="no photo to draw on"):
        found.panel()


def test_the_command(run, folder):
    status, out, err = run("compare", "model.onnx", "a.png", "--top", "2", "--layer", "features", "--layer", "c")
    assert status == 0
    assert "note: Layer: 'features'" in err
    head, *lines, where = out.splitlines()
    assert head.split() == ["class", "score", "layer", "method", "conservation", "sensitivity", "scaled"]
    assert len(lines) == 2 * 2 * 6
    assert where == "comparison.png"
    image = read_image(Path("comparison.png"))
    assert image.shape[1] == 10 + 7 * (CELL + 10)
    assert image.shape[0] > 4 * CELL * 20 / 30


def test_the_picture_holds_the_overlays_themselves(run, folder):
    status, out, _ = run(
        "compare", "model.onnx", "a.png", "--method", "grad-cam", "--no-axioms", "--class", "1", "--json"
    )
    assert status == 0
    (cell,) = json.loads(out)["maps"]
    assert (cell["method"], cell["class_id"], cell["conservation"]) == ("grad-cam", 1, None)
    import cv2

    overlay = Explainer("model.onnx", method="grad-cam", providers="cpu").explain("a.png", [1]).overlay()
    expected = cv2.resize(overlay, (CELL, round(20 / 30 * CELL)), interpolation=cv2.INTER_LINEAR)
    image = read_image(Path("comparison.png"))
    wide = image[:, 10 + CELL + 10 : 10 + 2 * CELL + 10]
    tops = [y for y in range(len(wide) - len(expected) + 1) if (wide[y : y + len(expected)] == expected).all()]
    assert len(tops) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "model.onnx"], "is the model or the photo"),
        (["-o", "a.png"], "is the model or the photo"),
        (["-o", "nowhere/c.png"], "folder 'nowhere' is not there"),
        (["-o", "c.pict"], "pict"),
        (["--method", "nothing"], "no method 'nothing'"),
        (["--class", "77"], "77"),
    ],
)
def test_what_cannot_be_compared_is_said(run, folder, arguments, message):
    before = Path("a.png").read_bytes(), Path("model.onnx").read_bytes()
    status, _, err = run("compare", "model.onnx", "a.png", *arguments)
    assert status == 1
    assert message in err
    assert (Path("a.png").read_bytes(), Path("model.onnx").read_bytes()) == before


def test_an_instrumented_model_cannot_be_compared(run, folder):
    assert run("instrument", "model.onnx", "-o", "made.onnx")[0] == 0
    status, _, err = run("compare", "made.onnx", "a.png")
    assert status == 1
    assert "instrumented already" in err


def test_a_panel_cuts_what_is_too_long():
    picture = np.zeros((50, 400, 3), np.uint8)
    made = panel("x" * 5000, ["é" * 400, "日本"], [Row("y" * 5000, [Cell(picture, ("z" * 900,)), Cell(picture)])])
    assert made.shape[1] == 10 + 2 * (CELL + 10)
    assert (made[:, -9:] == 255).all()
    assert (made == 0).all(2).sum() >= 2 * CELL * 28


@pytest.mark.parametrize(("error", "text"), [(None, "-"), (0.0, "0"), (0.01234, "0.0123"), (123456.0, "1e+05")])
def test_errors_in_words(error, text):
    assert shown(error) == text
