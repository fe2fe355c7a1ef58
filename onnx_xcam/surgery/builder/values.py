"""Value: a tensor with operators, so that a gradient rule reads as its formula.

Only this file knows how an operator is spelled at an opset (axes as attribute or input, and the like). Every value
knows its static shape as far as it can be told (see shapes.py). float16 never occurs here: gradients and the map are
computed in float32, or in float64 where the model is float64.
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
"""The domain of steps that are no operators yet: `simplify` puts nodes in their place before anything is exported."""
INT_MIN, INT_MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Nodes(Protocol):
    """A Nodes object takes the nodes that a value's operators ask for; `emitter.Emitter` is the one that does."""

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
        """Return dimensions `start` to `stop` of a value at run time, int64 [stop - start]."""

    def symbol_source(self, dim: Dim) -> tuple[Value, int] | None:
        """Return where a symbolic dimension can be read cheaply, None if nowhere."""

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a constant that was added, not a tensor of the model."""

    def may_be_infinite(self, value: Value) -> bool:
        """Tell whether a value may be infinite where what it is made of is not."""

    def set_never_zero(self, value: Value) -> None:
        """Note that a value can be divided by."""


class Value:
    """A tensor of the graph, of the model or added, with numpy-like operators that add nodes.

    Attributes:
        emitter: where the nodes go.
        name: the tensor's name.
        dtype: numpy dtype.
        shape: static shape; dimensions are numbers, symbols or None.
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
        """The number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.dtype}, {self.shape})"

    def with_shape(self, shape: Shape) -> Value:
        """The same tensor, with a static shape that is known better."""
        result = Value(self.emitter, self.name, self.dtype, shape, self.const)
        result.shape_source = self.shape_source
        return result

    # --- intentions: the pass before the export chooses the nodes -----------------------------------------------------

    def _intend(
        self, what: Intent, *others: Value, dtype: Any = None, shape: Shape | None = None, **facts: Any
    ) -> Value:
        """A step that says what is meant; `simplify` chooses how it is done, where all that surrounds it is known."""
        return self.emitter.one(
            what, [self, *others], dtype or self.dtype, self.shape if shape is None else shape, domain=INTENTS, **facts
        )

    def times(self, factor: float) -> Value:
        """The value times a number other than 0; numbers meet in one product, where tensors are small."""
        return self._intend("Times", factor=factor)

    def settled(self) -> Value:
        """The value with all numbers that it is to be multiplied by, here and not later."""
        return self._intend("Settled")

    def masked(self, mask: Value) -> Value:
        """The value where a bool mask is true, 0 elsewhere, also of what is infinite."""
        return self._intend("Masked", mask, shape=dims.broadcast(self.shape, mask.shape))

    def scaled(self, scale: Value) -> Value:
        """The value times a scale; dividing by the same scale gives the value back."""
        return self._intend("Scaled", scale, shape=dims.broadcast(self.shape, scale.shape))

    def unscaled(self, scale: Value) -> Value:
        """The value divided by a scale."""
        return self._intend("Unscaled", scale, shape=dims.broadcast(self.shape, scale.shape))

    def folded(self) -> Value:
        """A gradient `[K, N, ...]` as `[K N, ...]`; of one that was unfolded last, what it was unfolded from."""
        target = shapes.shape_value(self, [-1, *shapes.dim_parts(self, 2)])
        return self._intend("Folded", target, shape=(None, *self.shape[2:]))

    def unfolded(self, like: Value) -> Value:
        """A folded gradient `[K N, ...]` as `[K, N, ...]`, K and N as in another gradient."""
        batch = like.shape[1]
        lead: list[Part] = [-1, batch] if isinstance(batch, int) else [shapes.dim_part(like, 0), -1]
        target = shapes.shape_value(self, [*lead, *shapes.dim_parts(self, 1)])
        return self._intend("Unfolded", target, shape=(*like.shape[:2], *self.shape[1:]))

    def one_hot(self, count: Value, dtype: Any) -> Value:
        """Positions, int64 `[...]`, as rows `[..., C]` with a single 1; `count` is 0, 1, ... C - 1, int64 `[C]`."""
        return self._intend("OneHotRows", count, dtype=np.dtype(dtype), shape=(*self.shape, *count.shape))

    def dequantised(self, scale: Value, zero_point: Value | None) -> Value:
        """(value - zero point) scale of integers, in the dtype of the scale."""
        others = [scale] if zero_point is None else [scale, zero_point]
        result = self._intend("Dequantised", *others, dtype=scale.dtype)
        result.shape_source = self.shape_source
        return result

    # --- elementwise ------------------------------------------------------------------------------------------------

    def _lift(self, other: Operand) -> Value:
        """The operand as a value; a number that meets axes of size 1 at the end has those, and one more.

        With a scalar, ONNX Runtime would take element by element there.
        """
        if isinstance(other, Value):
            return other
        ones = next((n for n, dim in enumerate(self.shape[::-1]) if dim != 1), -1) + 1
        return self.emitter.constant(np.full([1] * (ones if ones > 1 else 0), other, self.dtype))

    def elementwise(self, op: str, other: Operand, dtype: Any = None, *, swap: bool = False) -> Value:
        """A node of an operator that takes two operands, this value and another (first the other if `swap`)."""
        right = self._lift(other)
        left, right = (right, self) if swap else (self, right)
        return self.emitter.one(op, [left, right], dtype or left.dtype, dims.broadcast(left.shape, right.shape))

    def _unary(self, op: str, dtype: Any = None, **attributes: Any) -> Value:
        return self.emitter.one(op, [self], dtype or self.dtype, self.shape, **attributes)

    def _number(self, operand: Operand) -> float | None:
        """The operand as a number that may be multiplied by later, None if it is none."""
        if isinstance(operand, Value):
            operand = float(operand.const) if operand.const is not None and operand.rank == 0 else 0
        return float(operand) if operand and isfinite(operand) and self.dtype.kind == "f" else None

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
        number = self._number(other)
        return self.elementwise("Mul", other) if number is None else self.times(number)

    def __rmul__(self, other: Operand) -> Value:
        return self * other

    def __truediv__(self, other: Operand) -> Value:
        if _is_number(other, 1):
            return self
        number = self._number(other)
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
        """Elementwise equality, bool."""
        return self.elementwise("Equal", other, np.bool_)

    def logical_and(self, other: Value) -> Value:
        """Elementwise and of two bool values."""
        return self.elementwise("And", other, np.bool_)

    def logical_not(self) -> Value:
        """Elementwise not of a bool value."""
        return self._unary("Not")

    def where(self, then: Operand, otherwise: Operand, dtype: Any = None) -> Value:
        """`then` where this bool value is true, else `otherwise`; `dtype` if both are numbers."""
        branches = [then, otherwise]
        dtype = next((b.dtype for b in branches if isinstance(b, Value)), dtype)
        a, b = (v if isinstance(v, Value) else self.emitter.constant(np.array(v, dtype)) for v in branches)
        return self.emitter.one("Where", [self, a, b], dtype, dims.broadcast(self.shape, a.shape, b.shape))

    def choose(self, then: Operand, otherwise: Operand, like: Value) -> Value:
        """`then` where this bool value is true, else `otherwise`, in the dtype of `like`; both finite: see `masked`."""
        one = self.cast(like.dtype)
        if isinstance(then, Value) or isinstance(otherwise, Value):
            return one * then + (1 - one) * otherwise
        return one * (then - otherwise) + otherwise

    def exp(self) -> Value:
        """e to the power of the value."""
        return self._unary("Exp")

    def log(self) -> Value:
        """Natural logarithm."""
        return self._unary("Log")

    def sqrt(self) -> Value:
        """Square root."""
        return self._unary("Sqrt")

    def abs(self) -> Value:
        """Absolute value."""
        return self._unary("Abs")

    def floor(self) -> Value:
        """The largest whole number that is not larger."""
        return self._unary("Floor")

    def round(self) -> Value:
        """The nearest whole number, halves to the even one."""
        return self._unary("Round")

    def sign(self) -> Value:
        """-1, 0 or 1."""
        return self._unary("Sign")

    def sin(self) -> Value:
        """Sine."""
        return self._unary("Sin")

    def cos(self) -> Value:
        """Cosine."""
        return self._unary("Cos")

    def sinh(self) -> Value:
        """Hyperbolic sine."""
        return self._unary("Sinh")

    def cosh(self) -> Value:
        """Hyperbolic cosine."""
        return self._unary("Cosh")

    def tanh(self) -> Value:
        """Hyperbolic tangent."""
        return self._unary("Tanh")

    def erf(self) -> Value:
        """The error function."""
        return self._unary("Erf")

    def sigmoid(self) -> Value:
        """1 / (1 + exp(-x))."""
        return self._unary("Sigmoid")

    def relu(self) -> Value:
        """max(x, 0)."""
        return self._unary("Relu")

    def cast(self, dtype: Any) -> Value:
        """The value as another dtype."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        result = self._unary("Cast", dtype, to=int(onnx.helper.np_dtype_to_tensor_dtype(dtype)))
        result.shape_source = self.shape_source
        return result

    def minimum(self, other: Operand) -> Value:
        """Elementwise smaller value (float; before opset 12 Min knows no integers)."""
        return self.elementwise("Min", other)

    def maximum(self, other: Operand) -> Value:
        """Elementwise larger value (float; before opset 12 Max knows no integers)."""
        return self.elementwise("Max", other)

    # --- products and reductions ------------------------------------------------------------------------------------

    def __matmul__(self, other: Value) -> Value:
        """Matrix product over the last two axes; leading axes broadcast."""
        lead = dims.broadcast(self.shape[:-2], other.shape[:-2])
        return self.emitter.one("MatMul", [self, other], self.dtype, (*lead, self.shape[-2], other.shape[-1]))

    def _reduce(self, op: str, axes: Sequence[int], keepdims: bool, axes_input_since: int) -> Value:
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
        """Sum over axes."""
        return self._reduce("ReduceSum", axes, keepdims, 13)

    def mean(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Mean over axes."""
        return self._reduce("ReduceMean", axes, keepdims, 18)

    def prod(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Product over axes."""
        return self._reduce("ReduceProd", axes, keepdims, 18)

    def max(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Maximum over axes."""
        return self._reduce("ReduceMax", axes, keepdims, 18)

    def min(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Minimum over axes."""
        return self._reduce("ReduceMin", axes, keepdims, 18)

    def cumsum(self, axis: int, *, exclusive: bool = False, reverse: bool = False) -> Value:
        """Running sum along an axis."""
        where = self.emitter.constant(np.array(axis % self.rank, np.int64))
        return self.emitter.one(
            "CumSum", [self, where], self.dtype, self.shape, exclusive=int(exclusive), reverse=int(reverse)
        )

    def argmax(self, axis: int) -> Value:
        """Index of the first maximum along an axis, int64, the axis kept."""
        shape = tuple(1 if a == axis % self.rank else d for a, d in enumerate(self.shape))
        return self.emitter.one("ArgMax", [self], np.int64, shape, axis=axis % self.rank, keepdims=1)

    # --- movement ---------------------------------------------------------------------------------------------------

    def reshape(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """The value with the shape given as parts (numbers, one -1, int64 [1] values); `shape` if known better."""
        if shape is None:
            shape = tuple(p if isinstance(p, int) and p >= 0 else None for p in parts)
        if all(isinstance(d, int) for d in shape) and shape == self.shape:
            return self
        target = shapes.shape_value(self, parts)
        return self.emitter.one("Reshape", [self, target], self.dtype, shape)

    def reshape_like(self, x: Value, classes: Value | None = None) -> Value:
        """A gradient as `[K, *x.shape]`; K is its own first axis, or that of `classes` where it has another one."""
        classes = classes or self
        shape = (classes.shape[0], *x.shape)
        if self.shape == shape and None not in shape:
            return self
        return self.reshape(shapes.like_parts(classes, x), shape)

    def transpose(self, perm: Sequence[int]) -> Value:
        """The value with its axes permuted."""
        if list(perm) == list(range(self.rank)):
            return self
        return self.emitter.one(
            "Transpose", [self], self.dtype, tuple(self.shape[p] for p in perm), perm=[int(p) for p in perm]
        )

    def swap_last(self) -> Value:
        """The value with its last two axes exchanged."""
        return self.transpose([*range(self.rank - 2), self.rank - 1, self.rank - 2])

    def expand(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """The value broadcast against the shape given as parts (1 keeps a dimension)."""
        if shape is None:
            shape = tuple(p if isinstance(p, int) else None for p in parts)
            shape = dims.broadcast(self.shape, shape)
        if all(isinstance(p, int) for p in parts) and shape == self.shape:
            return self
        return self.emitter.one("Expand", [self, shapes.shape_value(self, parts)], self.dtype, shape)

    def unsqueeze(self, axes: Sequence[int]) -> Value:
        """New axes of size 1 at these positions of the result."""
        rank = self.rank + len(axes)
        axes = dims.normal_axes(axes, rank, "Unsqueeze")
        kept = iter(self.shape)
        shape = tuple(1 if axis in axes else next(kept) for axis in range(rank))
        if not axes:
            return self
        return self._with_axes("Unsqueeze", axes, shape)

    def squeeze(self, axes: Sequence[int]) -> Value:
        """The value without these axes of size 1."""
        axes = dims.normal_axes(axes, self.rank, "Squeeze")
        if not axes:
            return self
        return self._with_axes("Squeeze", axes, tuple(d for a, d in enumerate(self.shape) if a not in axes))

    def _with_axes(self, op: str, axes: Sequence[int], shape: Shape) -> Value:
        if self.emitter.opset >= 13:
            return self.emitter.one(op, [self, self.emitter.constant(np.array(axes, np.int64))], self.dtype, shape)
        return self.emitter.one(op, [self], self.dtype, shape, axes=list(axes))

    def slice(
        self, starts: Sequence[Part], stops: Sequence[Part], axes: Sequence[int], steps: Sequence[int] | None = None
    ) -> Value:
        """Like `x[start:stop:step]` on each of `axes`; parts are numbers or int64 [1] values."""
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
        """The value reversed along axes."""
        result = self
        for axis in axes:
            size = self.shape[axis]
            if not isinstance(size, int):
                result = result.slice([-1], [INT_MIN], [axis], [-1])
            elif size != 1:  # MNN's converter (3.6) crashes at a Slice that steps backwards
                turned = self.emitter.constant(np.arange(size, dtype=np.int64)[::-1])
                result = result.gather(turned, axis).with_shape(self.shape)
        return result

    def pad(self, before: Sequence[Part], after: Sequence[Part], axes: Sequence[int]) -> Value:
        """Zeros added (or, for negative numbers, elements removed) before and after, on each of `axes`."""
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
        """Slices along `axis` at the indices (any rank); negative indices count from the end."""
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        return self.emitter.one("Gather", [self, indices], self.dtype, shape, axis=axis)

    def gather_elements(self, indices: Value, axis: int) -> Value:
        """`result[..., i, ...] = self[..., indices[..., i, ...], ...]` along `axis`."""
        return self.emitter.one("GatherElements", [self, indices], self.dtype, indices.shape, axis=axis)

    def scatter_elements(self, indices: Value, updates: Value, axis: int, *, add: bool = False) -> Value:
        """The value with updates written, or added, at the indices along `axis`; adding needs opset 16."""
        if add and self.emitter.opset < 16:
            raise ShapeError("ScatterElements with addition needs opset 16.")
        reduction = "add" if add else None
        inputs = [self, indices, updates]
        return self.emitter.one("ScatterElements", inputs, self.dtype, self.shape, axis=axis, reduction=reduction)

    def resize_linear(self, parts: Sequence[Part], shape: Shape) -> Value:
        """The value resized linearly (half-pixel centres) to the shape given as parts."""
        sizes = shapes.shape_value(self, parts)
        unused = self.emitter.constant(np.zeros(0, np.float32)) if self.emitter.opset < 13 else None
        inputs = [self, unused, unused, sizes]
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.emitter.one("Resize", inputs, self.dtype, shape, **mode)

    def repeat_each(self, counts: Sequence[int]) -> Value:
        """Each element of the last axes repeated so many times along them."""
        lead = self.rank - len(counts)
        emitter = self.emitter
        scales = emitter.constant(np.array([1] * lead + list(counts), np.float32))
        unused = emitter.constant(np.zeros(0, np.float32)) if emitter.opset < 13 else None
        grown = [dim * n if isinstance(dim, int) else None for dim, n in zip(self.shape[lead:], counts, strict=True)]
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return emitter.one("Resize", [self, unused, scales], self.dtype, (*self.shape[:lead], *grown), **how)

    def zeros(self, parts: Sequence[Part]) -> Value:
        """Zeros of this value's dtype with the shape given as parts."""
        return self.filled(parts, 0)

    def filled(self, parts: Sequence[Part], number: float) -> Value:
        """A tensor of this value's dtype filled with a number, with the shape given as parts."""
        shape = tuple(p if isinstance(p, int) else None for p in parts)
        fill = np.array([number], self.dtype)
        return self.emitter.one(
            "ConstantOfShape", [shapes.shape_value(self, parts)], self.dtype, shape, value=_TensorAttribute(fill)
        )

    def range_of(self, axis: int) -> Value:
        """0, 1, ... up to the size of this axis, int64."""
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
    """A tensor as an attribute; its text tells its content, so that equal nodes are found equal."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__("", array)

    def __repr__(self) -> str:
        return f"tensor({self.values.dtype}, {self.values.tolist()})"


def _bound(number: int) -> int | None:
    """A Slice bound as Python's: the smallest integers mean 'before the first element'."""
    return None if number <= -(2**31) + 1 else number


def _is_number(operand: Operand, number: float) -> bool:
    return not isinstance(operand, Value) and operand == number
