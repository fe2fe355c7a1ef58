"""All programs run ONNX Runtime with the same options, set here."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort


def session(model: bytes | str | Path, threads: int, *, optimised: bool = True) -> ort.InferenceSession:
    """A session on the CPU with default optimisations, or none; the warning on an input with a default is silenced.

    Its threads do not wait busily for work: they would take a core from the session that is timed next.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
