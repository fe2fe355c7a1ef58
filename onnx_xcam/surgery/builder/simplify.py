"""The pass between recording and export: intentions become nodes, and numbers meet where tensors are small.

The recorded steps are copied one by one into a new emitter, each value as a tensor and a number that it is still to be
multiplied by. The algebra is, for numbers p and q, a linear L and tensors a, b:

    L(p a) = p L(a)        (p a) (q b) = p q (a b)        (p a) / (q b) = (p / q) (a / b)
    p a + q b = q ((p / q) a + b)        where b is the larger tensor, so that the product is made of the smaller one

A number is multiplied by where something comes that is not linear, or at the end. What else is undone or chosen here:

    (a s) / s = a,   a s + b s = (a + b) s      for a scale s (quantisation)
    unfolded, then folded                       is what it was
    rows with a single 1, times a matrix        are rows of the matrix
    rows of dequantised weights                 are dequantised rows: a fraction of the weights is touched
    0 where a mask is false                     is a product, on a CPU ten times as fast as Where, but for infinities
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np

from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.steps import Step
from onnx_xcam.surgery.builder.values import INTENTS, Value
from onnx_xcam.surgery.ir.op_traits import named


@dataclass(frozen=True)
class Product:
    """A tensor and a number that it is still to be multiplied by.

    Attributes:
        bare: the tensor.
        factor: the number, not 0.
    """

    bare: Value
    factor: float = 1.0

    def times(self, factor: float) -> Product:
        """The product with one more number."""
        product = self.factor * factor
        return Product(self.bare) if isclose(product, 1, rel_tol=1e-12) else Product(self.bare, product)

    def settled(self) -> Value:
        """The product as a tensor; of a constant another constant."""
        bare, emitter = self.bare, self.bare.emitter
        if self.factor == 1:
            return bare
        if bare.const is not None and emitter.is_constant(bare.name):
            return emitter.constant((bare.const * self.factor).astype(bare.dtype))
        return bare.elementwise("Mul", self.factor)


def simplified(emitter: Emitter, outputs: Sequence[Value]) -> tuple[Emitter, list[Value]]:
    """The steps that some values are made by, simplified: a new emitter that has them, and the same values there."""
    simplification = _Simplification(emitter)
    for step in emitter.needed(outputs):
        simplification.copy(step)
    return simplification.new, [simplification.product(value).settled() for value in outputs]


class _Simplification:
    """What has been copied so far.

    Attributes:
        old: where the steps were recorded.
        new: where they are copied to.
    """

    def __init__(self, old: Emitter) -> None:
        self.old, self.new = old, old.successor()
        self._products: dict[str, Product] = {}
        self._scaled: dict[str, tuple[Product, Value]] = {}
        self._unfolded: dict[str, Value] = {}
        self._picked: dict[str, Value] = {}
        self._integers: dict[str, list[Value]] = {}

    def product(self, value: Value) -> Product:
        """A recorded value as it is now, with the shape that is known of it where it is used."""
        if value.name not in self._products:
            self._products[value.name] = Product(self._outer(value))
        found = self._products[value.name]
        known = found.bare.shape == value.shape
        return found if known else Product(found.bare.with_shape(value.shape), found.factor)

    def _outer(self, value: Value) -> Value:
        """A constant, or a tensor of the model."""
        if self.old.is_constant(value.name):
            assert value.const is not None
            return self.new.constant(value.const)
        fixed = self.old.facts.is_fixed(value)
        return self.new.forward(value.name, value.dtype, value.shape, value.const, is_weight=fixed)

    def settled(self, value: Value | None) -> Value | None:
        """A recorded value as a tensor; None stays None."""
        return None if value is None else self.product(value).settled()

    def copy(self, step: Step) -> None:
        """Copy a step, or put in its place what is better."""
        rule = _rule(step)
        if rule is not None and step.is_shared and (result := rule(self, step)) is not None:
            made: Sequence[Product | None] = [result]
        else:
            copied = self.new.copy(step, [self.settled(value) for value in step.inputs])
            made = [None if value is None else Product(value) for value in copied]
        for out, product in zip(step.outputs, made, strict=True):
            if out is not None and product is not None:
                self._products[out.name] = product
                if self.old.facts.is_never_zero(out):
                    self.new.facts.set_never_zero(product.bare)

    def again(self, step: Step, first: Value) -> Value:
        """The step with another first input."""
        (made,) = self.new.copy(step, [first, *(self.settled(value) for value in step.inputs[1:])])
        assert made is not None
        return made

    # --- numbers ------------------------------------------------------------------------------------------------------

    def linear(self, step: Step) -> Product:
        """L(p a) = p L(a)."""
        x = self._first(step)
        return Product(self.again(step, x.bare), x.factor)

    def shape_of(self, step: Step) -> Product:
        """A shape is read of the tensor as it is."""
        return Product(self.again(step, self._first(step).bare))

    def cast(self, step: Step) -> Product | None:
        """A float stays the number of times that it is."""
        (out,) = step.outputs
        return self.linear(step) if out is not None and out.dtype.kind == "f" else None

    def negative(self, step: Step) -> Product | None:
        """-(p a) = (-p) a; without a number, a Neg."""
        x = self._first(step)
        return None if x.factor == 1 else x.times(-1)

    def bilinear(self, step: Step) -> Product:
        """(p a) (q b) = p q (a b), for products and quotients, element by element or of matrices."""
        left, right = (self.product(value) for value in step.inputs if value is not None)
        lines = self._picked.get(left.bare.name)
        if step.op == "MatMul" and lines is not None and right.bare.rank == 2:
            return self.rows(right, lines).times(left.factor)
        (made,) = self.new.copy(step, [left.bare, right.bare])
        assert made is not None
        return Product(made).times(left.factor / right.factor if step.op == "Div" else left.factor * right.factor)

    def sum(self, step: Step) -> Product:
        """p a + q b = q ((p / q) a + b), and the same for a difference."""
        left, right = (self.product(value) for value in step.inputs if value is not None)
        scales = [self._scaled.get(value.bare.name) for value in (left, right)]
        if scales[0] and scales[1] and scales[0][1].name == scales[1][1].name:
            (a, scale), (b, _) = scales[0], scales[1]
            return self._scale(self._sum(step, a.times(left.factor), b.times(right.factor)), scale)
        return self._sum(step, left, right)

    @staticmethod
    def _sum(step: Step, left: Product, right: Product) -> Product:
        a, b = left.bare, right.bare
        small = _is_stretched(a, b), _is_stretched(b, a)
        alike = 1.0 if 1 in (left.factor, right.factor) else left.factor
        factor = alike if small[0] == small[1] else (left.factor, right.factor)[small[0]]
        a, b = (value.times(1 / factor).settled() for value in (left, right))
        return Product(a.elementwise(step.op, b)).times(factor)

    def _first(self, step: Step) -> Product:
        assert step.inputs[0] is not None
        return self.product(step.inputs[0])

    # --- intentions ---------------------------------------------------------------------------------------------------

    def times(self, step: Step) -> Product:
        """A number that stays pending."""
        return self._first(step).times(step.attributes["factor"])

    def settle(self, step: Step) -> Product:
        """The number is multiplied by here."""
        return Product(self._first(step).settled())

    def masked(self, step: Step) -> Product:
        """A product with the mask, which of an infinity would be NaN; there it is Where."""
        x, mask = self._first(step), self.settled(step.inputs[1])
        assert mask is not None
        if self.new.facts.may_be_infinite(x.bare):
            return Product(mask.where(x.bare, 0), x.factor)
        return Product(x.bare.elementwise("Mul", mask.cast(x.bare.dtype)), x.factor)

    def scaled(self, step: Step) -> Product:
        """A product that remembers what it is made of."""
        scale = self.settled(step.inputs[1])
        assert scale is not None
        return self._scale(self._first(step), scale)

    def _scale(self, x: Product, scale: Value) -> Product:
        result = self._multiplied(x.bare, scale)
        if result.factor == 1:
            self._scaled[result.bare.name] = Product(x.bare), scale
        return result.times(x.factor)

    def unscaled(self, step: Step) -> Product:
        """The value before it was scaled, else a quotient."""
        x, scale = self._first(step), self.settled(step.inputs[1])
        assert scale is not None
        known = self._scaled.get(x.bare.name)
        if known is not None and known[1].name == scale.name:
            return known[0].times(x.factor)
        number = _number(scale)
        return x.times(1 / number) if number else Product(x.bare.elementwise("Div", scale), x.factor)

    def folded(self, step: Step) -> Product:
        """What was unfolded, else a Reshape."""
        x = self._first(step)
        known = self._unfolded.get(x.bare.name)
        return Product(self._reshaped(step, x.bare) if known is None else known, x.factor)

    def unfolded(self, step: Step) -> Product:
        """A Reshape that can be undone."""
        x = self._first(step)
        result = self._reshaped(step, x.bare)
        self._unfolded[result.name] = x.bare
        return Product(result, x.factor)

    def _reshaped(self, step: Step, x: Value) -> Value:
        (out,) = step.outputs
        assert out is not None
        return self.new.one("Reshape", [x, self.settled(step.inputs[1])], x.dtype, out.shape)

    def one_hot(self, step: Step) -> Product:
        """Rows with a single 1, which remember where it is."""
        lines, count = (self.settled(value) for value in step.inputs)
        (out,) = step.outputs
        assert lines is not None
        assert count is not None
        assert out is not None
        rows = lines.unsqueeze([lines.rank]).equal(count).cast(out.dtype)
        self._picked[rows.name] = lines
        return Product(rows.with_shape(out.shape))

    def dequantised(self, step: Step) -> Product:
        """(q - zero point) scale, which remembers the three."""
        parts = [value for value in (self.settled(value) for value in step.inputs) if value is not None]
        result = self._dequantised(*parts)
        if self.new.facts.is_fixed(parts[0]):
            self._integers[result.bare.name] = parts
        return result

    def _dequantised(self, q: Value, scale: Value, zero_point: Value | None = None) -> Product:
        numbers = q.cast(scale.dtype)
        return self._multiplied(numbers if zero_point is None else numbers - zero_point, scale)

    def gather(self, step: Step) -> Product:
        """Slices at indices; of weights that are stored as integers the rows are picked before they are dequantised."""
        x, indices = self._first(step), self.settled(step.inputs[1])
        assert indices is not None
        if step.attributes["axis"] == 0 and x.bare.name in self._integers:
            return self.rows(x, indices)
        return self.linear(step)

    def rows(self, x: Product, indices: Value) -> Product:
        """Rows of a tensor."""
        if (parts := self._integers.get(x.bare.name)) is None:
            return Product(x.bare.gather(indices, 0), x.factor)
        q, *others = parts
        picked = [part if part.rank < q.rank or part.shape[0] == 1 else part.gather(indices, 0) for part in others]
        return self._dequantised(q.gather(indices, 0), *picked).times(x.factor)

    @staticmethod
    def _multiplied(x: Value, scale: Value) -> Product:
        number = _number(scale)
        return Product(x).times(number) if number else Product(x.elementwise("Mul", scale))


def _number(value: Value) -> float | None:
    """A constant scalar as a number that may stay pending; None if it is none, 0, or not finite."""
    if value.const is None or value.rank or value.dtype.kind != "f" or not np.isfinite(value.const):
        return None
    return float(value.const) or None


def _is_stretched(value: Value, other: Value) -> bool:
    """Whether a value has size 1 along an axis where the other has not."""
    pairs = zip(value.shape[::-1], other.shape[::-1], strict=False)
    return value.rank < other.rank or any(a == 1 != b for a, b in pairs)


_Rule = Callable[[_Simplification, Step], Product | None]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Mul", "Div", "MatMul"), _Simplification.bilinear),
    **dict.fromkeys(("Add", "Sub"), _Simplification.sum),
    "Cast": _Simplification.cast,
    "Gather": _Simplification.gather,
    "Neg": _Simplification.negative,
    "Shape": _Simplification.shape_of,
}
_INTENTS: dict[str, _Rule] = {
    "Dequantised": _Simplification.dequantised,
    "Folded": _Simplification.folded,
    "Masked": _Simplification.masked,
    "OneHotRows": _Simplification.one_hot,
    "Scaled": _Simplification.scaled,
    "Settled": _Simplification.settle,
    "Times": _Simplification.times,
    "Unfolded": _Simplification.unfolded,
    "Unscaled": _Simplification.unscaled,
}


def _rule(step: Step) -> _Rule | None:
    if step.domain == INTENTS:
        return _INTENTS[step.op]
    if (rule := _RULES.get(step.op)) is not None:
        return rule
    return _Simplification.linear if named(step.op, step.domain).linear and len(step.outputs) == 1 else None
