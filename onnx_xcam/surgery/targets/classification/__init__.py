"""This package recognises classifiers, which give each image one score per class and are explained for classes."""

from onnx_xcam.surgery.targets.classification.recognise import find_score, recognise

__all__ = ["find_score", "recognise"]
