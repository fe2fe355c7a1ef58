"""PyTorch runs quantised ONNX graphs here, node by node, with straight-through estimators, and differentiates them.

A quantised tensor is held as the floats of its integers, so that whatever computes on integers is differentiated as
usual. Written after the operators' documentation, without onnx_xcam, which it is there to check. Needs torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as F  # noqa: N812  its usual name

from tools.formats.quantised_operators import OPERATORS, Node, Tensor, along, constant

Mask = Literal["torch", "inside"]
"""Where a quantiser lets the gradient pass: "torch", where torch.fake_quantize_per_tensor_affine does, that is where
nothing was clipped; "inside", where the integer is neither end of its range, or is an end that is said to be open."""

_INTEGERS = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int32: (-(2**31), 2**31 - 1)}


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
        values = {t.name: constant(t) for t in self.graph.initializer if t.name in last}
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
        at = along(scale.double(), x, axis), along(zero.double(), x, axis)
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
