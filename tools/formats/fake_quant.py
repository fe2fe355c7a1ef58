"""PyTorch runs quantised ONNX graphs here, node by node, with straight-through estimators, and differentiates them.

A quantised tensor is held as the floats of its integers, so that whatever computes on integers is differentiated as
usual. Written after the operators' documentation, without onnx_xcam, which it is there to check. Needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as F  # noqa: N812  its usual name

Tensor = torch.Tensor
Mask = Literal["torch", "inside"]
"""Where a quantiser lets the gradient pass: "torch", where torch.fake_quantize_per_tensor_affine does, that is where
nothing was clipped; "inside", where the integer is neither end of its range, or is an end that is said to be open."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_INTEGERS = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int32: (-(2**31), 2**31 - 1)}
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


class Interpreter:
    """Runs a model in float64.

    Args:
        model: the model; operators that are not in OPERATORS are an error.
        mask: where quantisers let the gradient pass.
        given: tensors that get these values instead of what their nodes give; quantised ones as integers.
        open_ends: the ends ("min", "max") of quantised tensors' ranges of which somebody says that nothing is clipped
            there; it is looked whether that is true.
        known: values of tensors as they were elsewhere, quantised ones as integers: they are taken, with the gradient
            of what is computed here. So all kinks and clippings are decided as they were there.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        mask: Mask,
        given: Mapping[str, Tensor] | None = None,
        known: Mapping[str, np.ndarray] | None = None,
        open_ends: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.graph, self.mask, self.given, self.known = model.graph, mask, given or {}, known or {}
        self.open_ends = open_ends or {}
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.unclipped = score_quantisers(model.graph)
        self.name = ""

    def run(self, images: np.ndarray) -> list[Tensor]:
        """The model's outputs for its image input."""
        constants = {t.name for t in self.graph.initializer}
        (image,) = (value.name for value in self.graph.input if value.name not in constants)
        outputs = [value.name for value in self.graph.output]
        nodes = _behind(self.graph, self.given)
        last = {name: i for i, proto in enumerate(nodes) for name in proto.input}
        values = {t.name: _constant(t) for t in self.graph.initializer if t.name in last}
        values[image] = torch.from_numpy(images).double()
        values.update(self.given)
        for i, proto in enumerate(nodes):
            self.name = proto.output[0]
            node = Node(proto, [values[name] if name else None for name in proto.input], self)
            if proto.op_type not in OPERATORS:
                raise NotImplementedError(f"{proto.domain}:{proto.op_type} is not among the interpreter's operators")
            made = OPERATORS[proto.op_type](node)
            for name, value in zip(proto.output, made if isinstance(made, (tuple, list)) else [made], strict=False):
                if name not in self.given:
                    values[name] = self._as_known(name, value)
            for name in set(proto.input):
                if last[name] == i and name not in outputs:
                    values.pop(name, None)
        return [values[name] for name in outputs]

    def _as_known(self, name: str, value: Tensor) -> Tensor:
        """A value, or the known one with its gradient."""
        if name not in self.known or not value.is_floating_point():
            return value
        return torch.from_numpy(self.known[name]).double().reshape(value.shape) + value - value.detach()

    def kinked(self, x: Tensor, low: float, high: float) -> Tensor:
        """x between two bounds, without a gradient at them; where the result is known, that decides."""
        y = F.hardtanh(x, low, high)
        if self.name not in self.known:
            return y
        known = torch.from_numpy(self.known[self.name]).double()
        straight = torch.where((known > low) & (known < high), x, 0)
        return known + straight - straight.detach()

    def quantised(self, x: Tensor, scale: Tensor, zero: Tensor, axis: int = 1) -> Tensor:
        """The integers of a float, as floats: a straight-through estimator."""
        low, high = _INTEGERS[zero.dtype]
        at = _along(scale.double(), x, axis), _along(zero.double(), x, axis)
        known = self.known.get(self.name)
        if self.mask == "torch" and known is None and scale.numel() == 1:
            rounded = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero), low, high)
            return rounded / at[0] + at[1]
        with torch.no_grad():
            steps = torch.round(x / at[0]) + at[1]
            q = steps.clamp(low, high) if known is None else torch.from_numpy(known).double()
            inside = ((q > low) | self._is_open("min", (low - steps).max())) & (q < high) | (
                (q == high) & self._is_open("max", (steps - high).max())
            )
            passes = inside if self.mask == "inside" else (steps >= low) & (steps <= high)
            if self.mask == "inside" and self.name in self.unclipped:
                passes = torch.ones_like(passes)
        straight = torch.where(passes, x / at[0], 0)
        return q + straight - straight.detach()

    def _is_open(self, end: str, beyond: Tensor) -> bool:
        """Whether an end of the range is said to be open; it must be, for all but one step's rounding."""
        if end not in self.open_ends.get(self.name, ()):
            return False
        if float(beyond) > 1:
            raise AssertionError(f"'{self.name}' is clipped at its {end}, by {float(beyond)} steps")
        return True


def _behind(graph: onnx.GraphProto, given: Mapping[str, Any]) -> list[onnx.NodeProto]:
    """The nodes that the outputs need if some tensors are given, in order."""
    needed = {value.name for value in graph.output} - given.keys()
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(set(node.input) - given.keys())
    return nodes[::-1]


def score_quantisers(graph: onnx.GraphProto) -> frozenset[str]:
    """Quantised tensors that are a model's output but for dequantisation and shape."""
    maker = {name: node for node in graph.node for name in node.output}
    found = set()
    for output in graph.output:
        name = output.name
        while name in maker and maker[name].op_type in ("DequantizeLinear", "Reshape", "Flatten", "Squeeze"):
            name = maker[name].input[0]
        found.add(name)
    return frozenset(found)


_Y_AT = {
    **{"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7, "QLinearAdd": 6, "QLinearMul": 6},
    **{"QLinearConcat": 0, "QLinearSigmoid": 3, "QLinearSoftmax": 3, "QLinearGlobalAveragePool": 3},
    **{"QLinearReduceMean": 3, "QLinearLeakyRelu": 3, "QLinearWhere": 7},
}
"""Where the scale of what an operator quantises to is among its inputs; the zero point is the next one."""
_KEEP_INTEGERS = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")


def step_of(graph: onnx.GraphProto, name: str) -> tuple[str, float, int] | None:
    """The quantised tensor that a tensor is, or is dequantised from, with scale and zero point; None of a float."""
    maker = {output: node for node in graph.node for output in node.output}
    constants = {t.name: t for t in graph.initializer}
    node = maker[name]
    if node.op_type == "DequantizeLinear":
        name, at, holder = node.input[0], 1, node
    else:
        holder = node
        while holder.op_type in _KEEP_INTEGERS and holder.input[0] in maker:
            holder = maker[holder.input[0]]
        if len(holder.input) <= _Y_AT.get(holder.op_type, len(holder.input)):
            return None
        at = _Y_AT[holder.op_type]
    scale, zero = (numpy_helper.to_array(constants[holder.input[i]]) for i in (at, at + 1))
    return name, float(scale.reshape(())), int(zero.reshape(()))


def _constant(tensor: onnx.TensorProto) -> Tensor:
    value = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    return value.double() if value.is_floating_point() else value


def _along(value: Tensor, like: Tensor, axis: int) -> Tensor:
    """Scales or zero points, one or one for each position of an axis, of a shape that meets the tensor."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if a == axis % like.ndim else 1 for a in range(like.ndim)])


def _dequantised(q: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    value = q.double()
    if zero is not None:
        value = value - _along(zero.double(), q, axis)
    return value * _along(scale.double(), q, axis)


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
    return q.double() if zero is None else q.double() - _along(zero.double(), q, axis)


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
    return _constant(n.attr("value"))


@operator("ConstantOfShape")
def _(n: Node) -> Tensor:
    value = n.attr("value")
    return _constant(value).reshape(()).expand(n[0].tolist()) if value is not None else torch.zeros(n[0].tolist())


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
