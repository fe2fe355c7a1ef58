"""This module defines Value, a tensor with numpy-like operators, so that a gradient rule reads as its formula.

Only this module knows how an operator is written at an opset (axes as attribute or input, and the like). Every value
knows its static shape as far as it is known before a run (see shapes.py). float16 never occurs here: gradients and the
map are computed in float32, or in float64 where the model is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.dims import Dim, Shape

Operand: TypeAlias = "Value | float | int"
Intent: TypeAlias = Literal[
    "Times", "Settled", "Masked", "Scaled", "Unscaled", "Folded", "Unfolded", "OneHotRows", "Dequantised"
]
INTENTS = "onnx_xcam.intents"
"""The domain of intentions: steps that are no operators, and that `simplify` replaces by nodes before export."""
INT_MIN, INT_MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Nodes(Protocol):
    """A Nodes object adds the nodes that a value's operators need; `emitter.Emitter` is its implementation."""

    opset: int

    def constant(self, array: np.ndarray) -> Value:
        """Return a constant with the array's dtype and shape."""

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[tuple[np.dtype[Any] | type, Shape]],
        *,
        domain: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """Add a node and return its outputs, with the given dtypes and shapes."""

    def one(self, op: str, inputs: Sequence[Value | None], dtype: Any, shape: Shape, **attributes: Any) -> Value:
        """Add a node and return its only output."""

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Join values along an axis."""

    def shape_of(self, value: Value, start: int, stop: int) -> Value:
        """Return dimensions `start` to `stop` of a value at run time, int64 `[stop - start]`."""

    def symbol_source(self, dim: Dim) -> tuple[Value, int] | None:
        """Return the value and its axis from which a symbolic dimension can be read cheaply, None if there is none."""

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a constant that was added, not a tensor of the model."""

    def may_be_infinite(self, value: Value) -> bool:
        """Tell whether a value may be infinite although the values that it is computed from are finite."""

    def set_never_zero(self, value: Value) -> None:
        """Note that a value is never zero, so that a quotient by it stays finite."""


class Value:
    """A Value is a tensor of the model or an added one; its numpy-like operators add nodes.

    Attributes:
        emitter: the object that the nodes are added to.
        name: the tensor's name.
        dtype: the numpy dtype.
        shape: the static shape; dimensions are numbers, symbols or None.
        const: the array, where the value is a known constant.
        shape_source: a value with the same shape whose dimensions may be read at run time.
    """

    __slots__ = ("const", "dtype", "emitter", "name", "shape", "shape_source")

    def __init__(
        self, emitter: Nodes, name: str, dtype: np.dtype[Any], shape: Shape, const: np.ndarray | None = None
    ) -> None:
        self.emitter = emitter
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.const = const
        self.shape_source: Value = self

    @property
    def rank(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.dtype}, {self.shape})"

    def with_shape(self, shape: Shape) -> Value:
        """Return the same tensor with a more precise static shape."""
        result = Value(self.emitter, self.name, self.dtype, shape, self.const)
        result.shape_source = self.shape_source
        return result

    # --- intentions: the pass before the export chooses the nodes -----------------------------------------------------

    def _intend(
        self, what: Intent, *others: Value, dtype: Any = None, shape: Shape | None = None, **facts: Any
    ) -> Value:
        """Record an intention: a step for which `simplify` chooses the nodes, once all steps around it are known."""
        return self.emitter.one(
            what, [self, *others], dtype or self.dtype, self.shape if shape is None else shape, domain=INTENTS, **facts
        )

    def times(self, factor: float) -> Value:
        """Return the value times a number, not 0; such numbers are collected and applied to small tensors."""
        return self._intend("Times", factor=factor)

    def settled(self) -> Value:
        """Return the value with all pending numbers multiplied in here, and not later."""
        return self._intend("Settled")

    def masked(self, mask: Value) -> Value:
        """Return the value where a bool mask is true, and 0 elsewhere, even where the value is infinite."""
        return self._intend("Masked", mask, shape=dims.broadcast(self.shape, mask.shape))

    def scaled(self, scale: Value) -> Value:
        """Return the value times a scale; `unscaled` by the same scale gives the value back."""
        return self._intend("Scaled", scale, shape=dims.broadcast(self.shape, scale.shape))

    def unscaled(self, scale: Value) -> Value:
        """Return the value divided by a scale."""
        return self._intend("Unscaled", scale, shape=dims.broadcast(self.shape, scale.shape))

    def folded(self) -> Value:
        """Return a gradient `[K, N, ...]` as `[K N, ...]`; directly after `unfolded` this gives its input back."""
        target = shapes.shape_value(self, [-1, *shapes.dim_parts(self, 2)])
        return self._intend("Folded", target, shape=(None, *self.shape[2:]))

    def unfolded(self, like: Value) -> Value:
        """Return a folded gradient `[K N, ...]` as `[K, N, ...]`, with K and N of another gradient."""
        batch = like.shape[1]
        lead: list[Part] = [-1, batch] if isinstance(batch, int) else [shapes.dim_part(like, 0), -1]
        target = shapes.shape_value(self, [*lead, *shapes.dim_parts(self, 1)])
        return self._intend("Unfolded", target, shape=(*like.shape[:2], *self.shape[1:]))

    def one_hot(self, count: Value, dtype: Any) -> Value:
        """Return positions, int64 `[...]`, as one-hot rows `[..., C]`; `count` is 0, 1, ... C - 1, int64 `[C]`."""
        return self._intend("OneHotRows", count, dtype=np.dtype(dtype), shape=(*self.shape, *count.shape))

    def dequantised(self, scale: Value, zero_point: Value | None) -> Value:
        """Return (value - zero point) scale for integers, in the dtype of the scale."""
        others = [scale] if zero_point is None else [scale, zero_point]
        result = self._intend("Dequantised", *others, dtype=scale.dtype)
        result.shape_source = self.shape_source
        return result

    # --- elementwise ------------------------------------------------------------------------------------------------

    def _lift(self, other: Operand) -> Value:
        """Return the operand as a value; a number becomes a constant, with axes where this value ends in axes of size
        1.

        ONNX Runtime is slow for a scalar there: it computes element by element. The constant has as many axes of size 1
        as the value has at its end, and one more.
        """
        if isinstance(other, Value):
            return other
        ones = next((n for n, dim in enumerate(self.shape[::-1]) if dim != 1), -1) + 1
        return self.emitter.constant(np.full([1] * (ones if ones > 1 else 0), other, self.dtype))

    def elementwise(self, op: str, other: Operand, dtype: Any = None, *, swap: bool = False) -> Value:
        """Add a node with this value and another as operands (the other one first if `swap`), and return its output."""
        right = self._lift(other)
        left, right = (right, self) if swap else (self, right)
        return self.emitter.one(op, [left, right], dtype or left.dtype, dims.broadcast(left.shape, right.shape))

    def _unary(self, op: str, dtype: Any = None, **attributes: Any) -> Value:
        """Add a node that reads this value only, and return its output, which has the same shape."""
        return self.emitter.one(op, [self], dtype or self.dtype, self.shape, **attributes)

    def __add__(self, other: Operand) -> Value:
        return self if _is_number(other, 0) else self.elementwise("Add", other)

    def __radd__(self, other: Operand) -> Value:
        return self + other

    def __sub__(self, other: Operand) -> Value:
        return self if _is_number(other, 0) else self.elementwise("Sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self.elementwise("Sub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        if _is_number(other, 1):
            return self
        number = number_of(other, self.dtype)
        return self.elementwise("Mul", other) if number is None else self.times(number)

    def __rmul__(self, other: Operand) -> Value:
        return self * other

    def __truediv__(self, other: Operand) -> Value:
        if _is_number(other, 1):
            return self
        number = number_of(other, self.dtype)
        return self.elementwise("Div", other) if number is None else self.times(1 / number)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.elementwise("Div", other, swap=True)

    def __pow__(self, other: Operand) -> Value:
        return self.elementwise("Pow", other)

    def __neg__(self) -> Value:
        return self._unary("Neg")

    def __gt__(self, other: Operand) -> Value:
        return self.elementwise("Greater", other, np.bool_)

    def __lt__(self, other: Operand) -> Value:
        return self.elementwise("Less", other, np.bool_)

    def equal(self, other: Operand) -> Value:
        """Return a bool value: whether each element equals the other operand's."""
        return self.elementwise("Equal", other, np.bool_)

    def logical_and(self, other: Value) -> Value:
        """Return the elementwise "and" of two bool values."""
        return self.elementwise("And", other, np.bool_)

    def logical_or(self, other: Value) -> Value:
        """Return the elementwise "or" of two bool values."""
        return self.elementwise("Or", other, np.bool_)

    def logical_not(self) -> Value:
        """Return the elementwise "not" of a bool value."""
        return self._unary("Not")

    def where(self, then: Operand, otherwise: Operand, dtype: Any = None) -> Value:
        """Return `then` where this bool value is true, else `otherwise`; `dtype` is needed if both are numbers."""
        branches = [then, otherwise]
        dtype = next((b.dtype for b in branches if isinstance(b, Value)), dtype)
        a, b = (v if isinstance(v, Value) else self.emitter.constant(np.array(v, dtype)) for v in branches)
        return self.emitter.one("Where", [self, a, b], dtype, dims.broadcast(self.shape, a.shape, b.shape))

    def choose(self, then: Operand, otherwise: Operand, like: Value) -> Value:
        """Return `then` where this bool value is true, else `otherwise`, in the dtype of `like`, by products and sums.

        Both must be finite. On a CPU this is faster than Where.
        """
        one = self.cast(like.dtype)
        if isinstance(then, Value) or isinstance(otherwise, Value):
            return one * then + (1 - one) * otherwise
        return one * (then - otherwise) + otherwise

    def exp(self) -> Value:
        """Return e to the power of the value."""
        return self._unary("Exp")

    def log(self) -> Value:
        """Return the natural logarithm."""
        return self._unary("Log")

    def sqrt(self) -> Value:
        """Return the square root."""
        return self._unary("Sqrt")

    def abs(self) -> Value:
        """Return the absolute value."""
        return self._unary("Abs")

    def floor(self) -> Value:
        """Return the largest whole number that is not larger."""
        return self._unary("Floor")

    def round(self) -> Value:
        """Return the nearest whole number; halves are rounded to the even one."""
        return self._unary("Round")

    def sign(self) -> Value:
        """Return the sign: -1, 0 or 1."""
        return self._unary("Sign")

    def sin(self) -> Value:
        """Return the sine."""
        return self._unary("Sin")

    def cos(self) -> Value:
        """Return the cosine."""
        return self._unary("Cos")

    def sinh(self) -> Value:
        """Return the hyperbolic sine."""
        return self._unary("Sinh")

    def cosh(self) -> Value:
        """Return the hyperbolic cosine."""
        return self._unary("Cosh")

    def tanh(self) -> Value:
        """Return the hyperbolic tangent."""
        return self._unary("Tanh")

    def erf(self) -> Value:
        """Return the error function of the value."""
        return self._unary("Erf")

    def sigmoid(self) -> Value:
        """Return 1 / (1 + exp(-x))."""
        return self._unary("Sigmoid")

    def relu(self) -> Value:
        """Return max(x, 0)."""
        return self._unary("Relu")

    def cast(self, dtype: Any) -> Value:
        """Return the value in another dtype."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        result = self._unary("Cast", dtype, to=int(onnx.helper.np_dtype_to_tensor_dtype(dtype)))
        result.shape_source = self.shape_source
        return result

    def minimum(self, other: Operand) -> Value:
        """Return the elementwise minimum of floats (before opset 12, Min takes no integers)."""
        return self.elementwise("Min", other)

    def maximum(self, other: Operand) -> Value:
        """Return the elementwise maximum of floats (before opset 12, Max takes no integers)."""
        return self.elementwise("Max", other)

    # --- products and reductions ------------------------------------------------------------------------------------

    def __matmul__(self, other: Value) -> Value:
        """Return the matrix product over the last two axes; leading axes broadcast."""
        lead = dims.broadcast(self.shape[:-2], other.shape[:-2])
        return self.emitter.one("MatMul", [self, other], self.dtype, (*lead, self.shape[-2], other.shape[-1]))

    def _reduce(self, op: str, axes: Sequence[int], keepdims: bool, axes_input_since: int) -> Value:
        """Add a reduction over axes, which are an attribute before opset `axes_input_since`, and return its output."""
        axes = dims.normal_axes(axes, self.rank, op)
        if not axes:
            return self
        kept: list[Dim] = [1 if axis in axes else dim for axis, dim in enumerate(self.shape)]
        shape = tuple(dim for axis, dim in enumerate(kept) if keepdims or axis not in axes)
        if self.emitter.opset >= axes_input_since:
            listed = self.emitter.constant(np.array(axes, np.int64))
            return self.emitter.one(op, [self, listed], self.dtype, shape, keepdims=int(keepdims))
        return self.emitter.one(op, [self], self.dtype, shape, axes=list(axes), keepdims=int(keepdims))

    def sum(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Return the sum over axes."""
        return self._reduce("ReduceSum", axes, keepdims, 13)

    def mean(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Return the mean over axes."""
        return self._reduce("ReduceMean", axes, keepdims, 18)

    def prod(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Return the product over axes."""
        return self._reduce("ReduceProd", axes, keepdims, 18)

    def max(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Return the maximum over axes."""
        return self._reduce("ReduceMax", axes, keepdims, 18)

    def min(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Return the minimum over axes."""
        return self._reduce("ReduceMin", axes, keepdims, 18)

    def cumsum(self, axis: int, *, exclusive: bool = False, reverse: bool = False) -> Value:
        """Return the cumulative sum along an axis."""
        where = self.emitter.constant(np.array(axis % self.rank, np.int64))
        return self.emitter.one(
            "CumSum", [self, where], self.dtype, self.shape, exclusive=int(exclusive), reverse=int(reverse)
        )

    def argmax(self, axis: int) -> Value:
        """Return the index of the first maximum along an axis, int64; the axis is kept at size 1."""
        shape = tuple(1 if a == axis % self.rank else d for a, d in enumerate(self.shape))
        return self.emitter.one("ArgMax", [self], np.int64, shape, axis=axis % self.rank, keepdims=1)

    # --- movement ---------------------------------------------------------------------------------------------------

    def reshape(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """Return the value in another shape.

        Args:
            parts: the new shape: numbers, of which one may be -1, and int64 `[1]` values.
            shape: the new static shape, where it is known more precisely than from `parts`.
        """
        if shape is None:
            shape = tuple(p if isinstance(p, int) and p >= 0 else None for p in parts)
        if all(isinstance(d, int) for d in shape) and shape == self.shape:
            return self
        target = shapes.shape_value(self, parts)
        return self.emitter.one("Reshape", [self, target], self.dtype, shape)

    def reshape_like(self, x: Value, classes: Value | None = None) -> Value:
        """Return a gradient as `[K, *x.shape]`; K is the size of its first axis, or of that of `classes` if given."""
        classes = classes or self
        shape = (classes.shape[0], *x.shape)
        if self.shape == shape and None not in shape:
            return self
        return self.reshape(shapes.like_parts(classes, x), shape)

    def transpose(self, perm: Sequence[int]) -> Value:
        """Return the value with its axes permuted."""
        if list(perm) == list(range(self.rank)):
            return self
        return self.emitter.one(
            "Transpose", [self], self.dtype, tuple(self.shape[p] for p in perm), perm=[int(p) for p in perm]
        )

    def swap_last(self) -> Value:
        """Return the value with its last two axes exchanged."""
        return self.transpose([*range(self.rank - 2), self.rank - 1, self.rank - 2])

    def expand(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """Return the value broadcast against the shape given as parts, in which 1 keeps a dimension."""
        if shape is None:
            shape = tuple(p if isinstance(p, int) else None for p in parts)
            shape = dims.broadcast(self.shape, shape)
        if all(isinstance(p, int) for p in parts) and shape == self.shape:
            return self
        return self.emitter.one("Expand", [self, shapes.shape_value(self, parts)], self.dtype, shape)

    def unsqueeze(self, axes: Sequence[int]) -> Value:
        """Return the value with new axes of size 1; `axes` are their positions in the result."""
        rank = self.rank + len(axes)
        axes = dims.normal_axes(axes, rank, "Unsqueeze")
        kept = iter(self.shape)
        shape = tuple(1 if axis in axes else next(kept) for axis in range(rank))
        if not axes:
            return self
        return self._with_axes("Unsqueeze", axes, shape)

    def squeeze(self, axes: Sequence[int]) -> Value:
        """Return the value without these axes of size 1."""
        axes = dims.normal_axes(axes, self.rank, "Squeeze")
        if not axes:
            return self
        return self._with_axes("Squeeze", axes, tuple(d for a, d in enumerate(self.shape) if a not in axes))

    def _with_axes(self, op: str, axes: Sequence[int], shape: Shape) -> Value:
        """Add a Squeeze or Unsqueeze, and return its output; the axes are an input from opset 13 on."""
        if self.emitter.opset >= 13:
            return self.emitter.one(op, [self, self.emitter.constant(np.array(axes, np.int64))], self.dtype, shape)
        return self.emitter.one(op, [self], self.dtype, shape, axes=list(axes))

    def slice(
        self, starts: Sequence[Part], stops: Sequence[Part], axes: Sequence[int], steps: Sequence[int] | None = None
    ) -> Value:
        """Return `x[start:stop:step]` on each of `axes`; starts and stops are numbers or int64 `[1]` values."""
        steps = steps or [1] * len(axes)
        shape = list(self.shape)
        for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
            dim = shape[axis]
            numbers = isinstance(dim, int) and isinstance(start, int) and isinstance(stop, int)
            shape[axis] = len(range(dim)[_bound(start) : _bound(stop) : step]) if numbers else None  # type: ignore
        emitter = self.emitter
        indices = [shapes.shape_value(self, starts), shapes.shape_value(self, stops)]
        indices += [emitter.constant(np.array(axes, np.int64)), emitter.constant(np.array(steps, np.int64))]
        return emitter.one("Slice", [self, *indices], self.dtype, tuple(shape))

    def flip(self, axes: Sequence[int]) -> Value:
        """Return the value reversed along axes."""
        result = self
        for axis in axes:
            size = self.shape[axis]
            if not isinstance(size, int):
                result = result.slice([-1], [INT_MIN], [axis], [-1])
            elif size != 1:  # MNN's converter (3.6) crashes at a Slice that steps backwards
                backwards = self.emitter.constant(np.arange(size, dtype=np.int64)[::-1])
                result = result.gather(backwards, axis).with_shape(self.shape)
        return result

    def pad(self, before: Sequence[Part], after: Sequence[Part], axes: Sequence[int]) -> Value:
        """Return the value with zeros added before and after it on each of `axes`; negative numbers remove elements."""
        if all(isinstance(p, int) and p == 0 for p in (*before, *after)):
            return self
        first: list[Part] = [0] * self.rank
        last: list[Part] = [0] * self.rank
        shape: list[Dim] = list(self.shape)
        for low, high, axis in zip(before, after, axes, strict=True):
            first[axis], last[axis] = low, high
            dim = shape[axis]
            numbers = isinstance(low, int) and isinstance(high, int) and isinstance(dim, int)
            shape[axis] = dim + low + high if numbers else None  # type: ignore[operator,assignment]
        pads = shapes.shape_value(self, [*first, *last])
        return self.emitter.one("Pad", [self, pads], self.dtype, tuple(shape), mode="constant")

    def gather(self, indices: Value, axis: int) -> Value:
        """Return the slices along `axis` at indices of any rank; negative indices count from the end."""
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        return self.emitter.one("Gather", [self, indices], self.dtype, shape, axis=axis)

    def gather_elements(self, indices: Value, axis: int) -> Value:
        """Return the elements `self[..., indices[..., i, ...], ...]` along `axis`, in the shape of the indices."""
        return self.emitter.one("GatherElements", [self, indices], self.dtype, indices.shape, axis=axis)

    def scatter_elements(self, indices: Value, updates: Value, axis: int, *, add: bool = False) -> Value:
        """Return the value with updates written, or added, at the indices along `axis`.

        Raises:
            ShapeError: updates are to be added before opset 16.
        """
        if add and self.emitter.opset < 16:
            raise ShapeError("ScatterElements with addition needs opset 16.")
        reduction = "add" if add else None
        inputs = [self, indices, updates]
        return self.emitter.one("ScatterElements", inputs, self.dtype, self.shape, axis=axis, reduction=reduction)

    def resize_linear(self, parts: Sequence[Part], shape: Shape) -> Value:
        """Return the value resized linearly (with half-pixel centres) to the shape given as parts."""
        sizes = shapes.shape_value(self, parts)
        unused = self.emitter.constant(np.zeros(0, np.float32)) if self.emitter.opset < 13 else None
        inputs = [self, unused, unused, sizes]
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.emitter.one("Resize", inputs, self.dtype, shape, **mode)

    def repeat_each(self, counts: Sequence[int]) -> Value:
        """Return the value with its elements repeated along the last axes, `counts` times each."""
        lead = self.rank - len(counts)
        emitter = self.emitter
        scales = emitter.constant(np.array([1] * lead + list(counts), np.float32))
        unused = emitter.constant(np.zeros(0, np.float32)) if emitter.opset < 13 else None
        grown = [dim * n if isinstance(dim, int) else None for dim, n in zip(self.shape[lead:], counts, strict=True)]
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return emitter.one("Resize", [self, unused, scales], self.dtype, (*self.shape[:lead], *grown), **how)

    def zeros(self, parts: Sequence[Part]) -> Value:
        """Return zeros of this value's dtype in the shape given as parts."""
        return self.filled(parts, 0)

    def filled(self, parts: Sequence[Part], number: float) -> Value:
        """Return a tensor of this value's dtype that is filled with a number, in the shape given as parts."""
        shape = tuple(p if isinstance(p, int) else None for p in parts)
        fill = np.array([number], self.dtype)
        return self.emitter.one(
            "ConstantOfShape", [shapes.shape_value(self, parts)], self.dtype, shape, value=_TensorAttribute(fill)
        )

    def range_of(self, axis: int) -> Value:
        """Return 0, 1, ... up to the size of an axis (exclusive), int64 1-D."""
        dim = self.shape[axis]
        emitter = self.emitter
        if isinstance(dim, int):
            shapes.table_size(dim)
            return emitter.constant(np.arange(dim, dtype=np.int64))
        part = shapes.dim_part(self, axis)
        assert isinstance(part, Value)
        zero, one = (emitter.constant(np.array(n, np.int64)) for n in (0, 1))
        return emitter.one("Range", [zero, part.squeeze([0]), one], np.int64, (dim,))


class _TensorAttribute(gs.Constant):  # type: ignore[misc]
    """A _TensorAttribute is a tensor as an attribute; its repr has its values, so that equal nodes compare as equal."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__("", array)

    def __repr__(self) -> str:
        return f"tensor({self.values.dtype}, {self.values.tolist()})"


def _bound(number: int) -> int | None:
    """Return a bound of a Slice as Python has it: None for the smallest integers, which mean 'before the first'."""
    return None if number <= -(2**31) + 1 else number


def number_of(operand: Operand, dtype: np.dtype[Any]) -> float | None:
    """Return an operand of a float value as a number that may stay pending; None if it is no scalar, 0 or infinite."""
    if isinstance(operand, Value):
        operand = float(operand.const) if operand.const is not None and operand.rank == 0 else 0
    return float(operand) if operand and isfinite(operand) and dtype.kind == "f" else None


def _is_number(operand: Operand, number: float) -> bool:
    """Tell whether an operand is this number, and not a value."""
    return not isinstance(operand, Value) and operand == number
