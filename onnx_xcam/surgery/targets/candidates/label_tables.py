"""This module tells whether labels are the columns of a table of classes, or are looked up in a table of their own.

A file that picks objects tells labels as whole numbers. Mostly they are the numbers of columns, from an ArgMax or a
remainder. Some files look them up in a constant instead, as COCO's 91 numbers for its 80 classes: then the column
beside an object's own is another label's, even where the object's own two numbers are the same by chance.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnx_xcam.surgery.analysis.reachability import walk_backward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits


def renumbering(graph: Graph, labels: Iterable[str], count: int) -> str | None:
    """Return the name of the constant in which labels are looked up in another order than that of columns.

    Args:
        graph: the model.
        labels: tensors of labels.
        count: the number of columns C.

    Returns:
        The name; None if there is no such constant. A label for each column that is higher by the same number counts as
        the column's: whether it is the same number shows in every row.
    """

    def holds_numbers(node: gs.Node, read: str) -> bool:
        return not graph.is_float(read) or traits(node).casts

    for position in walk_backward(graph.uses, labels, enters=holds_numbers):
        node = graph.nodes[position]
        table = _looked_up(graph, node)
        if table is not None and not _counts_columns(table, count):
            return str(node.inputs[0].name)
    return None


def _looked_up(graph: Graph, node: gs.Node) -> NDArray[np.generic] | None:
    """Return the constant that a node reads at places that a run tells, None if it does not."""
    if traits(node).values != Values.PICKED or len(node.inputs) < 2:
        return None
    data, places = (str(tensor.name) for tensor in node.inputs[:2])
    return None if graph.is_constant(places) else graph.constants.get(data)


def _counts_columns(table: NDArray[np.generic], count: int) -> bool:
    """Tell whether a table holds numbers in their order, those of all columns for several candidates, or one number."""
    values = table.reshape(-1)
    if values.size == 0 or np.array_equal(values, values.min() + np.arange(values.size)):
        return True
    if not count or values.size % count:
        return False
    columns = values.min() + np.arange(count)
    by_candidate, by_class = np.resize(columns, values.size), np.repeat(columns, values.size // count)
    return np.array_equal(values, by_candidate) or np.array_equal(values, by_class)
