"""Names and labels as an attacker would choose them: shown, written and read without harm."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers import ROOT, hostile, tiny_models
from helpers.hostile import ESCAPED_NAME, ESCAPES
from onnx_xcam import contract
from onnx_xcam.common.descriptions import load_description
from onnx_xcam.errors import ClassError, LabelsError, ModelError, PreprocessError, XcamError, XcamWarning
from onnx_xcam.explainer import Explainer
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs.file_names import layer_parts, picture_name, stems
from onnx_xcam.labels import labels_from_metadata, load_labels, resolve_class
from onnx_xcam.metadata import LABELS_KEY, PREPROCESS_KEY, Metadata, read_hints
from onnx_xcam.producers.stated import load_preprocess
from onnx_xcam.text import json_text, load_json, load_literal, printable

UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What no output may hold; lines may end."""

LABELS = [ESCAPES, "../../../etc/passwd", "CON", "<script>alert(1)</script>", "\ud800"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with a model whose names and labels are hostile, and a photo."""
    monkeypatch.chdir(tmp_path)
    model = hostile.named(ESCAPED_NAME)
    model.metadata_props.add(key=LABELS_KEY, value=json.dumps(LABELS))
    onnx.save(model, tmp_path / "model.onnx")
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    return tmp_path


@pytest.fixture
def run(run):
    """Run the app; gives exit status and everything it printed."""

    def run_and_join(*arguments: str | Path) -> tuple[int, str]:
        status, *printed = run(*arguments)
        return status, "".join(printed)

    return run_and_join


# --- text ---------------------------------------------------------------------------------------------------------


def test_printable():
    assert printable("Größe 大 é") == "Größe 大 é"
    assert printable("a\x1b[31m\n\u202eb\x9b\x00") == r"a\x1b[31m\x0a\u202eb\x9b\x00"
    assert not UNSAFE.search(printable(ESCAPES + "\ud800")) and "\n" not in printable(ESCAPES)
    assert len(printable("x" * 10**6)) < 1000
    assert len(printable("x " * 10**6)) < 20_000
    assert printable("y" * 500) == "y" * 500
    assert printable(printable(ESCAPES)) == printable(ESCAPES)


def test_json_text_says_the_same():
    data = {"label": [ESCAPES, "\ud800", "Größe"], "n": 1}
    for indent in (None, 2):
        text = json_text(data, indent=indent)
        assert json.loads(text) == data
        assert not UNSAFE.search(text)
        assert "Größe" in text
        text.encode("utf-8")


def test_errors_and_warnings_are_printable():
    for kind in (XcamError, ModelError, XcamWarning):
        assert not UNSAFE.search(str(kind(f"x {ESCAPES}"))) and "\n" not in str(kind("a\nb"))
    with pytest.warns(XcamWarning) as caught:
        warnings.warn(ESCAPES, XcamWarning, stacklevel=1)
    assert not UNSAFE.search(str(caught[0].message))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{0: 'a', 1: \"b's\", }", {0: "a", 1: "b's"}),
        ("['', 'layer1', 'layer1.0']", ["", "layer1", "layer1.0"]),
        (" ( 'a' , -3 ) ", ["a", -3]),
        (r"['\x41\n', 'é', 'it\'s']", ["A\n", "é", "it's"]),
        ("{'names': {0: 'a'}}", {"names": {0: "a"}}),
        ("[]", []),
    ],
)
def test_literals(text, value):
    assert load_literal(text) == value


NO_LITERALS = ["", "[", "[1", "[1 2]", "{1}", "{1: }", "{[1]: 2}", "1 + 1", "__import__('os')", "[1.5]", "'a' 'b'"]
NO_LITERALS += ["f'{1}'", "b'a'", "[[[['a']]]]", "9" * 5000, "[" * 100_000, "-" * 100_000 + "1", "(" * 300 + ")" * 300]
NO_LITERALS += ["{'a': 1]", "'a\nb'", r"'\U99999999'"]


@pytest.mark.parametrize("text", NO_LITERALS, ids=[text[:20] for text in NO_LITERALS])
def test_other_literals_are_refused(text):
    with pytest.raises(ValueError):
        load_literal(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 60 + "1" + "}" * 60, "1" * 5000])
def test_deep_json_is_refused(text):
    with pytest.raises(ValueError):
        load_json(text)
    for key in (contract.METADATA_KEY, LABELS_KEY, PREPROCESS_KEY):
        with pytest.raises(ModelError):
            read_hints({key: text})


# --- descriptions -------------------------------------------------------------------------------------------------

BILLION = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)
YAML = [
    BILLION + "\nnames: *k",
    "&a {names: *a}",
    "&a [*a]",
    "!!int ''",
    "!!float ''",
    "!!bool x",
    "!!timestamp x",
    "[" * 3000,
]
YAML += ["!!python/object/apply:os.system ['true']", "? [a]\n: b", "2001-99-99"]  # fmt: skip


@pytest.mark.parametrize("text", YAML, ids=[text[:20] for text in YAML])
def test_yaml_is_read_within_bounds(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError):
        load_description(text, ".yaml")
    with pytest.raises(LabelsError) as said:
        load_labels(path)
    assert len(str(said.value)) < 1000
    with pytest.raises(PreprocessError) as said:
        load_preprocess(path)
    assert len(str(said.value)) < 1000


def test_large_files_are_not_read(tmp_path, monkeypatch):
    from onnx_xcam.common import descriptions

    monkeypatch.setattr(descriptions, "LARGEST_FILE", 100)
    for name in ("labels.txt", "labels.json", "labels.yaml"):
        (tmp_path / name).write_text("a\n" * 51)
        with pytest.raises(LabelsError, match="larger than"):
            load_labels(tmp_path / name)
    with pytest.raises(PreprocessError, match="larger than"):
        load_preprocess(tmp_path / "labels.json")
    with pytest.raises(ValueError, match="larger than"):
        load_description("a" * (5 << 20), ".yaml")


def test_numbers_of_thousands_of_digits(tmp_path):
    number = "9" * 5000
    (tmp_path / "l.txt").write_text(f"{number}: a\n")
    assert load_labels(tmp_path / "l.txt") == [f"{number}: a"]
    (tmp_path / "l.json").write_text(json.dumps({number: "a"}))
    with pytest.raises(LabelsError, match="is no id"):
        load_labels(tmp_path / "l.json")
    with pytest.raises(ClassError, match="out of range"):
        resolve_class(number, ["a"], 5)


def test_deep_metadata_of_others_is_passed_over():
    for text in ("[" * 100_000, "(" * 100_000, "-" * 100_000 + "1", "{" * 3000):
        assert labels_from_metadata({"names": text}) is None
        with pytest.raises(ModelError):
            labels_from_metadata({"onnx_xcam": text})


WRONG: list[dict] = [{"layers": 5}, {"layers": [None]}, {"layouts": ["XYZ"]}, {"layouts": {}}, {"score": []}]
WRONG += [{"notes": "x"}, {"notes": [5]}, {"grids": [[1]]}, {"method": 3}, {"activation": {}}]
WRONG += [{"class_count": -1}, {"class_count": True}, {"class_count": "5"}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_metadata_of_the_wrong_kind(wrong, folder):
    """Of a model that says it is instrumented."""
    right = {"layers": ["features"], "layouts": ["NCHW"], "score": "logits"}
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' is not"):
        Metadata.from_json(json.dumps({**right, **wrong}))
    data = tiny_models.by_hand(metadata=wrong).SerializeToString()
    for call in (onnx_xcam.inspect, Explainer):
        with pytest.raises(ModelError, match=f"'{next(iter(wrong))}' is not"):
            call(data)


# --- what is shown and written ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "model.onnx"],
        ["inspect", "model.onnx", "--json"],
        ["instrument", "model.onnx", "-o", "out.onnx"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--layer", "Conv"],
        ["instrument", "model.onnx", "-o", "out.onnx", "--score", ESCAPED_NAME],
        ["explain", "model.onnx", "photo.png", "--top", "5"],
        ["explain", "model.onnx", "photo.png", "--class", "red"],
        ["explain", "model.onnx", "photo.png", "--class", "e"],
        ["explain", "model.onnx", ESCAPED_NAME],
        ["explain", "model.onnx", "photo.png", "--layer", "c1 ", "--layer", "a " + ESCAPED_NAME, "--raw"],
        ["explain", "model.onnx", "photo.png", "--top", "5", "--html", "page.html"],
        ["evaluate", "model.onnx", "photo.png", "--html", "page.html", "--metrics", "deletion"],
        ["check", "model.onnx"],
        ["inspect", f"{ESCAPED_NAME}.onnx"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("ascii", "replace").decode(),
)
def test_no_command_prints_what_commands_a_terminal(arguments, folder, run):
    status, printed = run(*arguments)
    assert status in (0, 1)
    assert printed
    assert not UNSAFE.search(printed)


@pytest.mark.parametrize("command", [["explain", "--top", "5"], ["evaluate", "--top", "5", "--metrics", "deletion"]])
def test_pages_hold_names_as_text(command, folder, run):
    photo = "<script>alert(1)</script>.png".replace("/", "\u2215") if os.name != "nt" else "photo.png"
    (folder / "photo.png").rename(folder / photo)
    status, _ = run(command[0], "model.onnx", photo, *command[1:], "--html", "page.html")
    assert status == 0
    source = (folder / "page.html").read_bytes().decode("utf-8")
    assert not UNSAFE.search(source)
    assert source.count("<script") == source.count("</script>") == 3 - (command[0] == "evaluate")
    assert "<script>alert" not in source and "&lt;script&gt;alert(1)&lt;" in source


def test_results_are_lines_of_json_and_files_stay_in_their_folder(folder, run):
    status, _ = run("explain", "model.onnx", "photo.png", "--top", "5", "--layer", "c1", "--layer", "a " + ESCAPED_NAME)
    assert status == 0
    text = (folder / "explanations" / "results.jsonl").read_text(encoding="utf-8")
    assert not UNSAFE.search(text)
    (line,) = text.splitlines()
    record = json.loads(line)
    assert sorted(record["labels"]) == sorted(LABELS)
    assert [one["layer"] for one in record["maps"]] == ["c1", "a " + ESCAPED_NAME]
    written = {path.name for path in (folder / "explanations").iterdir()}
    assert written == {"results.jsonl", *(Path(name).name for name in record["files"])}
    assert len(record["files"]) == 10
    assert {path.name for path in folder.iterdir()} == {"explanations", "model.onnx", "photo.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are not UTF-8 are Linux's")
def test_a_photo_whose_name_is_not_utf_8(folder):
    name = os.fsencode(folder) + b"/caf\xe9.png"
    os.rename(folder / "photo.png", name)  # noqa: PTH104  Path takes no bytes
    command = [os.fsencode(sys.executable), b"-m", b"onnx_xcam", b"explain", b"model.onnx", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (folder / "explanations" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert os.fsencode(json.loads(line)["image"]) == name


@pytest.mark.filterwarnings("ignore")
def test_notebooks_and_captions(folder):
    explanation = Explainer("model.onnx").explain(["photo.png"], top=5)
    html = explanation._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    known = {"div", "style", "span", "b", "input", "label", "figure", "img", "figcaption", "br", "i"}
    assert set(re.findall(r"<(\w+)", html)) <= known
    shown = [html, repr(explanation), *explanation.warnings(), *(explanation.caption(0, k) for k in range(5))]
    assert not any(UNSAFE.search(text) for text in shown)
    assert sorted(explanation.labels[0]) == sorted(LABELS), "as data they are what they were"


def test_names_of_files():
    (part, second) = layer_parts(["../../etc/passwd", "x" * 5000])
    assert part == "etc_passwd"
    assert len(second) <= 60
    for layer in (ESCAPES, "a\0b", "..", "/", "con:", "é" * 300, "\u202e"):
        part = layer_parts([layer, "other"])[0]
        assert part and not re.search(r"[^\w.-]", part) and not part.startswith(".")
        assert len(os.fsencode(picture_name("photo", "", part, 5))) < 255
    long = [Path("é" * 120 + f"{i}.png") for i in range(3)]
    names = [picture_name(stem, "", "", 999) for stem in stems(long)]
    assert len(set(names)) == 3
    assert all(len(os.fsencode(name)) < 255 for name in names)


def test_hostile_names_survive_the_surgery(folder):
    """What is escaped is what is shown; the model keeps its names."""
    made = onnx_xcam.instrument("model.onnx")
    assert made.graph.output[0].name == f"logits {ESCAPED_NAME}"
    metadata = Metadata.from_json(next(p.value for p in made.metadata_props if p.key == contract.METADATA_KEY))
    assert metadata.layers == (f"a {ESCAPED_NAME}",)
    assert metadata.labels == tuple(LABELS)
