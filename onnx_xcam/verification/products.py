"""Each rule on the model's own values: whether <gy, J v> from central differences equals <Jᵀ gy, v> from the rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_xcam.surgery.autodiff.composites import Step
from onnx_xcam.surgery.autodiff.vjp_model import COTANGENT, vjp_model
from onnx_xcam.surgery.submodels.node_model import node_model
from onnx_xcam.verification.observed import EVALUATOR_ERRORS, Observed

PRODUCT_TOLERANCE = 1e-5
"""How far <gy, J v> and <Jᵀ gy, v> may differ, relative to what they are sums of; float64."""
COTANGENTS = 3
"""How many random gy an attempt takes: of fewer, all would now and then be blind to a wrong rule's fault."""


class Attempt(NamedTuple):
    """How a node is tried.

    Attributes:
        step: of the central difference, relative to the largest value.
        room: how far the values are moved apart beforehand, relative to their size.
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
"""Smaller steps and more room are for near-ties, larger steps for functions that hardly react, smaller values for
functions that are saturated. A wrong rule fails with all of them."""


@dataclass(frozen=True)
class NodeCheck:
    """A differentiated node: the relative error of its dot-product test, or why it could not be evaluated."""

    node: str
    op: str
    error: float | None
    problem: str | None

    @property
    def passed(self) -> bool:
        """Whether the node was evaluated and is right."""
        return self.error is not None and self.error <= PRODUCT_TOLERANCE


def check_node(seen: Observed, step: Step) -> NodeCheck:
    """The dot-product test of one differentiated node, by the first of `ATTEMPTS` that it passes."""
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


def _dot_product_error(seen: Observed, step: Step, attempt: Attempt) -> float:
    """|<gy, J v> - <Jᵀ gy, v>| relative to the norms, for a few random gy at once."""
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    rng, tensors = seen.rng, seen.path.tensors
    free = list(dict.fromkeys(t.name for t in step.node.inputs if t.name in tensors))
    outputs = [out.name for out in step.node.outputs if out.name in tensors]
    forward = node_model(seen.graph, step.parts, seen.values, free)
    point = {name: _off_kinks(seen.values[name].astype(np.float64), rng, attempt) for name in free}
    direction = {name: rng.standard_normal(point[name].shape) for name in free}
    size = attempt.step * min(float(np.abs(x).max()) or 1.0 for x in point.values())
    ends = [{n: point[n] + sign * size * direction[n] for n in free} for sign in (1, -1)]
    first = point[free[0]]  # by its extremes a dynamic quantiser scales: taken for constants, as its rule takes them
    extremes = (float(first.min()), float(first.max()))
    ahead, behind = (evaluate(forward, end, outputs, rounding=False, extremes=extremes) for end in ends)
    loose = [~(np.isinf(a) & (a == b)) for a, b in zip(ahead, behind, strict=True)]  # what no mask of infinity holds
    moved = [
        np.subtract(a, b, where=free_here, out=np.zeros_like(a)) / (2 * size)
        for a, b, free_here in zip(ahead, behind, loose, strict=True)
    ]
    cotangents = [rng.standard_normal((COTANGENTS, *x.shape)) * x for x in loose]
    feeds = {**point, **{f"{COTANGENT}_{i}": g for i, g in enumerate(cotangents)}}
    found = evaluate(vjp_model(forward, free, outputs), feeds, rounding=False, extremes=extremes)
    left = sum(_sums(g * m) for g, m in zip(cotangents, moved, strict=True))
    right = sum(_sums(g * direction[n]) for g, n in zip(found, free, strict=True))
    scale = sum(np.sqrt(_sums(g**2) * (m**2).sum()) for g, m in zip(cotangents, moved, strict=True))
    return float(np.max(np.abs(left - right) / np.maximum(scale, np.finfo(np.float64).tiny)))


def _sums(products: np.ndarray) -> np.ndarray:
    """For each gy the sum over all elements."""
    return np.asarray(products.reshape(len(products), -1).sum(1))


def _off_kinks(x: np.ndarray, rng: np.random.Generator, attempt: Attempt) -> np.ndarray:
    """The values moved away from zero a little, each by its own amount, so that none is 0 and no two are equal."""
    spread = float(np.sqrt(np.mean(x**2))) or 1.0
    moved = np.asarray(x + np.where(x < 0, -1, 1) * attempt.room * spread * rng.uniform(0.1, 1, x.shape))
    return moved / spread if attempt.shrunk and spread > 1 else moved
