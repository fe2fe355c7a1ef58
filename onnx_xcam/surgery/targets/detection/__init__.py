"""This package recognises detectors, which score candidates with boxes, and are explained object by object."""

from onnx_xcam.surgery.targets.detection.recognise import recognise

__all__ = ["recognise"]
