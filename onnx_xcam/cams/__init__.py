"""This package holds the CAM methods, each written once over an array namespace: numpy arrays or emitted ONNX nodes."""
