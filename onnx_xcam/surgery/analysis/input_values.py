"""This module tells from the graph alone which values a model takes for a black and a white pixel.

Networks are fed pictures in few ways: the range 0 to 255, 0 to 1 or -1 to 1, or 0 to 1 with a mean subtracted and
divided by a deviation. A graph that begins with v = f x + s, channel by channel, proves the range [low, high] of x if v
is one of these for it and degenerate for the others:

1.  The range itself is turned into another of the known ranges: f low + s and f high + s are 0 and 1, or -1 and 1, or 0
    and 255. An affine map that does so for one range does so for no other one.
2.  v = (x - m) / d with m and d a possible mean and deviation of pictures in that range. With u = (m - low) / (high -
    low) and t = d / (high - low): u lies from 0.1 to 0.9, and t from 0.05 to sqrt(u (1 - u)), which no values between
    0 and 1 with the mean u exceed (Bhatia and Davis, A better bound on the variance, 2000). For 0 to 1 somebody must
    have stated the numbers: they are decimals of at most four digits, which learned ones are not, or the means are
    ImageNet's. Learned numbers, and statistics of pictures in -1 to 1 that are bright, may look like any others.
3.  A mean of pixels 0 to 255 (u as before) is subtracted from x, whatever it is divided by, or a mean of 0 to 1 before
    x is multiplied by 255. Values 0 to 1 less 100 would all be the same to a network.

Neither a scale alone (x 0.5, as learned weights may have it) nor what changes one normalisation into another meets any
of these (torchvision's Inception changes ImageNet's into -1 to 1). A normalisation that is learned (BatchNormalization
at the input) may have a mean as in 2 by chance if x is normalised already, but not one of pixels 0 to 255: it proves
those alone. A DequantizeLinear at the input has the range of what it was calibrated with, and so proves something by 1
alone.

What the network gets on every way from the input must prove the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from onnx_xcam.surgery.analysis.input_scaling import scaling
from onnx_xcam.surgery.analysis.scaled import Scaled
from onnx_xcam.surgery.ir.graph import FLOATS, Graph

Range: TypeAlias = tuple[float, float]
"""The values of a black and of a white pixel."""
Order: TypeAlias = Literal["RGB", "BGR"]
PIXELS, UNIT, SIGNED, SIGNED_PIXELS = (0.0, 255.0), (0.0, 1.0), (-1.0, 1.0), (-128.0, 127.0)
_KNOWN = (PIXELS, UNIT, SIGNED)
_NEAR = 0.01
"""How far an end of a range may be off, relative to its width: some divide by 256 or 128."""
_MEANS, _LEAST_DEVIATION = (0.1, 0.9), 0.05
_IMAGENET = np.array([0.485, 0.456, 0.406])
"""The means of ImageNet's red, green and blue, in 0..1."""
_NEAR_MEANS = 0.006
"""How far means may be off those: so far are CLIP's, and those of Caffe's models (123.68, 116.779, 103.939)."""
_DIGITS, _ROUNDING = 4, 1e-6
"""Numbers that people state have at most so many decimals, and are off by so much of themselves in float32."""


@dataclass(frozen=True)
class InputValues:
    """An InputValues holds what the graph proves of the values that its picture input takes.

    Attributes:
        low, high: the values of a black and of a white pixel.
        order: the order of the channels, which the means of ImageNet show; None where nothing does.
    """

    low: float
    high: float
    order: Order | None = None


def input_values(graph: Graph, name: str) -> InputValues | None:
    """Return what a graph proves of the values that a picture input takes, or None if it proves nothing."""
    ranges = _possible(graph.dtype(name))
    with np.errstate(all="ignore"):  # a damaged file may hold any number; what is not finite proves nothing
        ways = scaling(graph, name)
        proofs = [_proof(way, ranges) for way in ways]
    if not proofs or any(proof is None or proof != proofs[0] for proof in proofs) or proofs[0] is None:
        return None
    low, high = proofs[0]
    orders = {_order(way, proofs[0]) for way in ways}
    return InputValues(low, high, orders.pop() if len(orders) == 1 else None)


def _possible(dtype: np.dtype[Any] | None) -> tuple[Range, ...]:
    """Return the ranges that pictures of a type can have."""
    if dtype is None or dtype in FLOATS:
        return _KNOWN
    return (SIGNED_PIXELS,) if dtype == np.int8 else (PIXELS,)


def _proof(way: Scaled, ranges: tuple[Range, ...]) -> Range | None:
    """Return the range that the steps on a way prove; None if they prove none, or several."""
    proved = {one for step in way.steps for one in ranges if _proves(step, one)}
    return proved.pop() if len(proved) == 1 else None


def _proves(step: Scaled, of: Range) -> bool:
    """Tell whether the scaling so far proves that the picture has values of a range; see the module's docstring."""
    low, high = of
    width = high - low
    if not _keeps(step, of):
        return False
    if not step.learned and any(_turns_into(step, of, other) for other in _KNOWN if other != of):
        return True
    if step.calibrated or of not in (PIXELS, UNIT) or (step.learned and of != PIXELS) or (step.factor <= 0).any():
        return False
    mean, deviation = _mean(step, of), 1 / (step.factor * width)
    if (mean < _MEANS[0]).any() or (mean > _MEANS[1]).any() or (deviation > np.sqrt(mean * (1 - mean))).any():
        return False
    if (deviation >= _LEAST_DEVIATION).all():
        return of == PIXELS or _is_stated(step, mean, deviation)
    return not step.learned and (of == PIXELS or bool((np.abs(deviation * 255 - 1) <= _NEAR).all()))


def _is_stated(step: Scaled, mean: np.ndarray, deviation: np.ndarray) -> bool:
    """Tell whether somebody has stated a mean and a deviation of 0..1, rather than a network learned them."""
    return _imagenet_order(step, mean) is not None or (
        _is_short(mean) and (_is_short(deviation) or _is_short(1 / deviation))
    )


def _is_short(values: np.ndarray) -> bool:
    """Tell whether all values are decimals of few digits."""
    return bool((np.abs(values - values.round(_DIGITS)) <= _ROUNDING * np.abs(values)).all())


def _keeps(step: Scaled, of: Range) -> bool:
    """Tell whether nothing of a range has been cut off, and whether factor and shift are numbers at all."""
    room = _NEAR * (of[1] - of[0])
    kept = step.limits[0] <= of[0] + room and step.limits[1] >= of[1] - room
    return kept and bool(np.isfinite(step.factor).all() and np.isfinite(step.shift).all())


def _turns_into(step: Scaled, of: Range, other: Range) -> bool:
    """Tell whether the scaling turns one range into another, in every channel, upright or inverted."""
    ends = np.stack([step.factor * end + step.shift for end in of])
    target = np.sort(np.array(other))[:, None]
    return bool((np.abs(np.sort(ends, axis=0) - target) <= _NEAR * (other[1] - other[0])).all())


def _mean(step: Scaled, of: Range) -> np.ndarray:
    """Return the value of x that becomes zero, as a part of a range, by channel."""
    return (-step.shift / step.factor - of[0]) / (of[1] - of[0])


def _order(way: Scaled, of: Range) -> Order | None:
    """Return the order of the channels in the picture, if means of ImageNet are subtracted from them."""
    orders = (_imagenet_order(step, _mean(step, of)) for step in way.steps if not step.learned)
    return next((order for order in orders if order is not None), None)


def _imagenet_order(step: Scaled, mean: np.ndarray) -> Order | None:
    """Return in which order means in 0..1, by channel of a step, are those of ImageNet; None if they are not."""
    if step.source is None or sorted(step.source) != [0, 1, 2]:
        return None
    of_picture = mean[np.argsort(step.source)]
    if (np.abs(of_picture - _IMAGENET) <= _NEAR_MEANS).all():
        return "RGB"
    return "BGR" if (np.abs(of_picture - _IMAGENET[::-1]) <= _NEAR_MEANS).all() else None
