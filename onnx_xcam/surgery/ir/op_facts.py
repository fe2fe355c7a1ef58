"""This module defines which facts are known of an operator: the fields of a row of ir/op_traits.py.

Each field's default is the safe answer for an operator of which nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Literal, NamedTuple, TypeAlias

ALL = 1 << 30
"""The value of `OpTraits.differentiable` for an operator that has a gradient for every input."""


class Values(IntEnum):
    """A Values says how the values of an output relate to the first input; each member includes those above it."""

    COPIED = 0
    """The output is the first input as it is."""
    RESHAPED = 1
    """The output has the first input's elements in their order, in another shape."""
    REARRANGED = 2
    """The output has each of the first input's elements once."""
    REPEATED = 3
    """The output has each of the first input's elements at least once."""
    PICKED = 4
    """The output has nothing but elements of the first input."""
    COMPUTED = 5
    """The output has other numbers."""


class Affine(IntEnum):
    """An Affine says how an operator with y = J x + c, J its derivative, adds a term c of its own."""

    NONE = 0
    """The operator is not piecewise affine, or it is not known to be."""
    HOMOGENEOUS = 1
    """c = 0: y(t x) = t y(x) for t > 0, so y = J x by Euler's theorem."""
    MULTILINEAR = 2
    """The operator is linear in each of its first two inputs, or each input of Einsum, while others are constant."""
    PIECEWISE = 3
    """The operator is affine piece by piece, and its term c is known (see submodels/affine_terms.py)."""


AxisEffect: TypeAlias = Literal[
    "kept",
    "first kept",
    "windowed",
    "per channel",
    "image",
    "sampled",
    "regions",
    "dropped",
    "reshaped",
    "transposed",
    "unsqueezed",
    "cut",
    "gathered",
    "branched",
    "concatenated",
    "padded",
    "centred",
    "rescaled",
    "matmul",
    "gemm",
    "einsum",
    "tiled",
    "reversed",
    "spectrum",
    "reordered",
    "scattered",
    "made",
    "ended",
]
"""The effect of an operator on axes; axes/table.py maps each effect to its rule."""


class Factors(NamedTuple):
    """A Factors says which inputs of a product of integers are its factors and zero points; -1 stands for none."""

    first: int
    first_zero: int
    second: int
    second_zero: int


@dataclass(frozen=True)
class OpTraits:
    """An OpTraits holds what is known of an operator. Each default is the answer for an unknown operator.

    Attributes:
        axes: its effect on axes; "ended" means that nothing is known of them any more.
        elementwise: whether each element depends on those at its own position alone: on those of all inputs, broadcast
            against each other ("all"), or on that of the first input, while the others are parameters ("first").
        same_place: whether it is elementwise, or broadcasts, or works channel by channel (unless it is training), so
            that a position of the output uses just that position of the inputs.
        along_axis: whether it works along the axis of its attribute `axis`, or from that one on, keeps the positions of
            all other axes apart, and keeps these axes.
        default_axis: the value of the attribute `axis` where it is left out; None if it must be given.
        reads_images: whether it reads four axes of its first input as images, channels, height and width.
        values: how its values relate to its first input.
        casts: whether its values are those of its first input, in another type.
        bounds: the numbers between which its values lie, whatever its inputs.
        between: whether its values lie between the smallest and the largest of its first input (a padded zero
            included).
        non_negative_of_such: whether its values are non-negative if those of its differentiable inputs are.
        has_pole: whether it makes infinite values of finite ones.
        clips: whether it cuts values off at given bounds.
        steps: whether it maps floats to values that change only in steps.
        zero_derivative: whether its derivative is zero wherever it exists, or its output does not depend on its inputs'
            values.
        without_gradient: why it has no gradient rule, although floats go in and come out; None where it has one, or
            needs none.
        differentiable: how many of the leading inputs have a gradient; the others are shapes, indices, or parameters
            for which no rule has a formula.
        passive: inputs of which only the type or shape matters: the output does not depend on their values.
        held: inputs that count as constants, whatever they depend on: they were chosen, as the boxes of regions.
        detached: outputs that count as constants, whatever they depend on.
        coordinates: inputs that say where something is read, and not what.
        affine: the affine term that it adds to what is linear in its inputs.
        linear: whether it is linear in its first input, with nothing added (no bias, padding with zeros), so that a
            factor may be applied before or after it.
        weighted: whether it multiplies by a matrix or a kernel, so that it is a layer even with one vector of weights.
        weights_at: the inputs that can hold learned numbers, where the others hold scales, zero points or sizes; None
            if any input can.
        recurrent: whether it works step by step.
        control_flow: whether it runs subgraphs.
        picks_boxes: whether it selects boxes of a detector.
        quantises: whether its first output holds integers that stand for the floats of its first input.
        dequantises: whether its output holds the floats that integers stand for.
        requantises: whether its output holds integers that stand for its result on other quantised integers.
        on_integers: whether it computes with quantised integers, makes or reads them.
        scaled_by_run: whether the scale of its integers depends on everything that is in a run.
        factors: which inputs are the factors of a product of integers; None for other operators.
        runs_on_integers: whether ONNX Runtime runs it on integers where its factors are dequantised.
        passes_quantisers: whether ONNX Runtime moves a DequantizeLinear across it, or folds it away.
        left_to_quantiser: whether ONNX Runtime drops it before a quantiser, which clips as well.
        stores_any_type: whether ONNX Runtime's CPU runs it on bfloat16 and float8, which it only stores and converts.
        typed_by: the input that has the type of its output, where the output's shape is that of the first input and
            shape inference does not always find it; None for other operators.
        foldable: whether a node of it is evaluated where all of its inputs are small constants. It is not where it
            makes no shape, mask or table and may take longer than its sizes suggest, nor where it returns no tensor, or
            not always the same one.
        grows: whether its output can be larger than all of its inputs together.
        repeatable: whether it is run once more for an exact value, which must be cheap.
    """

    axes: AxisEffect = "ended"
    elementwise: Literal["all", "first"] | None = None
    same_place: bool = False
    along_axis: bool = False
    default_axis: int | None = None
    reads_images: bool = False
    values: Values = Values.COMPUTED
    casts: bool = False
    bounds: tuple[float, float] = (-inf, inf)
    between: bool = False
    non_negative_of_such: bool = False
    has_pole: bool = True
    clips: bool = False
    steps: bool = False
    zero_derivative: bool = False
    without_gradient: str | None = None
    differentiable: int = ALL
    passive: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    detached: tuple[int, ...] = ()
    coordinates: tuple[int, ...] = ()
    affine: Affine = Affine.NONE
    linear: bool = False
    weighted: bool = False
    weights_at: tuple[int, ...] | None = None
    recurrent: bool = False
    control_flow: bool = False
    picks_boxes: bool = False
    quantises: bool = False
    dequantises: bool = False
    requantises: bool = False
    on_integers: bool = False
    scaled_by_run: bool = False
    factors: Factors | None = None
    runs_on_integers: bool = False
    passes_quantisers: bool = False
    left_to_quantiser: bool = False
    stores_any_type: bool = False
    typed_by: int | None = None
    foldable: bool = False
    grows: bool = False
    repeatable: bool = False

    @property
    def without_derivative(self) -> tuple[int, ...]:
        """Return the inputs that no gradient goes to, although the operator may have one for others."""
        return (*self.passive, *self.held)

    @property
    def quantises_as_told(self) -> bool:
        """Tell whether it quantises with a scale and a zero point that are its inputs."""
        return self.quantises and not self.scaled_by_run

    @property
    def rounds_as_told(self) -> bool:
        """Tell whether it makes or reads integers with a scale that is the same in every run."""
        return self.quantises_as_told or self.dequantises or self.requantises

    @property
    def rounds(self) -> bool:
        """Tell whether it quantises or dequantises."""
        return self.quantises or self.dequantises

    @property
    def keeps_values(self) -> bool:
        """Tell whether its values are those of its first input, in the same order, up to their type and shape."""
        return self.values <= Values.RESHAPED or self.casts


UNKNOWN = OpTraits()
"""The facts of an operator of which nothing is known."""
