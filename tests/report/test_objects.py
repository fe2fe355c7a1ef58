"""The page of `explain --html` for objects: boxes over the photo, of which a click chooses the smallest there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import web
from helpers.report_pages import CONTRAST, opened, picture, ready, select, written
from onnx_xcam import Explainer
from onnx_xcam.cli import app
from onnx_xcam.images.place import Placement
from onnx_xcam.report import ClassResult, Maps, Photo, photo_of
from onnx_xcam.report.photos import photo_entry

SAMPLE = web.ROOT / "sample_models/tiny_detector.onnx"
SHAPES = web.ROOT / "sample_models/pictures/shapes.png"
SIZE = (90, 120)
OBJECTS = (
    ClassResult(1, "room", 2.5, 0.75, 12, (10.0, 10.0, 110.0, 80.0)),
    ClassResult(1, "room", 1.5, 0.5, 3, (-20.0, -10.0, 60.0, 45.0)),
    ClassResult(4, "<b>emu</b>", 0.5, 0.25, 7, (30.0, 20.0, 50.0, 40.0), "cat"),
    ClassResult(2, None, 0.0, None, 9, None),
)
"""Boxes within boxes, two of one class, one that reaches beyond the photo, and one whose box is not known."""


def photo(objects: tuple[ClassResult, ...] = OBJECTS, size: tuple[int, int] = SIZE) -> Photo:
    """A photo with objects, whose maps are k + 1 everywhere."""
    values = np.stack([np.full((5, 6), k + 1, np.float32) for k in range(len(objects))] or [np.zeros((5, 6))])
    maps = tuple(Maps("local-xgrad-cam", layer, values, (0,) * len(values)) for layer in ("cut", "early"))
    return Photo("objects.png", picture(*size), Placement(size, (64, 64), (64, 64)), objects, maps if objects else ())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with web.chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Any, tmp_path: Path) -> Iterator[web.Tab]:
    path = written(tmp_path / "page.html", photo(), photo(()), photo(size=(60, 400)))
    with opened(browser, path) as opened_tab:
        ready(opened_tab)
        yield opened_tab
        assert opened_tab.complaints == []


def click(tab: web.Tab, x: float, y: float, size: tuple[int, int] = SIZE) -> int | None:
    """Click at a place of the photo, in its pixels; the object that is then shown."""
    box = tab.page.locator("#probe").bounding_box()
    tab.page.mouse.click(box["x"] + x / size[1] * box["width"], box["y"] + y / size[0] * box["height"])
    return shown(tab)


def shown(tab: web.Tab) -> int | None:
    """The object whose map is shown."""
    return tab.page.evaluate("window.xcam.last.object")


def test_a_click_chooses_the_smallest_object_there(tab):
    assert shown(tab) == 12, "the best one is shown first"
    assert click(tab, 40, 30) == 7  # in three boxes
    assert click(tab, 55, 15) == 3  # in two
    assert click(tab, 100, 70) == 12
    assert click(tab, 40, 30) == 7
    assert click(tab, 115, 85) == 7, "where there is no object, the choice stays"
    assert tab.page.evaluate("[...new Set(window.xcam.last.map.data)]") == [3]
    assert tab.page.evaluate("window.xcam.last.box") == [30, 20, 50, 40]


def test_the_list_and_the_keyboard_choose_too(tab):
    assert "4 objects" in tab.page.inner_text("#about")
    tab.page.check("#classes input[value='3']")
    assert shown(tab) == 9, "two objects of a class, and one without a box, can be chosen"
    assert tab.page.locator("#boxes .chosen").count() == 0
    tab.page.locator("#classes input[value='3']").press("ArrowUp")
    assert shown(tab) == 7
    tab.page.check("#layers input[value='early']")
    assert shown(tab) == 7 and tab.page.evaluate("window.xcam.last.layer") == "early"
    tab.page.locator("#classes input[value='2']").press("ArrowUp")
    assert shown(tab) == 3 and tab.page.evaluate("window.xcam.last.layer") == "early", "the layer stays"
    tab.page.focus("#probe")
    for key in ("Home", "ArrowRight", "ArrowDown", "Enter"):  # the middle of this value is x 30, y 27
        tab.page.keyboard.press(key)
    assert shown(tab) == 7
    for key in ("ArrowRight", "ArrowRight", "Enter"):  # x 70, y 27
        tab.page.keyboard.press(key)
    assert shown(tab) == 12
    assert tab.page.inner_text("#spoken") == "Object 1: room"


def test_boxes_lie_where_they_are(tab):
    """The frame of the chosen object is at its box, on the photo; every other object with a box has a thin one."""
    click(tab, 55, 15)
    stage, chosen = (tab.page.locator(name).bounding_box() for name in ("#boxes", "#boxes .chosen"))
    found = [(chosen[side] - stage[side]) / stage[length] for side, length in (("x", "width"), ("y", "height"))]
    assert found == pytest.approx([0, 0], abs=1e-3)
    ends = [chosen["width"] / stage["width"], chosen["height"] / stage["height"]]
    assert ends == pytest.approx([60 / 120, 45 / 90], abs=2e-3)
    assert tab.page.locator("#boxes .box").count() == 3
    assert tab.page.inner_text("#boxes .tag") == "2 room 50 %"
    widths = tab.page.evaluate(
        "[...document.querySelectorAll('.box')].map((one) => parseFloat(getComputedStyle(one).borderWidth))"
    )
    assert sorted(widths) == [2, 2, 4]


def test_a_contrast_and_hostile_labels_are_text(tab):
    click(tab, 40, 30)
    assert tab.page.inner_text("#boxes .tag") == "3 <b>emu</b>, not cat 25 %"
    assert "<b>emu</b>, not cat" in tab.page.inner_text("#classes")


def test_a_photo_without_objects_is_shown_and_said(tab):
    select(tab, 2)
    assert tab.page.is_visible("#none") and tab.page.is_visible("#picture")
    assert not any(tab.page.is_visible(part) for part in ("#panel", "#legend", "#controls", "#reading"))
    assert click(tab, 40, 30) is None
    tab.page.focus("#probe")
    tab.page.keyboard.press("Enter")
    assert tab.page.inner_text("#photo-2 .top") == "no object"
    select(tab, 1)
    assert not tab.page.is_visible("#none") and tab.page.is_visible("#panel") and shown(tab) == 12
    assert tab.page.locator("#boxes .box").count() == 3


def test_the_choice_begins_anew_with_each_photo(tab):
    click(tab, 40, 30)
    select(tab, 3)
    assert shown(tab) == 12


def test_a_saved_picture_has_the_boxes(tab, tmp_path):
    """It is enlarged for the lines; without the map only the white frame of the object is white."""
    click(tab, 40, 30)
    tab.page.click("#hide")
    with tab.page.expect_download() as waiting:
        tab.page.click("#save")
    assert waiting.value.suggested_filename == "objects.3-4.png"
    waiting.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    assert saved.shape == (540, 720, 3)
    middle = 6 * 30
    assert (saved[middle, 6 * 30] == 255).all() and (saved[middle, 6 * 50] == 255).all()
    assert not (saved[middle, 6 * 40] == 255).all()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(browser, tmp_path, scheme):
    path = written(tmp_path / "page.html", photo(), photo(()))
    with opened(browser, path, color_scheme=scheme, viewport={"width": 390, "height": 844}) as tab:
        ready(tab)
        for number in (1, 2):
            select(tab, number)
            found = tab.page.evaluate(CONTRAST)
            assert len(found) > 5 and min(ratio for _, ratio in found) >= 4.5, found
            assert tab.page.evaluate("document.documentElement.scrollWidth") == 390


def test_objects_that_are_not_there_are_left_out():
    explainer = Explainer(SAMPLE, providers="cpu")
    found = explainer.explain(SHAPES, objects=[-1, -2, -3, -4, -5, -6])
    assert (found.objects[0] >= 0).sum() == 4
    one = photo_of([found])
    assert [result.object for result in one.classes] == found.objects[0, :4].tolist()
    assert [result.box for result in one.classes] == [tuple(box) for box in found.boxes[0, :4].tolist()]
    assert [maps.values.shape for maps in one.maps] == [(4, 12, 12)]
    assert one.maps[0].status == (0, 0, 0, 0)
    blank = photo_of([explainer.explain(np.full((96, 96, 3), 110, np.uint8), objects=[-1, -2])])
    assert blank.classes == () and b"no object" in photo_entry(blank)


def test_the_command_writes_objects_into_the_page(tmp_path):
    """Also of a photo without any, and of an earlier run."""
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((96, 96, 3), 110, np.uint8)).save(grey)
    call = ["explain", str(SAMPLE), str(SHAPES), str(grey), "--out", str(tmp_path / "out"), "--raw"]
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    assert not app([*call, "--html", str(pages[0])], standalone_mode=False)
    assert not app([*call, "--html", str(pages[1]), "--resume"], standalone_mode=False)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        blocks = [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', text)]
        shapes, none = (one for one in blocks if "classes" in one)
        assert [one["object"] for one in shapes["classes"]] == [155, 29, 92, 176]
        assert [round(value) for value in shapes["classes"][0]["box"]] == [70, 16, 91, 37]
        assert none["classes"] == none["maps"] == [] and none["image"].startswith("data:image/png")
        assert 'class="failed"' not in text
