"""The tests' own order: rooms mirror the package, files import nothing from each other, paths that are named exist."""

from __future__ import annotations

import ast
import re

import pytest

from helpers import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("test_*.py"))
OWN_ROOMS = {
    "examples": "the programs of examples/",
    "fuzz": "what the fuzzer found, and short runs of it",
    "helpers": "what several test files share",
    "models": "whole models of a kind, through every entry point",
    "repository": "what holds of the repository: layering, README, command reference, these rooms",
    "tools": "the programs of tools/",
}
"""Rooms that are no room of the package, and what they hold."""
DATA = {"fuzz/corpus", "examples/drop_in"}


def test_rooms_mirror_the_package():
    """A room of tests is a room of the package: when that moves or is renamed, its tests go with it."""
    strangers = []
    for folder in sorted({path.parent.relative_to(TESTS) for path in FILES}):
        known = (ROOT / "onnx_xcam" / folder).is_dir() or folder.as_posix() in OWN_ROOMS
        if not known and folder.parts:
            strangers.append(folder.as_posix())
    assert not strangers, f"no room of onnx_xcam has this name, nor is it in OWN_ROOMS: {strangers}"
    for name in OWN_ROOMS:
        assert (TESTS / name).is_dir(), name


def test_a_file_outside_the_helpers_is_a_test_or_data():
    """pytest collects `test_*.py` alone: tests in a file of another name would never run."""
    strays = [
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    ]
    outside = ("helpers/", *(f"{name}/" for name in DATA))
    strays = [name for name in strays if not name.startswith(outside)]
    assert not strays, f"to tests/helpers with what several files share, or name it test_*.py: {strays}"


def test_no_test_file_imports_from_another():
    """What two test files need is in `helpers` or a fixture of a conftest.py: each file runs alone and can move."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = ["." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{path.relative_to(ROOT)}: {name}" for name in names if _of_tests(name)]
    assert not found, f"imports from tests or relative ones; share through tests/helpers: {found}"


def _of_tests(name: str) -> bool:
    parts = name.split(".")
    return name.startswith(".") or parts[0] in ("tests", "conftest") or any(part.startswith("test_") for part in parts)


NAMING = [".ci/run", "README.md", "CONTRIBUTING.md", "examples/README.md", "tests/README.md"]
NAMING += [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("name", NAMING)
def test_paths_of_tests_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/])tests/[\w./-]*\w", text)
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"{name} names tests that are not there: {missing}"


def test_the_guide_to_the_tests_names_every_room_of_its_own():
    text = (TESTS / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40, "a page to read at a glance"
    left = [name for name in OWN_ROOMS if f"`{name}/`" not in text]
    assert not left, f"tests/README.md says nothing of {left}"
