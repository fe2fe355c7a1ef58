"""`explain` and `instrument` with other methods, several at once, signed maps and fused layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import tiny_models
from helpers.command_line import KNOWN, PHOTOS
from onnx_xcam import Explainer
from onnx_xcam.cams.methods import EMITTED, METHODS
from onnx_xcam.contract import FUSED, METADATA_KEY
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.metadata import Metadata


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and two photos."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), "model.onnx")
    for name in ("a.png", "c.png"):
        write_image(Path(name), PHOTOS[name])
    return tmp_path


def records() -> list[dict]:
    lines = Path("explanations/results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_on_the_command_line(run, folder, method):
    status, out, err = run("explain", "model.onnx", "a.png", "--method", method, "--class", "1", "--raw", "-q")
    assert (status, err) == (0, "")
    (line,) = records()
    assert line["method"] == method
    explanation = Explainer("model.onnx", method=method, providers="cpu").explain("a.png", [1])
    with np.load("explanations/a.npz") as raw:
        np.testing.assert_array_equal(raw["map"], explanation.maps[0])
    np.testing.assert_array_equal(read_image(Path("explanations/a.1.png")), explanation.overlay())
    assert "a.png" in out


def test_several_methods_share_the_runs(run, folder):
    options = ["--method", "GradCAM", "--method", "xgrad-cam", "--method", "ablation-cam", "--method", "grad-cam"]
    status, out, _ = run("explain", "model.onnx", "a.png", "c.png", *options, "--class", "1", "--class", "0", "--raw")
    assert status == 0
    methods = ["grad-cam", "xgrad-cam", "ablation-cam"]
    for line, stem in zip(records(), "ac", strict=True):
        assert [one["method"] for one in line["maps"]] == methods and line["method"] == methods[0]
        assert line["files"] == [
            *(f"explanations/{stem}.{method}.{k}.png" for method in methods for k in (1, 0)),
            f"explanations/{stem}.npz",
        ]
        assert all(len(one["status"]) == 2 for one in line["maps"]) and len(line["status"]) == 2
        for method in methods:
            explanation = Explainer("model.onnx", method=method, providers="cpu").explain(f"{stem}.png", [1, 0])
            with np.load(f"explanations/{stem}.npz") as raw:
                found = raw[f"{method}.map"]
            np.testing.assert_allclose(found, explanation.maps[0], rtol=1e-4, atol=1e-6)
    assert out.count("  method ablation-cam  -> ") == 4


def test_several_methods_and_layers_fused(run, folder):
    options = ["--method", "grad-cam", "--method", "hires-cam", "--layer", "features", "--layer", "c", "--fuse", "max"]
    status, _, _ = run("explain", "model.onnx", "a.png", *options, "--class", "1", "--raw", "-q")
    assert status == 0
    (line,) = records()
    assert line["files"] == ["explanations/a.grad-cam.1.png", "explanations/a.hires-cam.1.png", "explanations/a.npz"]
    explanation = Explainer("model.onnx", ["features", "c"], method="hires-cam", fuse="max", providers="cpu").explain(
        "a.png", [1]
    )
    with np.load("explanations/a.npz") as raw:
        assert {"grad-cam.map", "grad-cam.map_1", "grad-cam.fused", "hires-cam.fused"} <= set(raw)
        np.testing.assert_allclose(raw["hires-cam.fused"], explanation.fused[0], atol=1e-5)
    drawn = read_image(Path("explanations/a.hires-cam.1.png")).astype(int)
    assert np.abs(drawn - explanation.overlay()).max() <= 1, "the same but for the rounding of two ways to compute it"


def test_signed_maps(run, folder):
    status, _, _ = run("explain", "model.onnx", "a.png", "--signed", "--class", "1", "--raw", "-q")
    assert status == 0
    explanation = Explainer("model.onnx", relu=False, providers="cpu").explain("a.png", [1])
    assert explanation.signed
    with np.load("explanations/a.npz") as raw:
        np.testing.assert_array_equal(raw["map"], explanation.maps[0])
    np.testing.assert_array_equal(read_image(Path("explanations/a.1.png")), explanation.overlay())
    heat = explanation.heatmap()
    assert heat.min() >= -1
    assert np.abs(heat).max() == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--signed"], "another kind of map"),
        (["--method", "grad-cam"], "another method"),
        (["--method", "xgrad-cam", "--method", "grad-cam"], "another method"),
    ],
)
def test_another_kind_of_map_is_no_continuation(run, folder, change, said):
    assert run("explain", "model.onnx", "a.png", "-q")[0] == 0
    status, _, err = run("explain", "model.onnx", "a.png", "--resume", "-q", *change)
    assert status == 1
    assert said in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "guess"], "no method 'guess'; there are xgrad-cam"),
        (["--fuse", "mean"], "nothing to fuse: give several layers"),
        (["--fuse", "mean", "--method", "eigen-cam"], "nothing to fuse"),
        (
            ["--fuse", "max", "--signed", "--layer", "features", "--layer", "c"],
            "Signed maps are fused by their mean only",
        ),
        (["--fuse", "max", "--signed", "--method", "grad-cam", "--method", "score-cam"], "Signed maps are fused by"),
    ],
)
def test_what_cannot_be_done_is_said(run, folder, options, message):
    status, _, err = run("explain", "model.onnx", "a.png", *options)
    assert status == 1
    assert message in err


def test_instrument_with_a_method_signed_and_fused(run, folder):
    layers = ["--layer", "features", "--layer", "c"]
    status, _, _ = run("instrument", "model.onnx", "-o", "o.onnx", "--method", "LayerCAM", "--fuse", "mean", *layers)
    assert status == 0
    made = onnx.load("o.onnx")
    assert FUSED in {output.name for output in made.graph.output}
    metadata = Metadata.from_json(next(p.value for p in made.metadata_props if p.key == METADATA_KEY))
    assert (metadata.method, metadata.fuse, metadata.relu) == ("layer-cam", "mean", True)
    explainer = Explainer("o.onnx", providers="cpu")
    assert (explainer.method, explainer.fuse) == ("layer-cam", "mean")
    explained = explainer.explain("a.png", [1])
    again = Explainer("model.onnx", ["features", "c"], method="layer-cam", fuse="mean", providers="cpu")
    np.testing.assert_allclose(explained.fused, again.explain("a.png", [1]).fused, atol=1e-6)
    assert run("instrument", "model.onnx", "-o", "s.onnx", "--signed", *layers)[0] == 0
    assert Explainer("s.onnx", providers="cpu").explain("a.png", [1]).signed
    for options in (["--signed"], ["--fuse", "max"], ["--method", "grad-cam"]):
        status, _, err = run("explain", "o.onnx", "a.png", *options)
        assert status == 1
        assert "is instrumented already" in err


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(EMITTED)))
@pytest.mark.parametrize("command", [["instrument", "-o", "o.onnx"], ["check"], ["bench"], ["demo", "-o", "page"]])
def test_methods_of_many_runs_are_refused_by_name(run, folder, command, method):
    status, _, err = run(command[0], "model.onnx", *command[1:], "--method", method)
    assert status == 1
    assert "cannot be put into a model" in err
    assert METHODS[method].title in err
    assert not Path("o.onnx").exists()


def test_the_demo_page_refuses_maps_that_it_would_draw_wrongly(run, folder):
    status, _, err = run("demo", "model.onnx", "-o", "page", "--method", "guided-xgrad-cam")
    assert status == 1
    assert "choose another method, such as 'xgrad-cam'" in err
