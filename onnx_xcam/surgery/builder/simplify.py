"""This module simplifies recorded steps before export: intentions become nodes, and factors of products are collected.

The pass copies the recorded steps one by one into a new emitter. It represents each value as a tensor and a pending
factor, a number by which the tensor is still to be multiplied. For numbers p and q, a linear L and tensors a, b:

    L(p a) = p L(a)        (p a) (q b) = p q (a b)        (p a) / (q b) = (p / q) (a / b)
    p a + q b = q ((p / q) a + b)        where b is the larger tensor, so that the smaller one is multiplied

A pending factor becomes a product before an operator that is not linear, or at the end. The pass also simplifies:

    (a s) / s = a,   a s + b s = (a + b) s      for a scale s (of quantisation)
    folded(unfolded(a)) = a
    one-hot rows times a matrix                 become rows of the matrix
    rows of dequantised weights                 become dequantised rows, so that only these are dequantised
    zero where a mask is false                  becomes a product, on a CPU ten times as fast as Where, unless the value
                                                may be infinite
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose

from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.steps import Step
from onnx_xcam.surgery.builder.values import INTENTS, Value, number_of
from onnx_xcam.surgery.ir.op_traits import named


@dataclass(frozen=True)
class Product:
    """A Product is a tensor with a pending factor: a number by which it is still to be multiplied.

    Attributes:
        bare: the tensor without the factor.
        factor: the number, not 0.
    """

    bare: Value
    factor: float = 1.0

    def times(self, factor: float) -> Product:
        """Return the product multiplied by one more number."""
        product = self.factor * factor
        return Product(self.bare) if isclose(product, 1, rel_tol=1e-12) else Product(self.bare, product)

    def settled(self) -> Value:
        """Return the product as a tensor: another constant for a constant, else by a Mul node."""
        bare, emitter = self.bare, self.bare.emitter
        if self.factor == 1:
            return bare
        if bare.const is not None and emitter.is_constant(bare.name):
            return emitter.constant((bare.const * self.factor).astype(bare.dtype))
        return bare.elementwise("Mul", self.factor)


def simplified(emitter: Emitter, outputs: Sequence[Value]) -> tuple[Emitter, list[Value]]:
    """Return a new emitter with the steps that these values need, simplified, and the same values in it."""
    simplification = _Simplification(emitter)
    for step in emitter.needed(outputs):
        simplification.copy(step)
    return simplification.new, [simplification.product(value).settled() for value in outputs]


class _Simplification:
    """A _Simplification copies steps to a new emitter, and remembers what each value has become.

    Attributes:
        old: the emitter that recorded the steps.
        new: the emitter that they are copied to.
    """

    def __init__(self, old: Emitter) -> None:
        self.old, self.new = old, old.successor()
        self._products: dict[str, Product] = {}
        self._scaled: dict[str, tuple[Value, Value]] = {}
        self._unfolded: dict[str, Value] = {}
        self._picked: dict[str, Value] = {}
        self._integers: dict[str, list[Value]] = {}

    def product(self, value: Value) -> Product:
        """Return what a recorded value has become, with the static shape that it has where it is used."""
        if value.name not in self._products:
            self._products[value.name] = Product(self._outer(value))
        product = self._products[value.name]
        known = product.bare.shape == value.shape
        return product if known else Product(product.bare.with_shape(value.shape), product.factor)

    def _outer(self, value: Value) -> Value:
        """Return the copy of a value that no step makes: a constant, or a tensor of the model."""
        if self.old.is_constant(value.name):
            assert value.const is not None
            return self.new.constant(value.const)
        fixed = self.old.facts.is_fixed(value)
        return self.new.forward(value.name, value.dtype, value.shape, value.const, is_weight=fixed)

    def settled(self, value: Value | None) -> Value | None:
        """Return a recorded value as a tensor without a pending factor; None stays None."""
        return None if value is None else self.product(value).settled()

    def copy(self, step: Step) -> None:
        """Copy a step, or record something simpler in its place."""
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
        """Record the step again with another first input, and return its output."""
        (made,) = self.new.copy(step, [first, *(self.settled(value) for value in step.inputs[1:])])
        assert made is not None
        return made

    # --- numbers ------------------------------------------------------------------------------------------------------

    def linear(self, step: Step) -> Product:
        """L(p a) = p L(a): the factor stays pending behind a linear step."""
        x = self._first(step)
        return Product(self.again(step, x.bare), x.factor)

    def shape_of(self, step: Step) -> Product:
        """shape(p a) = shape(a): the factor does not matter."""
        return Product(self.again(step, self._first(step).bare))

    def cast(self, step: Step) -> Product | None:
        """cast(p a) = p cast(a), if the result is a float; None otherwise."""
        (out,) = step.outputs
        return self.linear(step) if out is not None and out.dtype.kind == "f" else None

    def negative(self, step: Step) -> Product | None:
        """-(p a) = (-p) a; None without a pending factor, so that a Neg is recorded."""
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
        """p a + q b = q ((p / q) a + b), and a s + b s = (a + b) s;  differences likewise."""
        left, right = (self.product(value) for value in step.inputs if value is not None)
        scales = [self._scaled.get(value.bare.name) for value in (left, right)]
        if scales[0] and scales[1] and scales[0][1].name == scales[1][1].name:
            (a, scale), (b, _) = scales[0], scales[1]
            return self._scale(self._sum(step, Product(a, left.factor), Product(b, right.factor)), scale)
        return self._sum(step, left, right)

    @staticmethod
    def _sum(step: Step, left: Product, right: Product) -> Product:
        """Record the sum or difference so that at most the smaller operand is multiplied by a number."""
        a, b = left.bare, right.bare
        small = _is_stretched(a, b), _is_stretched(b, a)
        alike = 1.0 if 1 in (left.factor, right.factor) else left.factor
        factor = alike if small[0] == small[1] else (left.factor, right.factor)[small[0]]
        a, b = (value.times(1 / factor).settled() for value in (left, right))
        return Product(a.elementwise(step.op, b)).times(factor)

    def _first(self, step: Step) -> Product:
        """Return what the first input of a step has become."""
        assert step.inputs[0] is not None
        return self.product(step.inputs[0])

    # --- intentions ---------------------------------------------------------------------------------------------------

    def times(self, step: Step) -> Product:
        """Multiply the pending factor by the step's number."""
        return self._first(step).times(step.attributes["factor"])

    def settle(self, step: Step) -> Product:
        """Record the product with the pending factor here, and not later."""
        return Product(self._first(step).settled())

    def masked(self, step: Step) -> Product:
        """Record a product with the mask, or a Where if the value may be infinite: the product would be NaN."""
        x, mask = self._first(step), self.settled(step.inputs[1])
        assert mask is not None
        if self.new.facts.may_be_infinite(x.bare):
            return Product(mask.where(x.bare, 0), x.factor)
        return Product(x.bare.elementwise("Mul", mask.cast(x.bare.dtype)), x.factor)

    def scaled(self, step: Step) -> Product:
        """Record a product with a scale, and remember both operands."""
        scale = self.settled(step.inputs[1])
        assert scale is not None
        return self._scale(self._first(step), scale)

    def _scale(self, x: Product, scale: Value) -> Product:
        """Record x times a scale, and remember both operands."""
        result = self._multiplied(x.bare, scale)
        if result.factor == 1:
            self._scaled[result.bare.name] = x.bare, scale
        return result.times(x.factor)

    def unscaled(self, step: Step) -> Product:
        """Return the value before it was multiplied by the same scale, else record a quotient."""
        x, scale = self._first(step), self.settled(step.inputs[1])
        assert scale is not None
        known = self._scaled.get(x.bare.name)
        if known is not None and known[1].name == scale.name:
            return Product(known[0], x.factor)
        number = number_of(scale, x.bare.dtype)
        return x.times(1 / number) if number else Product(x.bare.elementwise("Div", scale), x.factor)

    def folded(self, step: Step) -> Product:
        """Return the value before it was unfolded, else record a Reshape."""
        x = self._first(step)
        known = self._unfolded.get(x.bare.name)
        return Product(self._reshaped(step, x.bare) if known is None else known, x.factor)

    def unfolded(self, step: Step) -> Product:
        """Record a Reshape, and remember its input, so that folding can undo it."""
        x = self._first(step)
        result = self._reshaped(step, x.bare)
        self._unfolded[result.name] = x.bare
        return Product(result, x.factor)

    def _reshaped(self, step: Step, x: Value) -> Value:
        """Record a Reshape of x to the shape that is the step's second input."""
        (out,) = step.outputs
        assert out is not None
        return self.new.one("Reshape", [x, self.settled(step.inputs[1])], x.dtype, out.shape)

    def one_hot(self, step: Step) -> Product:
        """Record one-hot rows, and remember the positions of the ones."""
        lines, count = (self.settled(value) for value in step.inputs)
        (out,) = step.outputs
        assert lines is not None
        assert count is not None
        assert out is not None
        rows = lines.unsqueeze([lines.rank]).equal(count).cast(out.dtype)
        self._picked[rows.name] = lines
        return Product(rows.with_shape(out.shape))

    def dequantised(self, step: Step) -> Product:
        """Record (q - zero point) scale, and remember the operands if q is a weight."""
        parts = [value for value in (self.settled(value) for value in step.inputs) if value is not None]
        result = self._dequantised(*parts)
        if self.new.facts.is_fixed(parts[0]):
            self._integers[result.bare.name] = parts
        return result

    def _dequantised(self, q: Value, scale: Value, zero_point: Value | None = None) -> Product:
        """Record (q - zero point) scale."""
        numbers = q.cast(scale.dtype)
        return self._multiplied(numbers if zero_point is None else numbers - zero_point, scale)

    def gather(self, step: Step) -> Product:
        """Record a Gather; rows of weights that are stored as integers are picked before they are dequantised."""
        x, indices = self._first(step), self.settled(step.inputs[1])
        assert indices is not None
        if step.attributes.get("axis", 0) == 0 and x.bare.name in self._integers:
            return self.rows(x, indices)
        return self.linear(step)

    def rows(self, x: Product, indices: Value) -> Product:
        """Record the rows of a tensor at indices; rows of dequantised weights are picked as integers."""
        if (parts := self._integers.get(x.bare.name)) is None:
            return Product(x.bare.gather(indices, 0), x.factor)
        q, *others = parts
        picked = [part if part.rank < q.rank or part.shape[0] == 1 else part.gather(indices, 0) for part in others]
        # A scale that is a number is in the factor of x already.
        return Product(self._dequantised(q.gather(indices, 0), *picked).bare, x.factor)

    @staticmethod
    def _multiplied(x: Value, scale: Value) -> Product:
        """Return x times a scale: with a pending factor if the scale is a number, else by a Mul node."""
        number = number_of(scale, x.dtype)
        return Product(x).times(number) if number else Product(x.elementwise("Mul", scale))


def _is_stretched(value: Value, other: Value) -> bool:
    """Tell whether a value is broadcast along an axis of the other."""
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
    """Return the simplification of a step, None if it is only copied."""
    if step.domain == INTENTS:
        return _INTENTS[step.op]
    if (rule := _RULES.get(step.op)) is not None:
        return rule
    return _Simplification.linear if named(step.op, step.domain).linear and len(step.outputs) == 1 else None
