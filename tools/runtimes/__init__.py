"""`python -m tools.runtimes` runs explained models in other runtimes than ONNX Runtime on the CPU."""
