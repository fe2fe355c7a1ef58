"""The command line `onnx-xcam`: one file per command, each a thin layer over the package's functions."""

from onnx_xcam.cli.app import app, main

__all__ = ["app", "main"]
