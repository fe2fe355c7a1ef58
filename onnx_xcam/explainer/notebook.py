"""What a notebook shows of an Explanation: HTML without scripts, in the notebook's own colours."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.methods import find_method
from onnx_xcam.cams.status import status_words
from onnx_xcam.images.draw import DEFAULT_COLOUR_MAP, DEFAULT_DIVERGING, overlay
from onnx_xcam.images.resize import resize_window
from onnx_xcam.images.write import encode_image
from onnx_xcam.text import printable

if TYPE_CHECKING:
    from onnx_xcam.explainer.explanation import Explanation

LONGEST = 400
"""Pixels along the longer side of a picture: the notebook's file holds them all."""
MOST_FIGURES = 60

_QUALITY = 85
_GREY = 128

# What a notebook strips of it for safety leaves pictures and captions; all colours but those of the pictures are the
# notebook's own, dark or light.
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


def notebook_html(explanation: Explanation) -> str:
    """Every map over its photo with its caption, and a box to tick that takes the maps away."""
    shown = [
        (n, k, layer)
        for n in range(len(explanation.pictures))
        for layer in explanation.shown_layers
        for k in range(explanation.classes.shape[1])
    ]
    left = len(shown) - MOST_FIGURES
    figures: dict[int, list[str]] = {}
    for n, k, layer in shown[:MOST_FIGURES]:
        figures.setdefault(n, []).append(_figure(explanation, n, k, layer))
    rows = "".join(
        f'<div><b>{_text(explanation.pictures[n].name)}</b></div><div class="row">{"".join(row)}</div>'
        for n, row in figures.items()
    )
    scope = f"xcam-{hashlib.sha256(rows.encode()).hexdigest()[:10]}"
    photos = "".join(f".{scope} .p{n} {{ background-image: url({url}) }}\n" for n, url in _photos(explanation, figures))
    more = f"<p>And {left} more.</p>" if left > 0 else ""
    return (
        f'<div class="{scope}"><style>{_STYLE.format(scope=scope)}{photos}</style>{_heading(explanation)} '
        f'<input type="checkbox" id="{scope}"><label for="{scope}"> photo only</label>{rows}{more}</div>'
    )


def _heading(explanation: Explanation) -> str:
    """Method and layers."""
    layers = explanation.layers
    where = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    fused = " as one" if explanation.fused is not None else ""
    signed = ", red speaks for the class, blue against it" if explanation.signed else ""
    title = find_method(explanation.method).title
    return f"<span><b>{_text(title)}</b> · {_text(where + fused + signed)}</span> ·"


def _figure(explanation: Explanation, n: int, k: int, layer: int | str) -> str:
    label = explanation.labels[n][k] if explanation.labels else None
    told = [
        f"class {explanation.classes[n, k]}",
        f"{'value' if explanation.is_number else 'score'} {explanation.value(n, k):.2f}",
    ]
    if explanation.probabilities is not None:
        told.append(f"p {explanation.probabilities[n, k]:.2f}")
    lines = [f"<b>{_text(label)}</b>"] if label else []
    lines.append(_text(" · ".join(told)))
    if isinstance(layer, int):
        if len(explanation.layers) > 1:
            lines.append(f"<small>{_text(explanation.layers[layer])}</small>")
        status = int(explanation.status_of(layer)[n, k])
        if status != contract.GOOD:
            lines.append(f"<i>{_text(status_words(status))}</i>")
    alt = _text(f"{explanation.pictures[n].name}: {explanation.caption(n, k)}")
    picture = _url(_drawn(explanation, n, k, layer))
    return (
        f'<figure><div class="photo p{n}"><img alt="{alt}" src="{picture}"></div>'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def _drawn(explanation: Explanation, n: int, k: int, layer: int | str) -> NDArray[np.uint8]:
    """The map over the photo, or, where there is only a tensor, over grey: uint8 [H,W,3] RGB."""
    if explanation.pictures[n].image_rgb is not None:
        return explanation.overlay(n, k, layer=layer)
    heat = explanation.heatmap(n, k, layer=layer)
    colours = DEFAULT_DIVERGING if explanation.signed else DEFAULT_COLOUR_MAP
    return overlay(
        np.full((*heat.shape, 3), _GREY, np.uint8), heat, alpha=1.0, colour_map=colours, signed=explanation.signed
    )


def _photos(explanation: Explanation, wanted: Iterable[int]) -> list[tuple[int, str]]:
    """(n, address) of the photos, each once however many maps lie over it."""
    images = ((n, explanation.pictures[n].image_rgb) for n in wanted)
    return [(n, _url(image)) for n, image in images if image is not None]


def _url(image_rgb: NDArray[np.uint8]) -> str:
    """The picture, small, as an address."""
    height, width = image_rgb.shape[:2]
    ratio = min(1.0, LONGEST / max(height, width))
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    data = encode_image(resize_window(image_rgb, size, (0, 0, *size), "linear"), ".jpg", _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _text(value: object) -> str:
    return html.escape(printable(value))
