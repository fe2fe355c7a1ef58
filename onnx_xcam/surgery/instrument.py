"""The one way in: from a model to the instrumented model of the contract."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from onnx_xcam import contract
from onnx_xcam.contract import ClassInput, Emit, ExternalDataChoice, Layout, Metadata
from onnx_xcam.errors import LayerError, ModelError, ShapeError, UnsupportedOpError, XcamError
from onnx_xcam.surgery.cam import METHODS, Cam, emit_cam, emit_heatmap, emit_status
from onnx_xcam.surgery.emission import shapes
from onnx_xcam.surgery.emission.broadcasting import expanded
from onnx_xcam.surgery.emission.emitter import Emitter
from onnx_xcam.surgery.emission.protos import QUANTISERS
from onnx_xcam.surgery.emission.values import Value
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.result import write_result
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.finding.layers import Layer, Layers, resolve
from onnx_xcam.surgery.finding.score import Score, Selection, find_score, select_classes
from onnx_xcam.surgery.gradients.backward import gradients, way
from onnx_xcam.surgery.gradients.vjp_model import new_emitter, tensor_info
from onnx_xcam.surgery.graphs.graph import Graph
from onnx_xcam.surgery.graphs.prepare import prepare
from onnx_xcam.surgery.graphs.sample import sample_of
from onnx_xcam.surgery.graphs.signs import is_non_negative
from onnx_xcam.surgery.graphs.soundness import Following
from onnx_xcam.surgery.graphs.stored import forward_value
from onnx_xcam.surgery.modernise import modernised


def instrument(
    model: ModelLike,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = "xgrad-cam",
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    allow_folders: Folders = (),
) -> onnx.ModelProto:
    """Add XGrad-CAM to a model.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed.
        layers: "auto" (the last spatial feature map), a layer's name, or a list of names. A name is a tensor, a node, a
            PyTorch module path, or a part of one that fits only one layer.
        score: "auto" (the logits), or a tensor's name.
        method: the CAM method, "xgrad-cam".
        emit: which outputs to add to the classes and scores: "map", "activations", "gradients", "heatmap", "status".
        class_input: how the classes are chosen at run time: "optional" (an input with a default, the top class),
            "required" (a plain input) or "fixed" (no input; `classes` says which).
        classes: the classes for class_input="fixed"; -1 is the top class, -2 the second best, and so on.
        allow_folders: a folder, or several, in which the model's external data may lie besides the model's own. Without
            it, external data elsewhere (an absolute path, `..`, a link that leads there) are refused.

    Returns:
        The instrumented model (version 1 of the contract), with external data loaded if `model` is a path.

    Raises:
        XcamError: ModelError, ScoreError, LayerError, ClassError or UnsupportedOpError, as the case may be.
    """
    plan = _planned(
        Source(model, allow_folders=allow_folders), Request(layers, score, method, emit, class_input, classes)
    )
    result = plan.source.load()
    result.MergeFromString(plan.tail)
    return result


def instrument_bytes(
    model: ModelLike,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = "xgrad-cam",
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    allow_folders: Folders = (),
) -> bytes:
    """`instrument`, serialised: the original bytes and a tail. External data stays where it is and is not loaded."""
    plan = _planned(
        Source(model, allow_folders=allow_folders), Request(layers, score, method, emit, class_input, classes)
    )
    return plan.source.with_tail(plan.tail)


def instrument_file(
    model: ModelLike,
    out: str | os.PathLike[str],
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = "xgrad-cam",
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    external_data: ExternalDataChoice = "auto",
    allow_folders: Folders = (),
) -> Metadata:
    """`instrument`, from file to file: copies the file and appends the tail; the weights are never read into memory.

    Args:
        model: as `instrument`, and so are the options but one.
        out: the file to write.
        external_data: what becomes of weights that the model keeps in other files. "share": the result uses the same
            files, which must lie in its folder or below, since ONNX Runtime reads no others. "copy": they are copied
            beside the result. "inline": they are put into the result, which must stay below 2 GiB. "auto": "share"
            where the result finds them just as the original does, that is in the same folder, else "copy".

    Returns:
        What was done: layers, layouts, score, notes.

    Raises:
        OutputError: the result cannot be written, would overwrite the model or another file, or cannot have its weights
            as `external_data` wants.
        and what `instrument` raises.
    """
    if external_data not in contract.EXTERNAL_DATA_CHOICES:
        raise XcamError(f"external_data is one of {', '.join(contract.EXTERNAL_DATA_CHOICES)}, not {external_data!r}.")
    plan = _planned(
        Source(model, allow_folders=allow_folders), Request(layers, score, method, emit, class_input, classes)
    )
    note = write_result(plan.source, Path(out), plan.tail, external_data)
    return replace(plan.metadata, notes=(*plan.metadata.notes, note)) if note else plan.metadata


@dataclass(frozen=True)
class Request:
    """What is asked of the surgery; see `instrument`."""

    layers: str | Sequence[str]
    score: str
    method: str
    emit: Sequence[Emit]
    class_input: ClassInput
    classes: Sequence[int] | None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise XcamError(f"There is no method '{self.method}'; there are {', '.join(METHODS)}.")
        listed = isinstance(self.emit, Sequence) and not isinstance(self.emit, str)
        wrong = [kind for kind in self.emit if kind not in contract.EMITS] if listed else self.emit
        if not listed or wrong:
            raise XcamError(f"emit takes a list of {', '.join(contract.EMITS)}, not {wrong!r}.")
        if self.class_input not in contract.CLASS_INPUTS:
            raise XcamError(f"class_input is one of {', '.join(contract.CLASS_INPUTS)}, not {self.class_input!r}.")


@dataclass(frozen=True)
class _Plan:
    source: Source
    tail: bytes
    metadata: Metadata


def _planned(source: Source, request: Request) -> _Plan:
    with Following(source.name):
        return _followed(source, request)


def _followed(source: Source, request: Request) -> _Plan:
    source, skeleton, notes = modernised(source)
    _refuse_twice(skeleton, source.name)
    graph = prepare(skeleton, source.name)
    score = find_score(graph, request.score)
    choice = Layers(graph, score.name, sample_of(skeleton, graph))
    chosen = resolve(choice, request.layers)
    metadata = Metadata(
        layers=tuple(layer.shown for layer in chosen),
        layouts=tuple(layer.layout for layer in chosen),
        grids=tuple(layer.grid for layer in chosen),
        score=score.shown,
        method=request.method,
        notes=(
            *notes,
            *score.notes,
            *(_said(choice, layer, request.layers) for layer in chosen),
            *_quantised(graph, chosen, score),
        ),
        class_count=score.count if isinstance(score.count, int) else None,
        activation=score.activation,
        probabilities=score.probabilities,
        **contract.hints({p.key: p.value for p in skeleton.metadata_props}),
    )
    try:
        tail = _Tail(graph, score, chosen, request).build()
    except (UnsupportedOpError, ShapeError) as error:
        raise type(error)(f"{error} {_advice(choice, chosen)}".strip()) from error
    message = onnx.ModelProto(graph=tail)
    entry = message.metadata_props.add()
    entry.key, entry.value = contract.METADATA_KEY, metadata.to_json()
    if any(p.key == contract.METADATA_KEY for p in skeleton.metadata_props):
        source = source.without_metadata(contract.METADATA_KEY)
    return _Plan(source, message.SerializeToString(), metadata)


def _refuse_twice(skeleton: onnx.ModelProto, name: str) -> None:
    graph = skeleton.graph
    names = {value.name for value in (*graph.input, *graph.output)}
    if contract.is_instrumented(names):
        raise ModelError(f"{name} is instrumented already; use it as it is, or instrument the original.")
    names.update(tensor.name for tensor in graph.initializer)
    names.update(output for node in graph.node for output in node.output)
    taken = sorted(n for n in names if n.startswith("xcam_"))
    if taken:
        raise ModelError(
            f"{name} has tensors named {', '.join(taken[:5])}, which those to be added would clash with; is it an "
            "instrumented model without its outputs? Instrument the original."
        )


def _said(choice: Layers, layer: Layer, asked: str | Sequence[str]) -> str:
    size = contract.shape_text(layer.shape)
    path = f", module '{layer.path}'" if layer.path else ""
    why = choice.reason(layer) if asked == "auto" else "as asked"
    return f"Layer: '{layer.shown}' ({layer.op}{path}), {layer.layout} {size}{_tokens(layer)}, {why}."


def _quantised(graph: Graph, chosen: Sequence[Layer], score: Score) -> list[str]:
    """What is to be known of a gradient through quantised values."""
    passed = way(graph, [layer.name for layer in chosen], [score.name]).nodes
    if not any(node.op in QUANTISERS for node in passed):
        return []
    return ["Quantised: the gradient passes where a value is rounded and stops where it is clipped (straight-through)."]


def _tokens(layer: Layer) -> str:
    if layer.grid is None:
        return ""
    height, width, before, after = layer.grid
    others = [f"{count} {where}" for count, where in ((before, "before"), (after, "after")) if count]
    return f" of {height or '?'} x {width or '?'} tokens" + (f" and others ({', '.join(others)})" if others else "")


def _advice(choice: Layers, chosen: Sequence[Layer]) -> str:
    """The nearest layer that works, as a sentence."""
    for layer in chosen:
        if not choice.works(layer):
            near = choice.nearest_that_works(layer)
            return f"The nearest layer that works is '{near.shown}'." if near else "No later layer works either."
    return ""


class _Tail:
    """The added part of the graph."""

    def __init__(self, graph: Graph, score: Score, layers: Sequence[Layer], request: Request) -> None:
        self.graph = graph
        self.score = score
        self.layers = layers
        self.request = request
        self.emitter: Emitter = new_emitter(graph)
        self.outputs: list[Value] = []

    def build(self) -> onnx.GraphProto:
        """The nodes, initializers, inputs and outputs to add."""
        how = self.request.class_input
        selection = select_classes(self.graph, self.emitter, self.score, how, self.request.classes)
        k = selection.classes.shape[1]
        if isinstance(k, str):
            self.emitter.define_symbol(k, selection.classes, 1)
        self._add(selection.classes, contract.CLASSES)
        self._add(selection.scores, contract.SCORES)
        names = [layer.name for layer in self.layers]
        found = gradients(self.graph, self.emitter, {self.score.name: selection.seed}, names, self.score.unclipped)
        for index, layer in enumerate(self.layers):
            self._layer(index, layer, found[layer.name], selection)
        tail = self.emitter.export([value.name for value in self.outputs], _IR_VERSION)
        result = onnx.GraphProto(node=tail.node, initializer=tail.initializer)
        result.output.extend(tensor_info(value) for value in self.outputs)
        if how != "fixed":
            result.input.append(tensor_info(self.emitter.forward(*_CLASS_INPUT)))
        if how == "optional":
            result.initializer.append(onnx.numpy_helper.from_array(np.array([[-1]], np.int64), contract.CLASS_INPUT))
        return result

    def _add(self, value: Value, name: str) -> None:
        self.outputs.append(self.emitter.named(value, name))

    def _layer(self, index: int, layer: Layer, gradient: Value, selection: Selection) -> None:
        a = forward_value(self.graph, self.emitter, layer.name, "The layer")
        layout = contract.images_first(layer.layout)
        order = [layer.layout.find(axis) for axis in layout]
        a, gradient = a.transpose(order), gradient.transpose([0, *(axis + 1 for axis in order)])
        positive = is_non_negative(self.graph, layer.name)
        cam = emit_cam(
            self.request.method,
            a,
            gradient,
            layout=layout,
            grid=layer.grid,
            space=self._space(layer, a, layout),
            non_negative=positive,
        )
        for kind in dict.fromkeys(self.request.emit):
            self._add(self._output(kind, a, gradient, cam, selection), contract.output_name(kind, index))

    def _space(self, layer: Layer, a: Value, layout: Layout) -> list[shapes.Part]:
        """Height and width of the layer as parts of a shape."""
        if layer.grid is None:
            at = layout.find("H")
            return [shapes.dim_part(a, at), shapes.dim_part(a, at + 1)]
        if layer.grid.height is not None and layer.grid.width is not None:
            return [layer.grid.height, layer.grid.width]
        tensors = [(forward_value(self.graph, self.emitter, name, "The layer"), axis) for name, axis in layer.places]
        return [shapes.dim_part(tensor, axis) for tensor, axis in tensors]

    def _output(self, kind: Emit, a: Value, gradient: Value, cam: Cam, selection: Selection) -> Value:
        if kind == "map":
            return cam.map
        if kind == "activations":
            return a.cast(np.float32)
        if kind == "status":
            return emit_status(cam, selection.scores)
        if kind == "heatmap":
            return emit_heatmap(cam, *self._input_size(cam))
        full = expanded(gradient, a).cast(np.float32)
        return full.transpose([1, 0, *range(2, full.rank)])

    def _input_size(self, cam: Cam) -> tuple[list[shapes.Part], shapes.Shape]:
        """Height and width of the image input, as parts and as static shape of the heat map."""
        graph = self.graph
        for name in graph.input_names:
            shape = graph.shape(name)
            axes = None if graph.is_constant(name) or shape is None else contract.image_axes(shape)
            if shape is None or axes is None:
                continue
            image = self.emitter.forward(name, graph.dtype(name), shape)
            parts = [shapes.dim_part(image, axis) for axis in axes]
            return parts, (*cam.map.shape[:2], *(shape[axis] for axis in axes))
        raise LayerError(
            "The heat map needs an image input [N,C,H,W] or [N,H,W,C] to take its size from; there is none."
        )


_IR_VERSION = 8
_CLASS_INPUT = (contract.CLASS_INPUT, np.dtype(np.int64), ("xcam_M", "xcam_K"))
