"""The cases whose producers have no library that could be run: what their public sources say, written out.

The photos have the size of the input, so that nothing is resized: these producers state values and channels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.producer_files import AI_HUB, TFLITE
from helpers.producers import Measure, difference, photos, save_classifier
from onnx_xcam import Explainer
from onnx_xcam.errors import XcamWarning

Tensor = NDArray[np.generic]
Formula = Callable[[NDArray[np.float64]], Tensor]

HEIGHT, WIDTH = 60, 96
GREY = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in grey, of ITU-R BT.601."""


def of_values(
    formula: Formula,
    *,
    file: str | None = None,
    text: str = "",
    metadata: dict[str, str] | None = None,
    channels: int = 3,
) -> Measure:
    """Return the measure of what a model is fed of small photos, from a formula of their pixels.

    Args:
        formula: returns the tensor [H,W,C] of an RGB photo, float64 [H,W,3].
        file, text: the name and the text of the producer's file beside the model, if there is one.
        metadata: the producer's entries in the model's metadata.
        channels: how many channels the model takes.
    """

    def measure(folder: Path) -> float:
        model = save_classifier(folder / "model.onnx", [1, channels, HEIGHT, WIDTH], metadata=metadata)
        if file is not None:
            (folder / file).write_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", XcamWarning)  # that nothing states the resize rule
            explainer = Explainer(model)
        small = [photo[100 : 100 + HEIGHT, 80 : 80 + WIDTH].copy() for photo in photos()]
        return max(
            difference(explainer.prepare(photo).item, formula(photo.astype(np.float64)).transpose(2, 0, 1))
            for photo in small
        )

    return measure


def image_entries(pixel_format: str, pixel_range: str, formula: Formula) -> Measure:
    """Return the measure of the image entries of the ONNX standard (docs/MetadataProps.md of onnx)."""
    entries = {"Image.BitmapPixelFormat": pixel_format, "Image.NominalPixelRange": pixel_range}
    return of_values(formula, metadata=entries, channels=1 if pixel_format == "Gray8" else 3)


def deepstream(lines: str, formula: Formula) -> Measure:
    """Return the measure of a configuration of Gst-nvinfer, y = net-scale-factor * (x - offsets)."""
    text = f"[property]\nonnx-file=model.onnx\ninfer-dims=3;{HEIGHT};{WIDTH}\n{lines}\n"
    return of_values(formula, file="config_infer_primary.txt", text=text)


def ai_hub(formula: Formula, **image: Any) -> Measure:
    """Return the measure of the metadata of Qualcomm AI Hub Models with keys of the image's input changed."""
    data = json.loads(json.dumps(AI_HUB))
    data["model_files"]["mobilenet_v2.onnx"]["inputs"]["image_tensor"].update(image)
    return of_values(formula, file="metadata.json", text=json.dumps(data))


def tflite(formula: Formula, **tensor: Any) -> Measure:
    """Return the measure of the metadata of TFLite with keys of the input's metadata changed."""
    data = json.loads(json.dumps(TFLITE))
    data["subgraph_metadata"][0]["input_tensor_metadata"][0].update(tensor)
    return of_values(formula, file="model.json", text=json.dumps(data))


def _options(mean: list[float], std: list[float]) -> list[dict[str, Any]]:
    """Return the `process_units` of TFLite's metadata that normalise by a mean and a deviation for each channel."""
    return [{"options_type": "NormalizationOptions", "options": {"mean": mean, "std": std}}]


_MEANS, _DEVIATIONS = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]

CASES: Mapping[str, Mapping[str, Measure]] = {
    "ONNX standard": {
        "BGR, 0 to 255": image_entries("Bgr8", "NominalRange_0_255", lambda photo: photo[..., ::-1]),
        "RGB, 0 to 1": image_entries("Rgb8", "Normalized_0_1", lambda photo: photo / 255),
        "RGB, -1 to 1": image_entries("RGB8", "normalized_1_1", lambda photo: photo / 127.5 - 1),
        "grey, 16 to 235": image_entries(
            "Gray8", "NominalRange_16_235", lambda photo: 16 + np.rint(photo @ GREY)[..., None] * 219 / 255
        ),
    },
    "NVIDIA DeepStream": {
        "offsets, BGR": deepstream(
            "net-scale-factor=0.0173520735727919486\noffsets=103.939;116.779;123.68\nmodel-color-format=1",
            lambda photo: 0.0173520735727919486 * (photo[..., ::-1] - [103.939, 116.779, 123.68]),
        ),
        "0 to 1": deepstream("net-scale-factor=0.0039215697906911373", lambda photo: photo * 0.0039215697906911373),
    },
    "Qualcomm AI Hub": {
        "0 to 1": ai_hub(lambda photo: photo / 255),
        "-1 to 1, BGR": ai_hub(
            lambda photo: photo[..., ::-1] / 127.5 - 1, value_range=[-1, 1], image_metadata={"color_format": "bgr"}
        ),
    },
    "TFLite": {
        "-1 to 1": tflite(lambda photo: (photo - 127.5) / 127.5),
        "a mean for each channel": tflite(
            lambda photo: (photo - _MEANS) / _DEVIATIONS, process_units=_options(_MEANS, _DEVIATIONS)
        ),
        "quantised": tflite(lambda photo: photo, stats={"max": [255.0], "min": [0.0]}),
    },
}
"""What is measured of each producer; a measure takes an empty folder and returns the largest difference."""
