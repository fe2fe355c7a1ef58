"""The ONNX project's own node tests as problems for the checker, and which of them can be none."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from helpers.gradients.checker import FLOATS, Problem, float_outputs, run, with_float_type
from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.backward import unsupported
from onnx_xcam.surgery.autodiff.function_bodies import has_body
from onnx_xcam.surgery.autodiff.vjp_model import vjp_model
from onnx_xcam.surgery.ir.op_traits import named
from onnx_xcam.surgery.rules import RULES

ONNX_RUNTIME_REFUSES = (
    runtime_errors.NotImplemented,
    runtime_errors.InvalidGraph,
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
)
NUMPY_TYPES = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16,
    TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip


@cache
def node_tests() -> dict[str, list[Any]]:
    """The test cases by operator: those whose operator has a rule, and functions written out in nodes."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    single = {case.name: case.model.graph.node[0] for case in cases if len(case.model.graph.node) == 1}
    found: dict[str, list[Any]] = {}
    for case in cases:
        node = single.get(case.name) or single.get(case.name.split("_expanded")[0])
        if node is not None and node.domain in ("", "ai.onnx"):
            found.setdefault(node.op_type, []).append(case)
    return {op: tests for op, cases in found.items() if (tests := [c for c in cases if op in RULES or _is_function(c)])}


def _is_function(case: Any) -> bool:
    """Whether a case is a function, or one written out in nodes."""
    return "_expanded" in case.name or any(_has_body(node, case.model) for node in case.model.graph.node)


def _has_body(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    return has_body(node.op_type, model.opset_import[0].version)


ORACLES = {"MaxPool": "runtime", "AveragePool": "linear", "Resize": "linear"}
"""What evaluates the forward model where the reference evaluator is wrong or takes seconds.

Resize with scales and align_corners: the specification takes the resized length, the reference evaluator the product of
length and scale, a fraction."""
DOMAINS = {
    **dict.fromkeys(("Log", "Sqrt", "Pow", "ReduceLogSum"), (0.3, 3.0)),
    **dict.fromkeys(("Asin", "Acos", "Atanh"), (-0.9, 0.9)),
    "Acosh": (1.2, 4.0),
}
"""Operators that are defined, or smooth, for some values only."""


_MASKED_ROWS = (
    "causal_boolmask_nan_robustness",
    "23_boolmask_fullymasked_row_nan_robustness",
    "23_fullymasked_qk_matmul_output_mode3_zero",
    "24_fullymasked_qk_matmul_output_mode3_zero",
    "24_qk_matmul_output_mode3_softmax_precision",
    "local_window_gqa_rank4_mask",
    "4d_causal_nonpad_negative_offset_structural_empty",
    "4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
)
UNFIT = {
    # A query that may look at nothing: the softmax of the function body is NaN there, and so is its gradient; or minus
    # infinity is an output itself.
    **{f"test_attention_{name}{form}": "masked" for name in _MASKED_ROWS for form in ("", "_expanded")},
    # The reference evaluator takes float32 only.
    **dict.fromkeys((f"test_causal_conv_with_state_{n}" for n in ("silu", "swish_alias", "silu_fp16")), "float32"),
}
"""Cases that are no problem for the checker, and why."""


def exemption(op: str, case: Any) -> str | None:
    """Why a case is no problem for the checker, None if it is one."""
    model, arrays = case.model, _arrays(case)
    infos = (*model.graph.input, *model.graph.output)
    if not all(info.type.tensor_type.elem_type in NUMPY_TYPES for info in infos):
        return "type"  # without a numpy type of its own, or no tensor
    if op == "Dropout" and bool(arrays.get("t", False)):
        return "random"
    if any(not (n.op_type in RULES or _harmless(n) or _has_body(n, model)) for n in model.graph.node):
        return "no rule"  # a function expanded into operators without one
    wanted = _wanted(op, case)
    if not any(arrays[name].size for name in wanted):
        return "no float"  # none, only empty ones, or none that a derivative comes through
    if not _has_ranks(op, case, wanted):
        return "no rank"
    return UNFIT.get(case.name) or ("refused" if _is_refused(op, case, wanted) else None)


def problem(op: str, case: Any) -> Problem:
    """The case with its differentiable inputs to be drawn and all others as constants with the given values."""
    wanted, arrays = _wanted(op, case), _arrays(case)
    model = _with_constants(op, case, wanted)
    shapes = {name: arrays[name].shape for name in wanted}
    domains = dict.fromkeys(wanted, DOMAINS[op]) if op in DOMAINS else {}
    return Problem(model, wanted, shapes, {}, domains, ORACLES.get(op, "reference"), _runs(model, arrays))


def _with_constants(op: str, case: Any, wanted: list[str]) -> onnx.ModelProto:
    model, arrays = with_float_type(case.model, TensorProto.FLOAT), _arrays(case)
    if len(model.graph.node) == 1 and op in RULES and not RULES[op].every_output:
        del model.graph.output[1:]
    for info in list(model.graph.input):
        if info.name not in wanted:
            model.graph.initializer.append(_constant(info.name, arrays[info.name]))
            model.graph.input.remove(info)
    return model


def _arrays(case: Any) -> dict[str, np.ndarray]:
    """The feeds of the case, by name."""
    feeds = case.data_sets[0][0]
    values = [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in feeds]
    return dict(zip([info.name for info in case.model.graph.input], values, strict=True))


def _constant(name: str, array: np.ndarray) -> onnx.TensorProto:
    array = np.asarray(array)
    floating = np.issubdtype(array.dtype, np.floating)
    return onnx.numpy_helper.from_array(array.astype(np.float32) if floating else array, name)


def _runs(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> bool:
    """Whether ONNX Runtime has the operator at all."""
    try:
        run(model, arrays)
    except ONNX_RUNTIME_REFUSES:
        return False
    return True


def _wanted(op: str, case: Any) -> list[str]:
    """The float inputs that the operator's rule can differentiate and that reach a float output."""
    model = with_float_type(case.model, TensorProto.FLOAT)
    graph = prepare(model)
    wanted = []
    for index, info in enumerate(model.graph.input):
        if info.type.tensor_type.elem_type in FLOATS and (op not in RULES or index < named(op).differentiable):
            path = differentiable_path(graph, [info.name], float_outputs(model))
            if info.name in path.tensors and not unsupported(path):
                wanted.append(info.name)
    return wanted


def _has_ranks(op: str, case: Any, wanted: list[str]) -> bool:
    """Whether shape inference finds the ranks: a function's expansion may reduce over axes that it computes."""
    model = _with_constants(op, case, wanted)
    graph = prepare(model)
    return all(
        graph.shape(name) is not None for name in differentiable_path(graph, wanted, float_outputs(model)).tensors
    )


def _is_refused(op: str, case: Any, wanted: list[str]) -> bool:
    """Whether the rule says of this form of its operator that it cannot be differentiated."""
    model = _with_constants(op, case, wanted)
    try:
        vjp_model(model, wanted, float_outputs(model))
    except UnsupportedOpError:
        return True
    return False


def _harmless(node: onnx.NodeProto) -> bool:
    """Whether no gradient can pass the node: it has none, or makes constants."""
    return named(node.op_type).zero_derivative or node.op_type in ("Constant", "Range")
