"""This module runs a model and its instrumented form on one input, and keeps the values that the checks compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from onnx_xcam import contract
from onnx_xcam.feeds import InputValue, example_feeds
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime import Optimisation, Session, open_session
from onnx_xcam.surgery.analysis.concrete_size import picture_size
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.autodiff.composites import steps
from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.instrumented import instrumented
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.submodels.behind_layer import behind_layer, bypassing_tensors
from onnx_xcam.surgery.submodels.more_outputs import as_analysed, with_outputs
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Analysis
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs
from onnx_xcam.trials.comparison import OUTPUT_TOLERANCE, tolerance
from onnx_xcam.trials.exactness import check_processor
from onnx_xcam.verification.influence import check_rows
from onnx_xcam.verification.unchanged import OutputCheck, check_output, patched

EVALUATOR_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, KeyError)
"""The exceptions that the reference evaluator raises where it cannot run a node."""
LEVELS: tuple[Optimisation, ...] = ("disable", "basic", "extended")
"""ONNX Runtime's levels of optimisation besides the default."""


class Observed:
    """An Observed holds a model, its instrumented form, and the values of both on one input.

    Attributes:
        source: the model, in the form that is analysed.
        graph: the graph of that form.
        notes: notes on how the model was changed for the analysis.
        metadata: the metadata of the instrumented model.
        before, after: the values of all outputs of the model and of its instrumented form.
        outputs, rows, processor: the results of the checks of outputs, images of a run and 8-bit products.
        is_cut: whether the layers add up to one map, and each is differentiated without the way through the others.
        score, layers: the score, and the tensors with the layers' floats.
        path, steps: the differentiable path from the layers to the score, and the steps in which it is differentiated.
        values: the values of every tensor that the checks of nodes and layers need, by name.
        rng: the source of all random numbers.
    """

    def __init__(
        self,
        given: Source,
        analysis: Analysis,
        method: str,
        image: np.ndarray | None,
        inputs: Mapping[str, InputValue] | None,
    ) -> None:
        """Instrument the model and run both forms.

        Args:
            given: the model as the user gave it.
            analysis: its analysis, with the score and the layers.
            method: the CAM method.
            image: a ready input [N, ...], or None for random numbers.
            inputs: the values of the inputs beside the picture, by name.
        """
        self.rng = np.random.default_rng(0)
        self.source, self.graph, self.notes = analysis.source, analysis.graph, analysis.changes
        made = instrumented(analysis, TailOptions(method=method)).content()
        size = picture_size(analysis.skeleton, self.graph) or (224, 224)
        unused = unused_inputs(given.changed(made).skeleton())
        feeds = self._run_both(
            given,
            made,
            analysis.skeleton,
            lambda plain: example_feeds(
                plain.inputs, plain.optional_inputs, inputs, self.rng, image, size=size, unused=unused
            ),
        )
        self.score, self.is_cut = analysis.target, analysis.is_cut
        self.layers = [float_for(self.graph, name) for name in self.metadata.layers]
        stops = self.layers if self.is_cut else ()
        self.path = differentiable_path(self.graph, self.layers, [self.score.name], stops)
        self.steps = steps(self.graph, self.path.nodes, {*self.layers, self.score.name})
        self.values = self._values(feeds)

    @property
    def has_no_object(self) -> bool:
        """Tell whether the score is of objects, and the picture has none."""
        return contract.OBJECTS in self.after and int(self.after[contract.OBJECTS][0, 0]) < 0

    def behind(self, layers: Sequence[str]) -> Sequence[gs.Node]:
        """Return the nodes with which the score changes as these layers do, of which each is held as it is.

        The score of an object changes along the differentiated nodes alone: which candidate it is of stays as it is.
        """
        if self.score.candidates is not None:
            return differentiable_path(self.graph, layers, [self.score.name], layers).nodes
        return behind_layer(self.graph, layers[0], self.score.name).nodes

    def _run_both(
        self, given: Source, made: bytes, skeleton: onnx.ModelProto, fed: Callable[[Session], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Run the model and its instrumented form one after the other, because each session holds all the weights."""
        plain = self._session(given.with_tail(b""))
        feeds = fed(plain)
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
        self.outputs = self._compared(pictures, before, after)
        return feeds

    def _values(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the values of constants, weights, inputs, inner tensors and outputs, by name."""
        inner = sorted(self._inner_names() - set(self.before) - set(self.graph.input_names))
        content = with_outputs(as_analysed(self.source.with_tail(b"")), inner)
        inside = self._session(content).run(feeds, inner)
        stored = {name: numpy_helper.to_array(tensor) for name, tensor in self._weights().items()}
        return {**self.graph.constants, **stored, **feeds, **inside, **self.before}

    def _weights(self) -> dict[str, onnx.TensorProto]:
        """Return the initializers that are read behind the first layer; no others are loaded from external files."""
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
        """Return feeds with more pictures to run a quantised model on."""
        axes = {name: pair for name, value in feeds.items() if (pair := contract.image_axes(value.shape)) is not None}
        return patched(feeds, axes, self.rng) if axes else []

    def _compared(
        self, pictures: list[dict[str, Any]], before: list[dict[str, Any]], after: list[dict[str, Any]]
    ) -> list[OutputCheck]:
        """Compare the original outputs before and after; a quantised model's also with those at other levels."""
        levels: list[list[dict[str, Any]]] = []
        if self._is_quantised():
            for level in LEVELS:
                session = self._session(self.source.with_tail(b""), level)
                levels.append([session.run(one, list(before[0])) for one in pictures])
        halves = any(self.graph.dtype(name) == np.float16 for name in self.graph.producer)
        return [
            check_output(name, before, after, levels, OUTPUT_TOLERANCE["float16"] if halves and tolerance(value) else 0)
            for name, value in before[0].items()
        ]

    def _inner_names(self) -> set[str]:
        """Return the names of the tensors whose values the checks of nodes and layers need."""
        graph, layers, score = self.graph, self.layers, self.score.name
        names = {t.name for node in self.path.nodes for t in node.inputs if t.name in graph.producer}
        return names.union(layers, [score], *(bypassing_tensors(graph, layer, score) for layer in layers))
