"""This package adds activations, gradients and the finished map to an ONNX model: a model in, a new model out."""

from onnx_xcam.surgery.inspect import inspect
from onnx_xcam.surgery.instrument import instrument, instrument_bytes, instrument_file

__all__ = ["inspect", "instrument", "instrument_bytes", "instrument_file"]
