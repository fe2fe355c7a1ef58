"""What `check` proves about an explanation of one model: outputs unchanged, gradients right, axioms kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from onnx import numpy_helper

from onnx_xcam import contract
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.runtime import Session, open_session
from onnx_xcam.surgery.backward import way
from onnx_xcam.surgery.composites import Step, steps
from onnx_xcam.surgery.head import as_double, head_inputs, head_model, node_model, with_outputs
from onnx_xcam.surgery.instrument import instrument_bytes
from onnx_xcam.surgery.modernise import modernised
from onnx_xcam.surgery.prepare import prepare
from onnx_xcam.surgery.soundness import Following
from onnx_xcam.surgery.source import ModelLike, Source
from onnx_xcam.surgery.vjp_model import COTANGENT, vjp_model
from onnx_xcam.text import printable

OUTPUT_TOLERANCE = {"float16": 1e-3, "float32": 1e-6, "float64": 1e-6}
"""How far an original output may move, relative to its largest value."""
PRODUCT_TOLERANCE = 1e-5
"""How far <gy, J v> and <Jᵀ gy, v> may differ, relative to what they are sums of; float64."""
SUM_TOLERANCE = 1e-4
"""How far the map and its formula, and their sums, may differ in float32, relative to the sum of magnitudes."""
_LARGEST_INPUT = 1 << 28


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
class OutputCheck:
    """An original output: the largest difference relative to its largest value; 0 is bit-equal."""

    name: str
    difference: float
    passed: bool


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


@dataclass(frozen=True)
class LayerCheck:
    """A layer's map.

    Attributes:
        layer: the tensor.
        formula: largest difference between the emitted map and the formula on the emitted A and G in float64, relative
            to the largest value of the map before the ReLU.
        conservation: difference between the sum of the map before the ReLU and sum(G A), relative to the sum of |G A|;
            over the tokens of the grid, where the layer holds tokens.
        finite_difference: <G, d> and the score's own change along a random direction d: shown, never judged, since
            kinks of the model lie between.
    """

    layer: str
    formula: float
    conservation: float
    finite_difference: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether formula and conservation hold."""
        return self.formula <= SUM_TOLERANCE and self.conservation <= SUM_TOLERANCE


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    model: str
    outputs: list[OutputCheck]
    nodes: list[NodeCheck]
    layers: list[LayerCheck]
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether everything was proved."""
        parts: list[OutputCheck | NodeCheck | LayerCheck] = [*self.outputs, *self.nodes, *self.layers]
        return all(part.passed for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "passed": self.passed}

    def text(self) -> str:
        """The report for people."""
        lines = [f"{self.model}: {'all checks passed' if self.passed else 'FAILED'}", *self.notes, ""]
        for out in self.outputs:
            said = "bit-equal" if out.difference == 0 else f"differs by {out.difference:.1e} of its largest value"
            lines.append(f"{_mark(out.passed)} output '{out.name}' of the instrumented model: {said}")
        worst = max((node.error for node in self.nodes if node.error is not None), default=0.0)
        right = sum(node.passed for node in self.nodes)
        lines.append(
            f"{_mark(right == len(self.nodes))} gradient: {right} of {len(self.nodes)} differentiated nodes pass the "
            f"float64 dot-product test (worst relative error {worst:.1e})"
        )
        for node in self.nodes:
            if not node.passed:
                lines.append(f"      {node.op} '{node.node}': {node.problem or f'relative error {node.error:.1e}'}")
        for layer in self.layers:
            lines += [
                f"{_mark(layer.formula <= SUM_TOLERANCE)} map of '{layer.layer}': {layer.formula:.1e} from its formula",
                f"{_mark(layer.conservation <= SUM_TOLERANCE)} conservation: sum(map before ReLU) and sum(G A) differ "
                f"by {layer.conservation:.1e}",
                "      for orientation only: along a random direction the score changes by "
                f"{layer.finite_difference[1]:.6g}, the gradient says {layer.finite_difference[0]:.6g}",
            ]
        return "\n".join(printable(line) for line in lines)


def _mark(passed: bool) -> str:
    return "ok   " if passed else "FAIL "


def check(
    model: ModelLike,
    image: np.ndarray | None = None,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = "xgrad-cam",
) -> CheckReport:
    """Prove on this model, with these values, that its instrumented form is right.

    - The original outputs are what they were.
    - For each differentiated node, on the model's own values (moved a little, away from kinks and ties):
      <gy, J v> from central differences equals <Jᵀ gy, v> from the rule, in float64, by onnx's reference evaluator.
    - The emitted map is what the formula gives on the emitted A and G, and it sums to sum(G A) before the ReLU.

    Args:
        model: a plain model.
        image: a ready input `[N, ...]`; random numbers by default.
        layers: as `instrument`.
        score: as `instrument`.
        method: as `instrument`.

    Raises:
        XcamError: what `instrument` raises; ModelError if the model cannot be run.
    """
    source = Source(model)
    with Following(source.name):
        proof = _Proof(source, image, {"layers": layers, "score": score, "method": method})
        return CheckReport(
            proof.source.name.strip("'"),
            [_output_check(name, before, proof.after[name]) for name, before in proof.before.items()],
            [_node_check(proof, step) for step in proof.steps],
            [_layer_check(proof, index) for index in range(len(proof.metadata["layers"]))],
            [*proof.notes, *proof.metadata["notes"]],
        )


class _Proof:
    """The model, its instrumented form, and the values of both on one input."""

    def __init__(self, source: Source, image: np.ndarray | None, request: Mapping[str, Any]) -> None:
        self.rng = np.random.default_rng(0)
        self.source, skeleton, self.notes = modernised(source)
        self.folder = self.source.path.parent if self.source.path else None
        content = self.source.with_tail(b"")
        explained = self._session(instrument_bytes(source.model, **request))
        plain = self._session(content)
        self.metadata = contract.parse_metadata(explained.metadata[contract.METADATA_KEY])
        self.graph = prepare(skeleton, self.source.name)
        self.way = way(self.graph, self.metadata["layers"], [self.metadata["score"]])
        self.steps = steps(self.graph, self.way.nodes, {*self.metadata["layers"], self.metadata["score"]})
        feeds = _feeds(plain, image, self.rng)
        self.before = plain.run(feeds, [out.name for out in plain.outputs])
        self.after = explained.run(feeds, [out.name for out in explained.outputs])
        self.weights = {tensor.name: tensor for tensor in self.source.load().graph.initializer}
        stored = {name: numpy_helper.to_array(tensor) for name, tensor in self.weights.items()}
        inner = sorted(self._inner_names() - set(self.before) - set(self.graph.input_names))
        inside = self._session(with_outputs(content, inner)).run(feeds, inner)
        self.values = {**self.graph.constants, **stored, **feeds, **inside, **self.before}

    def _session(self, model: bytes) -> Session:
        return open_session(model, providers="cpu", folder=self.folder)

    def _inner_names(self) -> set[str]:
        """The tensors whose values the checks need."""
        graph, layers, score = self.graph, self.metadata["layers"], self.metadata["score"]
        names = {t.name for node in self.way.nodes for t in node.inputs if t.name in graph.producer}
        return names.union(layers, [score], *(head_inputs(graph, layer, score) for layer in layers))


def _feeds(session: Session, image: np.ndarray | None, rng: np.random.Generator) -> dict[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {}
    if image is not None and len(session.inputs) != 1:
        names = ", ".join(f"'{info.name}'" for info in session.inputs)
        raise InputError(
            f"The model has {len(session.inputs)} inputs ({names}); check it without an image of your own."
        )
    for info in session.inputs:
        if info.dtype is None:
            raise InputError(f"The input '{info.name}' has a type that numpy has not.")
        if image is not None:
            feeds[info.name] = image.astype(info.dtype)
            continue
        axes = contract.image_axes(info.shape)
        shape = [
            dim if isinstance(dim, int) else 224 if axes and axis in axes else 1 if axis == 0 else 3
            for axis, dim in enumerate(info.shape)
        ]
        if math.prod(shape) > _LARGEST_INPUT:
            raise InputError(f"The input '{info.name}' takes {shape}, too many numbers to be checked with.")
        if info.dtype.kind == "f":
            feeds[info.name] = rng.standard_normal(shape).astype(info.dtype)
        else:
            feeds[info.name] = rng.integers(0, 255, shape).astype(info.dtype)
    return feeds


def _output_check(name: str, before: np.ndarray, after: np.ndarray) -> OutputCheck:
    if before.dtype.kind != "f":
        same = bool(np.array_equal(before, after))
        return OutputCheck(name, 0.0 if same else 1.0, same)
    if np.array_equal(before, after, equal_nan=True):
        return OutputCheck(name, 0.0, True)
    scale = float(np.abs(before.astype(np.float64)).max()) or 1.0
    difference = float(np.abs(before.astype(np.float64) - after).max()) / scale
    return OutputCheck(name, difference, difference <= OUTPUT_TOLERANCE[str(before.dtype)])


# --- one node -----------------------------------------------------------------------------------------------------


def _node_check(proof: _Proof, step: Step) -> NodeCheck:
    node = step.node
    name = str(node.name or node.outputs[0].name)
    errors: list[float] = []
    try:
        for attempt in ATTEMPTS:
            errors.append(_dot_product_error(proof, step, attempt))
            if errors[-1] <= PRODUCT_TOLERANCE:
                break
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, KeyError) as problem:
        return NodeCheck(name, str(node.op), None, f"the reference evaluator cannot run it: {str(problem)[:200]}")
    return NodeCheck(name, str(node.op), min(errors), None)


def _dot_product_error(proof: _Proof, step: Step, attempt: Attempt) -> float:
    """|<gy, J v> - <Jᵀ gy, v>| relative to the norms, for two random gy at once."""
    from onnx_xcam.reference import evaluate  # noqa: PLC0415  slow to import

    rng, tensors = proof.rng, proof.way.tensors
    free = list(dict.fromkeys(t.name for t in step.node.inputs if t.name in tensors))
    outputs = [out.name for out in step.node.outputs if out.name in tensors]
    forward = node_model(proof.graph, step.parts, proof.values, free)
    point = {name: _off_kinks(as_double(proof.values[name]), rng, attempt) for name in free}
    direction = {name: rng.standard_normal(point[name].shape) for name in free}
    size = attempt.step * min(float(np.abs(x).max()) or 1.0 for x in point.values())
    ends = [{n: point[n] + sign * size * direction[n] for n in free} for sign in (1, -1)]
    ahead, behind = (evaluate(forward, end, outputs) for end in ends)
    moved = [(a - b) / (2 * size) for a, b in zip(ahead, behind, strict=True)]
    cotangents = [rng.standard_normal((2, *m.shape)) for m in moved]
    feeds = {**point, **{f"{COTANGENT}_{i}": g for i, g in enumerate(cotangents)}}
    found = evaluate(vjp_model(forward, free, outputs), feeds)
    left = sum((g * m).reshape(2, -1).sum(1) for g, m in zip(cotangents, moved, strict=True))
    right = sum((g * direction[n]).reshape(2, -1).sum(1) for g, n in zip(found, free, strict=True))
    scale = sum(np.sqrt((g**2).reshape(2, -1).sum(1) * (m**2).sum()) for g, m in zip(cotangents, moved, strict=True))
    return float(np.max(np.abs(left - right) / np.maximum(scale, np.finfo(np.float64).tiny)))


def _off_kinks(x: np.ndarray, rng: np.random.Generator, attempt: Attempt) -> np.ndarray:
    """The values moved away from zero a little, each by its own amount, so that none is 0 and no two are equal."""
    spread = float(np.sqrt(np.mean(x**2))) or 1.0
    moved = np.asarray(x + np.where(x < 0, -1, 1) * attempt.room * spread * rng.uniform(0.1, 1, x.shape))
    return moved / spread if attempt.shrunk and spread > 1 else moved


# --- one layer ----------------------------------------------------------------------------------------------------


def _layer_check(proof: _Proof, index: int) -> LayerCheck:
    found, layer = proof.after, proof.metadata["layers"][index]
    layout = contract.images_first(proof.metadata["layouts"][index])
    a = found[contract.output_name("activations", index)].astype(np.float64)
    g = found[contract.output_name("gradients", index)].astype(np.float64)
    cam = found[contract.output_name("map", index)]
    grid = proof.metadata["grids"][index]
    perm = [layout.find(axis) for axis in ("NCT" if grid else "NCHW")]
    part = (..., contract.Grid(*grid).tokens) if grid else (...,)
    lined = a.transpose(perm)[part]
    lined = lined.reshape(*lined.shape[:2], -1)
    slopes = g.transpose([0, 1, *(axis + 1 for axis in perm[1:])])[part]
    slopes = slopes.reshape(*slopes.shape[:3], -1)
    raw = xgrad_cam(NumpyArrays(), lined, slopes, non_negative=False)
    share = slopes * lined[:, None]
    expected = np.maximum(raw, 0).reshape(cam.shape)
    formula = np.abs(cam - expected).max() / (np.abs(raw).max() or 1.0)
    conservation = np.abs(raw.sum(-1) - share.sum((2, 3))) / np.maximum(np.abs(share).sum((2, 3)), 1e-300)
    return LayerCheck(layer, float(formula), float(conservation.max()), _finite_difference(proof, index, g))


def _finite_difference(proof: _Proof, index: int, gradient: np.ndarray) -> tuple[float, float]:
    """What the gradient says of the first image's first class, and what the head itself does, along one direction."""
    layer, images = proof.metadata["layers"][index], proof.metadata["layouts"][index].find("N")
    score, classes = proof.metadata["score"], proof.after[contract.CLASSES]
    model = head_model(proof.graph, proof.weights, layer, score)
    head = open_session(model.SerializeToString(), providers="cpu")
    a = proof.values[layer]
    others = {name: proof.values[name] for name in head_inputs(proof.graph, layer, score)}
    direction = proof.rng.standard_normal(a.shape) * (np.sqrt(np.mean(a.astype(np.float64) ** 2)) or 1.0)
    step = 1e-2
    ends = [
        head.run({layer: (a + sign * step * direction).astype(a.dtype), **others}, [score])[score] for sign in (1, -1)
    ]
    ahead, behind = (_class_score(end, int(classes[0, 0])) for end in ends)
    return float((gradient[0, 0] * direction.take(0, images)).sum()), (ahead - behind) / (2 * step)


def _class_score(score: np.ndarray, class_id: int) -> float:
    """The first image's score of a class, from a score tensor of any of the contract's shapes."""
    row = np.asarray(score, np.float64).reshape(-1) if score.ndim < 2 else score[0].astype(np.float64).reshape(-1)
    if (score.ndim < 2 and class_id >= len(row)) or len(row) == 1:
        return float(row[0] if class_id else -row[0])
    if class_id >= len(row):
        raise ModelError(f"Class {class_id} lies outside the score.")
    return float(row[class_id])
