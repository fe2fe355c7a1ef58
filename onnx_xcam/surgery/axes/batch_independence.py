"""Whether the images of a run influence each other: what one is given then depends on which others it is run with.

A mean over the images, normalisation by what a run holds, a softmax over the wrong axis, a Reshape that was baked for
other sizes, integers that are scaled by a whole run (DynamicQuantizeLinear): all of it is found by running an image
with others and alone. Most classifiers need no run for it, since none of their operators can mix images.
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
"""How far a value in a run of several may be from the same one alone, relative to the largest: where the model is
exact, and where it rounds to float16 or to integers."""


def rounds(graph: onnx.GraphProto) -> bool:
    """Whether a model rounds to float16 or to integers, so that its values are not exact."""
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    return half or any(proto_traits(node).rounds_as_told for node in graph.node)


def scaled_by_run(graph: onnx.GraphProto) -> bool:
    """Whether integers are scaled by what all images of a run hold."""
    return any(proto_traits(node).scaled_by_run for node in graph.node)


def cannot_mix(model: onnx.ModelProto, image: str, wanted: Iterable[str]) -> bool:
    """Whether the operators between the picture and some tensors cannot mix images; False where nobody knows.

    Args:
        model: with or without its weights.
        image: the input with the pictures, the images on its first axis.
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
            continue  # made of constants, or of other inputs, of which only a rank would be told
        rank = _rank_kept(node, ranks, constants)
        if rank is None:
            return False
        ranks.update(dict.fromkeys(node.output, rank))
    return True


def _dims_of(node: onnx.NodeProto) -> tuple[int, ...]:
    attribute = node.attribute[0]
    return tuple(attribute.t.dims) if attribute.name == "value" else (1,) * attribute.name.endswith("s")


def _rank_kept(node: onnx.NodeProto, ranks: Mapping[str, int], constants: Mapping[str, tuple[int, ...]]) -> int | None:
    """The rank of what a node makes of images, each for itself and still on the first axis; None if nobody knows."""
    inside = [ranks[name] for name in node.input if name in ranks]
    others = [constants.get(name) for name in node.input if name and name not in ranks]
    if node.domain not in ("", "ai.onnx") or None in others or len(set(inside)) != 1:
        return None
    stated = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    op, rank = proto_traits(node), inside[0]
    alone = len(inside) == 1 and node.input[0] in ranks
    axis = stated.get("axis", op.default_axis)
    images = op.reads_images and op.axes not in ("sampled", "rescaled")
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
    """What is known of a model's images in one run; found out when several are run for the first time.

    Attributes:
        mixed: whether they influence each other; None where that is not known yet.
    """

    def __init__(self, mixed: bool | None, *, is_exact: bool) -> None:
        self.mixed = mixed
        self._tolerance = TOLERANCE[is_exact]
        self._told = False

    def found(self, pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> bool:
        """Take note of values of images in a run of several, and of the same ones alone; whether they differ."""
        self.mixed = any(difference(together, alone) > self._tolerance for together, alone in pairs)
        return self.mixed

    def first_word(self) -> bool:
        """Whether it is known that they influence each other, and was not asked before."""
        told, self._told = self._told, bool(self.mixed)
        return bool(self.mixed) and not told


def difference(together: NDArray[Any], alone: NDArray[Any]) -> float:
    """The largest difference, relative to the largest magnitude; infinite where only one of two is finite."""
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
    """The first and the last image of a run if it holds different ones, which alone can show an influence."""
    different = len(batch) > 1 and bool((batch[1:] != batch[:1]).any())
    return (0, len(batch) - 1) if different else ()
