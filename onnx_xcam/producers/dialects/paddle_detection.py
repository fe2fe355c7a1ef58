"""This module reads the `infer_cfg.yml` of PaddleDetection, which PaddleX calls `inference.yml`.

The operators are those of PaddleDetection's `deploy/python/preprocess.py`, written by `_dump_infer_config` in
`ppdet/engine/export_utils.py` (https://github.com/PaddlePaddle/PaddleDetection). Pictures are read in RGB, sizes are
[height, width], and `interp` is OpenCV's number of an interpolation. With `keep_ratio`, `cv2.resize` is called with the
ratio instead of the size, so that its sampling places are those of the exact ratio. Where a model normalises by itself,
the exporter leaves `NormalizeImage` out, and the model gets 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.steps import Operators, Steps, label_texts
from onnx_xcam.producers.statement import Statement

_INTERPOLATIONS = {0: "nearest", 1: "linear", 2: "cubic", 3: "area", 4: "lanczos"}
_LARGEST_STRIDE = 1024


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file holds the operators of PaddleDetection: a list of steps, each with its type."""
    steps = file.data.get("Preprocess") if isinstance(file.data, Mapping) else None
    return isinstance(steps, list) and bool(steps) and all(isinstance(s, Mapping) and "type" in s for s in steps)


def read(file: DescriptionFile) -> Statement:
    """Return what an `infer_cfg.yml` states of pictures and classes."""
    steps = Steps(file.source, {"size_rounding": "round"})
    steps.state(channels="RGB")
    for operator in file.data["Preprocess"]:
        steps.apply(_OPERATORS, "Preprocess", str(operator["type"]), operator)
    return Statement.of(file.source, steps.settings(), label_texts(file.data.get("label_list")), steps.remarks)


def _resize(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Stretch to the target, or scale so that neither the shorter nor the longer side exceeds its part of it."""
    rule = "letterbox" if operator.get("keep_ratio", True) else "stretch"
    steps.scale(step, rule, operator.get("target_size"), turned=True)
    if rule == "letterbox":
        steps.round_sizes("exact")
    interp = operator.get("interp", 1)
    if type(interp) is not int or interp not in _INTERPOLATIONS:
        steps.refuse(step, f"has interp {interp!r}; OpenCV's numbers 0 to 4 are supported")
    steps.state(interpolation=_INTERPOLATIONS[interp], antialias=False)


def _letterbox(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Fit into the target with INTER_AREA, and pad all sides with 127.5."""
    size = steps.size(step, operator.get("target_size"))
    steps.scale(step, "letterbox", size)
    steps.pad(step, size, 127.5, align="centre")
    steps.state(interpolation="area", antialias=False)


def _normalise(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Read mean and std, which apply after the division by 255 if is_scale is true."""
    kind = operator.get("norm_type", "mean_std")
    if kind not in ("mean_std", "none"):
        steps.refuse(step, f"has norm_type {kind!r}; mean_std and none are supported")
    mean, std = (0.0, 1.0) if kind == "none" else (operator.get("mean"), operator.get("std"))
    steps.normalise(step, 1 / 255 if operator.get("is_scale", True) else 1.0, mean, std)


def _pad(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Pad to a size, with the pixel value 114 unless another one is stated."""
    steps.pad(step, operator.get("size"), operator.get("fill_value", 114.0))


def _pad_stride(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Pad to a multiple of the stride with zeros; a stride of 0 or less does nothing."""
    stride = operator.get("stride", 0)
    if not isinstance(stride, int) or stride > _LARGEST_STRIDE:
        steps.refuse(step, f"has the stride {stride!r}; a whole number up to {_LARGEST_STRIDE} is supported")
    if stride > 0:
        steps.pad_to_multiple(step, stride, 0.0)


def _nothing(steps: Steps, step: str, operator: Mapping[str, Any]) -> None:
    """Do nothing: the model's own input says its layout."""


_OPERATORS: Operators = {
    "Resize": _resize,
    "LetterBoxResize": _letterbox,
    "NormalizeImage": _normalise,
    "Pad": _pad,
    "PadStride": _pad_stride,
    "Permute": _nothing,
}

DIALECT = Dialect("PaddleDetection", ("infer_cfg.yml", "inference.yml"), recognises, read)
