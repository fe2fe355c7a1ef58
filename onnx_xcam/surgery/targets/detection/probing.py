"""This module finds how a model tells its boxes, by running the small part of it that decodes them.

The part goes from the last layers with weights to the boxes. It is run on raw numbers that are all zero, and on random
ones that are positive, as distances are; what always holds of the boxes says what they are:

    corners           the third number is never below the first, nor the fourth below the second
    centre and size   the last two are positive, and do not go with the first two
    corner and size   the last two are positive, and the first two get smaller as they grow
    pixels            the middles at zero reach over the sides of the picture; fractions: over 0 to 1
    x first           of neighbouring candidates, that with the next x comes first, as grids are read row by row

What does not hold clearly is not decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_xcam.surgery.analysis.constant_folding import FAILURES
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.dims import known_size
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.detection.boxes import BoxForm, Order, Unit
from onnx_xcam.surgery.targets.detection.spans import Span, is_fixed

_NODES = 400
"""A decoder of more nodes than this is not run."""
_ELEMENTS = 1 << 24
"""A decoder whose tensors together have more elements than this is not run."""
_SAMPLES = 1500
"""At least so many random boxes are wanted, and at most `_RUNS` runs are made for them."""
_RUNS = 80
_FEWEST = 8
"""Fewer candidates than this prove nothing."""
_CLEAR = 0.25
"""Positions go against sizes if the mean product of the signs of their changes is below the negative of this."""
_LARGEST_FRACTION = 2.0
"""A box may reach over the picture, but no further than this in fractions of its sides."""
Boxes: TypeAlias = NDArray[np.float64]
"""Four numbers of each candidate, `[Q, 4]`, or of each in several runs, `[R, Q, 4]`."""
Stored: TypeAlias = Callable[[Collection[str]], Mapping[str, NDArray[Any]]]
"""A function of this type returns the values of stored tensors by name, as of large ones that the graph leaves out."""


@dataclass(frozen=True)
class Decoder:
    """A Decoder is the part of a graph that makes some columns of the last layers with weights.

    Attributes:
        graph: the graph, with numbers for height and width.
        boxes: the four columns.
        nodes: the part's nodes, in order.
        raw: the tensors that the part starts from, with their shapes for one image.
        stored: the constants that the part reads, by name.
    """

    graph: Graph
    boxes: Span
    nodes: tuple[gs.Node, ...]
    raw: dict[str, tuple[int, ...]]
    stored: Mapping[str, NDArray[Any]]

    @cached_property
    def _runner(self) -> Any:
        """Return the part in onnx's reference evaluator.

        Raises:
            onnx.checker.ValidationError, RuntimeError, ...: the reference evaluator does not take it.
        """
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  slow to import, seldom needed

        inputs = [_described(name, self.graph.dtype(name)) for name in self.raw]
        nodes, stored = self._in_floats()
        constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
        body = onnx.helper.make_graph(nodes, "boxes", inputs, [_described(self.boxes.name, None)], constants)
        opset = onnx.helper.make_opsetid("", self.graph.opset)
        return ReferenceEvaluator(onnx.helper.make_model(body, opset_imports=[opset]))

    def _in_floats(self) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
        """Return the part's nodes and constants as they were before quantisation.

        How numbers are rounded says nothing of how boxes are told, and the reference evaluator quantises in the newest
        versions of the operators alone.
        """
        nodes, constants = [], dict(self.stored)
        for node in self.nodes:
            facts, source, made = traits(node), str(node.inputs[0].name if node.inputs else ""), node.outputs[0].name
            if facts.dequantises and source in self.stored and (floats := _floats(node, self.stored)) is not None:
                constants[made] = floats
            elif facts.quantises_as_told or (facts.dequantises and source not in self.stored):
                nodes.append(onnx.helper.make_node("Identity", [source], [made]))
            else:
                nodes.append(exported(node))
        return nodes, constants

    def zeros(self) -> dict[str, NDArray[Any]]:
        """Return raw numbers that are all 0."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.raw.items()}

    def run(self, raw: Mapping[str, NDArray[Any]]) -> Boxes | None:
        """Return the boxes of one image, `[Q, 4]`, for raw numbers by name; None if the part cannot be run."""
        given = {name: array.astype(self.graph.dtype(name)) for name, array in raw.items()}
        try:
            table = np.asarray(self._runner.run(None, given)[0], np.float64)
        except FAILURES:
            return None  # what cannot be run is not recognised
        axis = self.boxes.axis
        assert axis is not None
        columns = np.moveaxis(table, axis, -1)[..., self.boxes.start : self.boxes.stop]
        return np.asarray(columns.reshape(-1, 4))


def _floats(node: gs.Node, stored: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """Return the floats that stored integers stand for; None if their scales are unknown, or are those of blocks."""
    values = [stored.get(tensor.name) for tensor in node.inputs]
    integers, scale = values[:2]
    if integers is None or scale is None or scale.ndim > 1 or (len(values) == 3 and values[2] is None):
        return None
    shape = [1] * integers.ndim
    if scale.size > 1:
        axis = int(node.attrs.get("axis", 1))
        if not -integers.ndim <= axis < integers.ndim or integers.shape[axis] != scale.size:
            return None
        shape[axis] = -1
    zero = np.zeros_like(scale) if len(values) < 3 or values[2] is None else values[2].astype(scale.dtype)
    floats = (integers.astype(scale.dtype) - zero.reshape(shape)) * scale.reshape(shape)
    return np.asarray(floats.reshape(integers.shape))


def _described(name: str, dtype: np.dtype[Any] | None) -> onnx.ValueInfoProto:
    """Return the description of a tensor of any shape."""
    kind = onnx.TensorProto.UNDEFINED if dtype is None else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(name, kind, None)


def decoder(graph: Graph, boxes: Span, stored: Stored) -> Decoder | None:
    """Return the part of a graph that decodes boxes; None if it is too large, or reads tensors of unknown size."""

    def enters(node: gs.Node, name: str) -> bool:
        return not is_fixed(graph, name) and not _is_raw(graph, name)

    if _is_raw(graph, boxes.name):
        return None
    part = backward(graph.uses, [boxes.name], enters=enters)
    nodes = part.nodes
    if not nodes or len(nodes) > _NODES or not all(_can_be_run(node) for node in nodes):
        return None
    made = {out.name for node in nodes for out in node.outputs}
    read = dict.fromkeys(str(t.name) for node in nodes for t in node.inputs if t.name and t.name not in made)
    raw: dict[str, tuple[int, ...]] = {}
    for name in read:
        if is_fixed(graph, name):
            continue
        shape = graph.shape(name)
        sizes = (
            None if shape is None else [1 if not axis and not isinstance(n, int) else n for axis, n in enumerate(shape)]
        )
        if sizes is None or not all(isinstance(n, int) for n in sizes):
            return None
        raw[name] = tuple(int(n) for n in sizes if isinstance(n, int))
        if prod(raw[name]) > _ELEMENTS or not graph.is_float(name):
            return None
    sizes_made = [known_size(graph.shape(str(out.name)) or (None,)) for node in nodes for out in node.outputs]
    if sum(size for size in sizes_made if size is not None) > _ELEMENTS:
        return None
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    large = [name for name in read if name not in raw and name not in constants]
    if large:
        constants |= stored(large)
    return Decoder(graph, boxes, tuple(nodes), raw, constants) if raw else None


def _can_be_run(node: gs.Node) -> bool:
    """Tell whether a node is run: a decoder has no branches, and picks no boxes."""
    facts = traits(node)
    return is_standard(node.domain) and not facts.control_flow and not facts.picks_boxes


def _is_raw(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is an input, or picked in a run, or made by a layer with weights that are no halves."""
    node = graph.producer.get(name)
    if node is None:
        return not graph.is_constant(name)
    if not traits(node).weighted:
        return traits(node).axes == "reordered"
    numbers = [value for t in node.inputs if (value := graph.constants.get(t.name)) is not None and value.size > 1]
    return not any(np.array_equal(2 * value, np.round(2 * value)) for value in numbers)


def box_form(graph: Graph, boxes: Span, sides: tuple[int, int], stored: Stored) -> BoxForm | None:
    """Return how four columns tell boxes, None if that is not clear.

    Args:
        graph: the graph, with numbers for height and width.
        boxes: the four columns.
        sides: width and height of the model's picture.
        stored: returns the values of stored tensors by name.
    """
    part = decoder(graph, boxes, stored)
    if part is None:
        return None
    still = part.run(part.zeros())
    if still is None or len(still) < _FEWEST or not np.isfinite(still).all():
        return None
    moved = list(_drawn(part, len(still)))
    if not moved or not all(np.isfinite(one).all() for one in moved):
        return None
    order = _order(np.stack(moved))
    if order is None:
        return None
    middles = still[:, :2] if order == "cxcywh" else (still[:, :2] + still[:, 2:]) / 2
    if order == "x1y1wh":
        middles = still[:, :2] + still[:, 2:] / 2
    return _placed(order, middles, sides)


def are_fractions(graph: Graph, boxes: Span, stored: Stored) -> bool:
    """Tell whether four columns are fractions of the picture's sides: where all raw numbers are 0, none is large."""
    part = decoder(graph, boxes, stored)
    still = None if part is None else part.run(part.zeros())
    return still is not None and bool((np.abs(still) <= _LARGEST_FRACTION).all())


def _drawn(part: Decoder, count: int) -> Iterator[Boxes]:
    """Yield the boxes of random raw numbers, `[Q, 4]` for each run; nothing if one fails."""
    random = np.random.default_rng(0)
    for _ in range(min(max(-(-_SAMPLES // count), 3), _RUNS)):
        raw = {name: np.abs(random.normal(0, 1, shape)).astype(np.float32) for name, shape in part.raw.items()}
        boxes = part.run(raw)
        if boxes is None:
            return
        yield boxes


def _order(moved: Boxes) -> Order | None:
    """Return what the four numbers are, with x taken to be first, given the boxes of some runs, `[R, Q, 4]`."""
    if (moved[..., 2:] >= moved[..., :2]).all():
        return "x1y1x2y2"
    if not (moved[..., 2:] >= 0).all():
        return None
    change = np.sign(moved - moved.mean(0))  # of each candidate by itself: those of a coarse level move further
    together = (change[..., :2] * change[..., 2:]).mean((0, 1))
    if not change.any((0, 1)).all():
        return None
    if (np.abs(together) < _CLEAR / 2).all():
        return "cxcywh"
    return "x1y1wh" if (together < -_CLEAR).all() else None


def _placed(order: Order, middles: Boxes, sides: tuple[int, int]) -> BoxForm | None:
    """Return the form with its unit, and with y first if the candidates' middles say so."""
    first, second = _steps(middles)
    if first == second:
        return None
    if second > first:
        if order != "x1y1x2y2":
            return None  # no model was seen that tells a centre or a size with y first
        order, middles = "y1x1y2x2", middles[:, ::-1]
    low, high = middles.min(0), middles.max(0)
    lengths: dict[Unit, tuple[int, int]] = {"pixels": sides, "fractions": (1, 1)}
    for unit, ends in lengths.items():
        tall = np.array(ends, np.float64)
        if (low >= -0.05 * tall).all() and (high <= 1.05 * tall).all() and (high - low >= 0.5 * tall).all():
            return BoxForm(order, unit)
    return None


def _steps(middles: Boxes) -> tuple[int, int]:
    """Return how often the next candidate differs from the last one in the first number alone, and in the second."""
    moves = np.abs(np.diff(middles, axis=0)) > 1e-6 * np.abs(middles).max()
    return int((moves[:, 0] & ~moves[:, 1]).sum()), int((moves[:, 1] & ~moves[:, 0]).sum())
