"""This module reads the `pipeline.json` that MMDeploy writes beside a model of MMPretrain, MMDetection or another.

Its transforms are those of MMDeploy's SDK, in `csrc/mmdeploy/preprocess/transform`
(https://github.com/open-mmlab/mmdeploy): pictures are read in BGR, `Normalize` turns them to RGB where `to_rgb` says
so, sizes are [width, height], those of `LetterResize` [height, width], and a `size` of [n, -1] is the shorter side. A
`CenterCrop` is taken as the one of MMCV that the model was trained with (`mmcv/transforms/processing.py`,
https://github.com/open-mmlab/mmcv), and so is the `backend` of a `Resize`: the SDK rounds half a pixel the other way,
takes the sides of an oblong crop the other way round, and knows OpenCV only. The file holds no labels, and neither do
`deploy.json` and `detail.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.steps import (
    OPENCV_INTERPOLATIONS,
    PILLOW_INTERPOLATIONS,
    Operators,
    Steps,
    one_or_pair,
)
from onnx_xcam.producers.statement import Statement

_MOST_NESTED = 8


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is a pipeline of MMDeploy with a task that transforms pictures."""
    return _transforms(file.data) is not None


def _transforms(data: Any) -> list[Any] | None:
    """Return the transforms of the first task of a pipeline that has some."""
    pipeline = data.get("pipeline") if isinstance(data, Mapping) else None
    tasks = pipeline.get("tasks") if isinstance(pipeline, Mapping) else None
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, Mapping) and task.get("module") == "Transform" and isinstance(task.get("transforms"), list):
            return list(task["transforms"])
    return None


def read(file: DescriptionFile) -> Statement:
    """Return what a `pipeline.json` states of pictures."""
    steps = Steps(file.source, {"offset_rounding": "round"})
    steps.state(channels="BGR")
    for transform in _flat(steps, _transforms(file.data) or [], 0):
        steps.apply(_TRANSFORMS, "transforms", str(transform.get("type")), transform)
    return Statement.of(file.source, steps.settings(), None, steps.remarks)


def _flat(steps: Steps, transforms: list[Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield the transforms one by one, with those that `Lift` and `Compose` hold in their places."""
    for transform in transforms:
        if not isinstance(transform, Mapping):
            steps.refuse("transforms", f"holds {transform!r}, which is no transform")
        inner = transform.get("transforms")
        if transform.get("type") in ("Lift", "Compose") and isinstance(inner, list) and depth < _MOST_NESTED:
            yield from _flat(steps, inner, depth + 1)
        else:
            yield transform


def _load(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Read the channels that a picture is loaded with."""
    if str(transform.get("color_type", "color")).startswith("color"):
        steps.state(channels="BGR" if transform.get("channel_order", "bgr") == "bgr" else "RGB")
    else:
        steps.state(channels="GRAY")


def _resize(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Scale the shorter side, stretch to [width, height], or keep the aspect ratio within it."""
    size = transform.get("size")
    if isinstance(size, list) and len(size) == 2 and size[1] == -1:
        steps.scale(step, "crop", size[0])
        steps.round_sizes("floor")
    else:
        rule = "letterbox" if transform.get("keep_ratio") else "stretch"
        steps.scale(step, rule, one_or_pair(size, width_first=True), turned=True)
    _interpolation(steps, step, transform)


def _interpolation(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Read the interpolation, which OpenCV computes, or Pillow where a model was trained with that backend."""
    pillow = transform.get("backend") == "pillow"
    names = PILLOW_INTERPOLATIONS if pillow else OPENCV_INTERPOLATIONS
    wanted = str(transform.get("interpolation", "bilinear"))
    if wanted not in names:
        steps.refuse(step, f"has the interpolation {wanted!r}, which is not supported")
    steps.state(interpolation=names[wanted], antialias=pillow)


def _letter_resize(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Fit into [height, width] and pad on all sides, or stretch."""
    if transform.get("use_mini_pad"):
        steps.refuse(step, "has use_mini_pad true, which gives each photo a size of its own")
    size = steps.size(step, transform.get("scale"))
    _interpolation(steps, step, transform)
    if transform.get("stretch_only"):
        steps.scale(step, "stretch", size)
        return
    if not transform.get("allow_scale_up", True):
        steps.remarks.append(
            f"{steps.source}: {step} has allow_scale_up false; photos smaller than the input are enlarged here anyway."
        )
    steps.scale(step, "letterbox", size)
    steps.pad(step, size, _pad_value(transform), align="centre")


def _crop(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Cut [width, height] out of the middle."""
    steps.crop(step, one_or_pair(transform.get("crop_size"), width_first=True))


def _pad(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Pad to a size, to a square or to a multiple, to the right and below."""
    if transform.get("padding_mode", "constant") != "constant" or transform.get("logical_or_val"):
        steps.refuse(step, "pads with more than one value, or to a size that depends on the photo's bits")
    if transform.get("orientation_agnostic"):
        steps.refuse(step, "has orientation_agnostic true, which turns the input with the photo")
    if transform.get("pad_to_square"):
        steps.pad_to_square(step, _pad_value(transform))
    elif transform.get("size"):
        steps.pad(step, one_or_pair(transform["size"], width_first=True), _pad_value(transform))
    else:
        steps.pad_to_multiple(step, transform.get("size_divisor", 1), _pad_value(transform))


def _pad_value(transform: Mapping[str, Any]) -> Any:
    """Return what borders hold: the SDK takes the first number of a list for all channels."""
    value = transform.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, Mapping) else value
    return value[0] if isinstance(value, list) and value else value


def _normalise(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Read mean and std, which are in the order of the channels after `to_rgb`."""
    steps.normalise(step, 1.0, transform.get("mean"), transform.get("std"))
    if transform.get("to_rgb", True):
        steps.swap_channels()


def _nothing(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Do nothing: the step gives a tensor another layout or type, which the model's own input says."""


_TRANSFORMS: Operators = {
    "LoadImageFromFile": _load,
    "PrepareImage": _load,
    "Resize": _resize,
    "LetterResize": _letter_resize,
    "CenterCrop": _crop,
    "Pad": _pad,
    "Normalize": _normalise,
    "ImageToTensor": _nothing,
    "DefaultFormatBundle": _nothing,
    "Collect": _nothing,
}

DIALECT = Dialect("MMDeploy", ("pipeline.json",), recognises, read)
