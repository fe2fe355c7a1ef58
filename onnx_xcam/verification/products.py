"""This module checks gradient rules on a model's own values, by the dot-product test.

<gy, J v> from central differences must equal <Jᵀ gy, v> from the rule, for random cotangents gy and directions v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_xcam.surgery.autodiff.composites import DifferentiationStep
from onnx_xcam.surgery.autodiff.vjp_model import COTANGENT, vjp_model
from onnx_xcam.surgery.submodels.node_model import node_model
from onnx_xcam.verification.observed import EVALUATOR_ERRORS, Observed

PRODUCT_TOLERANCE = 1e-5
"""How far <gy, J v> and <Jᵀ gy, v> may differ in float64, relative to the norms of the factors."""
COTANGENTS = 3
"""How many random gy an attempt takes: with fewer, all of them would now and then miss the fault of a wrong rule."""


class Attempt(NamedTuple):
    """An Attempt holds the settings of one dot-product test of a node.

    Attributes:
        step: the step of the central difference, relative to the largest value.
        room: how far the values are moved apart before the test, relative to their size.
        shrunk: whether values larger than 1 (root mean square) are brought to that size.
    """

    step: float
    room: float
    shrunk: bool = False


ATTEMPTS = (
    Attempt(1e-7, 1e-3),
    Attempt(1e-9, 1e-2),
    Attempt(1e-9, 1e-1),
    Attempt(1e-4, 1e-3),
    Attempt(1e3, 1e-3),
    Attempt(1e-6, 1e-3, shrunk=True),
)
"""The attempts in their order. Smaller steps and more room are for near-ties, larger steps for functions that hardly
react, smaller values for functions that are saturated. A wrong rule fails with all of them."""


@dataclass(frozen=True)
class NodeCheck:
    """A NodeCheck holds the result for one differentiated node.

    Attributes:
        node: the name of the node, or of its first output.
        op: the operator.
        error: the relative error of the dot-product test, or None.
        problem: why the node could not be evaluated, or None.
    """

    node: str
    op: str
    error: float | None
    problem: str | None

    @property
    def passed(self) -> bool:
        """Tell whether the node was evaluated and its gradient is right."""
        return self.error is not None and self.error <= PRODUCT_TOLERANCE


def check_node(seen: Observed, step: DifferentiationStep) -> NodeCheck:
    """Test one differentiated node by the dot-product test, with the settings of `ATTEMPTS` until it passes."""
    node = step.node
    name = str(node.name or node.outputs[0].name)
    errors: list[float] = []
    try:
        for attempt in ATTEMPTS:
            errors.append(_dot_product_error(seen, step, attempt))
            if errors[-1] <= PRODUCT_TOLERANCE:
                break
    except EVALUATOR_ERRORS as problem:
        return NodeCheck(name, str(node.op), None, f"the reference evaluator cannot run it: {str(problem)[:200]}")
    return NodeCheck(name, str(node.op), min(errors), None)


def _dot_product_error(seen: Observed, step: DifferentiationStep, attempt: Attempt) -> float:
    """Return |<gy, J v> - <Jᵀ gy, v>| relative to the norms, the largest of a few random gy."""
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    rng, tensors = seen.rng, seen.path.tensors
    free = list(dict.fromkeys(t.name for t in step.node.inputs if t.name in tensors))
    outputs = [out.name for out in step.node.outputs if out.name in tensors]
    forward = node_model(seen.graph, step.parts, seen.values, free)
    point = {name: _off_kinks(seen.values[name].astype(np.float64), rng, attempt) for name in free}
    direction = {name: rng.standard_normal(point[name].shape) for name in free}
    size = attempt.step * min(float(np.abs(x).max()) or 1.0 for x in point.values())
    ends = [{n: point[n] + sign * size * direction[n] for n in free} for sign in (1, -1)]
    first = point[free[0]]  # a dynamic quantiser scales by its extremes, which its rule takes for constants
    extremes = (float(first.min()), float(first.max()))
    ahead, behind = (evaluate(forward, end, outputs, rounding=False, extremes=extremes) for end in ends)
    # An output to which a mask adds infinity cannot change.
    loose = [~(np.isinf(a) & (a == b)) for a, b in zip(ahead, behind, strict=True)]
    moved = [
        np.subtract(a, b, where=free_here, out=np.zeros_like(a)) / (2 * size)
        for a, b, free_here in zip(ahead, behind, loose, strict=True)
    ]
    cotangents = [rng.standard_normal((COTANGENTS, *x.shape)) * x for x in loose]
    feeds = {**point, **{f"{COTANGENT}_{i}": g for i, g in enumerate(cotangents)}}
    computed = evaluate(vjp_model(forward, free, outputs), feeds, rounding=False, extremes=extremes)
    left = sum(_sums(g * m) for g, m in zip(cotangents, moved, strict=True))
    right = sum(_sums(g * direction[n]) for g, n in zip(computed, free, strict=True))
    scale = sum(np.sqrt(_sums(g**2) * (m**2).sum()) for g, m in zip(cotangents, moved, strict=True))
    return float(np.max(np.abs(left - right) / np.maximum(scale, np.finfo(np.float64).tiny)))


def _sums(products: np.ndarray) -> np.ndarray:
    """Return for each gy the sum over all elements."""
    return np.asarray(products.reshape(len(products), -1).sum(1))


def _off_kinks(x: np.ndarray, rng: np.random.Generator, attempt: Attempt) -> np.ndarray:
    """Move each value away from zero by its own small amount, so that none is 0 and no two are equal."""
    rms = float(np.sqrt(np.mean(x**2))) or 1.0
    moved = np.asarray(x + np.where(x < 0, -1, 1) * attempt.room * rms * rng.uniform(0.1, 1, x.shape))
    return moved / rms if attempt.shrunk and rms > 1 else moved
