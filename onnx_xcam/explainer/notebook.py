"""This module renders an Explanation for notebooks, as HTML without scripts, in the notebook's own colours."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.methods import find_method
from onnx_xcam.cams.status import status_words
from onnx_xcam.explainer.class_maps import ClassMaps
from onnx_xcam.images.draw import DEFAULT_COLOUR_MAP, DEFAULT_DIVERGING, overlay
from onnx_xcam.images.resize import resize_window
from onnx_xcam.images.write import encode_image
from onnx_xcam.text import printable

LONGEST = 400
"""The longer side of a picture is at most this many pixels, since the notebook's file holds every picture."""
MOST_FIGURES = 60
"""At most this many maps are drawn; of the others only their number is told."""

_QUALITY = 85
_GREY = 128

# A notebook may strip styles and the checkbox for safety; pictures and captions are readable without them. Text has no
# colour here, so that it takes the notebook's own, on a dark page or a light one.
_STYLE = """
.{scope} {{ display: flow-root }}
.{scope} label {{ cursor: pointer }}
.{scope} .row {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 6px 0 14px }}
.{scope} figure {{ margin: 0; width: min(100%, 18em) }}
.{scope} .photo {{ background-size: 100% 100%; border-radius: 6px; overflow: hidden }}
.{scope} img {{ display: block; width: 100%; margin: 0; transition: opacity .15s }}
.{scope} input:checked ~ .row .photo img {{ opacity: 0 }}
.{scope} figcaption {{ margin-top: 4px; overflow-wrap: anywhere; line-height: 1.35 }}
"""


def notebook_html(maps: ClassMaps) -> str:
    """Return HTML with every map over its photo, its caption, and a checkbox that hides the maps."""
    shown = [
        (n, k, layer)
        for n in range(len(maps.pictures))
        for layer in maps.shown_layers
        for k in range(maps.classes.shape[1])
        if maps.is_object(n, k)
    ]
    left = len(shown) - MOST_FIGURES
    figures: dict[int, list[str]] = {}
    for n, k, layer in shown[:MOST_FIGURES]:
        figures.setdefault(n, []).append(_figure(maps, n, k, layer))
    rows = "".join(
        f'<div><b>{_text(maps.pictures[n].name)}</b></div><div class="row">{"".join(row)}</div>'
        for n, row in figures.items()
    )
    scope = f"xcam-{hashlib.sha256(rows.encode()).hexdigest()[:10]}"
    photos = "".join(f".{scope} .p{n} {{ background-image: url({url}) }}\n" for n, url in _photos(maps, figures))
    more = f"<p>And {left} more.</p>" if left > 0 else ""
    return (
        f'<div class="{scope}"><style>{_STYLE.format(scope=scope)}{photos}</style>{_heading(maps)} '
        f'<input type="checkbox" id="{scope}"><label for="{scope}"> photo only</label>{rows}{more}</div>'
    )


def _heading(maps: ClassMaps) -> str:
    """Return the heading as HTML: the method, the layers, and what the colours of signed maps mean."""
    layers = maps.layers
    where = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    fused = " as one" if maps.fused is not None else ""
    signed = ", red speaks for the class, blue against it" if maps.signed else ""
    title = find_method(maps.method).title
    return f"<span><b>{_text(title)}</b> · {_text(where + fused + signed)}</span> ·"


def _figure(maps: ClassMaps, n: int, k: int, layer: int | str) -> str:
    """Return a figure as HTML: the picture of one map, with the class, score and layer below it."""
    label = maps.labels[n][k] if maps.labels else None
    lines = [f"<b>{_text(label)}</b>"] if label and maps.objects is None else []
    facts = _facts(maps, n, k) if maps.objects is None else [maps.caption(n, k)]
    lines.append(_text(" · ".join(facts)))
    if isinstance(layer, int):
        if len(maps.layers) > 1:
            lines.append(f"<small>{_text(maps.layers[layer])}</small>")
        status = int(maps.status_of(layer)[n, k])
        if status != contract.GOOD:
            lines.append(f"<i>{_text(status_words(status))}</i>")
    alt = _text(f"{maps.pictures[n].name}: {maps.caption(n, k)}")
    picture = _url(_drawn(maps, n, k, layer))
    return (
        f'<figure><div class="photo p{n}"><img alt="{alt}" src="{picture}"></div>'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def _facts(maps: ClassMaps, n: int, k: int) -> list[str]:
    """Return the id of a class, and its score and probability, in words."""
    score = f"{'value' if maps.is_number else 'score'} {maps.value(n, k):.2f}"
    p = [] if maps.probabilities is None else [f"p {maps.probabilities[n, k]:.2f}"]
    return [f"class {maps.classes[n, k]}", score, *p]


def _drawn(maps: ClassMaps, n: int, k: int, layer: int | str) -> NDArray[np.uint8]:
    """Draw a map over its photo, or over plain grey for a ready tensor, and return it, uint8 [H,W,3] RGB."""
    if maps.pictures[n].image_rgb is not None:
        return maps.picture(n, k, layer=layer)
    heat = maps.heatmap(n, k, layer=layer)
    colours = DEFAULT_DIVERGING if maps.signed else DEFAULT_COLOUR_MAP
    return overlay(np.full((*heat.shape, 3), _GREY, np.uint8), heat, alpha=1.0, colour_map=colours, signed=maps.signed)


def _photos(maps: ClassMaps, wanted: Iterable[int]) -> list[tuple[int, str]]:
    """Return the index and the data URL of each photo; a photo under several maps stands in the HTML once."""
    images = ((n, maps.pictures[n].image_rgb) for n in wanted)
    return [(n, _url(image)) for n, image in images if image is not None]


def _url(image_rgb: NDArray[np.uint8]) -> str:
    """Return a picture, uint8 [H,W,3] RGB, as a data URL of a JPEG whose longer side is at most `LONGEST` pixels."""
    height, width = image_rgb.shape[:2]
    ratio = min(1.0, LONGEST / max(height, width))
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    data = encode_image(resize_window(image_rgb, size, (0, 0, *size), "linear"), ".jpg", _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _text(value: object) -> str:
    """Return a value as HTML text: escaped, and without control characters."""
    return html.escape(printable(value))
