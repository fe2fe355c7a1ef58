"""This module finds the names of classes that a graph itself holds, behind the scores.

skl2onnx writes a ZipMap of the probabilities, with `classlabels_strings` or `classlabels_int64s`, and an
ArrayFeatureExtractor of a table of strings at the ArgMax (skl2onnx/operator_converters/linear_classifier.py and
zip_map.py); tf2onnx a Gather of such a table, for `tf.gather(names, tf.argmax(scores))`. LabelEncoder and
CategoryMapper are those of the standard (onnx/docs/Operators-ml.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.logits import before_rounding, looked_up, step_back

_MOST_CLASSES = 1 << 20
"""Tables with more names are not read."""


def class_names(graph: Graph, score: str) -> tuple[str, ...] | None:
    """Return the names of the classes that a graph looks up for a score, by class id; None where it does not.

    Ids without a name have the name "". Numbers count as names unless they are the ids themselves.

    Args:
        graph: the model.
        score: the tensor with the scores of the classes.
    """
    for node in graph.nodes:
        domain = "" if is_standard(node.domain) else str(node.domain)
        read, source = _READERS.get((domain, str(node.op))), looked_up(graph, node, domain)
        if read is None or source is None:
            continue
        behind = before_rounding(graph, step_back(graph, source).name)
        names = read(graph, node) if behind == score else None
        if names and names != [str(index) for index in range(len(names))]:
            return tuple(names)
    return None


def _of_dictionary(_: Graph, node: gs.Node) -> list[str] | None:
    """Return the keys of a ZipMap's dictionaries."""
    return _texts(node.attrs.get("classlabels_strings") or node.attrs.get("classlabels_int64s"))


def _of_table(graph: Graph, node: gs.Node) -> list[str] | None:
    """Return the strings of the constant that a Gather or an ArrayFeatureExtractor looks up."""
    table = graph.constants.get(node.inputs[0].name)
    if table is None or table.dtype.kind not in "OUS" or table.size != max(table.shape, default=0):
        return None
    return _texts(table.reshape(-1).tolist())


def _of_encoder(_: Graph, node: gs.Node) -> list[str] | None:
    """Return the strings that a LabelEncoder gives whole numbers, or numbers of another order."""
    keys = _listed(node.attrs, "keys_int64s", "keys_tensor")
    return _by_id(keys, _listed(node.attrs, "values_strings", "values_int64s", "values_tensor"))


def _of_categories(_: Graph, node: gs.Node) -> list[str] | None:
    """Return the strings that a CategoryMapper gives whole numbers."""
    return _by_id(_listed(node.attrs, "cats_int64s"), _listed(node.attrs, "cats_strings"))


_READERS: Mapping[tuple[str, str], Callable[[Graph, gs.Node], list[str] | None]] = {
    ("", "Gather"): _of_table,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): _of_table,
    ("ai.onnx.ml", "CategoryMapper"): _of_categories,
    ("ai.onnx.ml", "LabelEncoder"): _of_encoder,
    ("ai.onnx.ml", "ZipMap"): _of_dictionary,
}
"""This table maps an operator that looks up names to the function that returns them."""


def _listed(attributes: Mapping[str, Any], *names: str) -> list[Any]:
    """Return the first of these attributes that a node has, as a list; [] if it has none."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, gs.Constant | onnx.TensorProto):
            array = value.values if isinstance(value, gs.Constant) else onnx.numpy_helper.to_array(value)
            return list(np.asarray(array).reshape(-1).tolist())
        if value is not None:
            return list(value)
    return []


def _by_id(ids: Sequence[Any], names: Sequence[Any]) -> list[str] | None:
    """Return names in the order of their ids; None where the ids are no whole numbers from 0 on."""
    texts = _texts(names)
    if texts is None or len(ids) != len(texts) or not all(isinstance(one, int) for one in ids):
        return None
    if min(ids) < 0 or max(ids) >= _MOST_CLASSES:
        return None
    ordered = [""] * (max(ids) + 1)
    for index, text in zip(ids, texts, strict=True):
        ordered[index] = text
    return ordered


def _texts(values: Sequence[Any] | None) -> list[str] | None:
    """Return values as texts; None where there are none, too many, or texts that are no UTF-8."""
    if not values or len(values) > _MOST_CLASSES:
        return None
    try:
        return [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in values]
    except UnicodeDecodeError:
        return None
