"""Sequences of tensors whose elements are known: the elements themselves, in place of the nodes that take them out.

A sequence has no gradient rule, but exporters use it only as a detour: `SplitToSequence` and `SequenceAt` for one of
several parts, `SequenceConstruct` and `ConcatFromSequence` for a list that was joined in the end. The same goes for
Optional, a tensor in a box.
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


_MOST_PARTS = 1000
"""A tensor is not split into more than these; the sequence then stays what it is."""


@dataclass
class Rewrites:
    """How to do without some sequences and optionals.

    Attributes:
        instead: by their first output, what takes the place of nodes.
        before: the same, what comes ahead of nodes that stay.
        boxes: the sequences and optionals, which nothing may need any more then.
    """

    instead: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    before: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    boxes: frozenset[str] = frozenset()

    def only(self, outputs: Collection[str]) -> Rewrites:
        """Those of the nodes that make these tensors, and what they need."""
        instead = {name: nodes for name, nodes in self.instead.items() if name in outputs}
        read = {name for nodes in instead.values() for node in nodes for name in node.input}
        made = {key: {name for node in nodes for name in node.output} for key, nodes in self.before.items()}
        before = {key: nodes for key, nodes in self.before.items() if read & made[key]}
        return Rewrites(instead, before, self.boxes)


def unboxed(graph: Graph) -> Rewrites:
    """How to do without the sequences and optionals whose elements are known."""
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
    """Equal parts of a tensor of unknown length: `size` elements along `axis` each, or single ones without the axis."""

    tensor: str
    axis: int
    size: int
    keepdims: bool


class _Resolution:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lists: dict[str, list[str]] = {}
        self.parts: dict[str, _Parts] = {}
        self.boxed: dict[str, str] = {}
        self.instead: dict[str, list[onnx.NodeProto]] = {}
        self.before: dict[str, list[onnx.NodeProto]] = {}

    def run(self) -> Rewrites:
        for node in self.graph.nodes:
            step = _STEPS.get(node.op) if is_standard(node.domain) else None
            if step is not None:
                with Diagnosed(node):
                    step(self, node)
        return Rewrites(self.instead, self.before, frozenset({*self.lists, *self.parts, *self.boxed}))

    # --- makers -----------------------------------------------------------------------------------------------------

    def construct(self, node: gs.Node) -> None:
        self.lists[node.outputs[0].name] = [tensor.name for tensor in node.inputs]

    def identity(self, node: gs.Node) -> None:
        name, source = node.outputs[0].name, node.inputs[0].name
        if source in self.lists:
            self.lists[name] = self.lists[source]
        if source in self.parts:
            self.parts[name] = self.parts[source]
        if source in self.boxed:
            self.boxed[name] = self.boxed[source]

    def insert(self, node: gs.Node) -> None:
        elements = self.lists.get(node.inputs[0].name)
        at = self._position(node, 2, len(elements)) if elements is not None else None
        if elements is not None and at is not None:
            self.lists[node.outputs[0].name] = [*elements[:at], node.inputs[1].name, *elements[at:]]

    def erase(self, node: gs.Node) -> None:
        elements = self.lists.get(node.inputs[0].name)
        at = self._position(node, 1, -1) if elements else None
        if elements and at is not None:
            at %= len(elements)
            self.lists[node.outputs[0].name] = elements[:at] + elements[at + 1 :]

    def box(self, node: gs.Node) -> None:
        if node.inputs and node.inputs[0].name:
            self.boxed[node.outputs[0].name] = node.inputs[0].name
            self.identity(node)

    def split(self, node: gs.Node) -> None:
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
        """The names of the parts, which a Split ahead of the node makes."""
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
        source = node.inputs[0].name
        if source in self.lists or source in self.parts:
            self.identity(node)
        elif source in self.boxed or self.graph.shape(source) is not None:
            self.instead[node.outputs[0].name] = [_renamed(node, self.boxed.get(source, source))]

    # --- their parts ------------------------------------------------------------------------------------------------

    def _position(self, node: gs.Node, index: int, default: int | None) -> int | None:
        """A position that a node names, `default` if it names none; None if it is computed at run time."""
        if len(node.inputs) <= index or not node.inputs[index].name:
            return default
        value = self.graph.constants.get(node.inputs[index].name)
        return None if value is None else int(value.reshape(-1)[0])

    def _with_numbers(
        self, op: str, x: str, outputs: list[str], key: str, numbers: list[int], **attributes: int
    ) -> list[onnx.NodeProto]:
        """A node with a list of integers, which is an attribute before opset 13 and an input since."""
        node = onnx.helper.make_node(op, [x], outputs, outputs[0])
        node.attribute.extend(onnx.helper.make_attribute(name, number) for name, number in attributes.items())
        if self.graph.opset < 13:
            node.attribute.append(onnx.helper.make_attribute(key, numbers))
            return [node]
        listed = _numbers(self._new(f"{outputs[0]}/{key}"), np.array(numbers))
        node.input.append(listed.output[0])
        return [listed, node]

    def _new(self, name: str) -> str:
        """The name, longer where the graph has it already."""
        while name in self.graph.tensors:
            name += "_"
        return name


def _numbers(name: str, numbers: np.ndarray) -> onnx.NodeProto:
    value = onnx.numpy_helper.from_array(numbers.astype(np.int64))
    return onnx.helper.make_node("Constant", [], [name], value=value)


def _renamed(node: gs.Node, source: str) -> onnx.NodeProto:
    """An Identity in place of a node: its output is `source`."""
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
