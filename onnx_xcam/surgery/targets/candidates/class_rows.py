"""This module finds, for numbers that were picked from tables of classes, the whole row of each table that one is from.

A file that picks objects itself tells one class of each, and its score. Why another class was not told needs the scores
of the other classes of the same candidate. They stand in the table that the score was picked from. To know where, every
element of the tables gets a number, and what moves and picks the scores is emitted once more for these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.candidates.logits import Behind, Columns, Replay, behind, part_of

_PAD_OF_ZEROS = 2
"""A Pad with so many inputs states no number that it pads with."""


@dataclass(frozen=True)
class ClassRows:
    """A ClassRows holds tables of classes, and which of their elements were picked.

    Attributes:
        table: the scores of all candidates of all tables, one table below another, float32 `[rows, C]`.
        rows: the row of each number that was picked, int64 in its shape; 0 for a number that only fills up.
        columns: its column; -1 for a number that only fills up.
    """

    table: Value
    rows: Value
    columns: Value


def class_rows(graph: Graph, emitter: Emitter, name: str, columns: Columns | None, count: int) -> ClassRows | None:
    """Emit the rows that some columns of a tensor of probabilities were picked from.

    Args:
        graph: the model.
        emitter: collects the added nodes.
        name: the tensor.
        columns: the columns; None for the whole tensor.
        count: the number of classes C.

    Returns:
        The rows; None if it is not known what the probabilities were picked from, or that has no axis of C classes.
    """
    replay = _Numbers(graph, emitter, count)
    numbers = replay.tensor(name, columns)
    if numbers is None or not replay.tables:
        return None
    found, classes = numbers.value, emitter.constant(np.array(count, np.int64))
    column = (found < 0).where(-1, found.elementwise("Mod", classes))
    return ClassRows(emitter.concat(replay.tables, 0), found.elementwise("Div", classes), column)


class _Numbers(Replay):
    """A _Numbers emits what moves probabilities for the numbers of their places in tables of classes.

    Attributes:
        tables: the scores of the tables so far, each `[rows, C]`.
    """

    def __init__(self, graph: Graph, emitter: Emitter, count: int) -> None:
        super().__init__(graph, emitter)
        self.tables: list[Value] = []
        self._count = count
        self._first: Value = emitter.constant(np.array(0, np.int64))

    def _before(self, node: gs.Node, op: str, name: str, columns: Columns | None) -> Behind | None:
        """Return the numbers of an activation's results."""
        return self._numbered(node, columns)

    def _product(self, node: gs.Node) -> Behind | None:
        """Return the numbers of a product of probabilities, or of its root."""
        scaled = super()._product(node) if len(node.inputs) > 1 and self._is_scaled(node) else None
        return scaled if scaled is not None else self._numbered(node, None)

    def _moved(self, node: gs.Node, name: str, source: Behind | None) -> Behind | None:
        """Return numbers after a movement; a maximum of numbers is not the number of the maximum."""
        facts = traits(node)
        if facts.axes == "padded":
            return self._padded(node, name, source)
        is_movement = facts.values <= Values.PICKED or facts.axes == "reordered"
        return super()._moved(node, name, source) if is_movement else None

    def _padded(self, node: gs.Node, name: str, source: Behind | None) -> Behind | None:
        """Return numbers after a Pad with zeros, with -1 for each of these."""
        if source is None or len(node.inputs) != _PAD_OF_ZEROS:
            return None
        padded = super()._moved(node, name, replace(source, value=source.value + 1))
        return None if padded is None else replace(padded, value=padded.value - 1)

    def _other(self, name: str) -> Value:
        """Return -1 for each value of a table that probabilities are written into: what is left of it only fills up."""
        return super()._other(name).cast(np.int64) * 0 - 1

    def _numbered(self, node: gs.Node, columns: Columns | None) -> Behind | None:
        """Number the elements of a table, note its scores, and return the numbers; None if it has no classes."""
        name = str(node.outputs[0].name)
        found = behind(self.graph, self.emitter, name)
        shape = self.graph.shape(name)
        if found is None or shape is None:
            return None
        fitting = [at for at, dim in enumerate(shape) if dim == self._count]
        classes = found.axis if found.axis is not None else fitting[-1] if fitting else -1
        if classes not in fitting:
            return None
        order = [*(at for at in range(len(shape)) if at != classes), classes]
        turned = found.value.transpose(order)
        known = dims.known_size(turned.shape[:-1])
        table = turned.reshape([-1, self._count], (known, self._count))
        numbers = self._next(table).reshape(shapes.dim_parts(turned), turned.shape)
        self.tables.append(table)
        whole = replace(found, value=numbers.transpose([int(at) for at in np.argsort(order)]), axis=None)
        return part_of(whole, columns)

    def _next(self, table: Value) -> Value:
        """Emit the numbers of the elements of a table, which follow those of the tables before, int64 1-D."""
        rows = shapes.shape_value(table, [shapes.dim_part(table, 0)]).squeeze([0])
        one, count = (self.emitter.constant(np.array(number, np.int64)) for number in (1, self._count))
        first, self._first = self._first, self._first + rows * count
        return self.emitter.one("Range", [first, self._first, one], np.int64, (None,))
