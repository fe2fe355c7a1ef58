"""This package writes self-contained HTML pages of explained photos and of evaluations; each page is one file."""

from onnx_xcam.report.data import ClassResult, Failure, Maps, Photo, photo_of
from onnx_xcam.report.evaluation import write_evaluation
from onnx_xcam.report.photos import PhotoPage
from onnx_xcam.report.settings import Settings, python_call, settings_of

__all__ = [
    "ClassResult",
    "Failure",
    "Maps",
    "Photo",
    "PhotoPage",
    "Settings",
    "photo_of",
    "python_call",
    "settings_of",
    "write_evaluation",
]
