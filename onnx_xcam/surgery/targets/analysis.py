"""This module takes a model from its file to what is explained in it, one step after another, each computed once.

source -> normalised -> plain graph -> target (the score table) -> graph (with the table) -> layers -> chosen layers
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import onnx

from onnx_xcam import contract
from onnx_xcam.common.arguments import share, text
from onnx_xcam.errors import ScoreError
from onnx_xcam.metadata import CutMember, Hints, read_hints
from onnx_xcam.surgery.analysis.concrete_size import sample_of
from onnx_xcam.surgery.analysis.foreign_operators import foreign_operators
from onnx_xcam.surgery.analysis.input_values import InputValues, input_values
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.normalise.normalise import normalised
from onnx_xcam.surgery.targets.class_names import class_names
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layer_names import Chosen, resolve
from onnx_xcam.surgery.targets.layers import Layers
from onnx_xcam.surgery.targets.target import Evidence, Target, Thresholds
from onnx_xcam.surgery.targets.tasks import recognised

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A Request says what is to be explained in a model; see `instrument`.

    Raises:
        XcamError: a threshold is no number from 0 to 1, or score or task is no text.
    """

    layers: str | Sequence[str] = "auto"
    score: str = "auto"
    picture: str = "auto"
    task: str = "auto"
    conf: float | None = None
    iou: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", text("score", self.score, ScoreError))
        object.__setattr__(self, "task", text("task", self.task))
        for name in ("conf", "iou"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, share(name, value))


def analyse(source: Source, request: Request | None = None) -> Analysis:
    """Analyse a model: each part of the result is computed when it is first read, and then kept.

    Raises:
        ModelError: the model is no ONNX model, is newer than the installed onnx, or cannot be normalised. The parts of
            the result raise what they name.
    """
    with diagnosed(source):
        return Analysis(source, *normalised(source), request or Request())


def diagnosed(source: Source) -> Diagnosed:
    """Return the context of an analysis, which turns an exception that nothing foresaw into a sentence."""

    def foreign() -> str | None:
        operators = foreign_operators(source.skeleton())
        return operators.sentence() if operators else None

    return Diagnosed(source, foreign)


def _part(make: Callable[[Analysis], T]) -> functools.cached_property[T]:
    """Make a method a cached property of an analysis, which is computed in the context of `diagnosed`."""

    @functools.wraps(make)
    def made(analysis: Analysis) -> T:
        with diagnosed(analysis.given):
            return make(analysis)

    return functools.cached_property(made)


class Analysis:
    """An Analysis holds what the surgery knows of a model and of what is to be explained in it.

    Attributes:
        given: the model as it was given.
        plain_source: the normalised model.
        plain_skeleton: the normalised model's protobuf message without large weights.
        changes: what had to be changed to normalise the model, in sentences.
        request: what is to be explained.
    """

    def __init__(
        self, given: Source, source: Source, skeleton: onnx.ModelProto, changes: Sequence[str], request: Request
    ) -> None:
        self.given, self.plain_source, self.plain_skeleton = given, source, skeleton
        self.changes, self.request = tuple(changes), request

    def of(self, source: Source) -> Analysis:
        """Return the same request's analysis of a normalised model made from this one by changing nodes."""
        return Analysis(self.given, source, source.skeleton(), self.changes, self.request)

    @property
    def is_instrumented(self) -> bool:
        """Tell whether the model has the outputs of an instrumented one, so that nothing needs to be analysed in it."""
        graph = self.plain_skeleton.graph
        return contract.is_instrumented(value.name for value in (*graph.input, *graph.output))

    @functools.cached_property
    def props(self) -> Mapping[str, str]:
        """Return the model's metadata."""
        return {entry.key: entry.value for entry in self.plain_skeleton.metadata_props}

    @functools.cached_property
    def hints(self) -> Hints:
        """Return what the metadata say of preprocessing and labels.

        Raises:
            ModelError: they have a wrong form.
        """
        return read_hints(self.props)

    @_part
    def plain_graph(self) -> Graph:
        """Return the graph of the model's own nodes, which nobody may change.

        Raises:
            ModelError: the model contradicts itself.
        """
        return prepare(self.plain_skeleton, self.plain_source.name)

    @_part
    def plain_sample(self) -> Graph | None:
        """Return the plain graph with numbers in place of a symbolic height and width; None without symbols."""
        return sample_of(self.plain_skeleton, self.plain_graph)

    @_part
    def target(self) -> Target:
        """Return the score table.

        Raises:
            ScoreError: the model has none.
        """
        request = self.request
        thresholds = Thresholds(request.conf, request.iou)
        known = self.plain_graph, self.plain_sample, request.score, self.props, self.hints.labels, thresholds
        evidence = Evidence(*known, self.plain_source.stored)
        return recognised(evidence, request.task)

    @_part
    def source(self) -> Source:
        """Return the normalised model with the nodes that compute the score table, to which a tail is appended.

        Raises:
            ScoreError: the model has no score table.
        """
        added = self.target.added
        return self.plain_source.extended(added) if added else self.plain_source

    @_part
    def skeleton(self) -> onnx.ModelProto:
        """Return the protobuf message of `source` without large weights."""
        return self.source.skeleton() if self.target.added else self.plain_skeleton

    @_part
    def graph(self) -> Graph:
        """Return the graph with the score table, which nobody may change.

        Raises:
            ModelError: the model contradicts itself.
            ScoreError: the model has no score table.
        """
        return prepare(self.skeleton, self.source.name) if self.target.added else self.plain_graph

    @_part
    def sample(self) -> Graph | None:
        """Return the graph with numbers in place of a symbolic height and width; None if they are not symbolic."""
        return sample_of(self.skeleton, self.graph) if self.target.added else self.plain_sample

    @_part
    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the classes that the graph itself looks up, by class id; None where it does not."""
        return class_names(self.plain_graph, self.target.name)

    @_part
    def layers(self) -> Layers:
        """Return the candidate layers for the picture that the request names.

        Raises:
            LayerError: there is no such picture.
        """
        return self.layers_of(self.request.picture)

    @_part
    def chosen(self) -> list[Chosen]:
        """Return the layers that the request names, each with the name by which it was asked for.

        Raises:
            LayerError: no layer has such a name.
        """
        return resolve(self.layers, self.request.layers, self.target.default_layers)

    @property
    def is_cut(self) -> bool:
        """Tell whether the chosen layers carry the evidence together, so that their maps are added up to one."""
        return self.request.layers == "auto" and self.target.adds_up

    @property
    def window(self) -> contract.Window | None:
        """Return which part of the input the layers of a cut cover; None for all of it, and for layers by name."""
        return self.layers.window if self.is_cut else None

    def member(self, layer: Layer) -> CutMember:
        """Return a member of the cut with its stride, where the sizes of picture and layer are known."""
        name, *_ = self.layers.explained.names
        shape = self.graph.shape(name) or ()
        axes = contract.picture_sides(shape) or contract.side_axes(shape)
        top, left, bottom, right = self.window or (0, 0, 1, 1)
        sides = zip(axes or (), layer.spatial, (bottom - top, right - left), strict=False)
        strides = [
            round(whole * share / part, 4) if self.window else whole / part
            for whole, part, share in ((shape[axis], part, share) for axis, part, share in sides)
            if isinstance(whole, int) and isinstance(part, int)
        ]
        return CutMember(layer.public_name, (strides[0], strides[1]) if len(strides) == 2 else None)

    @property
    def chosen_layers(self) -> list[Layer]:
        """Return the layers that the request names."""
        return [layer for layer, _ in self.chosen]

    def input_values(self, picture: str) -> InputValues | None:
        """Return what the graph proves of the values that a picture input takes; None where it proves nothing."""
        with diagnosed(self.given):
            return input_values(self.plain_graph, picture)

    def layers_of(self, picture: str) -> Layers:
        """Return the candidate layers for one of the model's pictures."""
        target = self.target
        return Layers(self.graph, target.name, self.sample, picture, only=target.only, doubt=target.doubt)
