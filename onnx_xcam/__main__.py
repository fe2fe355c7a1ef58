"""Run the command line with `python -m onnx_xcam`."""

from onnx_xcam.cli import main

main()
