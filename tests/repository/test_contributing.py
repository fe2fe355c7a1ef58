"""CONTRIBUTING draws the house as it is: every folder, in order, and no path that is gone."""

from __future__ import annotations

import re

import pytest

from helpers import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PICTURE = re.search(r"```text\n(.*?)```", GUIDE, re.DOTALL)[1]
PACKAGE = ROOT / "onnx_xcam"
PLACES = [ROOT, PACKAGE, PACKAGE / "surgery", ROOT / "tests" / "helpers" / "gradients"]
"""Where a path in the text may start."""


def folders(of):
    return {path.parent.name for path in of.glob("*/__init__.py")}


def test_every_folder_stands_in_the_picture():
    missing = [name for name in folders(PACKAGE) - {"surgery"} if not re.search(rf"\b{name}\b", PICTURE)]
    assert not missing, f"{', '.join(missing)}: draw where a photo or a model passes it, in CONTRIBUTING.md"


def test_the_surgery_stands_in_the_order_of_its_imports():
    drawn = re.findall(r"^│ (\w+)  ", PICTURE, re.MULTILINE)
    tree = (ROOT / "tests" / "repository" / "test_layering.py").read_text(encoding="utf-8")
    order = re.findall(r'"(\w+)"', re.search(r"^SURGERY = \[(.*?)\]", tree, re.DOTALL | re.MULTILINE)[1])
    assert drawn == order
    assert set(drawn) == folders(PACKAGE / "surgery")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([\w./]+(?:\.\w+|/))`", GUIDE))))
def test_every_path_exists(named):
    if "(" in named or named.startswith("models.") or ("/" not in named and not named.endswith((".py", ".js", ".md"))):
        return  # a name in Python
    assert any((place / named).exists() for place in PLACES) or any(PACKAGE.rglob(named)), named
