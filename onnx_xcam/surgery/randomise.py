"""This module randomises a model's weights layer by layer, which is the basis of the sanity check of saliency maps.

Adebayo et al., "Sanity Checks for Saliency Maps" (2018), re-initialise the layers of a network one after the other from
the score towards the input. An exported file does not say how its weights were initialised, so here the values of every
weight tensor are *shuffled*. That keeps each tensor's scale and distribution, a variance stays positive, integers of a
quantised model stay in their range, and still everything is lost that the weights had learned.

A *layer* is a node between the picture and the score that has a matrix, a kernel or a table of its own (Conv, Gemm,
MatMul with a constant, a position embedding, ...), together with the vectors behind it, up to the next layer: biases,
and scales of a normalisation. Single numbers (an epsilon, the bound of a clip) are no weights, nor are scales and zero
points of quantised tensors.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto, numpy_helper

from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.surgery.analysis.reachability import between, forward
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.uses import Uses
from onnx_xcam.surgery.lowering.order import nodes_in_order
from onnx_xcam.surgery.targets.analysis import Request, analyse

Order: TypeAlias = Literal["cascading", "independent"]
"""The order in which layers are randomised: one on top of the other, or each alone."""
ORDERS: tuple[Order, ...] = ("cascading", "independent")
"""These are the values that `Order` takes."""

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
"""A constant of one of these types can be a weight, wherever it is read."""


@dataclass(frozen=True)
class WeightLayer:
    """A WeightLayer names the weight tensors of one layer.

    Attributes:
        name: the tensor that the layer's first node computes.
        op: the operator of that node.
        tensors: the names of the weight tensors; one that several layers share belongs to the layer nearest to the
            score.
        count: how many numbers the tensors hold.
    """

    name: str
    op: str
    tensors: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Randomised:
    """A Randomised is a model with some of its layers randomised.

    Attributes:
        layer: the layer randomised last, or in order "independent" the only one.
        depth: the number of that layer, counted from the score.
        of: how many layers there are.
        model: the model, serialised.
    """

    layer: WeightLayer
    depth: int
    of: int
    model: bytes


def weight_layers(model: ModelLike, *, score: str = "auto", allow_folders: Folders = ()) -> tuple[WeightLayer, ...]:
    """Return the layers of a model that have weights, from the score towards the input.

    Raises:
        XcamError: what `randomised` raises.
    """
    return _Weights(model, score, "auto", allow_folders).layers


def randomised(
    model: ModelLike,
    *,
    seed: int = 0,
    order: Order = "cascading",
    steps: int | None = None,
    score: str = "auto",
    task: str = "auto",
    allow_folders: Folders = (),
) -> Iterator[Randomised]:
    """Yield the model with more and more of its weights shuffled, from the score towards the input.

    The weights are held once, and a serialised copy as long as the caller keeps it, so memory does not grow from step
    to step. A tensor is shuffled in the same way whatever the order and the number of steps.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed. Weights in other files are read.
        seed: seed of the shuffling.
        order: "cascading" keeps what was randomised before, "independent" restores it.
        steps: how many models to return, spread evenly from the first layer to the last; None for one per layer.
        score: "auto" (the logits), or a tensor's name.
        task: what the model is for.
        allow_folders: folders besides the model's own in which its external data may lie.

    Raises:
        XcamError: the order does not exist or steps is below 1; the model is instrumented, has no weights, or is larger
            than 2 GB with its weights inside; or what `onnx_xcam.inspect` raises. All are raised before the first step.
    """
    if order not in ORDERS:
        raise XcamError(f"The order is one of {', '.join(ORDERS)}, not {order!r}.")
    if steps is not None and steps < 1:
        raise XcamError(f"steps is {steps}; it must be at least 1.")
    return _Weights(model, score, task, allow_folders).shuffled(seed, order, steps)


class _Weights:
    """A _Weights holds a model in memory, its layers of weights, and the message of each weight tensor."""

    def __init__(self, model: ModelLike, score: str, task: str, allow_folders: Folders) -> None:
        analysis = analyse(Source(model, allow_folders=allow_folders), Request(score=score, task=task))
        self.name = analysis.source.name
        if analysis.is_instrumented:
            raise ModelError(
                f"{self.name} is instrumented, and what was added relies on its weights; give the original model."
            )
        target = analysis.target.public_name
        self.model = analysis.plain_source.load()  # without the table of a detector, which is added to it again
        self._tensors = dict(_stored(self.model.graph))
        self.layers = _layers(self.model.graph, self._tensors, target)
        if not self.layers:
            raise ModelError(f"{self.name} has no weights between the picture and '{target}' that could be randomised.")

    def shuffled(self, seed: int, order: Order, steps: int | None) -> Iterator[Randomised]:
        """Yield the model after each step of the randomisation."""
        total = len(self.layers)
        stops = set(range(1, total + 1)) if steps is None else _evenly_spaced(total, steps)
        for depth, layer in enumerate(self.layers, start=1):
            if order == "independent" and depth not in stops:
                continue
            kept = {}
            for name in layer.tensors:
                if order == "independent":
                    kept[name] = TensorProto.FromString(self._tensors[name].SerializeToString())
                _shuffle(self._tensors[name], name, seed)
            if depth in stops:
                yield Randomised(layer, depth, total, self._serialised())
            for name, tensor in kept.items():
                self._tensors[name].CopyFrom(tensor)

    def _serialised(self) -> bytes:
        """Return the model, serialised.

        Raises:
            ModelError: it is larger than 2 GB.
        """
        try:
            content: bytes = self.model.SerializeToString()
        except (EncodeError, ValueError) as error:
            raise ModelError(
                f"{self.name} is larger than 2 GB with its weights inside, and cannot be randomised in memory."
            ) from error
        return content


def _evenly_spaced(total: int, steps: int) -> set[int]:
    """Return this many of the numbers 1..total, evenly spaced, from the first to the last; only the last if one."""
    return {int(depth) for depth in np.linspace(1 if steps > 1 else total, total, min(steps, total)).round()}


def _shuffle(tensor: TensorProto, name: str, seed: int) -> None:
    """Shuffle the values of a tensor in place, in an order that depends on the seed and the tensor's name alone."""
    values = numpy_helper.to_array(tensor)
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    order = generator.permutation(values.size)
    tensor.CopyFrom(numpy_helper.from_array(values.reshape(-1)[order].reshape(values.shape), tensor.name))


def _stored(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the tensors that a graph stores, with the names under which its nodes read them."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t


def _layers(graph: onnx.GraphProto, tensors: Mapping[str, TensorProto], score: str) -> tuple[WeightLayer, ...]:
    """Return the layers of weights between the graph's inputs and the score, from the score on."""
    producers = {name: node for node in graph.node for name in node.output if name}
    uses = Uses(nodes_in_order(graph.node))
    inputs = [value.name for value in graph.input if value.name not in tensors]
    reached = forward(uses, inputs).tensors
    ends = [score] if score in reached else [value.name for value in graph.output]
    groups: list[tuple[onnx.NodeProto, list[str]]] = []
    early: list[str] = []
    for node in reversed(between(uses, inputs, ends).nodes):
        own = [name for at, name in enumerate(node.input) if name and name not in reached and _counts(node, at)]
        names = list(dict.fromkeys(w for name in own for w in _behind(name, node, producers, tensors)))
        if names and (proto_traits(node).weighted or any(_is_matrix(tensors[name]) for name in names)):
            groups.append((node, names + early))
            early = []
        else:
            early += names
    if early and groups:  # weights before the first matrix belong to its layer
        groups[-1][1].extend(early)
    return tuple(_without_repeats(groups, tensors))


def _without_repeats(
    groups: Sequence[tuple[onnx.NodeProto, list[str]]], tensors: Mapping[str, TensorProto]
) -> Iterator[WeightLayer]:
    """Yield the layers of weights, each without the tensors of the layers before it."""
    seen = set[str]()
    for node, names in groups:
        own = tuple(name for name in dict.fromkeys(names) if name not in seen)
        seen.update(own)
        if own:
            count = sum(int(np.prod(tensors[name].dims)) for name in own)
            yield WeightLayer(node.output[0], node.op_type, own, count)


def _counts(node: onnx.NodeProto, at: int) -> bool:
    """Tell whether a node's input can hold weights."""
    places = proto_traits(node).weights_at
    return places is None or at in places


def _behind(
    name: str,
    reader: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    tensors: Mapping[str, TensorProto],
) -> Iterator[str]:
    """Yield the weight tensors that a constant input of a node is computed from."""
    todo, seen = [(name, proto_traits(reader).on_integers)], set[str]()
    while todo:
        name, on_integers = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in tensors:
            if _is_weight(tensors[name], on_integers=on_integers):
                yield name
        elif name in producers:
            node = producers[name]
            # Integers that are only moved or cast on the way serve the same purpose.
            kept = on_integers or proto_traits(node).on_integers
            todo += [(source, kept) for at, source in enumerate(node.input) if source and _counts(node, at)]


def _is_weight(tensor: TensorProto, *, on_integers: bool) -> bool:
    """Tell whether a constant is learned, as far as its type and size show."""
    if int(np.prod(tensor.dims)) < 2:
        return False
    return tensor.data_type in _FLOATS or (on_integers and tensor.data_type != TensorProto.INT64)


def _is_matrix(tensor: TensorProto) -> bool:
    """Tell whether a tensor has more than one axis that is longer than 1."""
    return int(np.prod(tensor.dims)) > max(tensor.dims, default=0)
