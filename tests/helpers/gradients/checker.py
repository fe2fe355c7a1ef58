"""Is the gradient right? `<gy, J v>` from central differences of the forward model against `<Jᵀ gy, v>`.

Everything is computed in float64 by the ONNX reference evaluator, for two different `gy` at once (the class axis) and
a random direction `v` for each differentiated input. The same backward graph then runs in float32 in ONNX Runtime and
must agree with float64. Inputs are redrawn until the model is smooth between the points of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from onnx_xcam.surgery.autodiff.vjp_model import COTANGENT, GRADIENT, vjp_model
from onnx_xcam.verification.reference import evaluate

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
ALWAYS_FLOAT32 = {"Resize": {2}, "Upsample": {1}}
"""Inputs that are float32 whatever the type of the others."""
K = 2
DRAWS = 12
BEND = 2e-3
"""The second difference, relative to the first, from which on a kink is suspected between the points."""

Arrays = dict[str, np.ndarray]


class WrongGradientError(AssertionError):
    """The gradient is not that of the model."""


@dataclass(frozen=True)
class Problem:
    """A model and how to check it.

    Attributes:
        model: float32 model.
        wrt: graph inputs to differentiate.
        shapes: the shape of each float input.
        given: feeds that are not drawn.
        domains: for an input the range its values are drawn from; `DEFAULT_DOMAIN` without.
        oracle: what evaluates the forward model: "reference" (float64), "unrounded" (the same, quantisation without
            its rounding), "runtime" (ONNX Runtime, float64) or "linear" (ONNX Runtime, float32; exact enough for linear
            models, where the step may be large).
        runtime: whether to run the backward graph in ONNX Runtime too.
    """

    model: onnx.ModelProto
    wrt: Sequence[str]
    shapes: Mapping[str, Sequence[int]]
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    domains: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    oracle: str = "reference"
    runtime: bool = True


DEFAULT_DOMAIN = (-3.0, 3.0)
STEPS = {"reference": (1e-5, 1e-7), "unrounded": (1e-5, 1e-7), "runtime": (1e-5, 1e-7), "linear": (1.0, 1e-5)}
"""For each oracle the step of the central difference and the relative tolerance."""


def check(problem: Problem) -> None:
    """Check all gradients of a problem.

    Raises:
        WrongGradientError: one is wrong.
    """
    double = with_float_type(problem.model, TensorProto.DOUBLE)
    names = float_outputs(double)
    step, tolerance = STEPS[problem.oracle]
    forward = _forward(problem, double, names)
    feeds, directions, changes = _smooth_point(problem, forward, step)
    rng = np.random.default_rng(7)
    ys = forward(feeds)
    if problem.runtime and problem.oracle == "reference":
        _same_forward(problem, names, feeds, ys)
    gys = [rng.uniform(0.5, 1.5, (K, *np.shape(y))) * rng.choice([-1.0, 1.0], (K, *np.shape(y))) for y in ys]
    cotangents = {f"{COTANGENT}_{i}": gy for i, gy in enumerate(gys)}
    gradients = _backward(problem, double, names, feeds | cotangents)
    for name, gx, v, change in zip(problem.wrt, gradients, directions, changes, strict=True):
        if gx.shape != (K, *feeds[name].shape):
            raise WrongGradientError(f"the gradient of {name} has shape {gx.shape}, not {(K, *feeds[name].shape)}")
        for k in range(K):
            want = sum(float((gy[k] * c).sum()) for gy, c in zip(gys, change, strict=True))
            scale = sum(float(np.abs(gy[k] * c).sum()) for gy, c in zip(gys, change, strict=True))
            have = float((gx[k] * v).sum())
            if not abs(want - have) <= tolerance * max(scale, 1e-3):
                raise WrongGradientError(f"of {name}, class {k}: <gy, J v> = {want}, <Jᵀ gy, v> = {have}")


def with_float_type(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """The model with all its floats (inputs, outputs, constants, casts) of one type."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    kept = {n.input[i] for n in graph.node for i in ALWAYS_FLOAT32.get(n.op_type, ()) if i < len(n.input)}
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.name not in kept and info.type.tensor_type.elem_type in FLOATS:
            info.type.tensor_type.elem_type = kind
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _convert(tensor, kind)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.HasField("t") and node.output[0] not in kept:
                _convert(attribute.t, kind)
            if attribute.name in ("to", "dtype") and attribute.i in FLOATS:
                attribute.i = kind
    return result


def _convert(tensor: onnx.TensorProto, kind: int) -> None:
    if tensor.data_type in FLOATS:
        array = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def float_outputs(model: onnx.ModelProto) -> list[str]:
    """The names of the float outputs."""
    return [o.name for o in model.graph.output if o.type.tensor_type.elem_type in FLOATS]


def spaced(rng: np.random.Generator, shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """Distinct, evenly spaced values in random order: no ties, none at a round number."""
    count = int(np.prod(shape))
    return low + (high - low) * (rng.permutation(count).reshape(tuple(shape)) + 0.387) / max(count, 1)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """An ONNX Runtime CPU session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The model's outputs by ONNX Runtime; floats are fed in the types that the model asks for."""
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    made = session(model)
    fed = {i.name: np.asarray(feeds[i.name]).astype(kinds.get(i.type, feeds[i.name].dtype)) for i in made.get_inputs()}
    return [np.asarray(r) for r in made.run(None, fed)]


EVALUATORS = {
    "reference": evaluate,
    "unrounded": partial(evaluate, rounding=False),
    "runtime": run,
    "linear": run,
}


def _forward(problem: Problem, double: onnx.ModelProto, names: Sequence[str]) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(problem.model if problem.oracle == "linear" else double)
    kept = [o for o in model.graph.output if o.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    use = EVALUATORS[problem.oracle]
    return lambda feeds: [y.astype(np.float64) for y in use(model, feeds)]


def _smooth_point(problem: Problem, forward: Any, step: float) -> tuple[Arrays, list[np.ndarray], list[Any]]:
    """Feeds, a direction for each differentiated input, and the outputs' derivatives along it."""
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        drawn = {n: spaced(rng, s, *problem.domains.get(n, DEFAULT_DOMAIN)) for n, s in problem.shapes.items()}
        feeds = {**drawn, **problem.given}
        directions = [rng.uniform(-1, 1, feeds[name].shape) for name in problem.wrt]
        middle = forward(feeds)
        changes = []
        smooth = all(np.isfinite(y).all() for y in middle)
        for name, v in zip(problem.wrt, directions, strict=True):
            above, below = (forward(feeds | {name: feeds[name] + sign * step * v}) for sign in (1, -1))
            for up, mid, down in zip(above, middle, below, strict=True):
                bend = np.abs(up - 2 * mid + down).max(initial=0)
                smooth &= bool(bend <= BEND * np.abs(up - down).max(initial=0) + 1e-9)
            changes.append([(up - down) / (2 * step) for up, down in zip(above, below, strict=True)])
        if smooth:
            return feeds, directions, changes
    raise AssertionError("no point found at which the model is smooth")


def _same_forward(
    problem: Problem, names: Sequence[str], feeds: Mapping[str, np.ndarray], ys: Sequence[np.ndarray]
) -> None:
    """The reference evaluator has bugs: what it says must be what ONNX Runtime says."""
    fast = dict(zip([o.name for o in problem.model.graph.output], run(problem.model, feeds), strict=True))
    for name, y in zip(names, ys, strict=True):
        if fast[name].shape != y.shape or not np.allclose(fast[name], y, rtol=1e-4, atol=1e-4):
            raise AssertionError(f"ONNX Runtime and the reference evaluator disagree about {name}: {fast[name]}, {y}")


def _backward(
    problem: Problem, double: onnx.ModelProto, names: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The gradients in float64; those of ONNX Runtime in float32 must agree."""
    single = run(vjp_model(problem.model, problem.wrt, names), feeds) if problem.runtime else None
    if problem.oracle == "linear" and single is not None:
        return single
    model = vjp_model(double, problem.wrt, names)
    exact = EVALUATORS[problem.oracle](model, feeds)
    rounded = evaluate(model, feeds) if problem.oracle == "unrounded" else exact
    for index, (fast, slow) in enumerate(zip(single or rounded, rounded, strict=True)):
        scale = float(np.abs(slow).max(initial=1e-3))
        if fast.shape != slow.shape or not np.abs(fast - slow).max(initial=0) <= 1e-4 * scale:
            off = np.abs(fast - slow).max(initial=0) if fast.shape == slow.shape else f"{fast.shape}, {slow.shape}"
            raise WrongGradientError(f"{GRADIENT}_{index}: ONNX Runtime in float32 and float64 differ: {off}")
    return exact
