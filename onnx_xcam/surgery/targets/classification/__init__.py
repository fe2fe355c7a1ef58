"""Classification: a model that gives each image one score for each class is explained for its classes."""

from onnx_xcam.surgery.targets.classification.recognise import find_score, recognise

__all__ = ["find_score", "recognise"]
