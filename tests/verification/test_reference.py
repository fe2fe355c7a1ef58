"""The corrected reference evaluator against ONNX Runtime, where nothing else compares the two."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference.op_run import OpRun

from onnx_xcam.verification import reference
from onnx_xcam.verification.reference import evaluate
from onnx_xcam.verification.reference.corrected import corrected

POOLS = [
    ("kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], ceil_mode = 1", (2, 3, 14, 14)),
    ("kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1", (2, 3, 14, 13)),
    ("kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 0, 1]", (1, 2, 9, 8)),
    ("kernel_shape = [2, 3], dilations = [2, 2], pads = [1, 1, 0, 1]", (1, 2, 9, 8)),
    ('kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_LOWER"', (1, 2, 9, 8)),
    ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1", (1, 2, 8, 8)),
    ("kernel_shape = [3]", (1, 2, 8)),
    ("kernel_shape = [2, 2, 2], strides = [2, 1, 2]", (1, 2, 5, 6, 7)),
]


AVERAGES = [
    *((attributes + more, shape) for attributes, shape in POOLS for more in ("", ", count_include_pad = 1")),
    ("kernel_shape = [64, 70], strides = [64, 70], ceil_mode = 1", (1, 2, 7, 6)),
]


@pytest.mark.parametrize(("attributes", "shape"), AVERAGES)
def test_average_pool(attributes: str, shape: tuple[int, ...]) -> None:
    sizes, unknown = ", ".join(map(str, shape)), ", ".join("ABCDE"[: len(shape)])
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 19]> g (float[{sizes}] x) => (float[{unknown}] y)'
        f"{{ y = AveragePool<{attributes}>(x) }}"
    )
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (ours,), (theirs,) = evaluate(model, {"x": x}), session.run(None, {"x": x})
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("attributes", "shape"), POOLS)
def test_max_pool_and_its_indices(attributes: str, shape: tuple[int, ...]) -> None:
    sizes, unknown = ", ".join(map(str, shape)), ", ".join("ABCDE"[: len(shape)])
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (double[{sizes}] x) => (double[{unknown}] y, int64[{unknown}] i)'
        f"{{ y, i = MaxPool<{attributes}>(x) }}"
    )
    x = np.random.default_rng(0).standard_normal(shape)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(evaluate(model, {"x": x}), session.run(None, {"x": x}), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_replacement_is_used() -> None:
    modules = [
        importlib.import_module(f"{reference.__name__}.{one.name}") for one in pkgutil.iter_modules(reference.__path__)
    ]
    written = {
        one
        for module in modules
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, OpRun) and one.__module__ == module.__name__ and name[0] != "_"
    }
    listed = set(corrected(1))
    assert written == listed, f"corrected.py does not list {sorted(one.__name__ for one in written - listed)}"
