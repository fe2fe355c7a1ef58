"""This module replaces sequences of tensors with known elements by the elements themselves.

A sequence has no gradient rule, but exporters use it only as a detour: `SplitToSequence` and `SequenceAt` for one of
several parts, `SequenceConstruct` and `ConcatFromSequence` for a list that is joined in the end. The same goes for
Optional, which wraps a single tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.ir.uses import Uses, names_made

TAKERS = frozenset({"SequenceAt", "ConcatFromSequence", "OptionalGetElement"})
"""These operators take elements out of sequences and optionals."""


_MOST_PARTS = 1000
"""A tensor is split into at most this many parts; a sequence of more elements stays as it is."""


@dataclass
class Rewrites:
    """Rewrites say how a graph does without some sequences and optionals.

    Attributes:
        instead: the nodes that replace a node, by that node's first output.
        before: the nodes that go before a node that stays, by that node's first output.
        boxes: the sequences and optionals, which nothing may need any more then.
    """

    instead: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    before: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    boxes: frozenset[str] = frozenset()

    def only(self, outputs: Collection[str]) -> Rewrites:
        """Return the rewrites of the nodes that make some tensors, and those of what these need."""
        instead = {name: nodes for name, nodes in self.instead.items() if name in outputs}
        read = {name for nodes in instead.values() for node in nodes for name in node.input}
        made = {key: {name for node in nodes for name in node.output} for key, nodes in self.before.items()}
        before = {key: nodes for key, nodes in self.before.items() if read & made[key]}
        return Rewrites(instead, before, self.boxes)


def unboxed(graph: Graph) -> Rewrites:
    """Return how to do without the sequences and optionals with known elements."""
    return _Resolution(graph).run()


def rewrite(graph: onnx.GraphProto, rewrites: Rewrites) -> None:
    """Rewrite a graph in place, and drop the sequences that nothing needs any more."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        key = next(iter(node.output), "")
        nodes += rewrites.before.get(key, [])
        nodes += rewrites.instead.get(key, [node])
    others = [node for node in nodes if not rewrites.boxes.issuperset(node.output)]
    ends = [info.name for info in graph.output] + [name for node in others for name in names_made(node)]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in backward(Uses(nodes), ends).nodes]
    del graph.node[:]
    graph.node.extend(kept)


@dataclass(frozen=True)
class _Parts:
    """A _Parts describes a sequence of equal parts of a tensor of unknown length.

    Each part has `size` elements along `axis`; without `keepdims`, it is a single element without the axis.
    """

    tensor: str
    axis: int
    size: int
    keepdims: bool


class _Resolution:
    """A _Resolution follows sequences and optionals through a graph, and collects the rewrites.

    Attributes:
        lists: the elements of each sequence that has known ones.
        parts: the sequences of equal parts of a tensor of unknown length.
        boxed: the tensor in each optional.
        instead, before: the rewrites so far, as in `Rewrites`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lists: dict[str, list[str]] = {}
        self.parts: dict[str, _Parts] = {}
        self.boxed: dict[str, str] = {}
        self.instead: dict[str, list[onnx.NodeProto]] = {}
        self.before: dict[str, list[onnx.NodeProto]] = {}

    def run(self) -> Rewrites:
        """Return the rewrites of the whole graph."""
        for node in self.graph.nodes:
            step = _STEPS.get(node.op) if is_standard(node.domain) else None
            if step is not None:
                with Diagnosed(node):
                    step(self, node)
        return Rewrites(self.instead, self.before, frozenset({*self.lists, *self.parts, *self.boxed}))

    # --- makers -----------------------------------------------------------------------------------------------------

    def construct(self, node: gs.Node) -> None:
        """Note the elements of a SequenceConstruct or SequenceEmpty."""
        self.lists[node.outputs[0].name] = [tensor.name for tensor in node.inputs]

    def identity(self, node: gs.Node) -> None:
        """Note that an Identity holds the sequence or optional of its input."""
        name, source = node.outputs[0].name, node.inputs[0].name
        if source in self.lists:
            self.lists[name] = self.lists[source]
        if source in self.parts:
            self.parts[name] = self.parts[source]
        if source in self.boxed:
            self.boxed[name] = self.boxed[source]

    def insert(self, node: gs.Node) -> None:
        """Note the elements of a SequenceInsert, if its position is known."""
        elements = self.lists.get(node.inputs[0].name)
        at = self._position(node, 2, len(elements)) if elements is not None else None
        if elements is not None and at is not None:
            self.lists[node.outputs[0].name] = [*elements[:at], node.inputs[1].name, *elements[at:]]

    def erase(self, node: gs.Node) -> None:
        """Note the elements of a SequenceErase, if its position is known."""
        elements = self.lists.get(node.inputs[0].name)
        at = self._position(node, 1, -1) if elements else None
        if elements and at is not None:
            at %= len(elements)
            self.lists[node.outputs[0].name] = elements[:at] + elements[at + 1 :]

    def box(self, node: gs.Node) -> None:
        """Note the tensor or sequence in an Optional."""
        if node.inputs and node.inputs[0].name:
            self.boxed[node.outputs[0].name] = node.inputs[0].name
            self.identity(node)

    def split(self, node: gs.Node) -> None:
        """Note the parts of a SplitToSequence: those of a Split if their sizes are known, else equal parts."""
        x, name = node.inputs[0].name, node.outputs[0].name
        shape = self.graph.shape(x)
        given = len(node.inputs) > 1 and bool(node.inputs[1].name)
        sizes = self.graph.constants.get(node.inputs[1].name) if given else np.array(1)
        if shape is None or sizes is None:
            return
        axis = int(node.attrs.get("axis", 0)) % len(shape)
        keepdims = given or bool(node.attrs.get("keepdims", 1))
        length = shape[axis]
        if sizes.ndim == 0 and not isinstance(length, int):
            self.parts[name] = _Parts(x, axis, int(sizes), keepdims)
            return
        if sizes.ndim == 0:
            assert isinstance(length, int)
            step = int(sizes)
            if step < 1 or length > step * _MOST_PARTS:
                return
            sizes = np.array([min(step, length - start) for start in range(0, length, step)])
        if not sizes.size or sizes.size > _MOST_PARTS:
            return
        self.lists[name] = self._split(name, x, axis, [int(size) for size in sizes], keepdims)

    def _split(self, name: str, x: str, axis: int, sizes: list[int], keepdims: bool) -> list[str]:
        """Return the names of the parts, which a Split before the node makes."""
        cut = [self._new(f"{name}/{i}") for i in range(len(sizes))]
        parts = cut if keepdims else [self._new(f"{part}/split") for part in cut]
        nodes = self._with_numbers("Split", x, parts, "split", sizes, axis=axis)
        if not keepdims:
            for part, element in zip(parts, cut, strict=True):
                nodes += self._with_numbers("Squeeze", part, [element], "axes", [axis])
        self.before[name] = nodes
        return cut

    # --- takers -----------------------------------------------------------------------------------------------------

    def at(self, node: gs.Node) -> None:
        """Replace a SequenceAt of a known position: by the element, or by a Gather or Slice of the split tensor."""
        source, out = node.inputs[0].name, node.outputs[0].name
        at = self._position(node, 1, None)
        if at is None:
            return
        elements, parts = self.lists.get(source), self.parts.get(source)
        if elements is not None and -len(elements) <= at < len(elements):
            self.instead[out] = [_renamed(node, elements[at])]
        elif parts is not None and parts.size == 1:
            index = _numbers(self._new(f"{out}/at"), np.array([at] if parts.keepdims else at))
            inputs = [parts.tensor, index.output[0]]
            gather = onnx.helper.make_node("Gather", inputs, [out], node.name, axis=parts.axis)
            self.instead[out] = [index, gather]
        elif parts is not None and at >= 0:
            bounds = {"from": at * parts.size, "to": (at + 1) * parts.size, "axis": parts.axis}
            nodes = [_numbers(self._new(f"{out}/{key}"), np.array([number])) for key, number in bounds.items()]
            inputs = [parts.tensor, *(constant.output[0] for constant in nodes)]
            self.instead[out] = [*nodes, onnx.helper.make_node("Slice", inputs, [out], node.name)]

    def concat(self, node: gs.Node) -> None:
        """Replace a ConcatFromSequence by a Concat of the elements."""
        elements, out = self.lists.get(node.inputs[0].name), node.outputs[0].name
        if not elements:
            return
        axis, nodes = int(node.attrs["axis"]), []
        if node.attrs.get("new_axis", 0):
            stacked = [self._new(f"{out}/{i}") for i in range(len(elements))]
            for element, name in zip(elements, stacked, strict=True):
                nodes += self._with_numbers("Unsqueeze", element, [name], "axes", [axis])
            elements = stacked
        self.instead[out] = [*nodes, onnx.helper.make_node("Concat", elements, [out], node.name, axis=axis)]

    def unbox(self, node: gs.Node) -> None:
        """Replace an OptionalGetElement by an Identity of the tensor, or note that it holds the sequence."""
        source = node.inputs[0].name
        if source in self.lists or source in self.parts:
            self.identity(node)
        elif source in self.boxed or self.graph.shape(source) is not None:
            self.instead[node.outputs[0].name] = [_renamed(node, self.boxed.get(source, source))]

    # --- their parts ------------------------------------------------------------------------------------------------

    def _position(self, node: gs.Node, index: int, default: int | None) -> int | None:
        """Return the position that an input states, `default` without such an input, None if it is not constant."""
        if len(node.inputs) <= index or not node.inputs[index].name:
            return default
        value = self.graph.constants.get(node.inputs[index].name)
        return None if value is None else int(value.reshape(-1)[0])

    def _with_numbers(
        self, op: str, x: str, outputs: list[str], key: str, numbers: list[int], **attributes: int
    ) -> list[onnx.NodeProto]:
        """Return a node with a list of integers, which is an attribute before opset 13 and an input since."""
        node = onnx.helper.make_node(op, [x], outputs, outputs[0])
        node.attribute.extend(onnx.helper.make_attribute(name, number) for name, number in attributes.items())
        if self.graph.opset < 13:
            node.attribute.append(onnx.helper.make_attribute(key, numbers))
            return [node]
        listed = _numbers(self._new(f"{outputs[0]}/{key}"), np.array(numbers))
        node.input.append(listed.output[0])
        return [listed, node]

    def _new(self, name: str) -> str:
        """Return the name, made longer if the graph has it already."""
        while name in self.graph.tensors:
            name += "_"
        return name


def _numbers(name: str, numbers: np.ndarray) -> onnx.NodeProto:
    """Return a Constant node of int64 numbers."""
    value = onnx.numpy_helper.from_array(numbers.astype(np.int64))
    return onnx.helper.make_node("Constant", [], [name], value=value)


def _renamed(node: gs.Node, source: str) -> onnx.NodeProto:
    """Return an Identity that replaces a node and copies `source` to its output."""
    return onnx.helper.make_node("Identity", [source], [node.outputs[0].name], node.name)


_STEPS: Mapping[str, Callable[[_Resolution, gs.Node], None]] = {
    "SequenceConstruct": _Resolution.construct,
    "SequenceEmpty": _Resolution.construct,
    "SequenceInsert": _Resolution.insert,
    "SequenceErase": _Resolution.erase,
    "SplitToSequence": _Resolution.split,
    "Optional": _Resolution.box,
    "Identity": _Resolution.identity,
    "SequenceAt": _Resolution.at,
    "ConcatFromSequence": _Resolution.concat,
    "OptionalGetElement": _Resolution.unbox,
}
"""This table maps an operator to the method that follows it."""
