"""Explained models in other runtimes than ONNX Runtime on the CPU: `python -m tools.runtimes`."""
