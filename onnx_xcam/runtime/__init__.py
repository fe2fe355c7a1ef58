"""ONNX Runtime: providers and sessions. The only place that imports onnxruntime, and only when a function needs it."""

from onnx_xcam.runtime.providers import available_providers, resolve_providers, short_name
from onnx_xcam.runtime.session import Arithmetic, Cancellation, Feed, Optimisation, Session, TensorInfo, open_session

__all__ = [
    "Arithmetic",
    "Cancellation",
    "Feed",
    "Optimisation",
    "Session",
    "TensorInfo",
    "available_providers",
    "open_session",
    "resolve_providers",
    "short_name",
]
