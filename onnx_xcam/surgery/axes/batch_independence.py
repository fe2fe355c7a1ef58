"""This module finds out whether the images of a run influence each other's results.

The causes are a mean over the images, normalisation by what a run holds, a softmax over the wrong axis, a Reshape that
was fixed for other sizes, or integers that are scaled by a whole run (DynamicQuantizeLinear). All of these show when an
image is run with others and alone. Most classifiers need no such run, since none of their operators can mix images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.uses import Uses
from onnx_xcam.surgery.lowering.order import nodes_in_order

TOLERANCE = {True: 1e-3, False: 5e-2}
"""How far a value in a run of several images may differ from a run of one, relative to the largest value.

The first holds where the model is exact, the second where it rounds to float16 or to integers.
"""


def rounds(graph: onnx.GraphProto) -> bool:
    """Tell whether a model rounds to float16 or to integers, so that its values are not exact."""
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    return half or any(proto_traits(node).rounds_as_told for node in graph.node)


def scaled_by_run(graph: onnx.GraphProto) -> bool:
    """Tell whether integers are scaled by what all images of a run hold."""
    return any(proto_traits(node).scaled_by_run for node in graph.node)


def cannot_mix(model: onnx.ModelProto, image: str, wanted: Iterable[str]) -> bool:
    """Tell whether the operators between the picture and some tensors cannot mix images; False where it is not known.

    Args:
        model: the model, with or without its weights.
        image: the input of pictures, with the images on its first axis.
        wanted: the score and the layers.
    """
    graph = model.graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input if value.name == image}
    uses = Uses(nodes_in_order(graph.node))
    needed = backward(uses, wanted)
    if image not in ranks or not set(wanted) <= uses.maker.keys():
        return False
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for position in needed.positions:
        node = uses.nodes[position]
        if not any(name in ranks for name in uses.reads[position]):
            if not node.input and node.op_type == "Constant":
                constants.update((name, _dims_of(node)) for name in node.output)
            continue  # the node reads constants or other inputs, which do not depend on the picture
        rank = _rank_kept(node, ranks, constants)
        if rank is None:
            return False
        ranks.update(dict.fromkeys(node.output, rank))
    return True


def _dims_of(node: onnx.NodeProto) -> tuple[int, ...]:
    """Return the shape of a Constant node's value."""
    attribute = node.attribute[0]
    return tuple(attribute.t.dims) if attribute.name == "value" else (1,) * attribute.name.endswith("s")


def _rank_kept(node: onnx.NodeProto, ranks: Mapping[str, int], constants: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the rank of a node's result if it keeps images apart and on the first axis; None if that is not known."""
    inside = [ranks[name] for name in node.input if name in ranks]
    others = [constants.get(name) for name in node.input if name and name not in ranks]
    if node.domain not in ("", "ai.onnx") or None in others or len(set(inside)) != 1:
        return None
    stated = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    op, rank = proto_traits(node), inside[0]
    alone = len(inside) == 1 and node.input[0] in ranks
    axis = stated.get("axis", op.default_axis)
    images = op.reads_images and op.axes not in ("sampled", "rescaled", "regions")
    keeps = {
        "elementwise": bool(op.elementwise) and all(len(dims or ()) < rank or (dims or ())[0] == 1 for dims in others),
        "spatial": images and alone and not stated.get("training_mode") and len(node.output) == 1,
        "product": op.axes == "matmul" and alone and rank > 1,
        "axis": op.along_axis and axis is not None and axis % rank != 0,
    }
    if any(keeps.values()):
        return rank
    flat = node.op_type == "Flatten" and axis in (None, 1)
    flat = flat or (op.axes == "gemm" and alone and not stated.get("transA"))
    return 2 if flat else None


# --- by running ------------------------------------------------------------------------------------------------------


class Rows:
    """A Rows holds what is known of a model's images in one run, which is found when several are first run together.

    Attributes:
        mixed: whether the images influence each other; None where that is not known yet.
    """

    def __init__(self, mixed: bool | None, *, is_exact: bool) -> None:
        self.mixed = mixed
        self._tolerance = TOLERANCE[is_exact]
        self._reported = False

    def compare(self, pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> bool:
        """Tell whether images have other values in a run of several than alone, and note it."""
        self.mixed = any(difference(together, alone) > self._tolerance for together, alone in pairs)
        return self.mixed

    def is_news(self) -> bool:
        """Tell whether the images are known to influence each other and this was not reported before."""
        reported, self._reported = self._reported, bool(self.mixed)
        return bool(self.mixed) and not reported


def difference(together: NDArray[Any], alone: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest magnitude; infinite where only one of two is finite."""
    if together.shape != alone.shape:
        return np.inf
    if together.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(together, alone) else np.inf
    first, second = together.astype(np.float64), alone.astype(np.float64)
    finite = np.isfinite(second)
    if (finite != np.isfinite(first)).any():
        return np.inf
    size = float(np.abs(second[finite]).max(initial=0)) or 1.0
    return float(np.abs(first[finite] - second[finite]).max(initial=0)) / size


def tell_apart(batch: NDArray[Any]) -> Sequence[int]:
    """Return the indices of the first and the last image of a run, or nothing if all its images are equal.

    Only different images can show an influence.
    """
    different = len(batch) > 1 and bool((batch[1:] != batch[:1]).any())
    return (0, len(batch) - 1) if different else ()
