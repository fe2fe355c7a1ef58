"""This package runs models with ONNX Runtime: it resolves providers and opens sessions.

No other package imports onnxruntime, and this one only when a function needs it.
"""

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
