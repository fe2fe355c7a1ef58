"""This package joins what the surgery finds in a model with what producers state of it, without running the model."""

from __future__ import annotations

from onnx_xcam.inspection.report import Inspection, PartReport, PicturesReport, inspect

__all__ = ["Inspection", "PartReport", "PicturesReport", "inspect"]
