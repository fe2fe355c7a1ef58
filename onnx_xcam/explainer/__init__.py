"""Explainer and Explanation: photos in, XGrad-CAM out, from the ONNX file alone."""

from onnx_xcam.errors import XcamWarning
from onnx_xcam.explainer.explainer import Explainer
from onnx_xcam.explainer.explanation import Explanation, Picture
from onnx_xcam.explainer.recorder import Recorded, Recorder
from onnx_xcam.explainer.recording import Recording
from onnx_xcam.explainer.stream import Streamed

__all__ = [
    "Explainer",
    "Explanation",
    "Picture",
    "Recorded",
    "Recorder",
    "Recording",
    "Streamed",
    "XcamWarning",
]
