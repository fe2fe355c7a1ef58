"""This module reads the `inference.yml` that PaddleClas and PaddleX write beside an image classifier.

The operators are those of PaddleClas' `deploy/python/preprocess.py`; its exporter, `ppcls/utils/config.py`
(`dump_infer_config`), leaves out `DecodeImage`, which reads RGB. Sizes are [width, height] in both `ResizeImage` and
`CropImage`, sides are rounded to the nearest pixel, and a crop's offset is rounded down
(https://github.com/PaddlePaddle/PaddleClas). PaddleX applies the same steps
(`paddlex/inference/models/image_classification/predictor.py`, https://github.com/PaddlePaddle/PaddleX).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.images.presets import IMAGENET_MEAN, IMAGENET_STD
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.label_file import labels_named
from onnx_xcam.producers.dialects.steps import (
    OPENCV_INTERPOLATIONS,
    PILLOW_INTERPOLATIONS,
    Operators,
    Steps,
    label_texts,
    one_or_pair,
)
from onnx_xcam.producers.statement import Statement


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file holds the operators of PaddleClas, as exported or as in a training configuration."""
    return isinstance(file.data, Mapping) and _operators(file.data) is not None


def _operators(data: Mapping[str, Any]) -> list[Any] | None:
    """Return the operators of a file: `PreProcess.transform_ops` of an export, `Infer.transforms` of a training."""
    for section, key in (("PreProcess", "transform_ops"), ("Infer", "transforms")):
        found = data.get(section)
        if isinstance(found, Mapping) and isinstance(found.get(key), list):
            return list(found[key])
    return None


def read(file: DescriptionFile) -> Statement:
    """Return what an `inference.yml` states of pictures and classes."""
    steps = Steps(file.source, {"size_rounding": "round", "offset_rounding": "floor"})
    steps.state(channels="RGB")
    for operator in _operators(file.data) or ():
        if not isinstance(operator, Mapping) or len(operator) != 1:
            steps.refuse("transform_ops", f"holds {operator!r}, which is no operator with its parameters")
        name, parameters = next(iter(operator.items()))
        if name in _OPERATORS and not isinstance(parameters, Mapping | None):
            steps.refuse(f"transform_ops: {name}", f"has the parameters {parameters!r}, which have no names")
        steps.apply(_OPERATORS, "transform_ops", name, parameters or {})
    return Statement.of(file.source, steps.settings(), _labels(file), steps.remarks)


def _decode(steps: Steps, step: str, parameters: Mapping[str, Any]) -> None:
    """Read the order of the channels."""
    if parameters.get("channel_first"):
        steps.refuse(step, "has channel_first true, which is not supported")
    steps.state(channels="RGB" if parameters.get("to_rgb", True) else "BGR")


def _resize(steps: Steps, step: str, parameters: Mapping[str, Any]) -> None:
    """Scale the shorter side, or stretch to [width, height], with OpenCV or with Pillow."""
    short = parameters.get("resize_short")
    if short:
        steps.scale(step, "crop", short)
    else:
        steps.scale(step, "stretch", one_or_pair(parameters.get("size"), width_first=True))
    backend = str(parameters.get("backend") or "cv2").lower()
    if backend not in ("cv2", "pil"):
        steps.refuse(step, f"has the backend {backend!r}; cv2 and pil are supported")
    names = OPENCV_INTERPOLATIONS if backend == "cv2" else PILLOW_INTERPOLATIONS
    wanted = str(parameters.get("interpolation") or "bilinear").lower()
    if wanted not in names:
        steps.refuse(step, f"has the interpolation {wanted!r} of {backend}, which is not supported")
    steps.state(interpolation=names[wanted], antialias=backend == "pil")


def _crop(steps: Steps, step: str, parameters: Mapping[str, Any]) -> None:
    """Cut [width, height] out of the middle."""
    steps.crop(step, one_or_pair(parameters.get("size", 224), width_first=True))


def _normalise(steps: Steps, step: str, parameters: Mapping[str, Any]) -> None:
    """Read scale (a number, or a fraction in text such as "1.0/255.0"), mean and std."""
    if parameters.get("channel_num", 3) != 3:
        steps.refuse(step, f"has channel_num {parameters['channel_num']!r}, a fourth channel of zeros")
    values = {"scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    stated = {key: parameters[key] for key in values if parameters.get(key) is not None}
    steps.normalise(step, **(values | stated))


def _nothing(steps: Steps, step: str, parameters: Mapping[str, Any]) -> None:
    """Do nothing: the model's own input says its layout."""


_OPERATORS: Operators = {
    "DecodeImage": _decode,
    "ResizeImage": _resize,
    "CropImage": _crop,
    "NormalizeImage": _normalise,
    "ToCHWImage": _nothing,
}


def _labels(file: DescriptionFile) -> list[str] | None:
    """Return the `label_list` of whatever step of the post-processing has one, or its `class_id_map_file` beside it."""
    sections = (file.data, file.data.get("Infer"))
    posts = [part["PostProcess"] for part in sections if isinstance(part, Mapping) and "PostProcess" in part]
    post = next((part for part in posts if isinstance(part, Mapping)), {})
    steps = [step for step in (post, *post.values()) if isinstance(step, Mapping)]
    for step in steps:
        labels = label_texts(step.get("label_list")) or labels_named(file, step.get("class_id_map_file"))
        if labels:
            return labels
    return None


DIALECT = Dialect("PaddleClas", ("inference.yml", "inference.yaml"), recognises, read)
