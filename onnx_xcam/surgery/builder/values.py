"""Value: a tensor with operators, so that a gradient rule reads as its formula.

Only this file knows how an operator is spelled at an opset (axes as attribute or input, and the like). Every value
knows its static shape as far as it can be told (see shapes.py). float16 never occurs here: gradients and the map are
computed in float32, or in float64 where the model is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import isclose, isfinite
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.dims import Dim, Shape

if TYPE_CHECKING:
    from onnx_xcam.surgery.builder.emitter import Emitter

Operand: TypeAlias = "Value | float | int"
INT_MIN, INT_MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_P = ParamSpec("_P")


def linear(function: Callable[Concatenate[Value, _P], Value]) -> Callable[Concatenate[Value, _P], Value]:
    """A function that is linear in its first argument: a factor that is pending there is handed on to the result."""

    @wraps(function)
    def handed_on(value: Value, /, *args: _P.args, **kwargs: _P.kwargs) -> Value:
        if value.factor == 1:
            return function(value, *args, **kwargs)
        return function(value.bare, *args, **kwargs).times(value.factor)

    return handed_on


class Value:
    """A tensor of the graph, of the model or added, with numpy-like operators that add nodes.

    Multiplying by a number adds no node yet: the factor is pending until an operator comes that is not linear. So
    numbers meet in one product, and that where tensors are small: a gradient's at the map.

    Attributes:
        name: the tensor's name.
        dtype: numpy dtype.
        shape: static shape; dimensions are numbers, symbols or None.
        const: the array, where the value is a known constant.
        shape_source: a value with the same shape whose dimensions may be read at run time.
        product: where the value is another one times a scale, that one and the scale: see `scaled`.
        one_hot: where each last axis holds a single 1, its position, int64 without that axis: a product with a
            one-hot row is a row picked.
        folded: the value that this one is a reshaped form of, where a rule left it: its first two axes as one.
        rows: makes some of its rows, where that is cheaper than to pick them: of weights that are stored as integers.
        is_fixed: whether it is made of weights and constants alone.
        is_safe_divisor: whether it is known never to be zero.
        has_poles: whether it may be infinite where what it is made of is not, by a division, a logarithm or a power.
        factor: a number that the tensor is still to be multiplied by.
        bare: the value without that factor.
    """

    __slots__ = (
        *("_tensor", "bare", "const", "dtype", "emitter", "factor", "folded", "has_poles", "is_fixed", "one_hot"),
        *("is_safe_divisor", "product", "rows", "shape", "shape_source"),
    )

    def __init__(
        self,
        emitter: Emitter,
        tensor: gs.Tensor,
        dtype: np.dtype[Any],
        shape: Shape,
        const: np.ndarray | None = None,
    ) -> None:
        self.emitter = emitter
        self._tensor = tensor
        self.dtype = dtype
        self.shape = shape
        self.const = const
        self.shape_source: Value = self
        self.product: tuple[Value, Value] | None = None
        self.one_hot: Value | None = None
        self.folded: Value | None = None
        self.rows: Callable[[Value], Value] | None = None
        self.is_fixed = const is not None
        self.is_safe_divisor = False
        self.has_poles = False
        self.factor = 1.0
        self.bare: Value = self

    @property
    def tensor(self) -> gs.Tensor:
        """The tensor, with nothing pending."""
        return self.settled._tensor

    @property
    def settled(self) -> Value:
        """The value with nothing pending."""
        return self if self.factor == 1 else self.bare._binary("Mul", self.factor)

    def times(self, factor: float) -> Value:
        """The value times a number, which stays pending; not 0, by which a value may still turn out to be NaN."""
        product = self.factor * factor
        if isclose(product, 1, rel_tol=1e-12):
            return self.bare
        result = self._again(self.shape)
        result.bare, result.factor = self.bare, product
        return result

    def _again(self, shape: Shape, const: np.ndarray | None = None) -> Value:
        """The same tensor as another value, of which the same is known."""
        result = Value(self.emitter, self._tensor, self.dtype, shape, const)
        result.is_fixed, result.has_poles, result.shape_source = self.is_fixed, self.has_poles, self.shape_source
        return result

    def _number(self, operand: Operand) -> float | None:
        """The operand as a number that may stay pending, None if it is none."""
        if isinstance(operand, Value):
            scalar = operand.const is not None and operand.rank == 0
            operand = float(operand.const) * operand.factor if scalar else 0  # type: ignore[arg-type]
        return float(operand) if operand and isfinite(operand) and self.dtype.kind == "f" else None

    @property
    def name(self) -> str:
        """The tensor's name."""
        return str(self.tensor.name)

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.dtype}, {self.shape})"

    def with_shape(self, shape: Shape) -> Value:
        """The same tensor, with a static shape that is known better."""
        result = self._again(shape, self.const)
        if self.factor != 1:
            result.bare, result.factor = self.bare.with_shape(shape), self.factor
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

    def _binary(self, op: str, other: Operand, dtype: Any = None, *, swap: bool = False) -> Value:
        right = self._lift(other)
        left, right = (right, self) if swap else (self, right)
        return self.emitter.one(op, [left, right], dtype or left.dtype, dims.broadcast(left.shape, right.shape))

    def _sum(self, op: str, other: Value) -> Value:
        """The sum or difference of values that have pending factors: the larger one's stays pending."""
        factors, small = (self.factor, other.factor), (_is_stretched(self, other), _is_stretched(other, self))
        alike = 1.0 if 1 in factors else self.factor
        factor = alike if small[0] == small[1] else factors[small[0]]
        left, right = (value.bare.times(value.factor / factor) for value in (self, other))
        return left._binary(op, right).times(factor)

    def _unary(self, op: str, dtype: Any = None, **attributes: Any) -> Value:
        return self.emitter.one(op, [self], dtype or self.dtype, self.shape, **attributes)

    def __add__(self, other: Operand) -> Value:
        if isinstance(other, Value) and self.product and other.product and self.product[1] is other.product[1]:
            return (self.product[0] + other.product[0]).scaled(self.product[1])
        if isinstance(other, Value) and (self.factor, other.factor) != (1, 1):
            return self._sum("Add", other)
        return self if _is_number(other, 0) else self._binary("Add", other)

    def __radd__(self, other: Operand) -> Value:
        return self + other

    def __sub__(self, other: Operand) -> Value:
        if isinstance(other, Value) and (self.factor, other.factor) != (1, 1):
            return self._sum("Sub", other)
        return self if _is_number(other, 0) else self._binary("Sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self._binary("Sub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        if (number := self._number(other)) is not None:
            return self.times(number)
        if isinstance(other, Value):
            return self.bare._binary("Mul", other.bare).times(self.factor * other.factor)
        return self if _is_number(other, 1) else self._binary("Mul", other)

    def __rmul__(self, other: Operand) -> Value:
        return self * other

    def __truediv__(self, other: Operand) -> Value:
        if (number := self._number(other)) is not None:
            return self.times(1 / number)
        if isinstance(other, Value):
            return self.bare._binary("Div", other.bare).times(self.factor / other.factor)
        return self if _is_number(other, 1) else self._binary("Div", other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary("Div", other, swap=True)

    def __pow__(self, other: Operand) -> Value:
        return self._binary("Pow", other)

    def scaled(self, scale: Value) -> Value:
        """The value times a scale; it remembers them, so that dividing by the scale gives the value back."""
        result = self * scale
        result.product = (self, scale)
        return result

    def unscaled(self, scale: Value) -> Value:
        """The value divided by a scale."""
        return self.product[0] if self.product is not None and self.product[1] is scale else self / scale

    def __neg__(self) -> Value:
        return self.times(-1) if self.factor != 1 else self._unary("Neg")

    def __gt__(self, other: Operand) -> Value:
        return self._binary("Greater", other, np.bool_)

    def __lt__(self, other: Operand) -> Value:
        return self._binary("Less", other, np.bool_)

    def equal(self, other: Operand) -> Value:
        """Elementwise equality, bool."""
        return self._binary("Equal", other, np.bool_)

    def logical_and(self, other: Value) -> Value:
        """Elementwise and of two bool values."""
        return self._binary("And", other, np.bool_)

    def logical_not(self) -> Value:
        """Elementwise not of a bool value."""
        return self._unary("Not")

    def where(self, then: Operand, otherwise: Operand, dtype: Any = None) -> Value:
        """`then` where this bool value is true, else `otherwise`; `dtype` if both are numbers."""
        branches = [then, otherwise]
        dtype = next((b.dtype for b in branches if isinstance(b, Value)), dtype)
        a, b = (v if isinstance(v, Value) else self.emitter.constant(np.array(v, dtype)) for v in branches)
        return self.emitter.one("Where", [self, a, b], dtype, dims.broadcast(self.shape, a.shape, b.shape))

    @linear
    def masked(self, mask: Value) -> Value:
        """The value where a bool mask is true, 0 elsewhere.

        As a product: on a CPU, ONNX Runtime's Where takes about ten times as long. An infinity would be NaN then, so a
        value that may be infinite is picked by Where.
        """
        return mask.where(self, 0) if self.has_poles else self * mask.cast(self.dtype)

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
        if self.factor != 1 and dtype.kind == "f":
            return self.bare.cast(dtype).times(self.factor)
        result = self._unary("Cast", dtype, to=int(onnx.helper.np_dtype_to_tensor_dtype(dtype)))
        result.shape_source = self.shape_source
        return result

    def minimum(self, other: Operand) -> Value:
        """Elementwise smaller value (float; before opset 12 Min knows no integers)."""
        return self._binary("Min", other)

    def maximum(self, other: Operand) -> Value:
        """Elementwise larger value (float; before opset 12 Max knows no integers)."""
        return self._binary("Max", other)

    # --- products and reductions ------------------------------------------------------------------------------------

    def __matmul__(self, other: Value) -> Value:
        """Matrix product over the last two axes; leading axes broadcast. One-hot rows pick rows of a matrix."""
        if self.factor != 1 or other.factor != 1:
            return (self.bare @ other.bare).times(self.factor * other.factor)
        if self.one_hot is not None and other.rank == 2:
            return other.gather(self.one_hot, 0)
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

    @linear
    def sum(self, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """Sum over axes."""
        return self._reduce("ReduceSum", axes, keepdims, 13)

    @linear
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

    @linear
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

    @linear
    def reshape(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """The value with the shape given as parts (numbers, one -1, int64 [1] values); `shape` if known better."""
        if shape is None:
            shape = tuple(p if isinstance(p, int) and p >= 0 else None for p in parts)
        if all(isinstance(d, int) for d in shape) and shape == self.shape:
            return self
        target = shapes.shape_value(self, parts)
        return self.emitter.one("Reshape", [self, target], self.dtype, shape)

    @linear
    def reshape_like(self, x: Value, classes: Value | None = None) -> Value:
        """A gradient as `[K, *x.shape]`; K is its own first axis, or that of `classes` where it has another one."""
        classes = classes or self
        shape = (classes.shape[0], *x.shape)
        if self.shape == shape and None not in shape:
            return self
        return self.reshape(shapes.like_parts(classes, x), shape)

    @linear
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

    @linear
    def expand(self, parts: Sequence[Part], shape: Shape | None = None) -> Value:
        """The value broadcast against the shape given as parts (1 keeps a dimension)."""
        if shape is None:
            shape = tuple(p if isinstance(p, int) else None for p in parts)
            shape = dims.broadcast(self.shape, shape)
        if all(isinstance(p, int) for p in parts) and shape == self.shape:
            return self
        return self.emitter.one("Expand", [self, shapes.shape_value(self, parts)], self.dtype, shape)

    @linear
    def unsqueeze(self, axes: Sequence[int]) -> Value:
        """New axes of size 1 at these positions of the result."""
        rank = self.rank + len(axes)
        axes = dims.normal_axes(axes, rank, "Unsqueeze")
        kept = iter(self.shape)
        shape = tuple(1 if axis in axes else next(kept) for axis in range(rank))
        if not axes:
            return self
        return self._with_axes("Unsqueeze", axes, shape)

    @linear
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

    @linear
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

    @linear
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

    @linear
    def gather(self, indices: Value, axis: int) -> Value:
        """Slices along `axis` at the indices (any rank); negative indices count from the end."""
        if axis == 0 and self.rows is not None:
            return self.rows(indices)
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        return self.emitter.one("Gather", [self, indices], self.dtype, shape, axis=axis)

    @linear
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

    @linear
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


def _is_stretched(value: Value, other: Value) -> bool:
    """Whether a value has size 1 along an axis where the other has not."""
    pairs = zip(value.shape[::-1], other.shape[::-1], strict=False)
    return value.rank < other.rank or any(a == 1 != b for a, b in pairs)


def _bound(number: int) -> int | None:
    """A Slice bound as Python's: the smallest integers mean 'before the first element'."""
    return None if number <= -(2**31) + 1 else number


def _is_number(operand: Operand, number: float) -> bool:
    return not isinstance(operand, Value) and operand == number
