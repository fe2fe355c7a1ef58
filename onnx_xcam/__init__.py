"""This package explains any exported ONNX vision model with XGrad-CAM and other CAM methods."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_xcam.errors import XcamError as XcamError
    from onnx_xcam.explainer import Explainer as Explainer
    from onnx_xcam.explainer import Explanation as Explanation
    from onnx_xcam.explainer import Streamed as Streamed
    from onnx_xcam.inspection import inspect as inspect
    from onnx_xcam.surgery.instrument import instrument as instrument
    from onnx_xcam.surgery.instrument import instrument_file as instrument_file
    from onnx_xcam.verification.check import check as check

__version__ = "0.1.0"

_HOME = {  # the module that each public name is imported from
    "Explainer": "explainer",
    "Explanation": "explainer",
    "Streamed": "explainer",
    "XcamError": "errors",
    "check": "verification.check",
    "inspect": "inspection",
    "instrument": "surgery",
    "instrument_file": "surgery",
}

__all__ = [
    "Explainer",
    "Explanation",
    "Streamed",
    "XcamError",
    "__version__",
    "check",
    "inspect",
    "instrument",
    "instrument_file",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the surgery needs neither onnxruntime nor cv2."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, so that completion lists names that are not imported yet."""
    return sorted(__all__)
