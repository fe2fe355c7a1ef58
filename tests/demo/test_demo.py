"""`onnx-xcam demo` as far as Python goes: what it writes, what it refuses, and where it looks for the runtime."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import models, tiny_models, web
from helpers.command_line import KNOWN
from helpers.external_models import save_external
from helpers.schemas import load_schema, problems
from onnx_xcam import XcamError, contract, instrument_file
from onnx_xcam.cli import app
from onnx_xcam.demo import page, write_page
from onnx_xcam.demo.browser_runtime import FILES, LICENCE, NPM_VERSION, find_runtime
from onnx_xcam.demo.page import PAGE_FILES, WEB
from onnx_xcam.errors import DependencyError, InputError, ModelError, OutputError, PreprocessError


@pytest.fixture
def runtime(tmp_path) -> Path:
    """A folder as npm makes it, its files empty: nothing here runs them."""
    folder = tmp_path / "npm/node_modules/onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in FILES:
        (folder / "dist" / name).write_bytes(b"")
    (folder / "package.json").write_text(json.dumps({"version": NPM_VERSION}), encoding="utf-8")
    return tmp_path / "npm"


@pytest.fixture
def model(tmp_path) -> Path:
    onnx.save(tiny_models.tiny(metadata=KNOWN), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written(model, runtime, tmp_path):
    made = write_page(model, tmp_path / "new/page", runtime=runtime)
    wanted = {*PAGE_FILES, "model.onnx", "model.json", f"runtime/{LICENCE}", *(f"runtime/{n}" for n in FILES.values())}
    assert files(made.folder) == wanted
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["page"], "nothing is left beside it"
    graph = onnx.load(made.folder / "model.onnx").graph
    assert [value.name for value in graph.input] == ["image", contract.CLASS_INPUT]
    assert [value.name for value in graph.output] == ["y", "xcam_classes", "xcam_scores", "xcam_map", "xcam_status"]
    stated = json.loads((made.folder / "model.json").read_text(encoding="utf-8"))
    assert problems(stated, load_schema("demo-model")) == []
    assert stated["input"] == {
        "name": "image",
        "dtype": "float32",
        "layout": "NCHW",
        "height": 16,
        "width": 16,
        "batch": 1,
    }
    assert stated["preprocess"]["scale"] == 1 / 255
    assert (stated["labels"], stated["top"], stated["class_count"]) == (tiny_models.LABELS, 5, 5)
    assert stated["bytes"] == (made.folder / "model.onnx").stat().st_size
    assert any(note.startswith("Layer: 'features'") for note in stated["notes"])
    assert any(note.startswith("Layer: 'features'") for note in made.notes)
    assert made.warnings == ()


def test_every_file_of_the_page_is_written():
    """What lies in the folder and what is listed are the same, and what a file names is there."""
    kept = {path.name for path in WEB.iterdir()} - {"package.json", LICENCE}
    assert kept == set(PAGE_FILES)
    for name in PAGE_FILES:
        text = (WEB / name).read_text(encoding="utf-8")
        for named in re.findall(r'(?:from |src=|href=|URL\()"\.?/?([\w./-]+)"', text):
            assert named in PAGE_FILES or named.removeprefix("runtime/") in {*FILES.values(), ""}, (name, named)


def test_ids_in_scripts_are_in_the_page():
    html = (WEB / "index.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'element\("([\w-]+)"\)', (WEB / "app.js").read_text(encoding="utf-8")))
    assert len(asked) > 10
    assert asked <= set(re.findall(r'id="([\w-]+)"', html))


def test_an_earlier_page_is_replaced_and_nothing_else(model, runtime, tmp_path):
    folder = tmp_path / "page"
    write_page(model, folder, runtime=runtime)
    (folder / "mine.txt").write_text("keep me", encoding="utf-8")
    write_page(model, folder, runtime=runtime, labels=["a", "b", "c", "d", "e"])
    assert json.loads((folder / "model.json").read_text(encoding="utf-8"))["labels"] == ["a", "b", "c", "d", "e"]
    assert (folder / "mine.txt").read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize("there", ["a file", "a folder with a file", "somebody else's model.json"])
def test_a_place_that_is_taken(there, model, runtime, tmp_path):
    folder = tmp_path / "page"
    if there == "a file":
        folder.write_text("", encoding="utf-8")
    else:
        folder.mkdir()
        (folder / ("model.json" if "model" in there else "x")).write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match=r"is a file; give|holds other files; give a new or empty folder"):
        write_page(model, folder, runtime=runtime)


def test_nothing_is_written_where_it_fails(model, runtime, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    with pytest.raises(PreprocessError):
        write_page(model, tmp_path / "out/page", runtime=runtime, preprocess={"size": 17})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"cannot be written to .*: No space left on device"):
        write_page(model, tmp_path / "out/page", runtime=runtime)
    assert list((tmp_path / "out").iterdir()) == []


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"class_input": "optional"}, "its classes cannot be chosen in a browser.*--class-input required"),
        ({"class_input": "fixed", "classes": [1]}, "its classes cannot be chosen in a browser"),
        ({"class_input": "required", "emit": ("gradients",)}, "instrumented without 'xcam_map'"),
        ({"class_input": "required", "relu": False}, "for signed or guided maps, which the page does not draw"),
        ({"class_input": "required", "method": "guided-xgrad-cam"}, "for signed or guided maps"),
    ],
)
def test_instrumented_models_that_do_not_serve(how, says, model, runtime, tmp_path):
    instrument_file(model, tmp_path / "made.onnx", **how)
    with pytest.raises(ModelError, match=says):
        write_page(tmp_path / "made.onnx", tmp_path / "page", runtime=runtime)


def test_another_layer_of_an_instrumented_model(model, runtime, tmp_path):
    instrument_file(model, tmp_path / "made.onnx", class_input="required")
    with pytest.raises(ModelError, match="instrumented already, for its own layer and score; give the original"):
        write_page(tmp_path / "made.onnx", tmp_path / "page", runtime=runtime, layers=["c"])


def test_weights_in_other_files_come_inside(runtime, tmp_path):
    path, _ = save_external(tmp_path, model=tiny_models.tiny(metadata=KNOWN))
    made = write_page(path, tmp_path / "page", runtime=runtime)
    assert not any(
        t.external_data for t in onnx.load(made.folder / "model.onnx", load_external_data=False).graph.initializer
    )
    instrument_file(path, tmp_path / "made.onnx", class_input="required", external_data="share")
    with pytest.raises(ModelError, match="keeps weights in other files; give the original"):
        write_page(tmp_path / "made.onnx", tmp_path / "page 2", runtime=runtime)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("float[N,3,12,12] image, float[N,7] extra", "The model needs the input 'extra'.*--input extra="),
        ("float[N,3,12,12] image, float[1,3,12,12] extra", "A picture could be fed to .*'image'.* and to .*'extra'"),
    ],
)
def test_inputs_that_nothing_states(inputs, says, runtime, tmp_path):
    moved = "mean = ReduceMean<keepdims=0>(extra) moved = Add(image, mean)"
    body = f"{moved} {models.TRUNK.replace('(image', '(moved')} a = Relu(c2) {models.GAP}"
    onnx.save(models.build(body, {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}, inputs=inputs), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=says):
        write_page(tmp_path / "m.onnx", tmp_path / "page", runtime=runtime)


def test_rows_for_several_images(runtime, tmp_path):
    body = "moved = Add(image, extra)" + models.TRUNK.replace("(image", "(moved") + f"a = Relu(c2) {models.GAP}"
    inputs = "float[N,3,12,12] image, float[N,1,1,1] extra"
    onnx.save(models.build(body, {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}, inputs=inputs), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="'extra' is given 3 rows for 1 image"):
        write_page(tmp_path / "m.onnx", tmp_path / "page", runtime=runtime, inputs={"extra": np.zeros((3, 1, 1, 1))})


def test_a_picture_that_the_input_cannot_hold(runtime, tmp_path):
    onnx.save(_bytes(), tmp_path / "m.onnx")
    with pytest.raises(PreprocessError, match="which cannot carry the values"):
        write_page(tmp_path / "m.onnx", tmp_path / "page", runtime=runtime, preprocess="imagenet")


@pytest.mark.parametrize(
    ("preprocess", "says"),
    [
        ({"white": 4095}, "the preprocessing states white, .*: a web page cannot do that, onnx-xcam explain can"),
        ({"window": [0, 80]}, "the preprocessing states window"),
        ({"bands": [2, 1, 0]}, "the preprocessing states bands"),
    ],
)
def test_what_a_browser_does_not_decode(preprocess, says, model, runtime, tmp_path):
    with pytest.raises(PreprocessError, match=says):
        write_page(model, tmp_path / "page", runtime=runtime, preprocess=preprocess)
    assert not (tmp_path / "page").exists()


def test_white_of_8_bits_is_what_a_browser_decodes(model, runtime, tmp_path):
    write_page(model, tmp_path / "page", runtime=runtime, preprocess={"white": 255})


def test_pictures_of_other_channels(runtime, tmp_path):
    trunk = models.TRUNK.replace("(image", "(colours")
    body = f"colours = Slice(image, zero, three, one) {trunk} a = Relu(c2) {models.GAP}"
    weights = {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}
    weights |= {name: np.array([number], np.int64) for name, number in (("zero", 0), ("three", 3), ("one", 1))}
    onnx.save(models.build(body, weights, inputs="float[N,4,12,12] image"), tmp_path / "m.onnx")
    with pytest.raises(PreprocessError, match="takes pictures of 4 channels: a web page cannot do that"):
        write_page(tmp_path / "m.onnx", tmp_path / "page", runtime=runtime)


def _bytes() -> onnx.ModelProto:
    body = f"image = Cast<to=1>(bytes) {models.TRUNK} a = Relu(c2) {models.GAP}"
    return models.build(body, {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}, inputs="uint8[N,3,12,12] bytes")


# --- the runtime -----------------------------------------------------------------------------------------------------


def test_where_the_runtime_is(runtime):
    package = runtime / "node_modules/onnxruntime-web"
    for folder in (runtime, package, package / "dist"):
        found = find_runtime(folder)
        assert (found.folder, found.warning) == (package / "dist", None)
    (package / "package.json").write_text('{"version": "1.2.3"}', encoding="utf-8")
    assert (
        find_runtime(package).warning
        == f"Runtime: onnxruntime-web 1.2.3 is used; the page was tested with {NPM_VERSION}."
    )


def test_a_runtime_that_is_missing(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_xcam.demo.browser_runtime.VENDORED", tmp_path / "nowhere")
    with pytest.raises(DependencyError, match=r"run `python -m tools.release.vendor_web` once .*, or `npm install"):
        find_runtime(None)
    with pytest.raises(DependencyError, match=f"does not hold ONNX Runtime for browsers.*@{re.escape(NPM_VERSION)}"):
        find_runtime(tmp_path / "nowhere")


def test_the_vendored_runtime_is_the_pinned_one():
    assert json.loads((web.vendored() / "version.json").read_text(encoding="utf-8")) == {"version": NPM_VERSION}


# --- the command -----------------------------------------------------------------------------------------------------


def run(capfd, *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments], prog_name="onnx-xcam")
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command(model, runtime, tmp_path, capfd):
    code, out, err = run(capfd, "demo", model, "-o", tmp_path / "page", "--runtime", runtime, "--layer", "c")
    assert (code, out) == (0, f"{tmp_path / 'page'}\n")
    assert "note: Layer: 'c'" in err and "python -m http.server --directory" in err
    (tmp_path / "plain.onnx").write_bytes(tiny_models.tiny().SerializeToString())
    code, _, err = run(capfd, "demo", tmp_path / "plain.onnx", "-o", tmp_path / "page", "--runtime", runtime)
    assert code == 0 and "warning: Preprocessing: nothing states it" in err and err.count("nothing states it") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing.onnx"], 1, "error: 'nothing.onnx' does not exist"),
        (["model.onnx", "--layer", "nowhere"], 1, "error: "),
        (["model.onnx", "--layer", "c", "--layer", "features"], 2, "the page shows one layer"),
        (["model.onnx", "--labels", "few.txt"], 1, "error: The labels from 'few.txt' are 2, but "),
        (["model.onnx", "--preprocess", "nothing"], 1, "error: preprocessing 'nothing' is neither a preset nor"),
    ],
)
def test_errors_of_the_command(arguments, code, says, model, runtime, tmp_path, capfd, monkeypatch):  # noqa: PLR0917
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.txt").write_text("a\nb\n", encoding="utf-8")
    found, out, err = run(capfd, "demo", *arguments, "-o", "page", "--runtime", runtime)
    assert (found, out) == (code, "")
    assert says in err and "Traceback" not in err
    assert not (tmp_path / "page").exists()


def test_all_errors_are_ours(runtime, tmp_path):
    (tmp_path / "no model.onnx").write_bytes(b"no model")
    with pytest.raises(XcamError, match="is not an ONNX model"):
        write_page(tmp_path / "no model.onnx", tmp_path / "page", runtime=runtime)


@pytest.mark.parametrize("kind", ["float[N,7]", "string[2]", "bool"])
def test_inputs_that_play_no_part(kind, runtime, tmp_path):
    """The page feeds zeros, or empty texts, as many as there are images."""
    body = f"{models.TRUNK} a = Relu(c2) {models.GAP}"
    inputs = f"float[N,3,12,12] image, {kind} extra"
    onnx.save(models.build(body, {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}, inputs=inputs), tmp_path / "m.onnx")
    page = write_page(tmp_path / "m.onnx", tmp_path / "page", runtime=runtime)
    (other,) = json.loads((page.folder / "model.json").read_text())["others"]
    dtype, dims = {"float[N,7]": ("float32", [1, 7]), "string[2]": ("string", [2]), "bool": ("bool", [])}[kind]
    assert (other["name"], other["dtype"], other["dims"]) == ("extra", dtype, dims)
    assert any("'extra' plays no part in the score" in note for note in page.notes)
