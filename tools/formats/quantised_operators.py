"""PyTorch computes each operator of a quantised ONNX graph here, its integers held as floats.

They are written after the operators' documentation, without onnx_xcam, which they are there to check. Needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as F  # noqa: N812  its usual name

if TYPE_CHECKING:
    from tools.formats.fake_quant import Interpreter

Tensor = torch.Tensor

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_WIDTHS = {onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.INT32: torch.int32, onnx.TensorProto.BOOL: torch.bool}


class Node:
    """A node as an operator's function sees it: attributes, and its inputs' values, None where not given."""

    def __init__(self, proto: onnx.NodeProto, inputs: list[Tensor | None], run: Interpreter) -> None:
        self.proto, self.inputs, self.run = proto, inputs, run
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def __getitem__(self, index: int) -> Tensor:
        value = self.inputs[index]
        assert value is not None, f"{self.proto.op_type} has no input {index}"
        return value

    def get(self, index: int) -> Tensor | None:
        """An optional input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, index: int, default: Any = None) -> Any:
        """What is an attribute in older operator sets and an input in newer ones, as a list."""
        given = self.get(index)
        return given.tolist() if given is not None else self.attr(name, default)


Operator: TypeAlias = Callable[[Node], Any]
OPERATORS: dict[str, Operator] = {}


def constant(tensor: onnx.TensorProto) -> Tensor:
    """A constant of the graph, floats as float64."""
    value = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    return value.double() if value.is_floating_point() else value


def along(value: Tensor, like: Tensor, axis: int) -> Tensor:
    """Scales or zero points, one or one for each position of an axis, of a shape that meets the tensor."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if a == axis % like.ndim else 1 for a in range(like.ndim)])


def _dequantised(q: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    value = q.double()
    if zero is not None:
        value = value - along(zero.double(), q, axis)
    return value * along(scale.double(), q, axis)


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register an operator's function."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


# --- quantisation -----------------------------------------------------------------------------------------------------


@operator("QuantizeLinear")
def _(n: Node) -> Tensor:
    return n.run.quantised(n[0].double(), n[1], n[2], n.attr("axis", 1))


@operator("DequantizeLinear")
def _(n: Node) -> Tensor:
    return _dequantised(n[0], n[1], n.get(2), n.attr("axis", 1))


@operator("DynamicQuantizeLinear")
def _(n: Node) -> tuple[Tensor, Tensor, Tensor]:
    x = n[0]
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    zero = float(np.clip(np.round(-np.float32(low) / scale), 0, 255))
    scaled = x / float(scale)
    q = (torch.round(scaled) + zero).clamp(0, 255).detach()
    return q + scaled - scaled.detach(), torch.tensor(float(scale)).double(), torch.tensor(zero)


def _shifted(q: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    return q.double() if zero is None else q.double() - along(zero.double(), q, axis)


@operator("MatMulInteger")
def _(n: Node) -> Tensor:
    return _shifted(n[0], n.get(2), -2) @ _shifted(n[1], n.get(3), -1)


@operator("ConvInteger")
def _(n: Node) -> Tensor:
    return _conv(n, _shifted(n[0], n.get(2), 0), _shifted(n[1], n.get(3), 0), None)


@operator("QLinearConv")
def _(n: Node) -> Tensor:
    bias = None if n.get(8) is None else n[8].double() * n[1].double() * n[4].double()
    y = _conv(n, _dequantised(n[0], n[1], n[2]), _dequantised(n[3], n[4], n[5], 0), bias)
    return n.run.quantised(y, n[6], n[7])


@operator("QLinearMatMul")
def _(n: Node) -> Tensor:
    y = _dequantised(n[0], n[1], n[2], -2) @ _dequantised(n[3], n[4], n[5], -1)
    return n.run.quantised(y, n[6], n[7])


@operator("QGemm")
def _(n: Node) -> Tensor:
    bias = None if n.get(6) is None else n[6].double() * n[1].double() * n[4].double() * n.attr("alpha", 1.0)
    b = _dequantised(n[3], n[4], n[5], 0 if n.attr("transB", 0) else 1)
    y = _gemm(n, _dequantised(n[0], n[1], n[2]), b, bias)
    return y if n.get(7) is None else n.run.quantised(y, n[7], n[8])


@operator("QLinearAdd", "QLinearMul")
def _(n: Node) -> Tensor:
    a, b = _dequantised(n[0], n[1], n[2]), _dequantised(n[3], n[4], n[5])
    return n.run.quantised(a + b if n.proto.op_type == "QLinearAdd" else a * b, n[6], n[7])


@operator("QLinearConcat")
def _(n: Node) -> Tensor:
    parts = [_dequantised(n[i], n[i + 1], n[i + 2]) for i in range(2, len(n.inputs), 3)]
    return n.run.quantised(torch.cat(parts, n.attr("axis")), n[0], n[1])


@operator("QLinearSigmoid", "QLinearSoftmax", "QLinearGlobalAveragePool", "QLinearReduceMean", "QLinearLeakyRelu")
def _(n: Node) -> Tensor:
    x, op = _dequantised(n[0], n[1], n[2]), n.proto.op_type.removeprefix("QLinear")
    made: dict[str, Callable[[], Tensor]] = {
        "Sigmoid": lambda: torch.sigmoid(x),
        "Softmax": lambda: torch.softmax(x, n.attr("axis", -1)),
        "GlobalAveragePool": lambda: x.mean([*range(2, x.ndim)], keepdim=True),
        "ReduceMean": lambda: x.mean(list(n.attr("axes")), keepdim=bool(n.attr("keepdims", 1))),
        "LeakyRelu": lambda: F.leaky_relu(x, n.attr("alpha", 0.01)),
    }
    return n.run.quantised(made[op](), n[3], n[4])


@operator("QLinearWhere")
def _(n: Node) -> Tensor:
    y = torch.where(n[0], _dequantised(n[1], n[2], n[3]), _dequantised(n[4], n[5], n[6]))
    return n.run.quantised(y, n[7], n[8])


# --- convolution, products, pools -------------------------------------------------------------------------------------


def _padded(n: Node, x: Tensor, value: float) -> Tensor:
    assert n.attr("auto_pad", b"NOTSET") == b"NOTSET"
    spatial = x.ndim - 2
    pads = n.attr("pads", [0] * 2 * spatial)
    return F.pad(x, [p for a in reversed(range(spatial)) for p in (pads[a], pads[a + spatial])], value=value)


def _conv(n: Node, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    spatial = x.ndim - 2
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    strides, dilations = n.attr("strides", [1] * spatial), n.attr("dilations", [1] * spatial)
    return function(_padded(n, x, 0.0), w, bias, strides, 0, dilations, n.attr("group", 1))


def _gemm(n: Node, a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
    a, b = (a.T if n.attr("transA", 0) else a), (b.T if n.attr("transB", 0) else b)
    y = a @ b * n.attr("alpha", 1.0)
    return y if c is None else y + c * (1.0 if n.proto.op_type == "QGemm" else n.attr("beta", 1.0))


@operator("Conv")
def _(n: Node) -> Tensor:
    return _conv(n, n[0], n[1], n.get(2))


@operator("Gemm")
def _(n: Node) -> Tensor:
    return _gemm(n, n[0], n[1], n.get(2))


@operator("MaxPool")
def _(n: Node) -> Tensor:
    x = _padded(n, n[0], -math.inf)
    return F.max_pool2d(
        x, n.attr("kernel_shape"), n.attr("strides"), 0, n.attr("dilations", 1), bool(n.attr("ceil_mode", 0))
    )


@operator("GlobalAveragePool")
def _(n: Node) -> Tensor:
    return n[0].mean([*range(2, n[0].ndim)], keepdim=True)


# --- elementwise ------------------------------------------------------------------------------------------------------

_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": lambda x, y: x ** y.item() if y.numel() == 1 else x**y,
    "MatMul": torch.matmul,
    "Sqrt": torch.sqrt,
    "Erf": torch.erf,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Neg": torch.neg,
    "Exp": torch.exp,
    "Equal": torch.eq,
    "Where": torch.where,
    "Identity": lambda x: x,
    "Reciprocal": torch.reciprocal,
    "Not": torch.logical_not,
    "Mod": torch.remainder,
    "Range": lambda start, stop, step: torch.arange(start.item(), stop.item(), step.item(), dtype=start.dtype),
}
for _op, _function in _ELEMENTWISE.items():
    OPERATORS[_op] = lambda n, function=_function: function(*n.inputs)


@operator("Div")
def _(n: Node) -> Tensor:
    return n[0] / n[1] if n[0].is_floating_point() else torch.div(n[0], n[1], rounding_mode="trunc")


@operator("Clip")
def _(n: Node) -> Tensor:
    low, high = n.get(1), n.get(2)
    bounds = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    return n.run.kinked(n[0], *bounds)


@operator("Relu")
def _(n: Node) -> Tensor:
    return n.run.kinked(n[0], 0.0, math.inf)


@operator("Gelu")
def _(n: Node) -> Tensor:
    return F.gelu(n[0], approximate=n.attr("approximate", b"none").decode())


@operator("Cast")
def _(n: Node) -> Tensor:
    to = n.attr("to")
    return n[0].double() if to in _FLOATS else n[0].to(_WIDTHS[to])


@operator("Softmax")
def _(n: Node) -> Tensor:
    return torch.softmax(n[0], n.attr("axis", -1))


@operator("LayerNormalization")
def _(n: Node) -> Tensor:
    axis = n.attr("axis", -1) % n[0].ndim
    return F.layer_norm(n[0], n[0].shape[axis:], n[1], n.get(2), n.attr("epsilon", 1e-5))


@operator("ReduceMean", "ReduceSum")
def _(n: Node) -> Tensor:
    function = torch.mean if n.proto.op_type == "ReduceMean" else torch.sum
    return function(n[0], list(n.numbers("axes", 1)), keepdim=bool(n.attr("keepdims", 1)))


# --- shape and movement -----------------------------------------------------------------------------------------------


@operator("Constant")
def _(n: Node) -> Tensor:
    return constant(n.attr("value"))


@operator("ConstantOfShape")
def _(n: Node) -> Tensor:
    value = n.attr("value")
    return constant(value).reshape(()).expand(n[0].tolist()) if value is not None else torch.zeros(n[0].tolist())


@operator("Shape")
def _(n: Node) -> Tensor:
    return torch.tensor(n[0].shape[n.attr("start", 0) : n.attr("end")])


@operator("Reshape")
def _(n: Node) -> Tensor:
    sizes = [n[0].shape[i] if size == 0 else size for i, size in enumerate(n[1].tolist())]
    return torch.reshape(n[0], tuple(sizes))


@operator("Flatten")
def _(n: Node) -> Tensor:
    return n[0].reshape(math.prod(n[0].shape[: n.attr("axis", 1)]), -1)


@operator("Transpose")
def _(n: Node) -> Tensor:
    return n[0].permute(n.attr("perm", [*reversed(range(n[0].ndim))]))


@operator("Squeeze")
def _(n: Node) -> Tensor:
    axes = n.numbers("axes", 1)
    return n[0].squeeze() if axes is None else n[0].squeeze(tuple(axes))


@operator("Unsqueeze")
def _(n: Node) -> Tensor:
    axes, x = n.numbers("axes", 1), n[0]
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Pad")
def _(n: Node) -> Tensor:
    assert n.attr("mode", b"constant") == b"constant"
    x, pads = n[0], n[1].tolist()
    axes = [*range(x.ndim)] if n.get(3) is None else [a % x.ndim for a in n[3].tolist()]
    both = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    value = n.get(2)
    flat = [size for axis in reversed(range(x.ndim)) for size in both.get(axis, (0, 0))]
    return F.pad(x, flat, value=0.0 if value is None else float(value))


@operator("ScatterND")
def _(n: Node) -> Tensor:
    assert n.attr("reduction", b"none") == b"none"
    return n[0].index_put(tuple(n[1].unbind(-1)), n[2])


@operator("Expand")
def _(n: Node) -> Tensor:
    return n[0].expand(torch.broadcast_shapes(n[0].shape, n[1].tolist()))


@operator("Concat")
def _(n: Node) -> Tensor:
    return torch.cat([part for part in n.inputs if part is not None], n.attr("axis"))


@operator("Split")
def _(n: Node) -> Sequence[Tensor]:
    axis, sizes = n.attr("axis", 0), n.numbers("split", 1)
    return n[0].split(sizes or -(-n[0].shape[axis] // len(n.proto.output)), axis)


@operator("Slice")
def _(n: Node) -> Tensor:
    starts, stops = n[1].tolist(), n[2].tolist()
    axes = [*range(len(starts))] if n.get(3) is None else n[3].tolist()
    steps = [1] * len(starts) if n.get(4) is None else n[4].tolist()
    x = n[0]
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        chosen = range(x.shape[axis])[start : (None if step < 0 and stop < -x.shape[axis] else stop) : step]
        x = x.index_select(axis, torch.tensor([*chosen], dtype=torch.int64))
    return x


@operator("Gather")
def _(n: Node) -> Tensor:
    axis = n.attr("axis", 0) % n[0].ndim
    index = n[1].long() % n[0].shape[axis]
    chosen = n[0].index_select(axis, index.reshape(-1))
    return chosen.reshape((*n[0].shape[:axis], *index.shape, *n[0].shape[axis + 1 :]))
