"""A row of the table: an operator with its attributes, written in ONNX's text form, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from helpers.gradients.checker import FLOATS, Problem

NEWEST = 24
OLD, AXIS, NEW = 11, 13, 18
VARIANTS = ("static", "symbolic", "anonymous", "batch", "constant", "flat", "unknown-constant", "unknown-flat")
"""Dimensions as numbers, as symbols or unknown, all or the batch alone; and with a mean over the last axis, or over all
but the first, behind the operator, so that its gradient is constant along them."""

DEFAULT_VARIANTS = frozenset({"symbolic", "constant"})
"""Those that run by default, at a row's last opset: of 92 random changes of the rules' code these two found all 63 that
any variant at any opset found."""


@dataclass(frozen=True)
class Row:
    """One variant of a rule.

    Attributes:
        op: the operator under test.
        inputs: graph inputs; dimensions are numbers or the symbols of `sizes`.
        body: nodes; the result is `y` unless `outputs` says more.
        opsets: the opsets to check at.
        sizes: the symbols' values.
        given: feeds that are not drawn.
        domains, oracle: see `Problem`.
        wrt: inputs to differentiate; all float inputs by default.
        outputs: graph outputs.
        variants: which of `VARIANTS` make sense.
    """

    op: str
    inputs: str
    body: str
    opsets: tuple[int, ...]
    sizes: Mapping[str, int]
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    domains: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    oracle: str = "reference"
    wrt: tuple[str, ...] = ()
    outputs: str = "y"
    variants: tuple[str, ...] = VARIANTS

    def cases(self) -> Iterator[tuple[str, int, bool]]:
        """This row's (variant, opset, in the default run): `DEFAULT_VARIANTS` at its last opset."""
        symbols = {symbol for symbol in self.sizes if re.search(rf"\b{symbol}\b", self.inputs)}
        kept = [v for v in self.variants if symbols or v in ("static", "constant")]
        if "N" not in symbols or symbols == {"N"}:
            kept = [v for v in kept if v != "batch"]  # there is none, or it is all that is unknown anyway
        default = DEFAULT_VARIANTS & set(kept) or set(kept[:1])
        for opset in self.opsets:
            for variant in kept:
                yield variant, opset, opset == self.opsets[-1] and variant in default

    def problem(self, variant: str, opset: int) -> Problem:
        """The row as a problem for the checker."""
        numbers = _replaced(self.inputs, self.sizes)
        others = {symbol: size for symbol, size in self.sizes.items() if symbol != "N"}
        texts = {
            "symbolic": self.inputs,
            "flat": self.inputs,
            "anonymous": _replaced(self.inputs, self.sizes, "?"),
            "batch": _replaced(_replaced(self.inputs, others), {"N": 2}, "?"),
        }
        model = _parsed(texts.get(variant, numbers), self.body, self.outputs, opset)
        if variant in ("constant", "flat", "unknown-constant", "unknown-flat"):
            model = _averaged(model, [-1] if variant == "constant" else None)
        shapes = {
            i.name: [d.dim_value for d in i.type.tensor_type.shape.dim]
            for i in _parsed(numbers, self.body, self.outputs, opset).graph.input
            if i.type.tensor_type.elem_type in FLOATS and i.name not in self.given
        }
        return Problem(model, self.wrt or tuple(shapes), shapes, self.given, self.domains, self.oracle)


def row(op: str, inputs: str, body: str, **options: Any) -> Row:
    """A row; keywords that are no fields are sizes of symbols. N = 2 by default."""
    fields = {name: options.pop(name) for name in list(options) if name in Row.__dataclass_fields__}
    sizes = {"N": 2, **options}
    return Row(op, inputs, body, fields.pop("opsets", (17,)), sizes, **fields)


def ints(name: str, *numbers: int) -> str:
    """An int64 vector as a Constant node in text form."""
    listed = ", ".join(map(str, numbers))
    return f"{name} = Constant<value = int64[{len(numbers)}] {{{listed}}}>() "


def floats(name: str, *numbers: float) -> str:
    """A float vector as a Constant node in text form."""
    listed = ", ".join(map(str, numbers))
    return f"{name} = Constant<value = float[{len(numbers)}] {{{listed}}}>() "


def scalar(name: str, number: float) -> str:
    """A float scalar as a Constant node in text form."""
    return f"{name} = Constant<value = float {{{number}}}>() "


def _replaced(inputs: str, sizes: Mapping[str, int], by: str | None = None) -> str:
    for symbol, size in sizes.items():
        inputs = re.sub(rf"(?<=[\[,])\s*{symbol}\s*(?=[\],])", by or str(size), inputs)
    return inputs


def _parsed(inputs: str, body: str, outputs: str, opset: int) -> onnx.ModelProto:
    listed = ", ".join(f"float {name}" for name in outputs.split())
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({listed}) {{ {body} }}'
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def _averaged(model: onnx.ModelProto, axes: list[int] | None) -> onnx.ModelProto:
    """The mean of the first output over axes (all but the first) as the only output."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    output = model.graph.output[0]
    rank = len(inferred.graph.output[0].type.tensor_type.shape.dim)
    if rank == 0:
        return model
    axes = axes or list(range(1, rank)) or [-1]
    opset = model.opset_import[0].version
    if opset < 18:
        node = onnx.helper.make_node("ReduceMean", [output.name], ["averaged"], axes=axes)
    else:
        tensor = onnx.numpy_helper.from_array(np.array(axes, np.int64), "averaged_axes")
        model.graph.initializer.append(tensor)
        node = onnx.helper.make_node("ReduceMean", [output.name, "averaged_axes"], ["averaged"])
    model.graph.node.append(node)
    del model.graph.output[1:]
    output.name = "averaged"
    return model
