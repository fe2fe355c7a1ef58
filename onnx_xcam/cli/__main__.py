"""`python -m onnx_xcam.cli`: the command line without the installed script."""

from onnx_xcam.cli.app import main

main()
