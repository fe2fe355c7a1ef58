"""ONNX Runtime: providers and sessions. The only place that imports onnxruntime, and only when a function needs it."""

from onnx_xcam.runtime.chunks import BYTES_PER_RUN, classes_per_run
from onnx_xcam.runtime.providers import available_providers, resolve_providers, short_name
from onnx_xcam.runtime.session import Feed, Optimisation, Session, TensorInfo, open_session

__all__ = [
    "BYTES_PER_RUN",
    "Feed",
    "Optimisation",
    "Session",
    "TensorInfo",
    "available_providers",
    "classes_per_run",
    "open_session",
    "resolve_providers",
    "short_name",
]
