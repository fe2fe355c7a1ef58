"""This package is the command line `onnx-xcam`: each command has a file, a thin layer over the package's functions."""

from onnx_xcam.cli.app import app, main

__all__ = ["app", "main"]
