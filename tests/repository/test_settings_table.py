"""The table of settings in docs/preprocessing.md names every setting of a Preprocess, and its default."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from helpers import ROOT
from onnx_xcam.images import Preprocess

TABLE = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8").partition("| setting | values | default |")[2]
ROWS = {
    name: cells
    for names, cells in re.findall(r"^\| (`.+?`) \| (.+) \|$", TABLE.partition("\n\n")[0], re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
}


@pytest.mark.parametrize("setting", fields(Preprocess), ids=lambda setting: setting.name)
def test_every_setting_stands_in_the_table(setting):
    cells = ROWS[setting.name]
    default = cells.rpartition(" | ")[2]
    if setting.default is not None and setting.name not in ("scale", "mean", "std"):
        assert str(setting.default).lower().removesuffix(".0") in default.lower(), default
