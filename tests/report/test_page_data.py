"""The scripts of the pages read only fields that the JSON beside them has, by the types of which that is made."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_xcam
from helpers import evaluations, tiny_models
from helpers.schemas import problems
from onnx_xcam.demo.settings import ConstantInput, PageSettings, PictureInput
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.report import PhotoPage, photo_of, settings_of, write_evaluation
from onnx_xcam.report.page_data import (
    ClassData,
    ColumnData,
    MapData,
    PhotoData,
    PhotosOptions,
    PlacementData,
    RowData,
    TableData,
)
from tools.release.schemas import schema

PACKAGE = Path(onnx_xcam.__file__).parent
DESCRIPTION = frozenset(field.name for field in dataclasses.fields(Preprocess))
SHOWN = frozenset(PhotoData.__annotations__) | {"bitmap"}
"""A photo with its picture decoded."""

READ: dict[str, dict[str, Any]] = {
    "report/web/photos.js": {
        "options": PhotosOptions,
        "photo": SHOWN,
        "maps": MapData,
        "one": frozenset([*ClassData.__annotations__, *MapData.__annotations__, "matches"]),
    },
    "report/web/photo-data.js": {"stated": PhotoData},
    "report/web/stage.js": {"photo": SHOWN},
    "report/web/evaluation.js": {"data": TableData, "one": RowData},
    "demo/web/app.js": {"settings": PageSettings},
    "demo/web/engine.js": {"settings": PageSettings, "input": PictureInput},
    "demo/web/search.js": {"settings()": PageSettings},
    "demo/web/preprocess.js": {"preprocess": DESCRIPTION, "input": frozenset(PictureInput.__annotations__) | {"map"}},
}
"""For each script, the names by which it calls a record, and the record's type, or its fields."""

TAKEN: dict[str, list[tuple[str, Any]]] = {
    "report/web/photo-data.js": [("export function mapOf(", MapData)],
    "report/web/photos.js": [("function listNumbers({ data, height, width }, ", MapData), ("layers.map((", MapData)],
    "report/web/cells.js": [("const toInput = (", PlacementData), ("const toPhoto = (", PlacementData)],
    "report/web/evaluation.js": [("...data.metrics.map((", ColumnData), ('element("layer"), data.rows.map((', RowData)],
    "demo/web/heatmap.js": [("function places(", PlacementData)],
    "demo/web/engine.js": [("for (const ", ConstantInput)],
}
"""For each script, what stands before a record that is taken apart, and the record's type."""


def fields(kind: Any) -> frozenset[str]:
    return kind if isinstance(kind, frozenset) else frozenset(kind.__annotations__)


def names_read(source: str, called: str) -> Iterator[str]:
    """The fields of a record that a script reads by `called.name`, or by `{ name } = called`."""
    own = re.escape(called)
    yield from re.findall(rf"(?<![\w.]){own}\??\.(\w+)", source)
    yield from re.findall(rf"(?:this|\))\.{own}\??\.(\w+)", source)
    for inner in re.findall(rf"\{{([^{{}}]*)\}} = (?:this\.)?{own};", source):
        yield from names_in(inner)


def names_in(inner: str) -> list[str]:
    """The names before a colon in what stands between braces."""
    return [part.partition(":")[0].strip() for part in inner.split(",") if part.strip()]


@pytest.mark.parametrize(("script", "called"), [(script, name) for script in READ for name in READ[script]])
def test_a_script_reads_fields_that_are_there(script, called):
    source = (PACKAGE / script).read_text(encoding="utf-8")
    read = set(names_read(source, called))
    assert read, f"{script} does not read {called} any more: take it out of this test's table"
    assert read <= fields(READ[script][called]), f"{script} reads {called}"


@pytest.mark.parametrize(("script", "before", "kind"), [(script, *one) for script in TAKEN for one in TAKEN[script]])
def test_a_script_takes_apart_what_is_there(script, before, kind):
    _, found, behind = (PACKAGE / script).read_text(encoding="utf-8").partition(before + "{")
    assert found, f"{script} does not take {kind.__name__} apart any more: take it out of this test's table"
    assert set(names_in(behind.partition("}")[0])) <= fields(kind)


def test_these_tests_can_fail():
    assert list(names_read("a = photo.nme; const { size, maps: m } = photo; x.photo.no", "photo")) == [
        *("nme", "size", "maps")
    ]


def blocks(page: Path) -> list[Any]:
    source = page.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json">(.*?)</script>', source, re.DOTALL)
    return [json.loads(text) for text in found]


@pytest.mark.filterwarnings("ignore::onnx_xcam.explainer.XcamWarning")
@pytest.mark.parametrize("method", ["xgrad-cam", "guided-xgrad-cam"])
def test_the_page_of_photos_holds_what_its_types_say(method, tmp_path):
    explainer = onnx_xcam.Explainer(tiny_models.tiny(size=80), method=method)
    found = explainer.explain(np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8), top=2)
    with PhotoPage(tmp_path / "page.html", settings_of(explainer.model, [method])) as page:
        page.add(photo_of([found]))
    options, photo = sorted(blocks(tmp_path / "page.html"), key=lambda one: "maps" in one)
    assert problems(options, schema("", PhotosOptions)) == []
    assert problems(photo, schema("", PhotoData)) == []
    assert photo["maps"][0]["fine"] == (method != "xgrad-cam") == (photo["maps"][0]["step"] is not None)


def test_the_page_of_an_evaluation_holds_what_its_types_say(tmp_path):
    write_evaluation(tmp_path / "page.html", *evaluations.made(3, failed=1))
    (data,) = blocks(tmp_path / "page.html")
    assert problems(data, schema("", TableData)) == []
    assert len(data["images"]) == 2
