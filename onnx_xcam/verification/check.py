"""What `check` proves about an explanation of one model: outputs unchanged, gradients right, axioms kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_xcam import contract
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.layout import lined_up
from onnx_xcam.cams.methods import DEFAULT_METHOD, emitted_method
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.common.arguments import shown
from onnx_xcam.errors import InputError, XcamError
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.feeds import InputValue, example_feeds, free_picture
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime import Optimisation, Session, open_session
from onnx_xcam.surgery.analysis.concrete_size import picture_size
from onnx_xcam.surgery.autodiff.backward import way
from onnx_xcam.surgery.autodiff.composites import Step, steps
from onnx_xcam.surgery.autodiff.vjp_model import COTANGENT, vjp_model
from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.instrumented import instrumented
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.submodels.behind_layer import behind_layer, round_layer
from onnx_xcam.surgery.submodels.more_outputs import as_analysed, with_outputs
from onnx_xcam.surgery.submodels.node_model import node_model
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse, diagnosed
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs
from onnx_xcam.text import printable
from onnx_xcam.trials.comparison import OUTPUT_TOLERANCE, tolerance
from onnx_xcam.trials.exactness import ProcessorCheck, check_processor
from onnx_xcam.verification.influence import RowsCheck, check_rows
from onnx_xcam.verification.layer import LayerCheck, mark
from onnx_xcam.verification.slopes import HALF_TOLERANCE, TOLERANCE, Slope, of_first_image, slope_of
from onnx_xcam.verification.unchanged import OutputCheck, check_output, patched

PRODUCT_TOLERANCE = 1e-5
"""How far <gy, J v> and <Jᵀ gy, v> may differ, relative to what they are sums of; float64."""
COTANGENTS = 3
"""How many random gy an attempt takes: of fewer, all would now and then be blind to a wrong rule's fault."""
EVALUATOR_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, KeyError)
"""What the reference evaluator raises where it cannot run a node."""
LEVELS: tuple[Optimisation, ...] = ("disable", "basic", "extended")
"""ONNX Runtime's levels of optimisation besides the default."""


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


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `rows` is None for a model that takes one image at a time."""

    model: str
    outputs: list[OutputCheck]
    nodes: list[NodeCheck]
    layers: list[LayerCheck]
    notes: list[str]
    rows: RowsCheck | None = None
    processor: ProcessorCheck | None = None
    """None without products of 8-bit integers. What it finds is a warning: the instrumented model is right."""

    @property
    def passed(self) -> bool:
        """Whether everything was proved."""
        parts: list[OutputCheck | NodeCheck | LayerCheck] = [*self.outputs, *self.nodes, *self.layers]
        return all(part.passed for part in parts) and (self.rows is None or self.rows.passed)

    @property
    def warnings(self) -> list[str]:
        """What deserves a look though nothing is wrong."""
        found = [layer.warning for layer in self.layers] + [self.rows.warning if self.rows else None]
        if self.processor and self.processor.changes_answers:
            found.insert(0, self.processor.text())
        return [warning for warning in found if warning]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "warnings": self.warnings, "passed": self.passed}

    def text(self) -> str:
        """The report for people."""
        verdict = "all checks passed" if self.passed else "FAILED"
        lines = [f"{self.model}: {verdict}{', but see the warning' if self.warnings else ''}", *self.notes, ""]
        for out in self.outputs:
            lines.append(f"{mark(out.passed)} {out.text()}")
        if self.processor:
            lines.append(f"{'warning:' if self.processor.changes_answers else mark(True)} {self.processor.text()}")
        worst = max((node.error for node in self.nodes if node.error is not None), default=0.0)
        passed = sum(node.passed for node in self.nodes)
        lines.append(
            f"{mark(passed == len(self.nodes))} gradient: {passed} of {len(self.nodes)} differentiated nodes pass the "
            f"float64 dot-product test (worst relative error {worst:.1e})"
        )
        for node in self.nodes:
            if not node.passed:
                lines.append(f"      {node.op} '{node.node}': {node.problem or f'relative error {node.error:.1e}'}")
        lines += [line for layer in self.layers for line in layer.lines()]
        lines += self.rows.lines() if self.rows else []
        return "\n".join(printable(line) for line in lines)


def check(
    model: ModelLike,
    image: np.ndarray | None = None,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = DEFAULT_METHOD,
    inputs: Mapping[str, InputValue] | None = None,
    allow_folders: Folders = (),
) -> CheckReport:
    """Prove on this model, with these values, that its instrumented form is right.

    - The original outputs are what they were at ONNX Runtime's default level of optimisation; those of a quantised
      model, on several pictures, differ no more than among its levels, and have the same top class.
    - For each differentiated node, on the model's own values (moved a little, away from kinks and ties):
      <gy, J v> from central differences equals <Jᵀ gy, v> from the rule, in float64, by onnx's reference evaluator.
      Of a quantised model this is the float model that is left without the rounding; its clipping stays in.
    - Where ONNX Runtime's sums of 8-bit products saturate on this processor, the outputs are compared with those in
      exact arithmetic. That they differ is a warning.
    - The emitted map is what the formula gives on the emitted A and G, and it sums to sum(G A) before the ReLU.

    Args:
        model: a plain model.
        image: a ready input `[N, ...]`; random numbers by default.
        layers: as `instrument`.
        score: as `instrument`.
        method: as `instrument`.
        inputs: the values of inputs beside the picture, as `Explainer` takes them; random by default, but with an image
            of your own all of them must be given.
        allow_folders: as `instrument`.

    Raises:
        XcamError: what `instrument` raises; ModelError if the model cannot be run.
    """
    if emitted_method(method).is_guided:
        raise XcamError(
            "check compares a map with its formula on A and G, but a guided one is made of the input's gradient too; "
            f"check '{DEFAULT_METHOD}', which it multiplies."
        )
    if image is not None and not (isinstance(image, np.ndarray) and image.ndim and image.dtype.kind in "fiub"):
        raise InputError(f"image is {shown(image)}; it must be an array of numbers [N,...], as the model takes them.")
    source = Source(model, allow_folders=allow_folders)
    with diagnosed(source):
        inputs, _ = read_pictures(source.skeleton(), source.path, inputs, None)
        request = Request(layers=layers, score=score, picture=_picture(source, inputs))
        proof = _Proof(source, analyse(source, request), method, image, inputs)
        return CheckReport(
            proof.source.name.strip("'"),
            proof.outputs,
            [_node_check(proof, step) for step in proof.steps],
            [_layer_check(proof, index) for index in range(len(proof.metadata.layers))],
            list(dict.fromkeys([*proof.notes, *proof.metadata.notes])),
            proof.rows,
            proof.processor,
        )


class _Proof:
    """The model, its instrumented form, and the values of both on one input."""

    def __init__(
        self,
        given: Source,
        analysis: Analysis,
        method: str,
        image: np.ndarray | None,
        inputs: Mapping[str, InputValue] | None,
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.source, self.graph, self.notes = analysis.source, analysis.graph, analysis.changes
        skeleton, content = analysis.skeleton, self.source.with_tail(b"")
        made = instrumented(analysis, TailOptions(method=method)).content()
        # One session after the other, since each holds all the weights.
        plain = self._session(given.with_tail(b""))
        size = picture_size(skeleton, self.graph) or (224, 224)
        unused = unused_inputs(given.changed(made).skeleton())
        feeds = example_feeds(plain.inputs, plain.optional_inputs, inputs, self.rng, image, size=size, unused=unused)
        pictures = [feeds, *(self._more(feeds) if self._is_quantised() else [])]
        before = [plain.run(one, [out.name for out in plain.outputs]) for one in pictures]
        del plain
        self.processor = check_processor(given, feeds, before[0])
        explained = self._session(made)
        self.metadata = Metadata.from_props(explained.metadata, given.name)
        self.after = explained.run(feeds, [out.name for out in explained.outputs])
        after = [self.after, *(explained.run(one, list(before[0])) for one in pictures[1:])]
        self.rows = check_rows(skeleton.graph, explained, feeds, self.rng)
        del explained
        self.before = before[0]
        self.outputs = self._compared(content, pictures, before, after)
        self.score = analysis.target
        self.layers = [float_for(self.graph, name) for name in self.metadata.layers]
        self.way = way(self.graph, self.layers, [self.score.name])
        self.steps = steps(self.graph, self.way.nodes, {*self.layers, self.score.name})
        inner = sorted(self._inner_names() - set(self.before) - set(self.graph.input_names))
        inside = self._session(with_outputs(as_analysed(content), inner)).run(feeds, inner)
        self.weights = self._weights()
        stored = {name: numpy_helper.to_array(tensor) for name, tensor in self.weights.items()}
        self.values = {**self.graph.constants, **stored, **feeds, **inside, **self.before}

    def _weights(self) -> dict[str, onnx.TensorProto]:
        """The initializers that are read behind the first layer; of those in other files no more is loaded."""
        layers = set(self.layers)
        nodes = self.graph.nodes
        start = next((i for i, node in enumerate(nodes) if any(out.name in layers for out in node.outputs)), 0)
        read = {tensor.name for node in nodes[start:] for tensor in node.inputs}
        model = self.source.load(external=lambda tensor: tensor.name in read)
        return {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in read}

    def _session(self, model: bytes, optimisation: Optimisation = "all") -> Session:
        content, folder = self.source.runnable(model)
        return open_session(content, providers="cpu", folder=folder, optimisation=optimisation)

    def _is_quantised(self) -> bool:
        scaled = any(traits(node).rounds for node in self.graph.nodes)
        return scaled or bool(self.graph.quantised)

    def _more(self, feeds: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """More pictures to try a quantised model on."""
        found = {name: contract.image_axes(value.shape) for name, value in feeds.items()}
        axes = {name: pair for name, pair in found.items() if pair is not None}
        return patched(feeds, axes, self.rng) if axes else []

    def _compared(
        self, content: bytes, pictures: list[dict[str, Any]], before: list[dict[str, Any]], after: list[dict[str, Any]]
    ) -> list[OutputCheck]:
        """The original outputs before and after; of a quantised model, beside what they are at other levels."""
        levels: list[list[dict[str, Any]]] = []
        if self._is_quantised():
            for level in LEVELS:
                session = self._session(content, level)
                levels.append([session.run(one, list(before[0])) for one in pictures])
        halves = any(self.graph.dtype(name) == np.float16 for name in self.graph.producer)
        return [
            check_output(name, before, after, levels, OUTPUT_TOLERANCE["float16"] if halves and tolerance(value) else 0)
            for name, value in before[0].items()
        ]

    def _inner_names(self) -> set[str]:
        """The tensors whose values the checks need."""
        graph, layers, score = self.graph, self.layers, self.score.name
        names = {t.name for node in self.way.nodes for t in node.inputs if t.name in graph.producer}
        return names.union(layers, [score], *(round_layer(graph, layer, score) for layer in layers))


def _picture(given: Source, inputs: Mapping[str, InputValue] | None) -> str:
    """The picture that is explained: the one that is not among the inputs."""
    return free_picture(model_infos(given.skeleton()), inputs or {})


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
    except EVALUATOR_ERRORS as problem:
        return NodeCheck(name, str(node.op), None, f"the reference evaluator cannot run it: {str(problem)[:200]}")
    return NodeCheck(name, str(node.op), min(errors), None)


def _dot_product_error(proof: _Proof, step: Step, attempt: Attempt) -> float:
    """|<gy, J v> - <Jᵀ gy, v>| relative to the norms, for a few random gy at once."""
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    rng, tensors = proof.rng, proof.way.tensors
    free = list(dict.fromkeys(t.name for t in step.node.inputs if t.name in tensors))
    outputs = [out.name for out in step.node.outputs if out.name in tensors]
    forward = node_model(proof.graph, step.parts, proof.values, free)
    point = {name: _off_kinks(proof.values[name].astype(np.float64), rng, attempt) for name in free}
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


# --- one layer ----------------------------------------------------------------------------------------------------


def _layer_check(proof: _Proof, index: int) -> LayerCheck:
    found, layer, method = proof.after, proof.metadata.layers[index], emitted_method(proof.metadata.method)
    a = found[contract.output_name("activations", index)].astype(np.float64)
    g = found[contract.output_name("gradients", index)].astype(np.float64)
    cam = found[contract.output_name("map", index)]
    lined, slopes = lined_up(a, g, proof.metadata.layout(index), proof.metadata.grid(index))
    xp, formula = NumpyArrays(), method.formula
    assert formula is not None  # of an emitted method
    contributions = formula(xp, lined, slopes, non_negative=False)
    raw = map_of(xp, contributions)
    off = np.abs(cam - np.maximum(raw, 0).reshape(cam.shape)).max() / (np.abs(raw).max() or 1.0)
    conservation = None
    if method.conserves:
        share = slopes * lined[:, None]
        gap = np.abs(raw.sum(-1) - share.sum((2, 3))) / np.maximum(np.abs(share).sum((2, 3)), 1e-300)
        conservation = float(gap.max())
    slope = _slope(proof, index, g)
    if not isinstance(slope, Slope):
        why = slope or "the model is quantised, so its score changes by steps"
        return LayerCheck(layer, float(off), conservation, None, not_compared=why)
    without = [
        f"{node.op} '{node.name or node.outputs[0].name}'"
        for node in behind_layer(proof.graph, proof.layers[index], proof.score.name).nodes
        if traits(node).steps
    ]
    return LayerCheck(
        layer,
        float(off),
        conservation,
        (slope.says, slope.does),
        slope.error,
        slope.passed,
        slope.large_step,
        without,
    )


def _slope(proof: _Proof, index: int, gradient: np.ndarray) -> Slope | str | None:
    """How the score of the first image's first class changes with the layer, and how the gradient says it does.

    None for a quantised model, whose score changes by steps; a sentence where the reference evaluator cannot run what
    lies behind the layer.
    """
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    graph, layer, score = proof.graph, proof.layers[index], proof.score.name
    if graph.quantised:
        return None
    images = proof.metadata.layout(index).find("N")
    answers, class_id = len(proof.after[contract.CLASSES]), int(proof.after[contract.CLASSES][0, 0])
    behind = node_model(graph, behind_layer(graph, layer, score).nodes, proof.values, [layer])
    values = proof.values[layer].astype(np.float64)

    def scored(at: np.ndarray) -> float:
        return float(proof.score.table(evaluate(behind, {layer: at}, [score])[0], answers)[0, class_id])

    first = of_first_image(values.take(0, images), images, values.shape)
    half = any(graph.dtype(name) == np.float16 for name in graph.producer)
    # Beside weights of few bits ONNX Runtime rounds what they are multiplied with to 8 bits.
    rough = half or any(traits(node).dequantises for node in graph.nodes)
    try:
        whole = of_first_image(gradient[0, 0], images, values.shape)
        return slope_of(scored, values, whole, first, proof.rng, tolerance=HALF_TOLERANCE if rough else TOLERANCE)
    except EVALUATOR_ERRORS as problem:
        return f"the reference evaluator cannot run it: {str(problem)[:200]}"
