"""Facts that only a run of ONNX Runtime tells: exact 8-bit products, and whether a rewritten model does the same."""
