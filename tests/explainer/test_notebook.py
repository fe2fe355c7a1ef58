"""What a notebook shows of an Explanation, in a real Chromium, on a light page and on a dark one."""

from __future__ import annotations

import base64
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers import tiny_models, web
from helpers.report_pages import CONTRAST
from onnx_xcam import Explainer
from onnx_xcam.explainer import notebook

KNOWN = {"preprocess": {"scale": "1/255", "resize": "crop", "crop_fraction": 0.8}, "labels": tiny_models.LABELS}


def explained(*photos: np.ndarray, top: int = 2, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = Explainer(tiny_models.tiny(metadata=KNOWN), providers="cpu", **options)
        return explainer.explain(list(photos), top=top)


def photo(seed: int, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def pictures(markup: str) -> list[np.ndarray]:
    """The pictures of the figures, uint8 [H,W,3] RGB."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', markup)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for one in found]


def words(markup: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", markup, flags=re.DOTALL))


def test_every_map_with_its_caption():
    explanation = explained(photo(1), photo(2), top=3, layers=["features", "c"])
    markup = explanation._repr_html_()
    drawn = pictures(markup)
    assert len(drawn) == 2 * 2 * 3
    wanted = [explanation.overlay(n, k, layer=i) for n in range(2) for i in range(2) for k in range(3)]
    for found, one in zip(drawn, wanted, strict=True):
        assert found.shape == one.shape and np.abs(found.astype(int) - one).mean() < 4, "but for what JPEG loses"
    told = words(markup)
    assert "XGrad-CAM" in told and "2 layers" in told and told.count("features") == 2 * 3
    for n in range(2):
        for k in range(3):
            shown = f"class {explanation.classes[n, k]} · score {explanation.scores[n, k]:.2f}"
            assert shown in told and explanation.labels[n][k] in told
    assert markup == explanation._repr_html_(), "the same again"


def test_it_is_light():
    """Large photos become small ones, each once; and of many maps the first ones are shown."""
    explanation = explained(photo(1, (1500, 2000)), top=5)
    markup = explanation._repr_html_()
    assert markup.count("data:image/jpeg") == 6 and len(markup) < 6 * 60_000
    assert all(max(one.shape) == notebook.LONGEST for one in pictures(markup))
    many = explained(*(photo(n) for n in range(20)), top=5)._repr_html_()
    assert len(pictures(many)) == notebook.MOST_FIGURES and "And 40 more." in many


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"relu": False}, "blue against it"),
        ({"method": "guided-xgrad-cam"}, "Guided XGrad-CAM"),
        ({"layers": ["features", "c"], "fuse": "mean"}, "2 layers as one"),
    ],
)
def test_other_maps(options, says):
    explanation = explained(photo(3), **options)
    markup = explanation._repr_html_()
    assert says in words(markup)
    assert np.abs(pictures(markup)[0].astype(int) - explanation.overlay()).mean() < 6


def test_blank_maps_and_tensors():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = Explainer(tiny_models.tiny(metadata=KNOWN), providers="cpu")
        explanation = explainer.explain(np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32), top=5)
    markup = explanation._repr_html_()
    assert len(pictures(markup)) == 5 and "background-image" not in markup
    assert (explanation.status == 1).any() and "nothing in this layer speaks for the class" in words(markup)


PAGE = """<!doctype html><meta charset="utf-8"><body style="background: {ground}; color: {ink}; font: 14px sans-serif">
<div style="background: {ground}">{first}</div><div style="background: {ground}">{second}</div>"""


@pytest.mark.parametrize(("ground", "ink"), [("rgb(255, 255, 255)", "#111"), ("rgb(17, 17, 17)", "#ddd")])
def test_in_a_notebook(ground, ink, tmp_path: Path):
    first, second = (explained(photo(n), top=3)._repr_html_() for n in (5, 6))
    page = tmp_path / "cells.html"
    page.write_text(PAGE.format(ground=ground, ink=ink, first=first, second=second), encoding="utf-8")
    with web.chromium() as browser, web.Tab(browser, page.as_uri(), viewport={"width": 700, "height": 900}) as tab:
        opacity = "[...document.querySelectorAll('img')].map((one) => getComputedStyle(one).opacity).join()"
        assert tab.page.evaluate(opacity) == "1,1,1,1,1,1"
        tab.page.locator("label >> nth=1").click()
        tab.wait(opacity, "1,1,1,0,0,0")
        tab.page.keyboard.press("Space")
        tab.wait(opacity, "1,1,1,1,1,1")
        assert min(ratio for _, ratio in tab.page.evaluate(CONTRAST)) >= 4.5
        tab.page.set_viewport_size({"width": 300, "height": 900})
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 300
        assert tab.complaints == []
        assert not [url for url in tab.asked if not url.startswith(("data:", "file:"))]
