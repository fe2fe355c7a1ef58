"""This module gives tensors of the forward pass to the tail: read as they are where that is free, else recomputed.

The tail reads a tensor of the model as it is, with three exceptions:
- A tensor that only the analysis has (inside a function body, or of a lowered operator) is computed in the tail.
- The output of a DequantizeLinear is computed again from its integers.
- A float that only a QuantizeLinear reads is replaced by its rounded value, from the integers; or, if its exact value
is
  cheap, it is computed again.

The reason for the last two is that ONNX Runtime runs `DequantizeLinear, op, QuantizeLinear` as one operator on integers
as long as nothing else reads the floats between. A tail that reads one makes the model slower and changes its outputs.
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
"""The first opset at which the standard's operators take integers of 4 bits; older models have ONNX Runtime's."""
_DEPTH = 8
"""The largest number of consecutive nodes that are computed again for an exact value."""


def forward_value(graph: Graph, emitter: Emitter, name: str, who: str) -> Value:
    """Return a tensor of the model as a value, float16 cast to float32.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        name: the tensor.
        who: the node or purpose that needs it, for the message of an error.

    Raises:
        ShapeError: the tensor's rank is unknown.
    """
    return _as_float(_value(graph, emitter, name, who, exact=True))


def rounded_value(graph: Graph, emitter: Emitter, name: str, who: str) -> Value:
    """Return a tensor of the model as a value, rounded as its quantiser does where it is quantised next.

    Arguments and errors are those of `forward_value`.
    """
    return _as_float(_value(graph, emitter, name, who, exact=False))


def _as_float(value: Value) -> Value:
    """Return float16 values as float32, and others as they are."""
    return value.cast(np.float32) if value.dtype == np.float16 else value


def _value(graph: Graph, emitter: Emitter, name: str, who: str, *, exact: bool) -> Value:
    """Return a tensor in its own dtype, exactly or rounded, after a check that its rank is known."""
    if graph.outer is not None and name not in graph.inner:
        return _value(graph.outer, emitter, name, who, exact=exact)
    if graph.shape(name) is None:
        raise ShapeError(
            f"{who} needs the rank of '{name}', which shape inference could not find; "
            "run the model through onnxslim or ONNX Runtime's symbolic shape inference first."
        )
    return _stored(graph, emitter, name, exact=exact)


def _stored(graph: Graph, emitter: Emitter, name: str, *, exact: bool = True) -> Value:
    """Return a tensor in its own dtype, read, dequantised, or computed again."""
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
    """Return a tensor that is read by its name."""
    constant, is_weight = graph.constants.get(name), graph.is_constant(name)
    return emitter.forward(name, graph.dtype(name), graph.shape(name) or (), constant, is_weight=is_weight)


def quantiser_behind(graph: Graph, name: str) -> gs.Node | None:
    """Return the QuantizeLinear that reads a float, None if anything else reads it or it is an output of the model."""
    readers = graph.readers.get(name, [])
    if not readers or name in graph.output_names or any(not traits(node).quantises_as_told for node in readers):
        return None
    return readers[0]


def float_for(graph: Graph, name: str) -> str:
    """Return the float tensor to analyse in place of this one, and the tensor itself where there is no better one.

    A quantised tensor, a float that is quantised next, and a float of the same integers that nothing in the analysis
    reads are all replaced by the float that the integers are dequantised to.
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
    """Tell whether a tensor can be computed again from tensors that may be read, without a product or a convolution."""
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
    """Return the floats of the integers `name`: (q - zero point) scale, float32 (float64 where the scale is).

    The nodes are not a DequantizeLinear, which ONNX Runtime would treat as one of the forward pass, and would not fold
    where the integers are weights.

    Args:
        graph: the graph.
        emitter: takes the added nodes.
        node: the QuantizeLinear or DequantizeLinear node with the scale and the zero point.
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
    """Return the scale (`index` 1) or zero point (2) of a node as floats that broadcast against its first input."""
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
    """Return scales or zero points of blocks repeated for each position of the blocks.

    Raises:
        ShapeError: the length of the axis that is divided into blocks is unknown.
    """
    shape = graph.shape(node.inputs[0].name) or ()
    axis = int(node.attrs.get("axis", 1)) % len(shape)
    length = shape[axis]
    if not isinstance(length, int):
        raise ShapeError(f"'{node.inputs[0].name}' is scaled in blocks, but its length is unknown.")
    blocks = np.arange(length, dtype=np.int64) // int(node.attrs["block_size"])
    return value.gather(value.emitter.constant(blocks), axis)


def _axes_behind(node: gs.Node, rank: int) -> list[int]:
    """Return the axes of size 1 that a vector of scales needs: one for each axis behind that of the channels."""
    return list(range(1, rank - int(node.attrs.get("axis", 1)) % rank))
