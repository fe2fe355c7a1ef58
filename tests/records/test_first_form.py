"""Lines of the first form, in which the type of a field changed with the number of layers and methods, are still read.

`tests/data/first_form` was written by the last version that wrote them: two photos of three, and one that is not there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.schemas import load_schema, problems
from onnx_xcam.cli import app
from onnx_xcam.records.explain import of_first_form
from onnx_xcam.records.lines import files_of
from onnx_xcam.records.reading import LineError, read_evaluated, read_explained, read_line, targets_of

WRITTEN = ROOT / "tests" / "data" / "first_form"
BOTH = ["--method", "xgrad-cam", "--method", "grad-cam"]
LAYERS = ["--layer", "features", "--layer", "c"]
KINDS = {
    "one": ["--no-pictures", "--raw"],
    "layers": [*LAYERS, "--raw", "--top", "2"],
    "methods": [*BOTH, "--no-pictures", "--raw"],
    "both": [*BOTH, *LAYERS, "--no-pictures", "--raw", "--top", "2"],
    "evaluated": ["--metrics", "drop,deletion", "--steps", "4"],
}
"""The options by which each folder was written."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """What was written, in another place."""
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(WRITTEN, moved)
    monkeypatch.chdir(moved)
    return moved


def run(kind: str, photos: str, out: str, *more: str) -> int:
    command = "evaluate" if kind == "evaluated" else "explain"
    with pytest.raises(SystemExit) as ended:
        app([command, "model.onnx", photos, *KINDS[kind], "-o", out, "-q", *more], prog_name="onnx-xcam")
    return int(ended.value.code)


def lines(out: str) -> list[bytes]:
    return Path(out, "results.jsonl").read_bytes().splitlines()


def content(out: str) -> dict[str, object]:
    """What a folder holds, but for times, names that depend on the folder, and how `npz` stamps its members."""
    records = [json.loads(line) for line in lines(out)]
    for record in records:
        record["seconds"] = None
        record["files"] = [Path(file).name for file in record["files"]]
    return {"records": records, "names": sorted(path.name for path in Path(out).iterdir())}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_the_first_form_is_continued(kind, folder, capfd):
    before = [json.loads(line) for line in lines(kind)[:2]]
    stamps = {path: path.stat().st_mtime_ns for path in Path(kind).iterdir() if path.suffix in (".png", ".npz")}
    assert run(kind, "photos", kind, "--resume") == 0
    capfd.readouterr()
    after = [json.loads(line) for line in lines(kind)]
    assert [one["image"] for one in after if one["error"] is None] == ["photos/0.png", "photos/1.png", "photos/2.png"]
    assert [one["seconds"] for one in after[:2]] == [one["seconds"] for one in before], "not done again"
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert run(kind, "photos", "fresh") == 0
    continued, fresh = content(kind), content("fresh")
    continued["records"] = [one for one in continued["records"] if one["error"] is None]  # the photo that is gone
    assert continued == fresh, "as if today's version had made all of it"


@pytest.mark.parametrize("kind", ["one", "both", "layers"])
def test_a_page_shows_photos_of_the_first_form(kind, folder, capfd):
    assert run(kind, "photos", kind, "--resume", "--html", "page.html") == 0
    assert run(kind, "photos", "fresh", "--html", "fresh.html") == 0
    page, fresh = (photos_on(Path(name)) for name in ("page.html", "fresh.html"))
    assert len(page) == 3 and page == fresh
    assert "cannot be shown again" not in Path("page.html").read_text("utf-8")


def photos_on(page: Path) -> list[str]:
    return [line for line in page.read_text("utf-8").splitlines() if '<li id="photo-' in line]


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_the_first_form_are_read_as_today_s(kind):
    schema = load_schema("evaluate-results" if kind == "evaluated" else "explain-results")
    for text in (WRITTEN / kind / "results.jsonl").read_bytes().splitlines():
        line = read_line(text)
        assert problems(line, schema) == []
        old = json.loads(text)
        assert {name: line[name] for name in old if name not in ("layer", "method", "status")} == {
            name: value for name, value in old.items() if name not in ("layer", "method", "status")
        }
        assert json.loads(json.dumps(line)) == json.loads(json.dumps(read_line(json.dumps(line).encode())))
        if kind == "evaluated" or line["error"] is None:
            layers = ["features", "c"] if kind in ("layers", "both") else ["features"]
            assert targets_of(line)[0] == layers


FIRST = {"layer": "a", "method": "m", "classes": [3, 1], "status": [0, 2], "error": None, "files": []}


@pytest.mark.parametrize(
    ("layer", "method", "status", "maps"),
    [
        ("a", "m", [0, 2], [("a", "m", [0, 2])]),
        (["a", "b"], "m", [[0, 2], [1, 3]], [("a", "m", [0, 2]), ("b", "m", [1, 3])]),
        ("a", ["m", "n"], [[0, 2], [1, 3]], [("a", "m", [0, 2]), ("a", "n", [1, 3])]),
        (
            *(["a", "b"], ["m", "n"], [[[0, 2], [1, 3]], [[2, 0], [3, 1]]]),
            [("a", "m", [0, 2]), ("b", "m", [1, 3]), ("a", "n", [2, 0]), ("b", "n", [3, 1])],
        ),
    ],
)
def test_every_map_is_found_in_the_nested_lists(layer, method, status, maps):
    made = of_first_form({**FIRST, "layer": layer, "method": method, "status": status})
    assert [(one["layer"], one["method"], one["status"]) for one in made["maps"]] == maps
    assert (made["layer"], made["method"], made["status"]) == maps[0]
    assert (made["version"], made["classes"]) == (2, [3, 1])


@pytest.mark.parametrize(
    "change",
    [
        *({"status": [[0], [1]]}, {"status": 0}, {"layer": []}, {"layer": ["a", "b"]}, {"method": ["m", "n"]}),
        *({"labels": "x"}, {"scores": ["x"]}, {"seconds": True}, {"settings": {"model": 1}}, {"version": "x"}),
    ],
)
def test_a_line_whose_fields_are_of_no_use_is_damaged(change):
    whole = json.loads(lines_of("one")[0])
    read_line(json.dumps(whole).encode())
    with pytest.raises(LineError, match="is damaged"):
        read_line(json.dumps(whole | change).encode())


def lines_of(kind: str) -> list[bytes]:
    return (WRITTEN / kind / "results.jsonl").read_bytes().splitlines()


def test_a_line_of_a_later_version_is_not_taken_for_one_of_today():
    later = json.loads(lines_of("one")[0]) | {"version": 3}
    with pytest.raises(LineError, match=r"later onnx-xcam .version 3.*update onnx-xcam"):
        read_line(json.dumps(later).encode())


def test_each_command_reads_its_own_lines():
    explained, evaluated = lines_of("both")[0], lines_of("evaluated")[0]
    assert len(read_explained(explained)["maps"]) == 4 and len(read_evaluated(evaluated)["results"]) == 3
    for read, text in ((read_explained, evaluated), (read_evaluated, explained)):
        with pytest.raises(LineError, match="another command"):
            read(text)


def test_files_and_photos_are_found_from_the_folder_of_the_lines(folder):
    """The run called its files `layers/...` from where it was; the folder has moved and has another name now."""
    Path("layers").rename("renamed")
    for text in lines("renamed")[:2]:
        line = read_line(text)
        assert all(file.startswith("layers/") for file in line["files"])
        assert all(file.is_file() for file in files_of(line, folder / "renamed"))
        assert (folder / "renamed" / line["path"]).is_file()
