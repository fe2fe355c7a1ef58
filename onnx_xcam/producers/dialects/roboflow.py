"""This module reads the `inference_config.json` and the `environment.json` of Roboflow's model packages.

`inference_config.json` is that of the package `inference_models`: `InferenceConfig` in
`inference_models/models/common/roboflow/model_packages.py`, applied by `pre_processing.py` beside it.
`environment.json` is the older one of the package `inference`: `preproc_image` in `inference/core/models/roboflow.py`.
Both are in https://github.com/roboflow/inference. The older file says nothing of values: its users divide by 255, and
each kind of classifier has a mean and a std in its own code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.steps import Steps
from onnx_xcam.producers.statement import Statement
from onnx_xcam.text import load_json

_OPENCV = {"interpolation": "linear", "antialias": False}
_BORDERS = {"Fit (black edges) in": 0, "Fit (white edges) in": 255, "Fit (grey edges) in": 114}


def recognises_config(file: DescriptionFile) -> bool:
    """Tell whether a file is an `inference_config.json`: it describes the network's input."""
    network = file.data.get("network_input") if isinstance(file.data, Mapping) else None
    return isinstance(network, Mapping) and "resize_mode" in network


def read_config(file: DescriptionFile) -> Statement:
    """Return what an `inference_config.json` states of pictures."""
    steps = Steps(file.source, {"size_rounding": "floor"})
    _refuse_enabled(steps, file.data.get("image_pre_processing") or {}, "image_pre_processing")
    network = file.data["network_input"]
    mode, key = network["resize_mode"], f"network_input: resize_mode {network['resize_mode']}"
    size = _size(steps, "network_input: training_input_size", network.get("training_input_size"))
    if mode == "stretch":
        steps.scale(key, "stretch", size)
    elif mode == "letterbox":
        steps.scale(key, "letterbox", size)
        steps.pad(key, size, network.get("padding_value") or 0, align="centre")
    else:
        steps.refuse(key, "is not supported; stretch and letterbox are")
    _values(steps, network)
    steps.state(**_OPENCV)
    return Statement.of(file.source, steps.settings(), None, steps.remarks)


def _values(steps: Steps, network: Mapping[str, Any]) -> None:
    """Read the order of the channels, the factor that pixels are divided by, and mean and std for the quotient."""
    colours = str(network.get("color_mode", "rgb")).upper()
    if colours not in ("RGB", "BGR") or network.get("input_channels", 3) != 3:
        steps.refuse(
            "network_input", f"has color_mode {colours.lower()!r} and {network.get('input_channels')} channels"
        )
    factor = network.get("scaling_factor")
    normal = network.get("normalization") or (0.0, 1.0)
    if not isinstance(normal, (list, tuple)) or len(normal) != 2:
        steps.refuse("network_input: normalization", "must be a list of mean and std")
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0):
        steps.refuse("network_input: scaling_factor", f"is {factor!r}; it must be a number above 0")
    steps.state(channels=colours)
    steps.normalise("network_input", 1 / factor if factor else 1.0, normal[0], normal[1])


def _refuse_enabled(steps: Steps, data: Any, section: str) -> None:
    """Refuse the steps before resizing that change what a picture shows; turning it upright is done anyway."""
    for key in ("static-crop", "contrast", "grayscale"):
        step = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(step, Mapping) and step.get("enabled"):
            steps.refuse(f"{section}: {key}", "is enabled, which is not supported")


def _size(steps: Steps, key: str, data: Any) -> tuple[int, int]:
    """Return the (height, width) of a section that states both, perhaps as texts."""
    if not isinstance(data, Mapping):
        steps.refuse(key, f"is {data!r}; it must hold height and width")
    sides = [data.get(side) for side in ("height", "width")]
    return steps.size(key, [int(s) if isinstance(s, str) and s.isdecimal() and len(s) < 9 else s for s in sides])


def recognises_environment(file: DescriptionFile) -> bool:
    """Tell whether a file is an `environment.json`: it has preprocessing in a text, or a map of classes."""
    return isinstance(file.data, Mapping) and bool({"PREPROCESSING", "CLASS_MAP"} & file.data.keys())


def read_environment(file: DescriptionFile) -> Statement:
    """Return what an `environment.json` states of pictures and classes."""
    steps = Steps(file.source, {"size_rounding": "floor"})
    stated = file.data.get("PREPROCESSING")
    try:
        stated = load_json(stated) if isinstance(stated, str) else stated or {}
    except ValueError as error:
        raise PreprocessError(f"{file.source}: PREPROCESSING is not valid JSON: {error}") from error
    _refuse_enabled(steps, stated, "PREPROCESSING")
    resize = stated.get("resize") if isinstance(stated, Mapping) else None
    settings = _environment_resize(steps, resize) if isinstance(resize, Mapping) else {}
    return Statement.of(file.source, settings, _classes(file.data.get("CLASS_MAP")), steps.remarks)


def _environment_resize(steps: Steps, resize: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resize of `environment.json`, which OpenCV computes."""
    key, how = "PREPROCESSING: resize", str(resize.get("format", "Stretch to"))
    size = _size(steps, key, resize)
    if how == "Stretch to":
        steps.scale(key, "stretch", size)
    elif how in _BORDERS:
        steps.scale(key, "letterbox", size)
        steps.pad(key, size, _BORDERS[how], align="centre")
    else:
        steps.refuse(f"{key}: format", f"is {how!r}, which is not supported; Stretch to and Fit (... edges) in are")
    settings = steps.settings() | _OPENCV | {"channels": "RGB"}
    return {name: value for name, value in settings.items() if name not in ("scale", "mean", "std")}


def _classes(data: Any) -> list[str] | None:
    """Return the labels of a CLASS_MAP, by id in text from "0", or None for anything else."""
    if not isinstance(data, Mapping) or not data:
        return None
    labels = [data.get(str(index)) for index in range(len(data))]
    return [str(label) for label in labels] if all(isinstance(label, (str, int)) for label in labels) else None


CONFIG = Dialect("Roboflow inference_config.json", ("inference_config.json",), recognises_config, read_config)
ENVIRONMENT = Dialect("Roboflow environment.json", ("environment.json",), recognises_environment, read_environment)
