"""This module runs the command line by `python -m onnx_xcam.cli`, without the installed script."""

from onnx_xcam.cli.app import main

main()
