"""Explainer and Explanation: photos in, XGrad-CAM out, from the ONNX file alone."""

from onnx_xcam.errors import XcamWarning
from onnx_xcam.explainer.explainer import Explainer
from onnx_xcam.explainer.explanation import Explanation, Picture

__all__ = ["Explainer", "Explanation", "Picture", "XcamWarning"]
