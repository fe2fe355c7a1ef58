"""This module lists the dialects in which producers describe models, in files and in the metadata of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx_xcam.producers.dialect import Dialect
from onnx_xcam.producers.dialects import (
    ai_hub,
    custom_vision,
    deepstream,
    hugging_face,
    lobe,
    mmdeploy,
    model_api,
    onnx_image,
    paddle_clas,
    paddle_detection,
    paddle_seg,
    plain_labels,
    roboflow,
    teachable_machine,
    tflite,
    timm,
    triton,
    ultralytics,
)
from onnx_xcam.producers.statement import Statement

DIALECTS: tuple[Dialect, ...] = (
    hugging_face.PROCESSOR,
    timm.DIALECT,
    hugging_face.CONFIGURATION,
    paddle_clas.DIALECT,
    paddle_detection.DIALECT,
    paddle_seg.DIALECT,
    mmdeploy.DIALECT,
    ultralytics.DIALECT,
    custom_vision.DIALECT,
    lobe.DIALECT,
    teachable_machine.DIALECT,
    deepstream.DIALECT,
    roboflow.CONFIG,
    roboflow.ENVIRONMENT,
    ai_hub.DIALECT,
    tflite.DIALECT,
    triton.DIALECT,
    plain_labels.DIALECT,
)
"""The dialects of files, in the order in which they are tried. Where files of two dialects state the same, the first
one is followed."""

METADATA_DIALECTS: tuple[Callable[[Mapping[str, str]], Statement | None], ...] = (
    ultralytics.metadata,
    model_api.metadata,
    onnx_image.metadata,
)
"""The dialects of a model's `metadata_props`, in the order in which they are tried.

Each returns what the entries state, or None where there are none of its own. An entry of the same name that means
something else is passed over."""
