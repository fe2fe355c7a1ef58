"""The command line, end to end on real models and pictures: files, streams and exit statuses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_xcam
from helpers import ROOT, tiny_models
from helpers.command_line import ENVIRONMENT, KNOWN, PHOTOS
from onnx_xcam.cli import main
from onnx_xcam.explainer import Explainer
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs.file_names import layer_parts, picture_name, stems


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for name, photo in PHOTOS.items():
        write_image(tmp_path / "photos" / name, photo)
    return tmp_path


def results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


# --- the program -----------------------------------------------------------------------------------------------------


def program(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnx_xcam", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT, check=False, **options
    )


def test_help_loads_nothing_heavy():
    done = program("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("inspect", "instrument", "explain", "check"))
    heavy = "import sys, onnx_xcam.cli; print([m for m in ('numpy', 'onnx', 'onnxruntime', 'cv2') if m in sys.modules])"
    listed = subprocess.run([sys.executable, "-c", heavy], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "[]"


def test_version(run):
    assert run("--version") == (0, f"onnx-xcam {onnx_xcam.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["explain"],
        ["explain", "model.onnx"],
        ["explain", "model.onnx", "photos", "--top", "0"],
        ["explain", "model.onnx", "photos", "--threads", "0"],
        ["explain", "model.onnx", "photos", "--top", "2", "--class", "1"],
        ["explain", "model.onnx", "photos", "--colour"],
        ["instrument", "model.onnx"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--emit", "map,heat"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--emit", ""],
        ["instrument", "model.onnx", "-o", "out.onnx", "--class-input", "maybe"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--class-input", "fixed"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--class", "1"],
    ],
)
def test_a_wrong_command_line_is_status_2_with_usage_on_stderr(run, folder, arguments):
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert "onnx-xcam" in err
    assert not (folder / "explanations").exists()
    assert not (folder / "out.onnx").exists()


def test_an_error_is_one_message_and_debug_shows_the_traceback(folder):
    plain = program("explain", "missing.onnx", "photos", cwd=folder)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert plain.stderr.startswith("error: ")
    assert plain.stderr.count("\n") == 1
    assert "missing.onnx" in plain.stderr
    debug = program("--debug", "explain", "missing.onnx", "photos", cwd=folder)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr
    assert "ModelError" in debug.stderr


def test_ctrl_c_ends_quietly_with_130(run, folder, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Explainer, "prepare", interrupt)
    status, out, err = run("explain", "model.onnx", "photos", "--quiet")
    assert (status, out, err) == (130, "", "")


def test_a_bug_is_one_message_and_debug_shows_where(folder, monkeypatch, capsys):
    def stumble(*_: object) -> None:
        raise KeyError("nose")

    monkeypatch.setattr(Explainer, "prepare", stumble)
    arguments = ["explain", "model.onnx", "photos", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["onnx-xcam", *arguments])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.startswith("error: unexpected KeyError: 'nose'. This is a bug")
    monkeypatch.setattr(sys, "argv", ["onnx-xcam", "--debug", *arguments])
    with pytest.raises(KeyError, match="nose"):
        main()


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell's pipe")
def test_a_reader_that_hangs_up_is_no_error(folder):
    command = f'"{sys.executable}" -m onnx_xcam explain model.onnx photos photos photos -q | "{sys.executable}" -c ""'
    done = subprocess.run(command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "results.jsonl" not in done.stderr


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_writes_pictures_and_results_and_says_what_it_did(run, folder):
    status, out, err = run("explain", "model.onnx", "photos/a.png", "--class", "cat", "--class", "1")
    assert status == 0
    expected = Explainer("model.onnx").explain("photos/a.png", [2, 1])
    lines = out.splitlines()
    for k, (class_id, label) in enumerate([(2, "cat"), (1, "bee")]):
        path = Path("explanations") / f"a.{class_id}.png"
        score, p = expected.scores[0, k], expected.probabilities[0, k]
        assert lines[k] == f'a.png  class {class_id} "{label}"  score {score:.2f}  p {p:.2f}  -> {path}'
        np.testing.assert_array_equal(read_image(path), expected.overlay(0, k))
    assert len(lines) == 2
    for note in expected.notes:
        assert f"note: {note}\n" in err
    (line,) = results(folder / "explanations")
    np.testing.assert_allclose(line.pop("scores"), expected.scores[0], rtol=1e-6)
    np.testing.assert_allclose(line.pop("probabilities"), expected.probabilities[0], rtol=1e-6)
    assert line.pop("seconds") > 0
    assert line.pop("settings")["classes"] == "2,1"
    assert line == {
        "version": 2,
        "image": str(Path("photos/a.png")),
        "path": "../photos/a.png",
        "sha256": hashlib.sha256((folder / "photos" / "a.png").read_bytes()).hexdigest(),
        "model": "model.onnx",
        "layer": "features",
        "method": "xgrad-cam",
        "classes": [2, 1],
        "labels": ["cat", "bee"],
        "status": [0, 0],
        "maps": [{"layer": "features", "method": "xgrad-cam", "status": [0, 0]}],
        "files": ["explanations/a.2.png", "explanations/a.1.png"],
        "error": None,
    }


def test_explain_takes_the_top_class_of_every_photo_of_a_folder(run, folder):
    status, out, err = run("explain", "model.onnx", "photos", "-o", "out/here", "--quiet")
    assert (status, err) == (0, "")
    explanation = Explainer("model.onnx").explain([folder / "photos" / name for name in PHOTOS])
    written = {path.name for path in (folder / "out" / "here").iterdir()}
    tops = explanation.classes[:, 0].tolist()
    expected = [f"{Path(name).stem}.{top}.png" for name, top in zip(PHOTOS, tops, strict=True)]
    assert written == {*expected, "results.jsonl"}
    assert [Path(line["files"][0]).name for line in results(folder / "out" / "here")] == expected
    assert len(out.splitlines()) == 3


def test_top_beside_and_raw(run, folder):
    status, _, _ = run("explain", "model.onnx", "photos/c.png", "--top", "2", "--beside", "--raw", "-q", "-o", "out")
    assert status == 0
    expected = Explainer("model.onnx").explain("photos/c.png", top=2)
    (line,) = results(folder / "out")
    assert line["classes"] == expected.classes[0].tolist()
    assert line["files"][-1] == "out/c.npz"
    with np.load(folder / "out" / "c.npz") as raw:
        assert sorted(raw) == ["classes", "map", "scores"]
        np.testing.assert_array_equal(raw["map"], expected.maps[0])
        np.testing.assert_array_equal(raw["classes"], expected.classes[0])
        np.testing.assert_array_equal(raw["scores"], expected.scores[0])
    for k, file in enumerate(line["files"][:2]):
        np.testing.assert_array_equal(read_image(file), expected.overlay(0, k, beside=True))


def test_explain_uses_an_instrumented_model_labels_and_preprocessing_as_told(run, folder):
    onnx.save(tiny_models.by_hand(n=2), folder / "by hand.onnx")
    (folder / "names.txt").write_text("\n".join("vwxyz"), encoding="utf-8")
    options = ["--labels", "names.txt", "--preprocess", "unit", "--class", "x", "--provider", "CPU", "--threads", "1"]
    status, out, err = run("explain", "by hand.onnx", "photos", *options)
    assert status == 0
    assert out.count('class 2 "x"') == 3
    assert "Labels: from 'names.txt'" in err
    assert "Provider: cpu" in err
    assert "warning" not in err
    plain = Explainer("model.onnx").explain([Path("photos") / name for name in PHOTOS], [2])
    np.testing.assert_allclose(
        [line["scores"][0] for line in results(Path("explanations"))], plain.scores[:, 0], rtol=1e-5
    )


def test_assumed_preprocessing_is_a_warning_even_when_quiet(run, folder):
    onnx.save(tiny_models.tiny(), folder / "bare.onnx")
    status, _, err = run("explain", "bare.onnx", "photos/a.png", "--quiet")
    assert status == 0
    assert err.startswith("warning: Preprocessing: nothing states it, so ImageNet's mean")
    assert err.count("warning") == 1


def test_several_layers_have_pictures_of_their_own(run, folder):
    status, out, _ = run(
        "explain", "model.onnx", "photos/a.png", "--layer", "features", "--layer", "c", "--class", "1", "--raw"
    )
    assert status == 0
    (line,) = results(folder / "explanations")
    assert [(one["layer"], one["status"]) for one in line["maps"]] == [("features", [0]), ("c", [0])]
    assert (line["layer"], line["status"]) == ("features", [0]), "of the first map"
    assert line["files"] == [f"explanations/{name}" for name in ("a.features.1.png", "a.c.1.png", "a.npz")]
    assert len(out.splitlines()) == 2
    explanation = Explainer("model.onnx", layers=["features", "c"]).explain("photos/a.png", [1])
    np.testing.assert_array_equal(read_image("explanations/a.c.1.png"), explanation.overlay(layer="c"))
    with np.load("explanations/a.npz") as raw:
        np.testing.assert_array_equal(raw["map_1"], explanation.maps_of(1)[0])


@pytest.mark.parametrize("model", ["model.onnx", "pairs.onnx"])
def test_one_bad_picture_is_reported_and_does_not_stop_the_others(run, folder, model):
    onnx.save(tiny_models.tiny(n=2, metadata=KNOWN), folder / "pairs.onnx")
    (folder / "photos" / "bad.jpg").write_bytes(b"no picture")
    (folder / "photos" / "empty.png").write_bytes(b"")
    status, out, err = run("explain", model, "photos", "photos/missing.png", "--quiet")
    assert status == 1
    assert len(out.splitlines()) == 3
    errors = {Path(line["image"]).name: line["error"] for line in results(folder / "explanations")}
    assert {name for name, error in errors.items() if error is None} == set(PHOTOS)
    assert "not a picture" in errors["bad.jpg"]
    assert "empty" in errors["empty.png"]
    assert "no such file" in errors["missing.png"]
    for name in ("bad.jpg", "empty.png", "missing.png"):
        assert sum(name in line for line in err.splitlines()) == 1
    assert err.splitlines()[-1] == "error: 3 of 6 pictures could not be explained."
    failed = next(line for line in results(folder / "explanations") if line["error"])
    assert set(failed) == set(results(folder / "explanations")[0])


def test_a_blank_map_is_a_warning_and_a_status(run, folder):
    model = tiny_models.tiny(metadata=KNOWN)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "fc")
    head.CopyFrom(onnx.numpy_helper.from_array(-np.abs(tiny_models.weight(model, "fc")), "fc"))
    onnx.save(model, folder / "negative.onnx")
    status, _, err = run("explain", "negative.onnx", "photos/a.png", "--class", "dog", "--quiet")
    assert status == 0
    assert "warning: " in err
    assert "class 3 (dog)" in err
    assert "zero everywhere" in err
    assert results(folder / "explanations")[0]["status"] == [1]


def test_scores_that_are_not_finite_are_null_in_the_results(run, folder):
    model = tiny_models.tiny(metadata=KNOWN)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fb")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, np.nan, 0, 0], np.float32), "fb"))
    onnx.save(model, folder / "nan.onnx")
    status, _, err = run("explain", "nan.onnx", "photos/a.png", "--class", "2", "--quiet")
    assert status == 0
    assert "not finite" in err
    (line,) = results(folder / "explanations")
    assert (line["scores"], line["probabilities"], line["status"]) == ([None], [None], [3])


def message_of(run, *arguments: str) -> str:
    status, out, err = run("explain", *arguments, "--quiet")
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    return err


def test_errors_of_explain(run, folder):
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"")
    (folder / "html.onnx").write_text("<html>", encoding="utf-8")
    (folder / "short.txt").write_text("a\nb", encoding="utf-8")
    assert "no picture" in message_of(run, "model.onnx", "empty")
    assert "'file'" in message_of(run, "model.onnx", "photos", "-o", "file")
    assert "'file" in message_of(run, "model.onnx", "photos", "-o", "file/sub")
    assert "html.onnx" in message_of(run, "html.onnx", "photos")
    assert "out of range" in message_of(run, "model.onnx", "photos", "--class", "9")
    assert "dog" in message_of(run, "model.onnx", "photos", "--class", "dgo")
    assert "at most 5" in message_of(run, "model.onnx", "photos", "--top", "6")
    assert "are 2, but" in message_of(run, "model.onnx", "photos", "--labels", "short.txt")
    assert "no such labels file" in message_of(run, "model.onnx", "photos", "--labels", "none.txt")
    assert "imagenet" in message_of(run, "model.onnx", "photos", "--preprocess", "imagnet")
    assert "features" in message_of(run, "model.onnx", "photos", "--layer", "featurs")
    assert "logits" in message_of(run, "model.onnx", "photos", "--score", "logit")
    assert "xgrad-cam" in message_of(run, "model.onnx", "photos", "--method", "guesswork")
    assert "It has: " in message_of(run, "model.onnx", "photos", "--provider", "abacus")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        assert "onnx-xcam[gpu]" in message_of(run, "model.onnx", "photos", "--provider", "cuda")


def test_an_output_folder_that_cannot_be_written_is_found_before_the_model_is_even_read(run, folder):
    (folder / "file").write_bytes(b"")
    assert "cannot be written to" in message_of(run, "missing.onnx", "photos", "-o", "file")


@pytest.mark.parametrize(("module", "advice"), [("cv2", "opencv-python-headless"), ("onnxruntime", "onnx-xcam[cpu]")])
def test_a_missing_package_is_one_message_that_says_what_to_install(folder, module, advice):
    (folder / "broken").mkdir()
    (folder / "broken" / f"{module}.py").write_text("raise ImportError('libGL.so.1: not found')", encoding="utf-8")
    code = "import sys; sys.path.insert(0, 'broken'); from onnx_xcam.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", "model.onnx", "photos", "-q"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert advice in done.stderr
    assert "libGL.so.1" in done.stderr


def test_a_photo_is_never_overwritten(run, folder):
    photo = folder / "photos" / "a.2.png"
    write_image(photo, PHOTOS["a.png"])
    before = photo.read_bytes()
    err = message_of(run, "model.onnx", "photos/a.png", "photos/a.2.png", "-o", "photos", "--class", "2")
    assert "one of the photos" in err
    assert photo.read_bytes() == before


# --- names of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["x/cat.png", "x/dog.png"], ["cat", "dog"]),
        (["x/cat.png", "x/cat.jpg", "x/dog.png"], ["cat.png", "cat.jpg", "dog"]),
        (["x/cat.png", "x/Cat.jpg"], ["cat.png", "Cat.jpg"]),
        (["x/cat.png", "y/cat.png"], ["x.cat.png", "y.cat.png"]),
        (["x/cat.png", "y/cat.png", "y/cat.jpg"], ["x.cat.png", "y.cat.png", "cat.jpg"]),
        (["x/y/cat.png", "z/y/cat.png"], ["y.cat.png", "y.cat.png-2"]),
        (["x/cat.png", "x/cat.jpg", "x/cat.png.gif"], ["x.cat.png", "cat.jpg", "x.cat.png.gif"]),
    ],
)
def test_stems_never_clash(images, expected):
    assert stems([Path(image) for image in images]) == expected


def test_pictures_are_named_by_layer_where_there_are_several():
    assert layer_parts(["/a/b/Relu"]) == [""]
    assert layer_parts(["/a/b/Relu", "a_b_Relu", "::"]) == ["a_b_Relu", "a_b_Relu-2", "layer"]
    assert picture_name("cat", "", "", 285) == "cat.285.png"
    assert picture_name("cat", "", "layer3", 285) == "cat.layer3.285.png"
    assert picture_name("cat", "grad-cam", "layer3", 285) == "cat.grad-cam.layer3.285.png"


def test_photos_of_the_same_stem_are_both_explained(run, folder):
    write_image(folder / "photos" / "a.bmp", PHOTOS["c.png"])
    status, _, _ = run("explain", "model.onnx", "photos/a.png", "photos/a.bmp", "photos/a.png", "--class", "1", "-q")
    assert status == 0
    files = [line["files"] for line in results(folder / "explanations")]
    assert files == [["explanations/a.png.1.png"], ["explanations/a.bmp.1.png"]]


# --- inspect, instrument ---------------------------------------------------------------------------------------------


def test_inspect_prints_the_report_as_text_or_json(run, folder):
    status, out, err = run("inspect", "model.onnx")
    assert (status, err) == (0, "")
    assert "features" in out
    assert "logits" in out or "y" in out
    status, out, err = run("inspect", "model.onnx", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert [layer["name"] for layer in report["layers"] if layer["default"]] == ["features"]
    assert report["classes"] == 5
    assert run("inspect", "missing.onnx")[0] == 1


def test_instrument_writes_a_model_that_explains_itself(run, folder):
    status, out, err = run("instrument", "model.onnx", "-o", "explained.onnx")
    assert (status, out) == (0, "explained.onnx\n")
    assert "note: " in err
    assert "features" in err
    session = ort.InferenceSession("explained.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["y", "xcam_classes", "xcam_scores", "xcam_map", "xcam_activations", "xcam_gradients"]
    assert run("explain", "explained.onnx", "photos/a.png", "-q")[0] == 0
    assert results(folder / "explanations")[0]["labels"] is not None


def test_instrument_with_fixed_classes_by_label_and_chosen_outputs(run, folder):
    (folder / "names.txt").write_text("\n".join("vwxyz"), encoding="utf-8")
    fixed = ["--class-input", "fixed", "--emit", "status, map"]
    for labels, wanted in ((["--labels", "names.txt"], ["x", "0"]), ([], ["cat", "ant"])):
        classes = [part for name in wanted for part in ("--class", name)]
        status, _, _ = run("instrument", "model.onnx", "-o", "fixed.onnx", *fixed, *labels, *classes)
        assert status == 0
        session = ort.InferenceSession("fixed.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        assert sorted(names[1:]) == ["xcam_classes", "xcam_map", "xcam_scores", "xcam_status"]
        found = session.run(["xcam_classes"], {"image": np.zeros((1, 3, 16, 16), np.float32)})[0]
        assert found.tolist() == [[2, 0]]


def test_errors_of_instrument(run, folder):
    assert (
        "already"
        in run("instrument", "model.onnx", "-o", "once.onnx")[2] + run("instrument", "once.onnx", "-o", "x.onnx")[2]
    )
    (folder / "file").write_bytes(b"")
    for arguments, message in (
        (["model.onnx", "-o", "model.onnx"], "original"),
        (["model.onnx", "-o", "file/out.onnx"], "file"),
        (["model.onnx", "-o", "x.onnx", "--layer", "featurs"], "features"),
        (["model.onnx", "-o", "x.onnx", "--class-input", "fixed", "--class", "9"], "9"),
        (["model.onnx", "-o", "x.onnx", "--class-input", "fixed", "--class", "dgo"], "dog"),
    ):
        status, out, err = run("instrument", *arguments)
        assert (status, out) == (1, "")
        assert message in err
    assert not (folder / "x.onnx").exists()


# --- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["photos/a.png"], ["photos/a.png", "--layer", "c", "--preprocess", "raw"]])
@pytest.mark.parametrize("n", ["N", 2])
def test_check_proves_a_model(run, folder, arguments, n):
    onnx.save(tiny_models.tiny(n=n, metadata=KNOWN), folder / "checked.onnx")
    status, out, err = run("check", "checked.onnx", *arguments)
    assert (status, err) == (0, "")
    assert out.startswith("checked.onnx: all checks passed")
    assert "'c'" in out if "c" in arguments else "'features'" in out


def test_check_that_fails_is_status_1(run, folder, monkeypatch):
    monkeypatch.setattr("onnx_xcam.verification.products.PRODUCT_TOLERANCE", -1.0)
    status, out, _ = run("check", "model.onnx")
    assert status == 1
    assert "FAILED" in out


def test_errors_of_check(run, folder):
    for arguments, message in ((["missing.onnx"], "missing.onnx"), (["model.onnx", "none.png"], "no such file")):
        status, out, err = run("check", *arguments)
        assert (status, out) == (1, "")
        assert message in err


# --- a real model ----------------------------------------------------------------------------------------------------

SAMPLES = ROOT / "sample_models"


def test_the_cats_picture_from_the_real_model(run, folder):
    model, cat = SAMPLES / "efficientnet_lite0.onnx", SAMPLES / "photos" / "cat.png"
    status, out, err = run("explain", model, cat, "--top", "2", "--raw")
    assert status == 0
    assert "cat" in out.splitlines()[0].partition('"')[2]
    assert "note: Preprocessing: 224x224" in err
    (line,) = results(folder / "explanations")
    assert line["status"] == [0, 0]
    assert 0.2 < line["probabilities"][1] < line["probabilities"][0] < 1
    heat = Explainer(model).explain(cat).heatmap()
    photo = read_image(cat)
    assert heat.shape == photo.shape[:2]
    assert read_image(line["files"][0]).shape == photo.shape
    assert run("explain", model, cat, "--class", "Egyptian cat", "-q")[1].startswith(
        'cat.png  class 285 "Egyptian cat"'
    )
