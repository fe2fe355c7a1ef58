"""Pages of explained photos for tests: made of plain data, so that every geometry and every kind of map is at hand."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers import web
from onnx_xcam.images.place import Placement
from onnx_xcam.report import ClassResult, Failure, Maps, Photo, PhotoPage, Settings, photos

RANDOM = np.random.default_rng(11)
SETTINGS = Settings("tiny", (("Score", "logits"),), "onnx-xcam explain", "import onnx_xcam", ("A note.",), ("Beware.",))
CLASSES = (ClassResult(3, "cat", 2.5, 0.75), ClassResult(1, None, 1.25, 0.125), ClassResult(4, "emu", -0.5, None))


def smooth(height: int, width: int, low: float = 0.0) -> np.ndarray:
    """Random values without jumps, uint8 [H,W,3]-like in float64 [H,W], from `low` to 1."""
    coarse = RANDOM.random((5, 6)).astype(np.float32)
    values = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return low + (values - values.min()) / (values.max() - values.min()) * (1 - low)


def picture(height: int, width: int) -> np.ndarray:
    """A photo, uint8 [H,W,3], with some texture."""
    channels = [smooth(height, width) * 200 + RANDOM.random((height, width)) * 55 for _ in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def some_maps() -> tuple[Maps, ...]:
    """Two layers, a signed map, one of the input's resolution, and one that is blank, for `CLASSES`."""

    def of(method: str, layer: str, size: tuple[int, int], signed: bool = False, fine: bool = False) -> Maps:
        low = -0.6 if signed else 0.0
        values = np.stack([smooth(*size, low) * (k + 1) for k in range(3)]).astype(np.float32)
        return Maps(method, layer, values, (0, 0, 0), signed, fine)

    blank = Maps("xgrad-cam", "blank", np.zeros((3, 2, 2), np.float32), (1, 1, 2))
    fine = of("guided-xgrad-cam", "late", (96, 80), signed=True, fine=True)
    return (
        of("xgrad-cam", "late", (7, 5)),
        of("xgrad-cam", "early", (14, 10)),
        blank,
        of("signed", "late", (7, 5), True),
        fine,
    )


LAID = {
    "stretched": Placement((90, 120), (64, 64), (64, 64)),
    "cropped": Placement((90, 120), (64, 64), (73, 97), (4, 16)),
    "letterboxed": Placement((120, 90), (64, 80), (64, 48), (0, -16)),
    "upright": Placement((120, 60), (64, 64), (146, 73), (41, 4)),
}


def photo(name: str, placement: Placement = LAID["cropped"], maps: tuple[Maps, ...] = (), **more: Any) -> Photo:
    """A photo with all kinds of maps."""
    return Photo(name, picture(*placement.photo), placement, CLASSES, maps or some_maps(), **more)


def written(path: Path, *shown: Photo | Failure, settings: Settings = SETTINGS) -> Path:
    """A page with these photos."""
    with PhotoPage(path, settings) as page:
        for one in shown:
            page.add(one)
    return path


@contextmanager
def lossless() -> Iterator[None]:
    """Photos of any size are kept as PNG, so that pixels can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "_LOSSLESS_PIXELS", 2**30)
        yield


def opened(browser: Any, path: Path, **context: Any) -> web.Tab:
    """The page in a tab, from the file as a user opens it; enter it, then `ready`."""
    return web.Tab(browser, path.as_uri(), **context)


def ready(tab: web.Tab) -> None:
    """Wait until a photo is shown."""
    tab.wait("!!window.xcam?.last")


def select(tab: web.Tab, number: int) -> None:
    """Show a photo of the list by its number, from 1."""
    tab.page.evaluate(f"document.querySelector('#photo-{number} a').click()")
    tab.wait("window.xcam.last.id", f"photo-{number}")


def canvas(tab: web.Tab) -> np.ndarray:
    """The pixels that the page draws, uint8 [H,W,3] RGB."""
    address = tab.page.evaluate("document.getElementById('picture').toDataURL()")
    data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ratio = (one, two) => (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  const grounds = (element) => {
    const bar = element.closest(".choice")?.querySelector(".bar");
    const found = bar ? [rgba(getComputedStyle(bar).backgroundColor)] : [];
    for (let at = element; at; at = at.parentElement) {
      const ground = rgba(getComputedStyle(at).backgroundColor);
      if (ground[3] === 255) return [...found, ground];
    }
    return [...found, [255, 255, 255]];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script, title, .spoken, option, noscript")) continue;
    const { color, fill } = getComputedStyle(element);
    const ink = element.closest("svg") ? fill : color;
    for (const ground of grounds(element)) {
      found.push([text.slice(0, 40), ratio(light(rgba(ink)), light(ground))]);
    }
  }
  return found;
}"""
"""For all text of a page: the ratio of its luminance to that behind it, as WCAG 2 has it, [text, ratio] each."""
