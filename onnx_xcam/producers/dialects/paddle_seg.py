"""This module reads the `deploy.yaml` of PaddleSeg, which PaddleX calls `inference.yml`.

The transforms are those of `paddleseg/transforms/transforms.py` (https://github.com/PaddlePaddle/PaddleSeg): pictures
are read in RGB, sizes are [width, height], and `Normalize` divides by 255 first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.steps import OPENCV_INTERPOLATIONS, Operators, Steps, one_or_pair
from onnx_xcam.producers.statement import Statement


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file holds the transforms of PaddleSeg: a list of steps under `Deploy`, each with its type."""
    deploy = file.data.get("Deploy") if isinstance(file.data, Mapping) else None
    steps = deploy.get("transforms") if isinstance(deploy, Mapping) else None
    return isinstance(steps, list) and all(isinstance(s, Mapping) and "type" in s for s in steps)


def read(file: DescriptionFile) -> Statement:
    """Return what a `deploy.yaml` states of pictures; it holds no labels."""
    steps = Steps(file.source, {"size_rounding": "round"})
    steps.state(channels="RGB")
    for transform in file.data["Deploy"]["transforms"]:
        steps.apply(_TRANSFORMS, "Deploy: transforms", str(transform["type"]), transform)
    return Statement.of(file.source, steps.settings(), None, steps.remarks)


def _resize(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Stretch to the target, or fit the photo into it, with OpenCV."""
    rule = "letterbox" if transform.get("keep_ratio") else "stretch"
    steps.scale(step, rule, one_or_pair(transform.get("target_size", 512), width_first=True), turned=True)
    divisor = transform.get("size_divisor")
    if divisor is not None:
        height, width = steps.size(step, one_or_pair(transform.get("target_size", 512), width_first=True))
        if rule != "stretch" or height % steps.size(step, divisor)[0] or width % steps.size(step, divisor)[0]:
            steps.refuse(step, f"has size_divisor {divisor!r}, which stretches photos further")
    interp = str(transform.get("interp", "LINEAR")).lower()
    if interp not in OPENCV_INTERPOLATIONS:
        steps.refuse(step, f"has interp {interp.upper()!r}, which is not supported")
    steps.state(interpolation=OPENCV_INTERPOLATIONS[interp], antialias=False)


def _resize_by_long(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Scale the longer side to a length."""
    steps.scale(step, "letterbox", transform.get("long_size"))
    steps.state(interpolation="linear", antialias=False)


def _pad(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Pad to a size to the right and below, with the pixel value 127.5 unless another one is stated."""
    size = one_or_pair(transform.get("target_size"), width_first=True)
    steps.pad(step, size, transform.get("im_padding_value", 127.5))


def _normalise(steps: Steps, step: str, transform: Mapping[str, Any]) -> None:
    """Read mean and std, for pixels in 0..1."""
    steps.normalise(step, 1 / 255, transform.get("mean", 0.5), transform.get("std", 0.5))


_TRANSFORMS: Operators = {
    "Resize": _resize,
    "ResizeByLong": _resize_by_long,
    "Padding": _pad,
    "Normalize": _normalise,
}

DIALECT = Dialect("PaddleSeg", ("deploy.yaml", "inference.yml"), recognises, read)
