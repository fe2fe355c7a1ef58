"""This module emits the logits behind a table of probabilities that was put together after the sigmoid or softmax.

A detector applies the activation level by level or to some columns, and then joins, cuts, transposes and picks. All of
that only moves numbers, so the same moves are emitted once more for the inputs of the activation: row q and column c of
the result is the logit of row q and column c of the table. Products of two probabilities (objectness times class)
become sums of their logarithms, which are made of the logits themselves, so that nothing saturates:

    log sigmoid(z) = -softplus(-z),   log softmax(z) = z - log sum exp z

The root of such a product, which some detectors take in the end, is left out: it would but halve the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import activation, number

Kind = Literal["logit", "log"]
"""What a value is instead of a probability: the logit before its activation, or its logarithm."""
_WHO = "The score"
"""Who reads the model's tensors here, for messages."""


class Columns(NamedTuple):
    """Columns say which part of a tensor is meant.

    Attributes:
        axis: the axis of the columns, not negative.
        start: the first column.
        stop: the column behind the last.
    """

    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Behind:
    """A Behind holds what stands behind a tensor of probabilities.

    Attributes:
        value: the logits or logarithms, in the tensor's shape.
        kind: which of the two they are.
        activation: the name of the activation that was stepped back over, "Sigmoid" or "Softmax".
        axis: the axis along which a softmax normalises, as long as it is known; None for others.
    """

    value: Value
    kind: Kind
    activation: str
    axis: int | None = None

    def log(self) -> Value | None:
        """Emit the logarithms of the probabilities; None if the axis of a softmax is not known any more."""
        if self.kind == "log":
            return self.value
        emitter = self.value.emitter
        if self.activation != "Softmax":
            return -emitter.one("Softplus", [-self.value], self.value.dtype, self.value.shape)
        if self.axis is None:
            return None
        return emitter.one("LogSoftmax", [self.value], self.value.dtype, self.value.shape, axis=self.axis)


def behind(graph: Graph, emitter: Emitter, name: str, columns: Columns | None = None) -> Behind | None:
    """Emit what stands behind some columns of a tensor, None if no activation makes these.

    Args:
        graph: the model.
        emitter: collects the added nodes.
        name: the tensor.
        columns: the columns; None for the whole tensor.
    """
    return Replay(graph, emitter).tensor(name, columns)


class Replay:
    """A Replay emits the moves behind activations once more, for the activations' inputs."""

    def __init__(self, graph: Graph, emitter: Emitter) -> None:
        self.graph, self.emitter = graph, emitter
        self._known: dict[tuple[str, Columns | None, bool], Behind | None] = {}
        self._is_factor = False

    def tensor(self, name: str, columns: Columns | None = None) -> Behind | None:
        """Return what stands behind a tensor or some of its columns, None if no activation makes them."""
        key = name, columns, self._is_factor
        if key not in self._known:
            self._known[key] = self._tensor(name, columns)
        return self._known[key]

    def _tensor(self, name: str, columns: Columns | None) -> Behind | None:
        """Return what stands behind a tensor or some of its columns, by the node that makes it."""
        node = self.graph.producer.get(name)
        if node is None or not node.inputs or not is_standard(node.domain):
            return None
        if (final := activation(self.graph, node)) is not None and final[0] != "Hardmax":
            return self._before(node, *final, columns)
        facts, source = traits(node), str(node.inputs[0].name)
        if facts.values == Values.COPIED or facts.quantises_as_told or facts.dequantises or facts.casts:
            return self.tensor(source, columns)
        if facts.axes == "concatenated":
            return self._joined(node, columns)
        if facts.axes == "transposed":
            return self._transposed(node, columns)
        if facts.axes == "scattered":
            whole = self._written(node)
        elif node.op in ("Mul", "Sqrt"):
            whole = self._product(node)
        else:
            whole = self._moved(node, name, self.tensor(source))
        return None if whole is None else part_of(whole, columns)

    def _before(self, node: gs.Node, op: str, name: str, columns: Columns | None) -> Behind | None:
        """Return the input of an activation."""
        value = forward_value(self.graph, self.emitter, name, _WHO)
        axis = None
        if op in ("Softmax", "LogSoftmax"):
            axis = int(node.attrs.get("axis", 1 if self.graph.opset < 13 else -1)) % value.rank
        made = Behind(value, "log" if op == "LogSoftmax" else "logit", op.removeprefix("Log"), axis)
        return part_of(made, columns)

    def _joined(self, node: gs.Node, columns: Columns | None) -> Behind | None:
        """Return what stands behind a Concat; of its columns all, of the whole tensor a part must be probabilities."""
        names = [str(tensor.name) for tensor in node.inputs]
        rank = len(self.graph.shape(str(node.outputs[0].name)) or ())
        axis = int(node.attrs["axis"]) % rank if rank else 0
        if columns is None or columns.axis != axis:
            parts = [(name, columns) for name in names]
        elif (covered := self._covered(names, columns)) is not None:
            parts = covered
        else:
            whole = self._joined(node, None)
            return None if whole is None else part_of(whole, columns)
        sources = [self.tensor(name, part) if self._has_elements(name) else None for name, part in parts]
        known = [source for source in sources if source is not None]
        if not known or (columns is not None and len(known) < len(sources)):
            return None
        first = known[0]
        if any((one.kind, one.activation) != (first.kind, first.activation) for one in known):
            return None
        values = [
            self._nothing_like(name, first.value) if source is None else source.value
            for source, (name, _) in zip(sources, parts, strict=True)
        ]
        softmax = first.axis if axis != first.axis or len(values) == 1 else None
        return Behind(self.emitter.concat(values, axis), first.kind, first.activation, softmax)

    def _has_elements(self, name: str) -> bool:
        """Tell whether a tensor may have elements: columns that a model has none of are joined all the same."""
        return 0 not in (self.graph.shape(name) or ())

    def _nothing_like(self, name: str, value: Value) -> Value:
        """Return zeros in the shape of a tensor, for columns beside those that are wanted: they need no gradient."""
        beside = forward_value(self.graph, self.emitter, name, _WHO)
        return beside.zeros(shapes.dim_parts(beside)).cast(value.dtype).with_shape(beside.shape)

    def _other(self, name: str) -> Value:
        """Return a table of other values that probabilities are written into."""
        return forward_value(self.graph, self.emitter, name, _WHO)

    def _covered(self, names: Sequence[str], columns: Columns) -> list[tuple[str, Columns | None]] | None:
        """Return the inputs of a Concat that columns of its axis lie in, with their own columns; None if unknown."""
        parts, start = list[tuple[str, Columns | None]](), 0
        for name in names:
            shape = self.graph.shape(name)
            length = shape[columns.axis] if shape else None
            if not isinstance(length, int):
                return None
            low, high = max(columns.start, start), min(columns.stop, start + length)
            if low < high:
                whole = (low, high) == (start, start + length)
                parts.append((name, None if whole else Columns(columns.axis, low - start, high - start)))
            start += length
        return parts or None

    def _transposed(self, node: gs.Node, columns: Columns | None) -> Behind | None:
        """Return what stands behind a Transpose."""
        rank = len(self.graph.shape(str(node.inputs[0].name)) or ())
        perm = [int(axis) for axis in node.attrs.get("perm", range(rank)[::-1])]
        before = None if columns is None else columns._replace(axis=perm[columns.axis])
        source = self.tensor(str(node.inputs[0].name), before)
        if source is None:
            return None
        axis = None if source.axis is None else perm.index(source.axis)
        return Behind(source.value.transpose(perm), source.kind, source.activation, axis)

    def _moved(self, node: gs.Node, name: str, source: Behind | None) -> Behind | None:
        """Return the result of a node that moves or picks values, with other values in their place."""
        graph, emitter, facts = self.graph, self.emitter, traits(node)
        moves = facts.values <= Values.PICKED or facts.axes == "padded" or node.op in ("TopK", "ReduceMax")
        if source is None or not moves:
            return None
        if node.op == "TopK":
            if name != node.outputs[0].name:
                return None
            axis = int(node.attrs.get("axis", -1)) % source.value.rank
            places = forward_value(graph, emitter, str(node.outputs[1].name), _WHO)
            return Behind(source.value.gather_elements(places, axis), source.kind, source.activation)
        others = [forward_value(graph, emitter, t.name, _WHO) if t.name else None for t in node.inputs[1:]]
        kinds = [(source.value.dtype, graph.shape(str(out.name)) or ()) for out in node.outputs]
        made = emitter.node(str(node.op), [source.value, *others], kinds, **node.attrs)
        return Behind(made[[out.name for out in node.outputs].index(name)], source.kind, source.activation)

    def _written(self, node: gs.Node) -> Behind | None:
        """Return the result of a node that writes values into a table of constants, or into what was so made."""
        data, places, updates = (str(tensor.name) for tensor in node.inputs)
        source = self.tensor(updates)
        before = self.tensor(data)
        maker = self.graph.producer.get(data)
        if source is None or (before is None and maker is not None and maker.inputs):
            return None
        table = self._other(data) if before is None else before.value
        inputs = [table, forward_value(self.graph, self.emitter, places, _WHO), source.value]
        made = self.emitter.one(str(node.op), inputs, source.value.dtype, table.shape, **node.attrs)
        return Behind(made, source.kind, source.activation)

    def _product(self, node: gs.Node) -> Behind | None:
        """Return the logarithm of a product of probabilities, in which a root counts by half."""
        names = [str(tensor.name) for tensor in node.inputs]
        if node.op == "Sqrt":
            source = self.tensor(names[0])
            log = None if source is None else source.log()
            if source is None or log is None:
                return None
            return Behind(log * 0.5 if self._is_factor else log, "log", source.activation)
        constant = [number(self.graph, name) is not None for name in names]
        if self._is_scaled(node):
            return self.tensor(names[constant.index(False)]) if not all(constant) else None
        is_factor, self._is_factor = self._is_factor, True
        factors = [self.tensor(name) for name in names]
        self._is_factor = is_factor
        logs = [None if factor is None else factor.log() for factor in factors]
        if factors[-1] is None or logs[0] is None or logs[1] is None:
            return None
        return Behind(logs[0] + logs[1], "log", factors[-1].activation)

    def _is_scaled(self, node: gs.Node) -> bool:
        """Tell whether a product has a constant number as a factor."""
        return any(number(self.graph, str(tensor.name)) is not None for tensor in node.inputs)


def part_of(whole: Behind, columns: Columns | None) -> Behind:
    """Return some columns of what stands behind a tensor."""
    if columns is None:
        return whole
    value = whole.value.slice([columns.start], [columns.stop], [columns.axis])
    return Behind(value, whole.kind, whole.activation, None if whole.axis == columns.axis else whole.axis)
