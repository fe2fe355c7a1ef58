"""Pages of explained photos, in Python: what is in the file, how it is written, and `explain --html`."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import importlib
import json
import re
import shlex
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers import ROOT, tiny_models
from helpers.command_line import KNOWN
from helpers.models import cnn
from helpers.report_pages import LAID, SETTINGS, photo, some_maps, written
from onnx_xcam import Explainer, contract
from onnx_xcam.errors import OutputError
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.report import Failure, PhotoPage, photo_of, python_call, settings_of
from onnx_xcam.report.assemble import DEMO_WEB, WEB, data_block, script_of, text
from onnx_xcam.report.photos import FLOAT_CELLS, photo_entry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of three photos and one that is none."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 256, (20 + n, 30, 3), np.uint8)
        write_image(tmp_path / "photos" / f"{n}.png", pixels)
    (tmp_path / "photos" / "3.png").write_bytes(b"none")
    return tmp_path


EXPLAIN = ("explain", "model.onnx", "photos", "--top", "2", "-o", "out")


def entries(page: Path) -> list[dict]:
    """What the page holds of each photo."""
    source = page.read_text(encoding="utf-8")
    gallery = source[source.index('<ol id="gallery">') : source.index("</ol>")]
    return [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', gallery)]


def without_settings(page: Path) -> str:
    return re.sub(r"<details.*?</details>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


# --- explain --html --------------------------------------------------------------------------------------------------


def test_explain_writes_a_page(folder, run):
    status, out, err = run(*EXPLAIN, "--html", "page.html")
    assert status == 1 and "1 of 4 pictures" in err
    assert re.search(r"^page  -> page.html \(\d\.\d MB\)$", out, re.MULTILINE)
    found = entries(folder / "page.html")
    assert [one["name"] for one in found] == [f"photos/{n}.png" for n in range(3)]
    explainer = Explainer("model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in found:
            wanted = explainer.explain(one["name"], top=2)
            assert [c["id"] for c in one["classes"]] == wanted.classes[0].tolist()
            assert [c["score"] for c in one["classes"]] == wanted.scores[0].tolist()
            assert [c["probability"] for c in one["classes"]] == wanted.probabilities[0].tolist()
            assert one["warnings"] == wanted.warnings()
            (maps,) = one["maps"]
            assert (maps["method"], maps["layer"], maps["signed"]) == ("xgrad-cam", wanted.layers[0], False)
            assert maps["status"] == wanted.status[0].tolist()
    source = (folder / "page.html").read_text(encoding="utf-8")
    assert "not a picture that OpenCV can read" in source
    for stated in ("onnx-xcam explain --out out --top 2 --html page.html model.onnx photos", "onnxruntime 1."):
        assert stated in source
    assert not list(folder.glob(".onnx-xcam*"))


def test_the_command_and_the_python_lines_do_it_again(folder, run):
    run(*EXPLAIN, "--class", "bee", "--score", "y", "--layer", "features", "--html", "page.html")
    (folder / "photos/3.png").unlink()
    arguments = ("explain", "model.onnx", "photos/1.png", "--class", "bee", "--score", "y", "--layer", "features")
    run(*arguments, "--preprocess", "imagenet", "--html", "page.html", "-o", "out it's")
    source = (folder / "page.html").read_text(encoding="utf-8")
    command, python = (html.unescape(one) for one in re.findall(r"<pre[^>]*>(.*?)</pre>", source, re.DOTALL))
    before = without_settings(folder / "page.html")
    assert run(*shlex.split(command)[1:])[0] == 0
    assert without_settings(folder / "page.html") == before
    known: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(python, known)
    stated = entries(folder / "page.html")[0]
    assert known["explanation"].classes.tolist() == [[1]] == [[one["id"] for one in stated["classes"]]]
    assert known["explanation"].scores.tolist() == [[one["score"] for one in stated["classes"]]]
    assert known["explainer"].layers == ("features",)


def test_python_lines_for_odd_arguments():
    options = {
        "layers": ["a'b"],
        "inputs": {"gain": np.array([1.5]), "x": Path("x.npy")},
        "labels": Path("l"),
        "score": "auto",
    }
    lines = python_call(Path("m o.onnx"), Path("p"), ["m"], options, {"classes": None, "top": 2})
    assert (
        "Explainer('m o.onnx', method='m', layers=[\"a'b\"], inputs={'gain': [1.5], 'x': 'x.npy'}, labels='l')" in lines
    )
    assert "explain('p', top=2)" in lines


def test_a_resumed_run_gives_the_same_page(folder, run):
    whole = (*EXPLAIN, "--raw", "--layer", "features", "--layer", "c", "--html", "page.html")
    run(*whole)
    before = without_settings(folder / "page.html")
    lines = (folder / "out/results.jsonl").read_bytes().splitlines(keepends=True)
    for kept in ([0], [1], [0, 2], [2]):
        (folder / "page.html").unlink()
        (folder / "out/results.jsonl").write_bytes(b"".join(lines[n] for n in kept))
        run(*whole, "--resume")
        assert without_settings(folder / "page.html") == before, kept


def test_a_resumed_run_whose_raw_maps_are_damaged(folder, run):
    run(*EXPLAIN, "--raw", "--html", "page.html")
    (folder / "out/1.npz").write_bytes(b"damaged")
    run(*EXPLAIN, "--raw", "--html", "page.html", "--resume")
    assert [one["name"] for one in entries(folder / "page.html")] == ["photos/0.png", "photos/2.png"]
    assert "An earlier run has explained it, but it cannot be shown again" in (folder / "page.html").read_text("utf-8")


def test_resume_needs_the_raw_maps(folder, run):
    status, _, err = run(*EXPLAIN, "--html", "page.html", "--resume")
    assert status == 2 and "give --raw in both runs" in " ".join(err.split())


KINDS = [
    ("--method", "grad-cam", "--signed"),
    ("--method", "guided-xgrad-cam"),
    ("--layer", "features", "--layer", "c", "--fuse", "mean"),
    ("--layer", "features", "--layer", "c", "--fuse", "max", "--method", "layer-cam"),
    ("--method", "xgrad-cam", "--method", "grad-cam++", "--method", "ablation-cam", "--layer", "features"),
    ("--method", "xgrad-cam", "--method", "grad-cam", "--layer", "features", "--layer", "c", "--signed"),
]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_other_methods_signed_and_fused(kind, folder, run):
    """Each is what Python gives by the lines that the page tells, and so after --resume."""
    whole = (*EXPLAIN, "--raw", *kind, "--html", "page.html")
    run(*whole)
    before = without_settings(folder / "page.html")
    python = html.unescape(
        re.findall(r"<pre[^>]*>(.*?)</pre>", (folder / "page.html").read_text("utf-8"), re.DOTALL)[1]
    )
    known: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(python, known)
    one = photo_of(known.get("explanations") or [known["explanation"]])
    stated = entries(folder / "page.html")[0]["maps"]
    assert [(m["method"], m["layer"], m["signed"], m["fine"]) for m in stated] == [
        (m.method, m.layer, m.signed, m.fine) for m in one.maps
    ]
    assert stated[0]["fine"] == ("guided-xgrad-cam" in kind) and stated[0]["signed"] == ("--signed" in kind)
    assert ("--fuse" in kind) == (stated[0]["layer"] == "fused")
    for found, wanted in zip(stated, one.maps, strict=True):
        values = np.frombuffer(base64.b64decode(found["data"]), "<f4").reshape(found["dims"])
        np.testing.assert_allclose(values, wanted.values, rtol=1e-5, atol=1e-7)
    lines = (folder / "out/results.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "out/results.jsonl").write_bytes(lines[0])
    run(*whole, "--resume")
    assert without_settings(folder / "page.html") == before


@pytest.mark.parametrize("taken", ["photos/1.png", "model.onnx", "out/results.jsonl", "photos/../model.onnx"])
def test_a_page_takes_no_one_s_place(taken, folder, run):
    before = (folder / taken).read_bytes() if (folder / taken).exists() else None
    status, _, err = run(*EXPLAIN, "--html", taken)
    assert status == 1 and "name another for --html" in err
    assert before is None or (folder / taken).read_bytes() == before


def test_a_page_that_cannot_be_written(folder, run):
    status, _, err = run(*EXPLAIN, "--html", "photos")
    assert status == 1 and "'photos' is a folder; give the name of a file" in err
    status, _, err = run(*EXPLAIN, "--html", "model.onnx/page.html")
    assert status == 1 and err.count("\n") < 12 and "The page 'model.onnx/page.html' cannot be written: " in err


def test_what_ends_early_leaves_the_earlier_page(folder):
    page = written(folder / "page.html", photo("a.png"))
    before = page.read_bytes()
    for error in (KeyboardInterrupt, OutputError):
        with pytest.raises(error), PhotoPage(page, SETTINGS) as draft:
            draft.add(photo("b.png"))
            raise error
    assert page.read_bytes() == before
    assert not list(folder.glob(".onnx-xcam*"))


def test_the_docs_python_works(tmp_path, monkeypatch):
    root = ROOT
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs/report.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "sample_models").symlink_to(root / "sample_models", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert [Path(one["name"]).name for one in entries(tmp_path / "report.html")] == [
        "cat.png",
        "coffee.png",
        "rocket.jpg",
    ]


# --- what is in the file ---------------------------------------------------------------------------------------------


def test_memory_stays_flat(tmp_path):
    """Photos are in the file when they were added, and nowhere else."""
    entry = photo_entry(photo("a.png")) + b" " * 500_000
    tracemalloc.start()
    with PhotoPage(tmp_path / "page.html", SETTINGS) as page:
        for _ in range(200):
            page.add(entry)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "page.html").stat().st_size > 100e6
    assert peak < 5e6


def test_maps_in_steps():
    fine = some_maps()[-1]
    assert fine.values[0].size > FLOAT_CELLS
    fine.values[1, :40] = 0
    one = dataclasses.replace(photo("a.png"), maps=(fine,))
    (stated,) = json.loads(re.search(rb"json\">(.*)</script>", photo_entry(one))[1])["maps"]
    steps = np.frombuffer(base64.b64decode(stated["data"]), "<i2").reshape(stated["dims"])
    assert np.abs(steps * stated["step"] - fine.values).max() <= stated["step"] / 2 * 1.001
    assert (steps[1, :40] == 0).all(), "zero stays zero"
    for values in (np.zeros_like(fine.values), np.full_like(fine.values, np.nan), fine.values * 1e-44):
        photo_entry(dataclasses.replace(one, maps=(dataclasses.replace(fine, values=values),)))


def test_everything_is_in_one_file(tmp_path):
    source = written(tmp_path / "page.html", photo("a.png")).read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?([^"' >]*)""", source)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", source) and "@import" not in source and "url(" not in source
    policy = re.search(r'Security-Policy" content="([^"]*)"', source)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_scripts_become_one():
    """Without imports, and with the drawing of the demo, not a second one."""
    made = script_of([DEMO_WEB / "heatmap.js", WEB / "numbers.js", WEB / "cells.js", WEB / "stage.js"])
    assert not re.search(r"^(import|export) ", made, re.MULTILINE)
    assert made.count("function heatLayer(") == 1
    assert {path.name for path in WEB.glob("*.js")} <= {
        name for page in ("photos", "evaluation") for name in re.findall(r"--- ([\w-]+\.js)", whole_script(page))
    }


def whole_script(page: str) -> str:
    return script_of(importlib.import_module(f"onnx_xcam.report.{page}")._SCRIPTS)


def test_data_blocks_and_text():
    stated = {"a": "</script><!-- ü \u2028 \ud800", "b": [1.5, None]}
    block = data_block(stated)
    assert block.isascii() and block.count("<") == 2
    assert json.loads(block[len('<script type="application/json">') : -len("</script>")]) == stated
    assert text("<a href='x'>\n\u202e") == "&lt;a href=&#x27;x&#x27;&gt;\\x0a\\u202e"


# --- from explanations -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_photos_of_explanations(folder):
    explainer = Explainer("model.onnx", layers=["features", "c"])
    two = explainer.explain(["photos/0.png", "photos/1.png"], top=3)
    other = Explainer("model.onnx", layers=["features", "c"], method="grad-cam++", relu=False)
    second = other.explain(["photos/0.png", "photos/1.png"], top=3)
    one = photo_of([two, second], 1)
    assert [(maps.method, maps.layer, maps.signed) for maps in one.maps] == [
        (made.method, layer, made is second) for made in (two, second) for layer in two.layers
    ]
    np.testing.assert_array_equal(one.maps[1].values, two.maps_of(1)[1])
    assert [(c.id, c.label) for c in one.classes] == [*zip(two.classes[1].tolist(), two.labels[1], strict=True)]
    assert one.image_rgb.shape == (21, 30, 3) and one.name.endswith("1.png")
    np.testing.assert_array_equal(one.image_rgb, read_image("photos/1.png"))
    for warning in one.warnings:
        assert warning.startswith(("xgrad-cam: photos/1.png", "grad-cam++: photos/1.png"))
    with pytest.raises(ValueError, match="different photos or classes"):
        photo_of([two, explainer.explain(["photos/1.png", "photos/0.png"], top=3)])
    with pytest.raises(ValueError, match="no explanation"):
        photo_of([])


@pytest.mark.filterwarnings("ignore")
def test_a_warning_names_the_method_that_it_is_about(folder):
    methods = ["xgrad-cam", "eigen-cam", "guided-xgrad-cam"]
    together = Explainer(cnn("dense", n="N"), method=methods, preprocess="unit").explain("photos/1.png", top=5)
    alone = {
        method: Explainer(cnn("dense", n="N"), method=method, preprocess="unit").explain("photos/1.png", top=5)
        for method in methods
    }
    wanted = [f"{method}: {warning}" for method, one in alone.items() for warning in one.warnings()]
    assert {bool(one.warnings()) for one in alone.values()} == {True, False}, "only some methods have warnings"
    assert list(photo_of([together.by(method) for method in methods]).warnings) == wanted


@pytest.mark.filterwarnings("ignore")
def test_a_ready_tensor_has_no_photo(folder, tmp_path):
    explanation = Explainer("model.onnx").explain(np.ones((1, 3, 16, 16), np.float32))
    page = written(tmp_path / "page.html", photo_of([explanation]))
    assert entries(page)[0]["size"] == [16, 16]


@pytest.mark.filterwarnings("ignore")
def test_settings_tell_all(folder):
    facts = dict(settings_of(Explainer("model.onnx"), ["xgrad-cam"], command="c").facts)
    assert facts["Model's SHA-256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert json.loads(facts["Preprocessing"])["scale"] == pytest.approx(1 / 255)
    assert f"onnx-xcam {onnx_xcam.__version__}" in facts["Versions"] and facts["Score"] == "y"
    in_memory = settings_of(Explainer(tiny_models.tiny(metadata=KNOWN)), ["xgrad-cam"])
    assert in_memory.model == "the model" and "Model's SHA-256" not in dict(in_memory.facts)


def test_a_failure_and_all_geometries_are_written(tmp_path):
    shown = [photo(name, placement) for name, placement in LAID.items()]
    page = written(tmp_path / "page.html", Failure("x.png", "no such file"), *shown)
    assert [one["name"] for one in entries(page)] == list(LAID)
    source = page.read_text(encoding="utf-8")
    assert contract.STATUS_TEXT[1] in source and "no such file" in source
