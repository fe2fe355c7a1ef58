"""What there is to know of an operator: the fields of a row of ir/op_traits.py, and the safe answer for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Literal, NamedTuple, TypeAlias

ALL = 1 << 30
"""As `OpTraits.differentiable`: every input."""


class Values(IntEnum):
    """What the values of an output are, from the closest to the input to the farthest; each includes those above."""

    COPIED = 0
    """The first input as it is."""
    RESHAPED = 1
    """Its elements in their order, in another shape."""
    REARRANGED = 2
    """Each of its elements once."""
    REPEATED = 3
    """Each of its elements at least once."""
    PICKED = 4
    """Nothing but elements of it."""
    COMPUTED = 5
    """Other numbers."""


class Affine(IntEnum):
    """How an operator with y = J x + c, J its derivative, adds a term c of its own."""

    NONE = 0
    """It is curved, or nobody knows."""
    HOMOGENEOUS = 1
    """c = 0: y(t x) = t y(x) for t > 0, so y = J x by Euler's theorem."""
    MULTILINEAR = 2
    """It is linear in each of its first two inputs (in each input, for Einsum) as long as the others are constant."""
    PIECEWISE = 3
    """It is affine piece by piece, and what it adds is known (see submodels/affine_terms.py)."""


AxisEffect: TypeAlias = Literal[
    "kept",
    "first kept",
    "windowed",
    "per channel",
    "image",
    "sampled",
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
"""What an operator does to axes; axes/table.py has the function of each."""


class Factors(NamedTuple):
    """Where a product of integers has its factors and their zero points among its inputs; -1 for one it has not."""

    first: int
    first_zero: int
    second: int
    second_zero: int


@dataclass(frozen=True)
class OpTraits:
    """What is known of an operator. Each default is what is taken for one that nobody knows.

    Attributes:
        axes: what it does to axes; "ended": nothing is known of them any more.
        elementwise: whether each element is made of those in its own place alone: of all inputs, once they are
            broadcast against each other ("all"), or of the first, while the others say how ("first").
        same_place: the same, or a mere broadcast, or channel by channel (unless it is training): what is used of a
            position of the output is used of that position of the inputs.
        along_axis: whether it works along the axis of its attribute `axis`, or from that one on, keeps the positions of
            all other axes apart, and keeps these axes.
        default_axis: what the attribute `axis` is where it is not given; None if it must be.
        reads_images: whether four axes of its first input are images, channels, height and width to it.
        values: whether its values are those of its first input.
        casts: whether they are, but for their type.
        bounds: between which numbers its values lie, whatever they are made of.
        between: whether its values lie between the least and the largest of its first input (a padded zero included).
        non_negative_of_such: whether its values are non-negative if those of its differentiable inputs are.
        has_pole: whether it makes infinite values of finite ones.
        clips: whether it cuts values off at bounds that it is given.
        steps: whether it takes floats to values that change by steps alone.
        zero_derivative: whether its derivative is zero wherever it exists, or its output does not depend on its
            inputs' values.
        without_gradient: why it has no gradient rule, although floats go in and come out; None where it has one, or
            needs none.
        differentiable: how many of the leading inputs have a gradient; the others are shapes, indices, or parameters
            for which no rule has a formula.
        passive: inputs that lend only their type or shape: the output does not depend on their values.
        detached: outputs that are taken for constants, whatever they are made of.
        coordinates: inputs that say where something is read, and not what.
        affine: what it adds of its own to what is linear in its inputs.
        linear: whether it is linear in its first input, where nothing is added to that (no bias, padding with zeros):
            a number may be multiplied by before or after it.
        weighted: whether it multiplies by a matrix or a kernel, so that it is a layer even with one vector of weights.
        weights_at: the inputs that can hold learned numbers, where the others hold scales, zero points or sizes; None
            if any input can.
        recurrent: whether it works step by step.
        control_flow: whether it runs graphs of its own.
        picks_boxes: whether it selects boxes of a detector.
        quantises: whether its first output holds integers that stand for the floats of its first input.
        dequantises: whether its output holds the floats that integers stand for.
        requantises: whether its output holds integers that stand for the result of what it does with others.
        on_integers: whether it computes with quantised integers, makes or reads them.
        scaled_by_run: whether the scale of its integers depends on everything that is in a run.
        factors: where a product of integers has its factors; None for other operators.
        runs_on_integers: whether ONNX Runtime runs it on integers where its factors are dequantised.
        passes_quantisers: whether ONNX Runtime moves a DequantizeLinear across it, or folds it away.
        left_to_quantiser: whether ONNX Runtime leaves what it does to a quantiser behind it, which clips as well.
        stores_any_type: whether ONNX Runtime's CPU runs it on bfloat16 and float8, which it only stores and converts.
        typed_by: the input whose type its output has, where the output's shape is that of the first input and shape
            inference does not always tell; None for other operators.
        foldable: whether a node of it is evaluated where all of its inputs are small constants. Not where no shape,
            mask or table is made of it and it may take longer than its sizes tell, nor where it gives no tensor, or
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
    def quantises_as_told(self) -> bool:
        """Whether it quantises, with a scale and a zero point that are its inputs."""
        return self.quantises and not self.scaled_by_run

    @property
    def rounds_as_told(self) -> bool:
        """Whether it makes or reads integers of a scale that is the same in every run."""
        return self.quantises_as_told or self.dequantises or self.requantises

    @property
    def rounds(self) -> bool:
        """Whether it quantises or dequantises."""
        return self.quantises or self.dequantises

    @property
    def keeps_values(self) -> bool:
        """Whether its values are those of its first input, in the same order, up to their type and shape."""
        return self.values <= Values.RESHAPED or self.casts


UNKNOWN = OpTraits()
"""An operator that nobody knows."""
