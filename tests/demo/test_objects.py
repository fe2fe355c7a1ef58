"""The page of `onnx-xcam demo` for a detector, in a real Chromium, against the package in Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from helpers import web
from onnx_xcam import Explainer, Explanation, contract, instrument_file
from onnx_xcam.demo import write_page
from onnx_xcam.images.read import read_image

SAMPLE = web.ROOT / "sample_models/tiny_detector.onnx"
SHAPES = web.ROOT / "sample_models/pictures/shapes.png"
CLOSE = 1e-3
"""How far a map may be from the package's, of its largest value."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample picture as it is, on wide and on tall paper, and one without objects."""
    folder = tmp_path_factory.mktemp("photos")
    shapes = read_image(SHAPES)
    larger = shapes.repeat(2, 0).repeat(2, 1)
    wide = np.concatenate([np.full((192, 150, 3), 120, np.uint8), larger], 1)
    made = {"wide": wide, "tall": wide.transpose(1, 0, 2), "empty": np.full((100, 140, 3), 110, np.uint8)}
    for name, pixels in made.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{name}.png")
    return {"square": SHAPES, **{name: folder / f"{name}.png" for name in made}}


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(SAMPLE, providers="cpu", contrast=True)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Tab]:
    web.vendored()
    folder = write_page(SAMPLE, tmp_path_factory.mktemp("page") / "page").folder
    with web.chromium() as browser, web.served(folder) as address, web.Tab(browser, address) as opened:
        assert opened.page.evaluate("window.xcam.ready") is True
        yield opened
        assert opened.complaints == []


def compare(shown: dict[str, Any], wanted: Explanation, k: int = 0) -> None:
    """The page shows what the package says of the k-th object."""
    assert shown["object"] == wanted.objects[0, k] >= 0
    assert shown["classId"] == wanted.classes[0, k]
    assert shown["score"] == pytest.approx(float(wanted.scores[0, k]), rel=CLOSE)
    assert shown["probability"] == pytest.approx(float(wanted.probabilities[0, k]), rel=CLOSE)
    assert shown["box"] == pytest.approx(wanted.boxes[0, k].tolist(), abs=0.01)
    assert web.furthest(shown["map"], wanted.maps[0, k]) <= CLOSE


@pytest.mark.parametrize("name", ["square", "wide", "tall"])
def test_every_object_is_the_package_s(tab, explainer, photos, name):
    """The same objects, best first, with boxes in the photo's pixels: a letterbox is undone."""
    first = tab.explain(photos[name])
    wanted = explainer.explain(photos[name], objects=[-1 - k for k in range(10)]).without_missing()
    count = wanted.classes.shape[1]
    assert tab.page.locator("#classes .class").count() == tab.page.locator("#boxes .box").count() == count > 0
    compare(first, wanted)
    for k in range(count):
        tab.page.check(f"#classes input[value='{k}']")
        compare(tab.last(), wanted, k)


def test_a_click_chooses_the_object_there(tab, explainer, photos):
    tab.explain(photos["square"])
    wanted = explainer.explain(photos["square"], objects=[-1, -2, -3, -4])
    sides = tab.page.locator("#photo").bounding_box()
    for k in (3, 1, 2, 0):
        x1, y1, x2, y2 = (wanted.boxes[0, k] / 96).tolist()
        middle = {"x": (x1 + x2) / 2 * sides["width"], "y": (y1 + y2) / 2 * sides["height"]}
        tab.page.locator("#picture").click(position=middle)
        compare(tab.last(), wanted, k)
        assert tab.page.inner_text("#boxes .tag").startswith(f"{k + 1} {wanted.labels[0][k]} ")
    tab.page.locator("#picture").click(position={"x": 2, "y": 2})
    assert tab.last()["object"] == wanted.objects[0, 0], "where there is no object, the choice stays"


def test_another_class_and_a_contrast(tab, explainer, photos):
    """Why this object is, or is not, of another class; and why of its own and not of that one."""
    tab.explain(photos["square"])
    own = tab.last()
    tab.page.fill("#search", "triangle")
    tab.page.click("#hits button")
    tab.wait("window.xcam.last.classId", 1)
    compare(tab.last(), explainer.explain(photos["square"], objects=[own["object"]], classes=[1]))
    tab.page.check("#against")
    tab.page.click("#hits button")
    tab.wait("window.xcam.last.against", 1)
    wanted = explainer.explain(photos["square"], objects=[own["object"]], classes=[own["classId"]], against=[1])
    compare(tab.last(), wanted)
    assert "disc, not triangle" in tab.page.inner_text("#caption")
    tab.page.uncheck("#against")
    tab.page.check("#classes input[value='0']")
    assert tab.last()["against"] == -1


def test_a_photo_without_objects(tab, photos):
    tab.page.set_input_files("#file", photos["empty"])
    tab.wait("window.xcam.last?.name", "empty.png")
    assert tab.page.inner_text("#caption") == "No object with a probability above 0.25."
    assert not tab.page.is_visible("#panel") and tab.page.locator("#boxes .box").count() == 0
    assert tab.explain(photos["square"])["object"] == 155
    assert tab.page.is_visible("#panel") and tab.page.is_visible("#photo")


def test_a_saved_picture_has_the_boxes(tab, photos, tmp_path):
    tab.explain(photos["square"])
    with tab.page.expect_download() as waiting:
        tab.page.click("#save")
    assert waiting.value.suggested_filename == "shapes.1-0.png"
    waiting.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    factor = len(saved) // 96
    assert factor >= 6 and (saved[round(26.5 * factor), round(70.41 * factor)] == 255).all()


def test_what_the_page_states(tmp_path):
    """The choices that the graph takes, its thresholds, and a contrast that only a detector's page has."""
    web.vendored()
    made = write_page(SAMPLE, tmp_path / "page", conf=0.5)
    stated = json.loads((made.folder / "model.json").read_text(encoding="utf-8"))
    assert set(stated["choices"]) == {"xcam_class", "xcam_object", "xcam_against"}
    assert (stated["conf"], stated["top"], stated["class_count"]) == (0.5, 10, 4)
    own = tmp_path / "own.onnx"
    instrument_file(SAMPLE, own, emit=("map", "status"), class_input="required")
    made = write_page(own, tmp_path / "other")
    assert (made.folder / "model.onnx").read_bytes() == own.read_bytes()
    stated = json.loads((made.folder / "model.json").read_text(encoding="utf-8"))
    assert set(stated["choices"]) == {"xcam_class", "xcam_object"}, "used as it is, without a contrast"
    inputs = {value.name for value in onnx.load(made.folder / "model.onnx").graph.input}
    assert inputs == {"images", contract.CLASS_INPUT, contract.OBJECT_INPUT}
