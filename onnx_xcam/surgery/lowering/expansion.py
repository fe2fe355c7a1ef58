"""This module holds the table of lowerings, the class with which a lowering builds its nodes, and the pass itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.protos import MICROSOFT, is_standard
from onnx_xcam.surgery.lowering.constants import Constants
from onnx_xcam.surgery.lowering.order import in_order
from onnx_xcam.surgery.lowering.same import one_tensor_each
from onnx_xcam.surgery.lowering.types import Types

PER_AXIS_OPSET = 13
"""The first opset at which DequantizeLinear takes a scale for each channel."""
_AXES_OPSET = 13
"""The first opset at which the axes of Unsqueeze are an input."""


@dataclass(frozen=True)
class Lowered:
    """A Lowered holds a model of standard operators that computes what the given model computes.

    Attributes:
        model: the lowered model with its nodes in order; the given model itself if there was nothing to do.
        inner: the tensors that only the lowered model has.
        stand_ins: for each inner tensor that is the float of a quantised tensor, the name of that quantised tensor.
        same: for each tensor that nothing reads any more because another holds the same, the other's name.
    """

    model: onnx.ModelProto
    inner: frozenset[str]
    stand_ins: dict[str, str]
    same: dict[str, str]


class Context:
    """A Context holds what the lowerings of one model share: the new nodes, names in use, and dequantised tensors."""

    def __init__(self, model: onnx.ModelProto, constants: Constants) -> None:
        graph = model.graph
        self.opset = _opset(model)
        self.nodes: list[onnx.NodeProto] = []
        self.types = Types(model, self.nodes)
        self.taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
        self.taken.update(name for node in graph.node for name in (*node.input, *node.output))
        self.constants = constants
        self._dequantisers = {
            self._key(*node.input): node for node in reversed(graph.node) if _is_plain_dequantiser(node)
        }
        self.made: set[str] = set()
        self.inner: set[str] = set()
        self.stand_ins: dict[str, str] = {}
        self.dequantised: dict[tuple[str, ...], str] = {}

    def name(self, hint: str) -> str:
        """Return a name that the model does not use yet, and note it as that of an inner tensor."""
        name, serial = hint, 1
        while name in self.taken:
            name, serial = f"{hint}_{serial}", serial + 1
        self.taken.add(name)
        self.inner.add(name)
        return name

    def _key(self, q: str, scale: str, zero_point: str = "") -> tuple[object, ...]:
        """Return a key that is equal for one tensor dequantised with equal scales and zero points."""
        return q, self.constants.content(scale), self.constants.content(zero_point)

    def dequantiser(self, q: str, scale: str, zero_point: str) -> str | None:
        """Return the output of the model's own DequantizeLinear of a tensor, None if there is none.

        A node that comes later in the model is moved before the node that is being lowered.
        """
        node = self._dequantisers.get(self._key(q, scale, zero_point))
        if node is None:
            return None
        if node.output[0] not in self.made:
            self.made.add(node.output[0])
            self.nodes.append(node)
        return str(node.output[0])


def _is_plain_dequantiser(node: onnx.NodeProto) -> bool:
    """Tell whether a node is a DequantizeLinear with one scale, or one for each channel."""
    return is_standard(node.domain) and node.op_type == "DequantizeLinear" and not _blocks(node)


def _blocks(node: onnx.NodeProto) -> bool:
    """Tell whether a DequantizeLinear has a scale for each block of an axis."""
    return any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)


class Expansion:
    """An Expansion collects the nodes that replace one node; a lowering adds them one by one, with tensors as names."""

    def __init__(self, node: onnx.NodeProto, context: Context) -> None:
        self.node = node
        self.context = context
        self.opset = context.opset
        self.nodes: list[onnx.NodeProto] = []

    def has_input(self, index: int) -> bool:
        """Tell whether an optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def input(self, index: int) -> str:
        """Return the name of an input, "" if it is not given."""
        return self.node.input[index] if self.has_input(index) else ""

    def has_output(self, index: int) -> bool:
        """Tell whether an optional output is asked for."""
        return index < len(self.node.output) and bool(self.node.output[index])

    def output(self, index: int) -> str:
        """Return the name of an output, "" if it is not asked for."""
        return self.node.output[index] if self.has_output(index) else ""

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, text as str, or the default."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def attributes(self, *without: str) -> dict[str, Any]:
        """Return all attributes of the node but these, by name."""
        return {a.name: self.attr(a.name) for a in self.node.attribute if a.name not in without}

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's dimensions, None if not even their number is known."""
        return self.context.types.shape(name)

    def rank(self, name: str) -> int | None:
        """Return a tensor's rank, None if it is not known."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def element(self, name: str) -> int:
        """Return a tensor's element type, as onnx numbers them."""
        return self.context.types.element(name)

    def value(self, name: str) -> np.ndarray | None:
        """Return the value of a constant, None for other tensors and where the values are not in the file."""
        return self.context.constants.value(name)

    def op(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name, a new one unless given."""
        (made,) = self.ops(op, inputs, [output], **attributes)
        return made

    def ops(self, op: str, inputs: Sequence[str], outputs: Sequence[str | None], **attributes: Any) -> list[str]:
        """Add a node, and return the names of its outputs, new ones where None is given."""
        hint = f"{next(name for name in self.node.output if name)}/{op}"
        names = [self.context.name(hint) if name is None else name for name in outputs]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        while names and not names[-1]:
            names.pop()
        made = onnx.helper.make_node(op, list(inputs), names, name=self._node_name(names), **attributes)
        made.metadata_props.extend(self.node.metadata_props)
        self.nodes.append(made)
        self.context.nodes.append(made)
        self.context.types.note(made)
        return names

    def _node_name(self, outputs: Sequence[str]) -> str:
        """Return the name for a new node: the lowered node's own if it makes its first output, else a numbered one.

        New nodes have no name ("") where the lowered node has none.
        """
        own = self.node.name
        return f"{own}:{len(self.nodes)}" if own and self.node.output[0] not in outputs else own

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant, and return its name."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.op("Constant", [], value=tensor)

    def number(self, value: Any, like: str) -> str:
        """Add a constant with the element type of another tensor, and return its name."""
        return self.constant(value, onnx.helper.tensor_dtype_to_np_dtype(self.element(like)))

    def calculate(self, op: str, x: str, value: float, output: str | None = None) -> str:
        """Add `op(x, value)` for a number, which gets the element type of x, and return the output's name."""
        return self.op(op, [x, self.number(value, x)], output)

    def unsqueeze(self, x: str, axes: Sequence[int], output: str | None = None) -> str:
        """Add an Unsqueeze of x, and return the output's name; the axes are those of the result."""
        if self.opset >= _AXES_OPSET:
            return self.op("Unsqueeze", [x, self.constant(axes, np.int64)], output)
        return self.op("Unsqueeze", [x], output, axes=list(axes))

    def dequantize(self, index: int) -> str:
        """Return the dequantised input `index`; its scale and its zero point are the next two inputs."""
        return self.dequantized(self.input(index), self.input(index + 1), self.input(index + 2))

    def dequantized(self, q: str, scale: str, zero_point: str, axis: int | None = None) -> str:
        """Return the float of a quantised tensor, scaled as a whole or, with `axis`, per channel.

        It is computed once for each tensor: by the model's own DequantizeLinear where there is one.
        """
        own = self.context.dequantiser(q, scale, zero_point) if axis is None else None
        if own is not None:
            return own
        key = (q, scale, zero_point, str(axis))
        known = self.context.dequantised
        if key not in known:
            known[key] = self._dequantized(q, scale, zero_point, axis)
            self.context.stand_ins[known[key]] = q
        return known[key]

    def _dequantized(self, q: str, scale: str, zero_point: str, axis: int | None) -> str:
        """Add the nodes that dequantise a tensor, and return the float's name."""
        name = self.context.name(f"{q}/DequantizeLinear")
        if axis is None or self.opset >= PER_AXIS_OPSET:
            attributes = {} if axis is None else {"axis": axis}
            return self.op("DequantizeLinear", [q, scale, zero_point], name, **attributes)
        rank = self.rank(q)
        others = [a for a in range(rank or 1) if a != axis % (rank or 1)]
        value = self.op("Cast", [q], to=onnx.TensorProto.FLOAT)
        if zero_point:
            shift = self.op("Cast", [zero_point], to=onnx.TensorProto.FLOAT)
            value = self.op("Sub", [value, self.unsqueeze(shift, others)])
        return self.op("Mul", [value, self.unsqueeze(scale, others)], name)

    def quantize(self, x: str, index: int) -> str:
        """Quantise x to the node's first output; input `index` is the scale, and the next one the zero point."""
        return self.op("QuantizeLinear", [x, self.input(index), self.input(index + 1)], self.node.output[0])


Lowering: TypeAlias = Callable[[Expansion], None]
LOWERINGS: dict[tuple[str, str], Lowering] = {}
"""The lowerings, by domain ("" for the standard's) and operator."""
Pattern: TypeAlias = Callable[[Sequence[onnx.NodeProto]], dict[str, Lowering]]
PATTERNS: list[Pattern] = []
"""The functions that find groups of nodes to lower as one: a lowering for the last node, by that node's output."""


def lowering(*ops: str, domain: str = MICROSOFT) -> Callable[[Lowering], Lowering]:
    """Register a lowering for operators of a domain, "" for the standard's.

    A lowering adds the nodes that replace the node; together they make all its outputs. If it cannot replace a node, or
    need not, it adds none, and the node stays.
    """

    def register(function: Lowering) -> Lowering:
        for op in ops:
            if (domain, op) in LOWERINGS:
                raise ValueError(f"a second lowering for {op}")
            LOWERINGS[domain, op] = function
        return function

    return register


def pattern(function: Pattern) -> Pattern:
    """Register a function that finds groups of nodes to lower as one."""
    PATTERNS.append(function)
    return function


def lowered(model: onnx.ModelProto) -> Lowered:
    """Lower a model where there are lowerings for its nodes, and put them in order; the given model is not changed."""
    model = in_order(model)
    nodes = model.graph.node
    grouped = {output: how for find in PATTERNS for output, how in find(nodes).items()}
    functions = [_of_group(node, grouped) or LOWERINGS.get((_domain(node), node.op_type)) for node in nodes]
    constants = Constants(model.graph)
    instead = one_tensor_each(nodes, constants)
    if not any(functions) and not instead:
        return Lowered(model, frozenset(), {}, {})
    context = Context(model, constants)
    for node, function in zip(nodes, functions, strict=True):
        if node.output and node.output[0] in context.made:
            continue
        expansion = Expansion(_reading(node, instead), context)
        if function is not None:
            function(expansion)
        if not expansion.nodes:
            context.nodes.append(expansion.node)
            context.made.update(node.output[:1] if _is_plain_dequantiser(node) else ())
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(context.nodes)
    return Lowered(copy, frozenset(context.inner), context.stand_ins, instead)


def _of_group(node: onnx.NodeProto, grouped: dict[str, Lowering]) -> Lowering | None:
    """Return the lowering of the group that ends in this node, None if none does."""
    return grouped.get(node.output[0]) if node.output else None


def _domain(node: onnx.NodeProto) -> str:
    """Return a node's domain, "" for both spellings of the standard's."""
    return "" if is_standard(node.domain) else str(node.domain)


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard's operators that a model imports, 1 if it imports none."""
    return next((int(entry.version) for entry in model.opset_import if is_standard(entry.domain)), 1)


def _reading(node: onnx.NodeProto, instead: dict[str, str]) -> onnx.NodeProto:
    """Return the node, or a copy that reads the tensors that `instead` gives for some of its inputs."""
    if not any(name in instead for name in node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(instead.get(name, name) for name in node.input)
    return copy
