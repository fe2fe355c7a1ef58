"""This module writes the page of explained photos, photo by photo, so that memory does not grow with their number.

A photo adds to the file, in base64 (4/3 of its size): a JPEG of at most `LONGEST` pixels along its longer side (100 to
300 kB); a thumbnail (10 kB); and a raw map for each class, layer and method. Maps of layers are small and stored as
float32. Maps with more than `FLOAT_CELLS` values, such as those of guided methods, are stored as 16-bit steps of
1/32767 of the largest magnitude, which changes no value by more than half a step, and keeps 0 exactly.
"""

from __future__ import annotations

import base64
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.images.boxes import COLOURS
from onnx_xcam.images.draw import (
    COLOUR_MAPS,
    DEFAULT_COLOUR_MAP,
    DEFAULT_DIVERGING,
    DIVERGING,
    colour_table,
    dimmed,
    overlay,
)
from onnx_xcam.images.place import peak_limit, scale_heatmap, without_peaks
from onnx_xcam.images.resize import resize_window
from onnx_xcam.images.write import encode_image
from onnx_xcam.report.assemble import (
    DEMO_WEB,
    WEB,
    data_block,
    data_url,
    page_parts,
    script_of,
    style_of,
    text,
    writing,
)
from onnx_xcam.report.data import ClassResult, Failure, Maps, Photo
from onnx_xcam.report.page_data import ClassData, MapData, PhotoData, PhotosOptions
from onnx_xcam.report.settings import Settings
from onnx_xcam.text import printable

LONGEST, LONGEST_THUMBNAIL = 1024, 240
"""The pixels along the longer side of a photo in the file, and of its thumbnail."""
FLOAT_CELLS = 4096
"""Maps of up to so many values are stored as float32."""

_QUALITY, _THUMBNAIL_QUALITY = 90, 80
_LOSSLESS_PIXELS = 2**16
"""Photos of up to so many pixels are stored as PNG: a JPEG would be little smaller and blur them."""
_STEPS = 32767
_GREY = 128

_SCRIPTS = (
    DEMO_WEB / "heatmap.js",
    DEMO_WEB / "boxes.js",
    *(
        WEB / name
        for name in (
            "numbers.js",
            "cells.js",
            "photo-data.js",
            "gallery.js",
            "stage.js",
            "choices.js",
            "photos.js",
        )
    ),
)
_STYLES = (WEB / "common.css", DEMO_WEB / "boxes.css", WEB / "photos.css")


class PhotoPage:
    """A PhotoPage is a context manager that writes a page, which replaces the file when the context ends."""

    def __init__(self, path: str | Path, settings: Settings) -> None:
        """Prepare the page.

        Args:
            path: the HTML file, which is replaced if it exists.
            settings: how the explanations were made.
        """
        self._path, self._settings = Path(path), settings
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> PhotoPage:
        head, self._tail = page_parts(
            "photos.html",
            {
                "model": text(self._settings.model),
                "settings": self._settings.as_html(),
                "options": data_block(_options()),
            },
            style=style_of(_STYLES),
            script=script_of(_SCRIPTS),
        )
        self._file = self._stack.enter_context(writing(self._path))
        self._file.write(head.encode("utf-8"))
        return self

    def add(self, photo: Photo | Failure | bytes) -> None:
        """Write a photo, a photo that failed, or the entry that `photo_entry` made of one.

        Raises:
            OutputError: the file cannot be written.
        """
        entry = photo if isinstance(photo, bytes) else photo_entry(photo)
        self._count += 1
        self._file.write(f'<li id="photo-{self._count}"'.encode() + entry + b"</li>\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is None:
            self._file.write(self._tail.encode("utf-8"))
        return self._stack.__exit__(kind, error, trace)


def photo_entry(photo: Photo | Failure) -> bytes:
    """Return the entry of a photo in the page, as markup that follows `<li id="..."`; any thread may call this."""
    name = text(photo.name)
    short = text(Path(photo.name).name or photo.name)
    if isinstance(photo, Failure):
        return (
            f' class="failed" data-find="{name.lower()}" data-name="{name}"><span class="photo">'
            f'<span class="name">{short}</span><span class="warning">{text(photo.error)}</span></span>'
        ).encode()
    top = photo.classes[0] if photo.classes else None
    shown = _shrunk(_picture(photo), LONGEST)
    small = _thumbnail(photo, shown)
    height, width = small.shape[:2]
    words = " ".join([name, *(f"{text(one.label or '')} {one.id}" for one in photo.classes)]).lower()
    probability = "" if top is None or top.probability is None else f' data-p="{top.probability:.9g}"'
    warned = ' data-warned="yes"' if photo.warnings else ""
    placed = photo.placement
    stated: PhotoData = {
        "name": printable(photo.name),
        "size": list(placed.photo),
        "image": _encoded(shown, _QUALITY),
        "placement": {
            "photo": list(placed.photo),
            "input": list(placed.input),
            "scaled": list(placed.scaled),
            "offset": list(placed.offset),
        },
        "classes": [_class_data(one) for one in photo.classes],
        "maps": [_map_data(maps) for maps in photo.maps] if photo.classes else [],
        "warnings": [printable(warning) for warning in photo.warnings],
    }
    return (
        f' data-find="{words}" data-name="{name}"{probability}{warned}><a class="photo" href="#">'
        f'<img src="{_encoded(small, _THUMBNAIL_QUALITY)}" width="{width}" height="{height}" alt="" loading="lazy" '
        f'decoding="async"><span class="name">{short}</span><span class="top">{_top(top)}</span></a>'
        f"{data_block(stated)}"
    ).encode()


def _options() -> PhotosOptions:
    """Return the colour maps and the meanings of status that the page needs."""

    def tables(names: Any, first: str) -> dict[str, str]:
        return {name: _base64(colour_table(name)) for name in sorted(names, key=lambda name: name != first)}

    return {
        "colours": tables(COLOUR_MAPS, DEFAULT_COLOUR_MAP),
        "diverging": tables(DIVERGING, DEFAULT_DIVERGING),
        "status": {str(key): words for key, words in contract.STATUS_TEXT.items()},
        "boxes": [list(colour) for colour in COLOURS],
    }


def _class_data(one: ClassResult) -> ClassData:
    label = None if one.label is None else printable(one.label)
    return {
        "id": one.id,
        "label": label,
        "score": one.score,
        "probability": one.probability,
        "object": one.object,
        "box": None if one.box is None else list(one.box),
        "against": None if one.against is None else printable(one.against),
    }


def _map_data(maps: Maps) -> MapData:
    """Return raw maps as JSON; large finite maps are whole numbers, to be multiplied by `step`."""
    values = np.ascontiguousarray(maps.values, np.float32)
    step = None
    if values[0].size > FLOAT_CELLS and np.isfinite(values).all():
        step = float(np.abs(values).max()) / _STEPS or 1.0
        values = np.rint(values.astype(np.float64) / step).astype(np.int16)
    return {
        "method": printable(maps.method),
        "layer": printable(maps.layer),
        "signed": maps.signed,
        "fine": maps.fine,
        "limits": [_limit(one) for one in maps.values] if maps.fine else None,
        "status": list(maps.status),
        "dims": list(values.shape),
        "step": step,
        "data": _base64(values),
    }


def _limit(map_hw: NDArray[np.float32]) -> float | None:
    """Return the value at which a fine map [H,W] is cut off, or None."""
    limit = peak_limit(map_hw)
    return None if limit is None else float(limit)


def _base64(array: NDArray[Any]) -> str:
    """Encode the little-endian bytes of an array in base64."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def _picture(photo: Photo) -> NDArray[np.uint8]:
    """Return the photo, uint8 [H,W,3], or a grey picture for a ready tensor."""
    if photo.image_rgb is not None:
        return photo.image_rgb
    return np.full((*photo.placement.photo, 3), _GREY, np.uint8)


def _shrunk(image_rgb: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Shrink a picture to at most `longest` pixels along its longer side."""
    height, width = image_rgb.shape[:2]
    ratio = min(1.0, longest / max(height, width))
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    return resize_window(image_rgb, size, (0, 0, *size), "area")  # a fifth of the time of Pillow's linear


def _thumbnail(photo: Photo, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a small picture of the photo with the first map over it, made from the picture that is shown large."""
    image = _shrunk(shown, LONGEST_THUMBNAIL)
    if not photo.maps or not photo.classes:
        return image
    maps, size = photo.maps[0], image.shape[:2]
    values = maps.values[0]
    if maps.fine:
        image, values = dimmed(image), without_peaks(values)
    seen = photo.placement.seen(size)
    if maps.signed:
        heat = photo.placement.signed_heatmap(values, size)
        return overlay(image, heat, colour_map=DEFAULT_DIVERGING, seen=seen, signed=True)
    return overlay(image, scale_heatmap(photo.placement.place(values, size), seen), seen=seen)


def _encoded(image_rgb: NDArray[np.uint8], quality: int) -> str:
    """Encode a picture as a data URL."""
    if image_rgb.shape[0] * image_rgb.shape[1] <= _LOSSLESS_PIXELS and quality == _QUALITY:
        return data_url("image/png", encode_image(image_rgb, ".png"))
    return data_url("image/jpeg", encode_image(image_rgb, ".jpg", quality))


def _top(top: ClassResult | None) -> str:
    """Return the label of the first class with its probability, as markup; there is none in a photo without objects."""
    if top is None:
        return "no object"
    known = "" if top.probability is None else f" <b>{100 * top.probability:.0f} %</b>"
    return f"{text(top.label or f'class {top.id}')}{known}"
