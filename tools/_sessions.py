"""ONNX Runtime sessions as the programs in this folder use them."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort


def session(model: bytes | str | Path, threads: int) -> ort.InferenceSession:
    """A session on the CPU with default optimisations; the warning on an input with a default value is silenced."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
