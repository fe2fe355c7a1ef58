"""Networks of Keras for `tools.sweep.proofs`, with and without the preprocessing that they bring along."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_xcam.surgery.analysis.input_values import InputValues
from tools.sweep import keras_models

keras = keras_models.keras
EXPORTERS = ("tf2onnx", "keras")
SIZES = (64, 96, 224)
"""Heights and widths of pictures; a network gets the first that it can take."""
_OPTION = "include_preprocessing"


def exports(name: str, _wraps: int | None, turn: int) -> Iterator[tuple[str, str, InputValues | None, Any]]:
    """The cases of a network: how it is built, the exporter, what is proved, and what writes the file."""
    function = getattr(keras.applications, name.partition(":")[2])
    has_choice = _OPTION in inspect.signature(function).parameters
    for inside in (True, False) if has_choice else (_leaves_pixels_alone(function),):
        keras.utils.set_random_seed(turn)
        model, size = build(function, {_OPTION: inside} if has_choice else {})
        randomise(model)
        for exporter in EXPORTERS:
            write = functools.partial(_export, model, size, exporter)
            yield "preprocessing inside" if inside else "plain", exporter, _proved(model) if inside else None, write


def _leaves_pixels_alone(function: Any) -> bool:
    """Whether an application's own `preprocess_input` changes nothing, since the network does it."""
    pixels = np.arange(48, dtype=np.float32).reshape(1, 4, 4, 3)
    prepared = sys.modules[function.__module__].preprocess_input(pixels.copy())
    return bool(np.array_equal(np.asarray(prepared), pixels))


def _proved(model: Any) -> InputValues:
    """Pixels, and RGB where ImageNet's means are subtracted from them."""
    means = [layer.mean for layer in keras_models.leaves(model) if isinstance(layer, keras.layers.Normalization)]
    ordered = any(np.ptp(np.asarray(mean)) > 1e-3 for mean in means)
    return InputValues(0.0, 255.0, "RGB" if ordered else None)


def build(function: Any, options: dict[str, Any]) -> tuple[Any, int]:
    """A network without trained weights, and the height and width of its pictures."""
    for size in SIZES:
        try:
            model = function(weights=None, input_shape=(size, size, 3), classes=10, **options)
        except ValueError:
            continue  # a size that it is not made for
        model(np.zeros((1, size, size, 3), np.float32))  # a model that was never called is not exported
        return model, size
    raise SystemExit(f"{function.__name__} takes none of {SIZES} pixels")


def randomise(model: Any) -> None:
    """Draw every weight and every statistic at random, but for those of Keras' own preprocessing."""
    random = np.random.default_rng(0)
    for layer in keras_models.leaves(model):
        if isinstance(layer, keras.layers.Normalization):
            continue
        for weight in layer.weights:
            values = np.asarray(weight)
            if values.dtype.kind == "f":
                drawn = values + random.normal(size=values.shape) * (0.3 * np.abs(values).mean() + 0.1)
                weight.assign(np.abs(drawn) + 0.1 if "variance" in weight.path else drawn)


def _export(model: Any, size: int, exporter: str, path: Path) -> None:
    """Write a network to `path`, unless constants that it computes with are left out of the file.

    Keras' exporter makes inputs of some constants; most of them no node reads any more.
    """
    keras_models.write(model, path, exporter, "dynamic", size)
    graph = onnx.load(path).graph
    read = {name for node in graph.node for name in node.input}
    missing = [one.name for one in graph.input[1:] if one.name in read]
    if missing:
        raise ValueError(f"the values of {', '.join(missing)} are not in the file")
