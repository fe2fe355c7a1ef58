"""Names of output files: never two the same on any file system, and as short as ever where nothing meets."""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import tiny_models
from helpers.command_line import KNOWN
from onnx_xcam.cams.methods import METHODS
from onnx_xcam.common.files import written
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs.file_names import folded, layer_parts, name_parts, picture_name, places, stems

PIECES = [
    "a",
    "A",
    "y",
    "x",
    "1",
    "12",
    "grad-cam",
    "png",
    "-2",
    "é",
    "e\u0301",
    "ß",
    "SS",
    "Ⅷ",
    "CON",
    " ",
    ":",
    "layer",
]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(".".join)
LONG = st.builds(lambda text, count: (text * count)[:80], TEXT, st.integers(1, 40))
PHOTOS = st.lists(
    st.builds(
        lambda folder, stem, suffix: Path(folder, f"{stem}{suffix}"),
        TEXT,
        TEXT | LONG,
        st.sampled_from([".png", ".jpg", ""]),
    ),
    min_size=1,
    max_size=8,
    unique=True,
)
LAYERS = st.lists(TEXT | LONG, min_size=1, max_size=4, unique=True)
SOME_METHODS = st.lists(st.sampled_from(sorted(METHODS)), min_size=1, max_size=3, unique=True)


def files_of(stem: str, methods: list[str], layers: list[str], classes: list[int]) -> list[str]:
    """All files of a photo, named as `explain` names them."""
    pictures = [
        picture_name(stem, method, part, class_id)
        for method in (methods if len(methods) > 1 else [""])
        for part in layer_parts(layers)
        for class_id in classes
    ]
    return [*pictures, f"{stem}.npz"]


def same_to_some_file_system(name: str) -> str:
    """Case folded and composed, an independent spelling of it: what is one file on Windows or macOS."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).upper().lower().casefold())


@settings(max_examples=100, deadline=None)
@given(PHOTOS, LAYERS, SOME_METHODS, st.lists(st.integers(0, 1200), min_size=1, max_size=3, unique=True))
def test_no_two_files_have_one_name(photos, layers, methods, classes):
    names = stems(photos, name_parts(methods, layers))
    files = [file for name in names for file in files_of(name, methods, layers, classes)]
    assert len({same_to_some_file_system(file) for file in files}) == len(files)
    assert max(len(file.encode()) for file in files) <= 255
    assert not any(sign in part for part in layer_parts(layers) for sign in '<>:"/\\|?* ')


@settings(max_examples=100, deadline=None)
@given(PHOTOS, LAYERS, SOME_METHODS)
def test_where_nothing_meets_a_photo_s_files_have_its_stem(photos, layers, methods):
    plain = defaultdict(set)
    for photo in photos:
        for file in files_of(photo.stem, methods, layers, [1]):
            plain[same_to_some_file_system(file)].add(photo)
    for photo, name in zip(photos, stems(photos, name_parts(methods, layers)), strict=True):
        alone = all(
            len(plain[same_to_some_file_system(file)]) == 1 for file in files_of(photo.stem, methods, layers, [1])
        )
        others = {other.name for other in photos} | {f"{other.parent.name}.{other.name}" for other in photos}
        if (
            alone
            and len(photo.stem.encode()) < 100
            and not any(other.startswith(photo.stem) for other in others - {photo.name})
        ):
            assert name == photo.stem


@settings(max_examples=100, deadline=None)
@given(PHOTOS, LAYERS, SOME_METHODS, st.data())
def test_a_run_that_is_continued_has_the_names_of_one_that_was_not_cut_short(photos, layers, methods, data):
    parts = name_parts(methods, layers)
    whole = stems(photos, parts)
    done = data.draw(st.sets(st.sampled_from(photos)))
    there = [
        file
        for photo, name in zip(photos, whole, strict=True)
        if photo in done
        for file in files_of(name, methods, layers, [7])
    ]
    assert stems(photos, parts, taken=places(there), done=done) == whole


@settings(max_examples=100, deadline=None)
@given(PHOTOS, PHOTOS, LAYERS, SOME_METHODS)
def test_photos_that_come_later_take_no_name_that_is_there(first, later, layers, methods):
    parts = name_parts(methods, layers)
    there = [file for name in stems(first, parts) for file in files_of(name, methods, layers, [1, 2])]
    new = [
        file for name in stems(later, parts, taken=places(there)) for file in files_of(name, methods, layers, [1, 2, 3])
    ]
    files = [*there, *new]
    assert len({same_to_some_file_system(file) for file in files}) == len(files)


def test_folded():
    assert folded("Café.PNG") == folded("cafe\u0301.png") == folded("CAFÉ.png")
    assert folded("\u1fb4") == folded("\u03b1\u0345\u0301"), "accents in another order, one of which folds to a letter"
    assert folded("\u1fb4") == folded("\u03b1\u0345\u0301"), "accents in another order, one of which folds to a letter"
    assert folded("a.b") != folded("a-b")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with a model whose layers are called `x` and `y.x`."""
    monkeypatch.chdir(tmp_path)
    model = tiny_models.tiny(metadata=KNOWN)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = {"c": "x", "features": "y.x"}.get(name, name)
    onnx.save(model, "model.onnx")
    Path("photos").mkdir()
    return tmp_path


def add(*names: str) -> None:
    for n, name in enumerate(names):
        write_image(Path("photos") / name, np.full((20 + n, 30, 3), 40 * n, np.uint8))


def files() -> list[str]:
    lines = Path("explanations/results.jsonl").read_text(encoding="utf-8").splitlines()
    return [Path(file).name for line in lines for file in json.loads(line)["files"]]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_photo_s_dots_and_a_layer_s_do_not_meet(run, folder, resumed):
    add("a.png", "a.y.png", "b.png")
    command = ["explain", "model.onnx", "--layer", "x", "--layer", "y.x", "--class", "1", "-q", "--raw"]
    if resumed:
        assert run(*command, "photos/a.png")[0] == 0
    assert run(*command, "photos", "--resume")[0] == 0
    found = files()
    assert len(set(found)) == len(found) == 9
    for n, name in enumerate(["a.png", "a.y.png", "b.png"]):
        for file in found[3 * n : 3 * n + 2]:
            assert read_image(Path("explanations") / file).shape == read_image(Path("photos") / name).shape
    assert "b.x.1.png" in found and "b.npz" in found, "what meets nothing is called as ever"


def test_accents_and_case_do_not_meet(run, folder):
    add("é.png", "e\u0301.PNG", "É.jpg", "b.png")
    if len(list(Path("photos").iterdir())) < 4:
        pytest.skip("this file system makes one of them")
    assert run("explain", "model.onnx", "photos", "--class", "1", "-q")[0] == 0
    assert len({folded(file) for file in files()}) == 4
    assert files()[0] == "b.1.png"


def test_the_longest_names_of_a_large_model():
    photos = [Path(f"{n}/folder/{'ü' * 120}.png") for n in range(1500)]
    layers = ["encoder." * 12 + end for end in "ab"]
    methods = ["elementwise-grad-cam", "guided-xgrad-cam"]
    names = stems(photos, name_parts(methods, layers))
    files = [file for name in names for file in files_of(name, methods, layers, [21840])]
    assert len(set(files)) == len(files)
    assert 240 < max(len(file.encode()) for file in files) <= 255


def test_a_file_of_the_longest_name_is_put_in_place(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    with written(path) as file:
        file.write(b"whole")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"whole"]


def test_the_longest_names(run, folder):
    add("p" * 251 + ".png", "p" * 250 + "q.png")
    methods = ["--method", "elementwise-grad-cam", "--method", "guided-xgrad-cam"]
    layers = ["--layer", "x", "--layer", "y.x"]
    assert run("explain", "model.onnx", "photos", *methods, *layers, "--class", "1", "-q", "--raw")[0] == 0
    assert len(set(files())) == len(files()) == 10
    assert all((Path("explanations") / file).is_file() for file in files())
