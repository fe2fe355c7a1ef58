"""How likely the assumed preprocessing is, by the weights that are published."""

from __future__ import annotations

import re

import pytest

from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.likelihood import ASSUMED, COLUMNS, agreement, likelihood, likelihood_of_all
from onnx_xcam.producers.named import table
from tools.common.folders import ROOT

PHOTOS = ((427, 640), (500, 375))


def test_counts_of_a_size_are_consistent():
    known = likelihood(224, 224)
    assert known.weights > 1000
    assert 0 < known.whole <= min(known.values, known.crop, known.interpolation) < known.weights
    assert known.share() == known.whole / known.weights
    assert known.share("values") == known.values / known.weights
    assert known.sources == tuple(f"{name} {table(name).version}" for name in ("timm", "torchvision"))


def test_a_size_without_published_weights_has_no_likelihood():
    assert likelihood(223, 224) is None and likelihood(48, 192) is None


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, (True, True, True)),
        ({"resize_size": (256, 256), "crop_fraction": 1.0}, (True, True, True)),
        ({"mean": (0.5,)}, (False, True, True)),
        ({"channels": "BGR"}, (False, True, True)),
        ({"crop_fraction": 0.9}, (True, False, True)),
        ({"resize": "stretch", "crop_fraction": 1.0}, (True, False, True)),
        ({"interpolation": "cubic"}, (True, True, False)),
        ({"antialias": False}, (True, True, False)),
    ],
)
def test_what_agrees_with_the_assumption(changes, right):
    assert agreement(ASSUMED.replace(size=(224, 224), **changes), PHOTOS) == right


def test_values_for_all_channels_at_once_agree_with_the_same_values_for_each():
    assert not agreement(Preprocess(size=(8, 8), scale=1 / 255, mean=(0.485,), std=(0.229,)), PHOTOS)[0]


def test_the_page_states_the_counts_of_the_table():
    page = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (all|\d+x\d+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) >= 4
    assert f"{likelihood_of_all().weights:,} classification weights" in page
    for size, cells in rows:
        known = likelihood_of_all() if size == "all" else likelihood(*map(int, size.split("x")))
        weights, *counts = cells.split(" | ")
        assert int(weights) == known.weights
        for part, cell in zip(COLUMNS[1:], counts, strict=True):
            count = getattr(known, part)
            assert cell == (f"{count} ({100 * known.share(part):.0f} %)" if count else "0"), (size, part)


def test_the_page_states_the_versions_of_the_tables():
    page = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
    timm, torchvision, keras = (table(name).version for name in ("timm", "torchvision", "keras"))
    assert f"timm {timm}, torchvision {torchvision} and Keras {keras}" in " ".join(page.split())
