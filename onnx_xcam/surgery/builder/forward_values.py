"""What the tail may read of the forward pass, and how it gets the rest.

A tensor of the model is read as it is, with three exceptions:
- What only the analysis has (a function body, an operator that was lowered) is computed once more.
- A float that DequantizeLinear makes is computed once more from its integer, and
- a float that nothing reads but QuantizeLinear is what that integer stands for, or, if it is cheap to have exactly, is
  computed once more. ONNX Runtime runs `DequantizeLinear, op, QuantizeLinear` as one operator on integers as long as
  nobody else wants the floats between: reading one makes the model slower and changes its outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.common.integers import FEW_BITS
from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import MICROSOFT

FEW_BITS_OPSET = 21
"""From here on the standard's operators take integers of 4 bits; older models have ONNX Runtime's for them."""
_DEPTH = 8
"""How many nodes in a row are computed once more for an exact value."""


def forward_value(graph: Graph, emitter: Emitter, name: str, who: str) -> Value:
    """A tensor of the model as a value; float16 cast to float32.

    Raises:
        ShapeError: its rank is unknown.
    """
    return _as_float(_value(graph, emitter, name, who, exact=True))


def rounded_value(graph: Graph, emitter: Emitter, name: str, who: str) -> Value:
    """As `forward_value`; of a tensor that is quantised next, what its integer stands for."""
    return _as_float(_value(graph, emitter, name, who, exact=False))


def _as_float(value: Value) -> Value:
    return value.cast(np.float32) if value.dtype == np.float16 else value


def _value(graph: Graph, emitter: Emitter, name: str, who: str, *, exact: bool) -> Value:
    if graph.outer is not None and name not in graph.inner:
        return _value(graph.outer, emitter, name, who, exact=exact)
    if graph.shape(name) is None:
        raise ShapeError(
            f"{who} needs the rank of '{name}', which shape inference could not find; "
            "run the model through onnxslim or ONNX Runtime's symbolic shape inference first."
        )
    return _stored(graph, emitter, name, exact=exact)


def _stored(graph: Graph, emitter: Emitter, name: str, *, exact: bool = True) -> Value:
    """A tensor in its own dtype."""
    if graph.outer is not None and name not in graph.inner:
        return _stored(graph.outer, emitter, name, exact=exact)
    node = graph.producer.get(name)
    if node is not None and traits(node).dequantises:
        return dequantised(graph, emitter, node, node.inputs[0].name)
    constant = graph.constants.get(name)
    if constant is not None:
        return emitter.constant(constant) if name in graph.inner else _plain(graph, emitter, name)
    quantiser = quantiser_behind(graph, name)
    if quantiser is not None and not (exact and _is_cheap(graph, name, _DEPTH)):
        return dequantised(graph, emitter, quantiser, quantiser.outputs[0].name)
    if node is not None and (name in graph.inner or quantiser is not None) and not emitter.knows(name):
        inputs = [_stored(graph, emitter, t.name).cast(graph.dtype(t.name)) if t.name else None for t in node.inputs]
        kinds = {out.name: (graph.dtype(out.name), graph.shape(out.name) or ()) for out in node.outputs if out.name}
        emitter.repeat(node, inputs, kinds)
    return _plain(graph, emitter, name)


def _plain(graph: Graph, emitter: Emitter, name: str) -> Value:
    constant, is_weight = graph.constants.get(name), graph.is_constant(name)
    return emitter.forward(name, graph.dtype(name), graph.shape(name) or (), constant, is_weight=is_weight)


def quantiser_behind(graph: Graph, name: str) -> gs.Node | None:
    """The QuantizeLinear that a float goes to if it goes nowhere else, and is no output of the model."""
    readers = graph.readers.get(name, [])
    if not readers or name in graph.output_names or any(not traits(node).quantises_as_told for node in readers):
        return None
    return readers[0]


def float_for(graph: Graph, name: str) -> str:
    """The float to look at in place of a quantised tensor, of a float that is quantised next, or of another float of
    the same integers that nothing reads in the analysis; else the tensor.
    """
    quantiser = quantiser_behind(graph, name)
    integers = name if quantiser is None else quantiser.outputs[0].name
    node = graph.producer.get(name)
    if node is not None and traits(node).dequantises and not graph.readers.get(name):
        integers = node.inputs[0].name
    if integers not in graph.quantised:
        return name
    floats = [node.outputs[0].name for node in graph.readers.get(integers, []) if traits(node).dequantises]
    return floats[0] if floats else name


def _is_cheap(graph: Graph, name: str, depth: int) -> bool:
    """Whether a tensor can be computed once more from what may be read, without a product or a convolution."""
    node = graph.producer.get(name)
    if node is None or name in graph.constants:
        return True
    facts = traits(node)
    if facts.dequantises or facts.quantises_as_told:
        return True
    if name not in graph.inner and quantiser_behind(graph, name) is None:
        return True  # it can be read as it is
    return depth > 0 and facts.repeatable and all(_is_cheap(graph, t.name, depth - 1) for t in node.inputs)


def dequantised(graph: Graph, emitter: Emitter, node: gs.Node, name: str) -> Value:
    """The floats that the integers `name` stand for, (q - zero point) scale, float32 (float64 where the scale is).

    It is not spelled as a DequantizeLinear, which ONNX Runtime would count among those of the forward pass, and would
    not fold where the integers are weights.

    Args:
        graph: the graph.
        emitter: takes the added nodes.
        node: the QuantizeLinear or DequantizeLinear node that has scale and zero point.
        name: the integers.
    """
    q = _stored(graph, emitter, name)
    dtype = np.float64 if graph.dtype(node.inputs[1].name) == np.float64 else np.float32
    if q.dtype.name in FEW_BITS and graph.opset < FEW_BITS_OPSET:  # not even a Cast takes them
        inputs = [q, *(_stored(graph, emitter, t.name) if t.name else None for t in node.inputs[1:])]
        axis = int(node.attrs.get("axis", 1))
        return emitter.one("DequantizeLinear", inputs, dtype, q.shape, domain=MICROSOFT, axis=axis)
    shift = graph.constants.get(node.inputs[2].name) if len(node.inputs) > 2 else np.zeros(())
    has_shift = shift is None or bool(np.any(shift))
    scale = along_axis(graph, emitter, node, 1, dtype)
    return q.dequantised(scale, along_axis(graph, emitter, node, 2, dtype) if has_shift else None)


def along_axis(graph: Graph, emitter: Emitter, node: gs.Node, index: int, dtype: Any = np.float32) -> Value:
    """Scale (1) or zero point (2) of a node as floats, of a shape that meets the tensor it belongs to."""
    value = _stored(graph, emitter, node.inputs[index].name)
    if node.attrs.get("block_size", 0):
        return _by_position(graph, node, value.cast(dtype))
    rank = len(graph.shape(node.inputs[0].name) or ())
    behind = [] if value.rank != 1 or rank < 2 or value.shape == (1,) else _axes_behind(node, rank)
    if value.const is not None:
        array = value.const.astype(dtype)
        return emitter.constant(array.reshape([] if array.size == 1 else [*array.shape, *[1] * len(behind)]))
    return value.cast(dtype).unsqueeze(behind)


def _by_position(graph: Graph, node: gs.Node, value: Value) -> Value:
    """What a node has one of for each block, once for each position."""
    shape = graph.shape(node.inputs[0].name) or ()
    axis = int(node.attrs.get("axis", 1)) % len(shape)
    length = shape[axis]
    if not isinstance(length, int):
        raise ShapeError(f"'{node.inputs[0].name}' is scaled in blocks, but its length is unknown.")
    blocks = np.arange(length, dtype=np.int64) // int(node.attrs["block_size"])
    return value.gather(value.emitter.constant(blocks), axis)


def _axes_behind(node: gs.Node, rank: int) -> list[int]:
    """The axes behind the one that has a scale for each of its positions."""
    return list(range(1, rank - int(node.attrs.get("axis", 1)) % rank))
