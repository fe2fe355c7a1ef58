"""The page of `explain --html` in a real Chromium, opened as a file, against the package in Python."""

# ruff: noqa: RUF001  - the page writes a true minus and a true times sign
from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import hostile, web
from helpers.report_pages import (
    CLASSES,
    CONTRAST,
    LAID,
    SETTINGS,
    canvas,
    lossless,
    opened,
    photo,
    picture,
    ready,
    select,
    some_maps,
    written,
)
from onnx_xcam import Explainer
from onnx_xcam.images.draw import COLOUR_MAPS, DIVERGING, dimmed, overlay
from onnx_xcam.images.place import Placement, scale_heatmap, without_peaks
from onnx_xcam.images.resize import resize_window
from onnx_xcam.report import ClassResult, Failure, Maps, Photo, photo_of
from onnx_xcam.report.photos import FLOAT_CELLS

SAMPLE = web.ROOT / "sample_models/efficientnet_lite0.onnx"
PHOTOS = sorted(web.PHOTOS.iterdir())
AS_ROUNDED = 3
"""Levels of 256 by which the browser's canvas may be off: it rounds the colours, and then the mixture."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with web.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shown() -> list[Photo]:
    """A photo of each geometry, with all kinds of maps."""
    return [photo(f"{name}.png", placement) for name, placement in LAID.items()]


@pytest.fixture(scope="module")
def tab(browser: Any, shown: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Tab]:
    with lossless():
        path = written(tmp_path_factory.mktemp("report") / "page.html", *shown)
    with opened(browser, path) as opened_tab:
        ready(opened_tab)
        yield opened_tab
        assert opened_tab.complaints == []
        asked = [url for url in opened_tab.asked if not url.startswith(("data:", "blob:"))]
        assert asked == [path.as_uri()], "the page fetches nothing"


def switch(tab: web.Tab, number: int, maps: Maps, k: int, classes: tuple[ClassResult, ...] = CLASSES) -> None:
    """Show a map by the page's own switches."""
    select(tab, number)
    for group, value in (("methods", maps.method), ("layers", maps.layer), ("classes", str(classes[k].id))):
        tab.page.check(f"#{group} input[value='{value}']")


def drawn_by_python(one: Photo, maps: Maps, k: int, alpha: float, colours: str) -> np.ndarray:
    """As `Explanation.overlay` does it."""
    image, values = one.image_rgb, maps.values[k]
    if maps.fine and alpha:  # at 0 the page shows the photo as it is
        image, values = dimmed(image), without_peaks(values)
    seen = None if one.placement.sees_all else one.placement.seen()
    laid = one.placement.signed_heatmap if maps.signed else one.placement.heatmap
    return overlay(image, laid(values), alpha=alpha, colour_map=colours, seen=seen, signed=maps.signed)


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 1 + len(LAID)), ids=list(LAID))
def test_the_picture_is_python_s(number, tab, shown):
    one = shown[number - 1]
    for n, maps in enumerate(one.maps):
        k = n % 3
        switch(tab, number, maps, k)
        alpha = (100, 75, 40, 0)[n % 4]
        tab.page.fill("#opacity", str(alpha))
        colours = list(DIVERGING if maps.signed else COLOUR_MAPS)[n % 2]
        tab.page.select_option("#colours", colours)
        wanted = drawn_by_python(one, maps, k, alpha / 100, colours)
        off = np.abs(canvas(tab).astype(int) - wanted)
        # Kept in steps, a value that lies between two levels of the colours may fall to the other one.
        bound = AS_ROUNDED + (2 if maps.values[0].size > FLOAT_CELLS else 0)
        assert off.max() <= bound, (maps.method, maps.layer)
        assert off.mean() <= 1


def test_the_comparison_can_fail(tab, shown):
    """A map laid a little beside its place, or scaled a little otherwise, is further off than that."""
    one = shown[1]
    maps = one.maps[0]
    switch(tab, 2, maps, 0)
    tab.page.fill("#opacity", "100")
    tab.page.select_option("#colours", "inferno")
    found = canvas(tab).astype(int)
    moved = dataclasses.replace(one, placement=dataclasses.replace(one.placement, offset=(3, 16)))
    assert np.abs(found - drawn_by_python(moved, maps, 0, 1.0, "inferno")).max() > AS_ROUNDED
    assert np.abs(found - drawn_by_python(one, maps, 0, 0.95, "inferno")).max() > AS_ROUNDED
    assert np.abs(found - drawn_by_python(one, one.maps[0], 1, 1.0, "inferno")).max() > AS_ROUNDED


def test_a_large_photo_is_kept_smaller_and_the_map_in_its_place(browser, tmp_path):
    image = picture(1500, 2100)
    maps = Maps("xgrad-cam", "late", some_maps()[0].values, (0, 0, 0))
    one = Photo("large.jpg", image, Placement((1500, 2100), (224, 224), (256, 358), (16, 67)), CLASSES, (maps,))
    with lossless(), opened(browser, written(tmp_path / "page.html", one)) as tab:
        ready(tab)
        found = canvas(tab)
        assert found.shape == (731, 1024, 3)
        small = resize_window(image, (731, 1024), (0, 0, 731, 1024), "area")
        seen = one.placement.seen((731, 1024))
        heat = scale_heatmap(one.placement.place(maps.values[0], (731, 1024)), seen)
        assert np.abs(found.astype(int) - overlay(small, heat, seen=seen)).max() <= AS_ROUNDED
        tab.page.hover("#probe", position=hover_at(tab, 0.5, 0.5))
        x, y = re.search(r"photo x (\d+), y (\d+)", tab.page.inner_text("#reading")).groups()
        assert abs(int(x) - 1050) <= 3 and abs(int(y) - 750) <= 3, "pixels of the photo itself"
    assert (tmp_path / "page.html").stat().st_size < 4e6


def test_a_photo_is_kept_as_jpeg(browser, tmp_path):
    """As `explain` does it: the picture is the overlay but for what JPEG loses."""
    explainer = Explainer(SAMPLE, providers="cpu")
    explanation = explainer.explain(PHOTOS[0], top=2)
    path = written(tmp_path / "page.html", photo_of([explanation]))
    assert "data:image/jpeg" in path.read_text(encoding="utf-8")
    with opened(browser, path) as tab:
        ready(tab)
        off = np.abs(canvas(tab).astype(int) - explanation.overlay())
        assert off.mean() < 3
        np.testing.assert_array_equal(web.as_map(shown_map(tab)), explanation.maps[0, 0])
        assert tab.complaints == []


def shown_map(tab: web.Tab) -> dict[str, Any]:
    return tab.page.evaluate("({...window.xcam.last.map, data: [...window.xcam.last.map.data]})")


def test_maps_are_the_raw_ones(tab, shown):
    for number, one in enumerate(shown, 1):
        for maps in one.maps:
            for k in range(3):
                switch(tab, number, maps, k)
                found = web.as_map(shown_map(tab))
                if maps.values[0].size <= FLOAT_CELLS:
                    np.testing.assert_array_equal(found, maps.values[k])
                else:  # in steps, half of one off at most
                    half = np.abs(maps.values).max() / 32767 / 2
                    np.testing.assert_allclose(found, maps.values[k], atol=half * 1.01, rtol=0)


# --- values ----------------------------------------------------------------------------------------------------------


def hover_at(tab: web.Tab, y: float, x: float) -> dict[str, float]:
    box = tab.page.locator("#probe").bounding_box()
    return {"x": x * box["width"], "y": y * box["height"]}


def cell_under(placement: Placement, shape: tuple[int, int], y: float, x: float) -> tuple[int, int] | None:
    """The definition: photo -> scaled photo -> input -> map."""
    inside = [
        (at * scaled - offset) / side
        for at, scaled, offset, side in zip((y, x), placement.scaled, placement.offset, placement.input, strict=True)
    ]
    if not all(0 <= at <= 1 for at in inside):
        return None
    return int(inside[0] * shape[0]), int(inside[1] * shape[1])


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=name, marks=() if name == "letterboxed" else pytest.mark.slow)
        for number, name in enumerate(LAID, 1)
    ],
)
def test_the_value_under_the_pointer(number, tab, shown):
    one = shown[number - 1]
    read = 0
    for maps in (one.maps[0], one.maps[3], one.maps[4]):
        switch(tab, number, maps, 2)
        tab.page.locator("#probe").scroll_into_view_if_needed()
        shape = maps.values.shape[1:]
        for y, x in np.random.default_rng(number).uniform(0.02, 0.98, (30, 2)).tolist():
            cells = {cell_under(one.placement, shape, y + dy, x + dx) for dy in (-4e-3, 4e-3) for dx in (-4e-3, 4e-3)}
            if len(cells) > 1:
                continue  # on an edge; the pointer moves by whole pixels
            tab.page.hover("#probe", position=hover_at(tab, y, x))
            (cell,) = cells
            found = tab.page.evaluate("window.xcam.reading")
            if cell is None:
                assert found is None
                assert tab.page.inner_text("#reading") == "The model did not see this part of the photo."
                continue
            assert (found["row"], found["column"]) == cell
            half = float(np.abs(maps.values).max()) / 32767 / 2 if maps.values[0].size > FLOAT_CELLS else 0
            assert found["value"] == pytest.approx(float(maps.values[2][cell]), abs=half * 1.01)
            text = tab.page.inner_text("#reading")
            assert f"row {cell[0]}, column {cell[1]} of {shape[0]} × {shape[1]}" in text
            told = float(text.removeprefix("Value ").split(" ")[0].replace("−", "-"))
            assert told == pytest.approx(found["value"], rel=1e-3, abs=1e-6)
            read += 1
    assert read > 10


def test_the_scale_tells_its_ends(tab, shown):
    one = shown[1]
    switch(tab, 2, one.maps[0], 1)
    box = one.placement.seen_box()
    placed = one.placement.place(one.maps[0].values[1])[box[0] : box[2], box[1] : box[3]]
    ends = [float(tab.page.inner_text(f"#{end}")) for end in ("least", "most")]
    assert ends == pytest.approx([placed.min(), placed.max()], rel=1e-3, abs=1e-6)
    switch(tab, 2, one.maps[3], 1)
    least, most = (tab.page.inner_text(f"#{end}") for end in ("least", "most"))
    assert least == f"against −{most.removesuffix(' for')}", "a signed map has a symmetric scale"
    numbers = tab.page.inner_text("#numbers")
    assert f"{one.maps[3].values[1].min():.4g}".replace("-", "−") in numbers


def test_the_keyboard_reads_values(tab, shown):
    one = shown[1]
    maps = one.maps[0]
    switch(tab, 2, maps, 0)
    page = tab.page
    page.focus("#probe")
    page.keyboard.press("Home")
    found = page.evaluate("window.xcam.reading")
    assert found["value"] == float(maps.values[0].max()), "the largest"
    assert "100 % of the largest" in page.inner_text("#spoken")
    page.keyboard.press("End")
    assert page.evaluate("window.xcam.reading").get("value") == float(maps.values[0].min())
    for _ in range(9):
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("window.xcam.reading") == {"row": 0, "column": 0, "value": float(maps.values[0][0, 0])}
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.xcam.reading")["value"] == float(maps.values[0][1, 1])
    cell, stage = (page.locator(f"#{part}").bounding_box() for part in ("cell", "stage"))
    middle = [(cell[a] + cell[s] / 2 - stage[a]) / stage[s] for a, s in (("y", "height"), ("x", "width"))]
    assert cell_under(one.placement, (7, 5), *middle) == (1, 1), "the frame lies around the value"
    page.keyboard.press("Escape")
    assert page.evaluate("window.xcam.reading") is None and page.is_hidden("#cell")


def test_values_on_the_padding_are_not_walked_over(tab, shown):
    """A letterboxed photo covers the middle of the map only."""
    one = shown[2]
    switch(tab, 3, one.maps[0], 0)
    tab.page.focus("#probe")
    tab.page.keyboard.press("Home")
    for _ in range(9):
        tab.page.keyboard.press("ArrowLeft")
    assert tab.page.evaluate("window.xcam.reading")["column"] == 1
    for _ in range(9):
        tab.page.keyboard.press("ArrowRight")
    assert tab.page.evaluate("window.xcam.reading")["column"] == 3


# --- switches --------------------------------------------------------------------------------------------------------


def test_choices_stay_from_photo_to_photo(tab, shown):
    switch(tab, 1, shown[0].maps[1], 2)
    tab.page.click("#next")
    tab.wait("window.xcam.last.id", "photo-2")
    last = tab.page.evaluate("window.xcam.last")
    assert (last["method"], last["layer"], last["classId"]) == ("xgrad-cam", "early", 4)
    assert tab.page.evaluate("location.hash") == "#photo-2"
    tab.page.click("#previous")
    tab.wait("window.xcam.last.id", "photo-1")
    assert tab.page.is_disabled("#previous")


def test_photo_only(tab, shown):
    select(tab, 1)
    tab.page.fill("#opacity", "80")
    tab.page.click("#hide")
    assert tab.page.get_attribute("#hide", "aria-pressed") == "true"
    np.testing.assert_array_equal(canvas(tab), shown[0].image_rgb)
    select(tab, 4)
    select(tab, 1)
    np.testing.assert_array_equal(canvas(tab), shown[0].image_rgb, "and stays so")
    tab.page.click("#hide")
    assert np.abs(canvas(tab).astype(int) - shown[0].image_rgb).max() > 30


def test_saving(tab, tmp_path, shown):
    switch(tab, 2, shown[1].maps[0], 0)
    with tab.page.expect_download() as download:
        tab.page.click("#save")
    assert download.value.suggested_filename == "cropped.3.png"


def test_scores_and_settings(tab, shown):
    select(tab, 1)
    assert tab.page.locator("#classes label").all_inner_texts() == [
        "cat\nclass 3 · score 2.5 · 75 %",
        "class 1\nclass 1 · score 1.25 · 13 %",
        "emu\nclass 4 · score −0.5",
    ]
    tab.page.evaluate("document.getElementById('settings').open = true")
    text = tab.page.inner_text("#settings")
    for part in ("onnx-xcam explain", "import onnx_xcam", "A note.", "Beware.", "Score\nlogits"):
        assert part in text
    assert tab.page.title() == "What tiny sees"


def test_status_and_warnings(browser, tmp_path):
    one = dataclasses.replace(photo("a.png"), warnings=("a.png, class 3: nothing speaks for it.",))
    wild = np.full((3, 2, 2), np.nan, np.float32)
    wild[:, 0, 0] = 1
    odd = Maps("xgrad-cam", "wild", wild, (3, 3, 3))
    other = dataclasses.replace(photo("b.png"), maps=(odd, Maps("xgrad-cam", "none", wild * np.nan, (3, 3, 3))))
    failure = Failure("c.png", "c.png: the file is empty (0 bytes)")
    with opened(browser, written(tmp_path / "page.html", one, other, failure)) as tab:
        ready(tab)
        assert tab.page.inner_text("#warnings") == "a.png, class 3: nothing speaks for it."
        tab.page.check("#layers input[value='blank']")
        assert "the map is zero everywhere" in tab.page.inner_text("#numbers")
        select(tab, 2)
        assert tab.page.inner_text("#warnings") == ""
        assert "not finite" in tab.page.inner_text("#numbers")
        tab.page.focus("#probe")
        tab.page.keyboard.press("Home")
        tab.page.keyboard.press("ArrowDown")
        tab.page.keyboard.press("ArrowRight")
        tab.page.check("#layers input[value='none']")
        assert tab.page.inner_text("#most") == "unknown"
        assert tab.page.inner_text("#summary") == "3 photos, of which 1 could not be explained"
        assert "the file is empty" in tab.page.inner_text("#gallery")
        assert tab.page.inner_text("#position") == "2 of 2"
        assert tab.complaints == []


def test_a_page_without_photos(browser, tmp_path):
    with opened(browser, written(tmp_path / "page.html", Failure("x.png", "no such file"))) as tab:
        assert tab.page.inner_text("#summary") == "1 photo, of which 1 could not be explained"
        assert tab.page.is_hidden("#viewer") and tab.complaints == []


# --- many photos, small windows, the dark ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 photos, no two probabilities alike."""
    few = [photo(str(n), placement, some_maps()[:2]) for n, placement in enumerate(LAID.values())]

    def numbered(n: int) -> Photo:
        top = ClassResult(n, f"label {n}", 1.0, (n * 7 % 200 + 1) / 201)
        warned = ("Look here.",) if n == 150 else ()
        name = f"folder/{n:03}.png"
        return dataclasses.replace(few[n % 4], name=name, classes=(top, *CLASSES[1:]), warnings=warned)

    return written(tmp_path_factory.mktemp("many") / "page.html", *map(numbered, range(200)))


def test_200_photos(many, browser):
    with opened(browser, many) as tab:
        ready(tab)
        page = tab.page
        assert page.inner_text("#found") == "200 photos"
        assert page.locator("#gallery img[loading=lazy]").count() == 200
        page.fill("#filter", "label 15")
        assert page.inner_text("#found") == "12 of 200 photos", "both words, anywhere"
        page.fill("#filter", "FOLDER/042 LABEL")
        assert page.locator("#gallery li:visible").count() == 1
        page.fill("#filter", "no such")
        assert page.inner_text("#found") == "0 of 200 photos"
        page.fill("#filter", "")
        for order, first in (("unsure", "photo-1"), ("warned", "photo-151"), ("name", "photo-1"), ("sure", "photo-58")):
            page.select_option("#order", order)
            assert page.evaluate("document.querySelector('#gallery li').id") == first
        page.select_option("#order", "given")
        page.focus("#gallery [aria-current]")
        for _ in range(30):
            page.keyboard.press("ArrowDown")
        tab.wait("window.xcam.last.id", "photo-31")
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
        assert visible(tab, "#photo-31"), "the list follows"
        page.keyboard.press("End")
        tab.wait("window.xcam.last.id", "photo-200")
        assert page.inner_text("#position") == "200 of 200" and visible(tab, "#photo-200")
        page.keyboard.press("Home")
        tab.wait("window.xcam.last.id", "photo-1")
        assert tab.complaints == []


def visible(tab: web.Tab, selector: str) -> bool:
    """Whether it lies within the list's own window."""
    outer, inner = (tab.page.locator(one).bounding_box() for one in ("#gallery", selector))
    return outer["y"] - 1 <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1


def test_an_address_with_a_photo_s_number(many, browser):
    with web.Tab(browser, f"{many.as_uri()}#photo-77") as tab:
        ready(tab)
        assert tab.page.evaluate("window.xcam.last.name") == "folder/076.png"
        tab.page.evaluate("location.hash = '#photo-3'")
        tab.wait("window.xcam.last.name", "folder/002.png")


@pytest.mark.parametrize("width", [320, 390, 760, 1000])
def test_narrow_windows(width, many, browser):
    with opened(browser, many, viewport={"width": width, "height": 800}) as tab:
        ready(tab)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        picture_box = tab.page.locator("#picture").bounding_box()
        assert picture_box["width"] > 0.55 * width and picture_box["height"] <= 800


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme, many, browser):
    """WCAG 2, level AA: 4.5 for text, measured on what the browser computes."""
    with opened(browser, many, color_scheme=scheme) as tab:
        ready(tab)
        select(tab, 151)
        tab.page.evaluate("document.getElementById('settings').open = true")
        tab.page.hover("#probe")
        found = tab.page.evaluate(CONTRAST)
        assert len(found) > 60
        assert min(ratio for _, ratio in found) >= 4.5, sorted(found, key=lambda one: one[1])[:5]
        ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) > 380) == (scheme == "light")


def test_the_keyboard_reaches_everything(many, browser):
    """Tab leads through all that can be used, each with a visible focus and a name."""
    with opened(browser, many) as tab:
        ready(tab)
        page, reached = tab.page, []
        told = """() => {
          const at = document.activeElement;
          const { outlineStyle, outlineWidth } = getComputedStyle(at.closest(".choice") ?? at);
          const name = at.ariaLabel || at.labels?.[0]?.textContent || at.textContent;
          return [at.id || at.name || at.tagName, outlineStyle, parseFloat(outlineWidth), name.trim()];
        }"""
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(told))
        stops = [name for name, *_ in reached]
        wanted = ["filter", "order", "A", "next", "probe", "opacity", "colours", "hide", "save", "classes", "methods"]
        at = [stops.index(name) for name in [*wanted, "layers", "SUMMARY"]]
        assert at == sorted(at), "in the order in which they stand"
        for name, style, width, words in reached[: at[-1]]:
            assert style == "solid" and width >= 2, f"the focus on {name} is to be seen"
            assert words, f"{name} has a name"


def test_arrow_keys_switch(tab, shown):
    switch(tab, 1, shown[0].maps[0], 0)
    tab.page.focus("#classes input:checked")
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate("window.xcam.last.classId") == 1
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate("window.xcam.last.classId") == 4
    tab.page.focus("#layers input:checked")
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate("window.xcam.last.layer") == "early"
    tab.page.focus("#opacity")
    tab.page.keyboard.press("Home")
    np.testing.assert_array_equal(canvas(tab), shown[0].image_rgb)
    assert tab.page.inner_text("#percent") == "0 %"
    tab.page.keyboard.press("End")


def test_without_scripts(many, browser):
    with opened(browser, many, java_script_enabled=False) as tab:
        assert "Scripts are off" in tab.page.inner_text("noscript")
        assert tab.page.locator("#gallery img").count() == 200
        assert tab.page.locator("#gallery img").first.bounding_box()["width"] > 100
        assert "label 0" in tab.page.inner_text("#photo-1")
        assert tab.page.is_hidden("#viewer") and tab.page.is_hidden("#finding")


# --- text of others --------------------------------------------------------------------------------------------------

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "<!--<script>",
    "{{settings}}{{script}}",
    hostile.ESCAPES,
    "\ud800",
]


def test_hostile_names(browser, tmp_path):
    """Shown as what they are, and nothing else."""
    classes = tuple(ClassResult(n, text, 1.0, 0.5) for n, text in enumerate(HOSTILE[:3]))
    shown = []
    for text in HOSTILE:
        maps = tuple(dataclasses.replace(one, method=text, layer=f"{text} {n}") for n, one in enumerate(some_maps()))
        shown.append(dataclasses.replace(photo(text), classes=classes, maps=maps, warnings=(text,)))
    facts = tuple((text, text) for text in HOSTILE)
    settings = dataclasses.replace(
        SETTINGS, model=HOSTILE[1], facts=facts, command=HOSTILE[0], python="\n".join(HOSTILE), notes=tuple(HOSTILE)
    )
    path = written(tmp_path / "page.html", *shown, Failure(HOSTILE[0], HOSTILE[1]), settings=settings)
    clean = written(tmp_path / "clean.html", *(photo(f"{n}.png") for n in range(len(HOSTILE))), Failure("x", "y"))
    source = path.read_bytes().decode("utf-8")
    assert not {character for character in hostile.ESCAPES if not character.isprintable()} & set(source) - {"\n"}
    with opened(browser, path) as tab, opened(browser, clean) as other:
        count = "document.querySelectorAll('script, img, iframe, object, style').length"
        for number in range(1, 1 + len(HOSTILE)):
            ready(tab)
            select(tab, number)
        select(tab, 1)
        assert tab.page.evaluate(count) == other.page.evaluate(count)
        assert tab.page.inner_text("#name") == HOSTILE[0]
        assert tab.page.inner_text("#warnings") == HOSTILE[0]
        assert tab.page.inner_text("h1 em") == HOSTILE[1]
        assert HOSTILE[2] in tab.page.inner_text("#classes") and HOSTILE[0] in tab.page.inner_text("#methods")
        select(tab, 5)
        assert tab.page.inner_text("#name") == HOSTILE[4]
        assert (
            tab.page.evaluate("[...document.querySelectorAll('*')].some((one) => one.hasAttribute('onmouseover'))")
            is False
        )
        assert tab.complaints == []


def test_the_policy_lets_nothing_else_run_or_be_fetched(browser, tmp_path):
    """Had the escaping a hole, the page's own policy would stop what comes through."""
    path = written(tmp_path / "page.html", photo("a.png"))
    holed = path.read_text(encoding="utf-8").replace(
        "</h1>", "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x.png'></h1>"
    )
    path.write_text(holed, encoding="utf-8")
    with opened(browser, path) as tab:
        ready(tab)
        assert tab.page.title() == "What tiny sees"
        refused = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.constructor.name)"
        assert tab.page.evaluate(refused) == "TypeError"
        assert sum("Content Security Policy" in text for text in tab.complaints) >= 3


def test_many_classes_scroll_in_a_box(browser, tmp_path):
    classes = tuple(ClassResult(n, f"label {n}", 1.0 - n, None) for n in range(300))
    maps = Maps("xgrad-cam", "late", np.random.default_rng(0).random((300, 3, 3), np.float32), (0,) * 300)
    one = dataclasses.replace(photo("a.png"), classes=classes, maps=(maps,))
    with opened(browser, written(tmp_path / "page.html", one)) as tab:
        ready(tab)
        assert tab.page.locator("#classes").bounding_box()["height"] < 600
        tab.page.focus("#classes input:checked")
        for n in range(40):
            tab.page.keyboard.press("ArrowDown")
            assert tab.page.evaluate("window.xcam.last.classId") == n + 1
        box, row = (
            tab.page.locator(at).bounding_box() for at in ("#classes .choices", "#classes .choice:has(:checked)")
        )
        assert box["y"] <= row["y"] and row["y"] + row["height"] <= box["y"] + box["height"], "the chosen one is seen"
        assert tab.page.evaluate("scrollY") == 0 and tab.complaints == []
