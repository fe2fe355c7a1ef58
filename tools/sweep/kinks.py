"""Near-ties are places where a rounding error decides on which side of a kink a forward pass goes.

ReLU and its kin have a derivative that jumps at a kink, MaxPool sends the gradient to one of two values that may be
almost equal. Two correct float32 passes decide a near-tie differently now and then, and the gradients then differ by a
per cent or so. Here such a difference is either *explained*, as what the gradient in float64 changes by when a few
near-ties are decided the other way, or it stays: a wrong gradient is no sum of such changes.

Needs torch, which is no dependency of onnx_xcam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

REACH = 4.0
"""A near-tie lies within so many times the largest float32 error of its tensor."""
MASKED = 30
"""Near-ties without a gradient that are tried for each image."""
ROUNDS = 4
"""Times that near-ties are fitted to a difference."""


@dataclass(frozen=True)
class Kink:
    """A call whose derivative jumps: y = f(x).

    Attributes:
        name: of the function: "relu", "relu6", "hardtanh", "hardsigmoid", "hardswish" or "max_pool2d".
        place: how many feature maps the forward pass had made before.
        x, y: its input and output.
        options: the arguments behind x.
    """

    name: str
    place: int
    x: torch.Tensor
    y: torch.Tensor
    options: dict[str, object]

    def points(self) -> tuple[float, ...]:
        """The values of x at which the derivative jumps; none for max_pool2d."""
        if self.name == "hardtanh":
            return float(self.options["min_val"]), float(self.options["max_val"])  # type: ignore[arg-type]
        return {"relu": (0.0,), "relu6": (0.0, 6.0), "max_pool2d": ()}.get(self.name, (-3.0, 3.0))

    def is_looked_at(self) -> bool:
        """Whether a call's near-ties are looked for: of max_pool2d only with square windows without dilation."""
        if self.name != "max_pool2d":
            return True
        sizes = [self.options[key] for key in ("kernel_size", "stride", "padding")]
        square = all(isinstance(size, int) or len(set(size)) == 1 for size in sizes)  # type: ignore[call-overload]
        return square and self.options["dilation"] in (1, (1, 1), [1, 1])

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        """The derivative at x."""
        points = self.points()
        inside = ((x > points[0]) & (x < points[-1])).to(x.dtype)
        if self.name == "relu":
            return (x > 0).to(x.dtype)
        if self.name == "hardsigmoid":
            return inside / 6
        if self.name == "hardswish":
            return torch.where(x >= 3, torch.ones_like(x), inside * (2 * x + 3) / 6)
        return inside


NAMES = ("relu", "relu6", "hardtanh", "hardsigmoid", "hardswish", "max_pool2d")


_PARAMETERS = {
    "hardtanh": ("input", "min_val", "max_val"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
}
_DEFAULTS: dict[str, object] = {"min_val": -1.0, "max_val": 1.0, "stride": None, "padding": 0, "dilation": 1}


def recorded(name: str, place: int, args: Sequence[object], kwargs: dict[str, object], y: torch.Tensor) -> Kink:
    """A kink from the call of the function `name`."""
    x, *_ = args
    assert isinstance(x, torch.Tensor)
    options = {**_DEFAULTS, **dict(zip(_PARAMETERS.get(name, ()), args, strict=False)), **kwargs}
    if not options["stride"]:
        options["stride"] = options.get("kernel_size")
    return Kink(name, place, x, y, options)


@dataclass(frozen=True)
class Tie:
    """A near-tie of one image: deciding it the other way adds jump * dS/dy[out] * (dx[index] - dx[other]) / dA to G.

    Attributes:
        kink: which call, as its index.
        out, index, other: flat indices into y, x and x of that image; other is -1 where there is none.
        jump: change of the derivative.
        move: what to add to x[index] to decide it the other way.
        distance: from the tie, in units of the tensor's float32 error.
    """

    kink: int
    out: int
    index: int
    other: int
    jump: float
    move: float
    distance: float


def near_ties(exact: Sequence[Kink], single: Sequence[Kink], image: int, after: int) -> list[Tie]:
    """The near-ties of one image behind the feature map `after`, closest first; arguments as of `NearTies`."""
    ties: list[Tie] = []
    for number, (kink, rounded) in enumerate(zip(exact, single, strict=True)):
        if kink.place > after and kink.is_looked_at():
            x = kink.x[0].detach()
            error = max(float((rounded.x[image].detach() - x).abs().max()), 1e-12)
            ties += (_pool_ties if kink.name == "max_pool2d" else _side_ties)(kink, number, x, error)
    return sorted(ties, key=lambda tie: tie.distance)


def _side_ties(kink: Kink, number: int, x: torch.Tensor, error: float) -> list[Tie]:
    flat, ties = x.flatten(), []
    for point in kink.points():
        distances = (flat - point).abs()
        (near,) = torch.where(distances < REACH * error)
        # Mirrored at the kink; a value right on it counts as below, as PyTorch has it.
        there = torch.where(flat[near] == point, point + 1e-9, 2 * point - flat[near])
        jumps = kink.slope(there) - kink.slope(flat[near])
        moves = there - flat[near]
        for index, jump, move in zip(near.tolist(), jumps.tolist(), moves.tolist(), strict=True):
            ties.append(Tie(number, index, index, -1, jump, move, float(distances[index]) / error))
    return ties


def _pool_ties(kink: Kink, number: int, x: torch.Tensor, error: float) -> list[Tie]:
    """Windows whose two largest values almost agree."""
    size, stride, padding = (_side(kink.options[key]) for key in ("kernel_size", "stride", "padding"))
    height, width = kink.y.shape[2:]
    # Windows may reach over the right and lower edge (ceil_mode): pad as far as the last one goes.
    below, right = ((n - 1) * stride + size - padding - m for n, m in zip((height, width), x.shape[1:], strict=True))
    margins = (padding, max(right, 0), padding, max(below, 0))
    place = torch.arange(x.numel()).reshape(x.shape)
    values, which = _windows(x, margins, size, stride, -torch.inf)[:, :height, :width].topk(2, dim=-1)
    places = _windows(place, margins, size, stride, -1)[:, :height, :width].gather(-1, which).reshape(-1, 2)
    gaps = (values[..., 0] - values[..., 1]).flatten()
    (near,) = torch.where((gaps > 0) & (gaps < REACH * error))
    pairs = places[near].tolist()
    return [
        Tie(number, out, runner, winner, 1.0, 2 * float(gaps[out]), float(gaps[out]) / error)
        for out, (winner, runner) in zip(near.tolist(), pairs, strict=True)
    ]


def _windows(x: torch.Tensor, margins: tuple[int, ...], size: int, stride: int, fill: float) -> torch.Tensor:
    """[C,H,W] -> [C,h,w,size*size]."""
    padded = nn.functional.pad(x, margins, value=fill)
    return padded.unfold(1, size, stride).unfold(2, size, stride).flatten(3)


def _side(value: Any) -> int:
    """A number, or the first of a pair."""
    return int(value if isinstance(value, int) else value[0])


@dataclass(frozen=True)
class Explanation:
    """What is left [K,...] of a difference, and the near-ties that explain the other part of it."""

    rest: np.ndarray
    ties: list[Tie]


class NearTies:
    """The near-ties of one image behind a layer, for some classes.

    Args:
        exact: the calls with a kink of a float64 pass on this image alone.
        single: those of a float32 pass on several images, of which this is number `image`.
        after: the layer's place among the feature maps: calls before it don't matter.
        layer: the layer's tensor in the float64 pass, and `arrange` what gives it the wanted layout [1,...].
        scores: the float64 scores of the classes [K].
    """

    def __init__(
        self,
        exact: Sequence[Kink],
        single: Sequence[Kink],
        image: int,
        after: int,
        *,
        layer: torch.Tensor,
        arrange: Callable[[torch.Tensor], torch.Tensor],
        scores: torch.Tensor,
    ) -> None:
        self.kinks, self.layer, self.arrange = exact, layer, arrange
        outputs = [kink.y for kink in exact if kink.place > after]
        first = len(exact) - len(outputs)
        self.slopes: list[dict[int, torch.Tensor]] = []
        for score in scores if outputs else ():
            slopes = torch.autograd.grad(score, outputs, retain_graph=True, allow_unused=True)
            self.slopes.append({first + i: slope for i, slope in enumerate(slopes) if slope is not None})
        found = near_ties(exact, single, image, after)
        self.ties = [tie for tie in found if any(self._outer(tie))]
        self.masked = [tie for tie in found if not any(self._outer(tie))]
        self.changes: list[np.ndarray] = []

    def _outer(self, tie: Tie) -> list[float]:
        """dS/dy at a near-tie, for each class."""
        return [float(s[tie.kink].flatten()[tie.out]) if tie.kink in s else 0.0 for s in self.slopes]

    def look(self, count: int) -> None:
        """Find out what the closest near-ties, so many, change G by if decided the other way: [K,...] each."""
        for tie in self.ties[len(self.changes) : count]:
            moved = _moved(self.kinks[tie.kink].x, tie)
            (inner,) = torch.autograd.grad(
                moved, self.layer, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            one = self.arrange(inner)[0].numpy()
            self.changes.append(np.stack([tie.jump * dy * one for dy in self._outer(tie)]))

    def explain(self, start: Explanation, exact: Callable[[list[Tie]], np.ndarray]) -> Explanation:
        """Find near-ties, among those looked at, that explain a difference from the float64 gradient, and prove it.

        Args:
            start: what is known so far.
            exact: gives the difference [K,...] from the float64 gradient with these near-ties decided the other way.
        """
        best = start
        target = start.rest + sum(self.changes[self.ties.index(tie)] for tie in start.ties)
        for _ in range(ROUNDS):
            taken = fitted(target, np.array(self.changes))
            if not taken:
                break
            ties = [self.ties[i] for i in taken]
            rest = exact(ties)
            if np.abs(rest).max() < np.abs(best.rest).max():
                best = Explanation(rest, ties)
            # Near-ties act on each other: fit once more with the changes as they add up in truth.
            target = rest + sum(self.changes[i] for i in taken)
        return best

    def explain_masked(
        self, start: Explanation, exact: Callable[[list[Tie]], np.ndarray], enough: float
    ) -> Explanation:
        """Try near-ties, one after the other, that have no gradient as long as they are not decided the other way.

        So is a ReLU's zero in a MaxPool window of zeros: a little above zero it is the largest.
        """
        best = start
        for tie in self.masked[:MASKED]:
            if np.abs(best.rest).max() <= enough:
                break
            rest = exact([*best.ties, tie])
            if np.abs(rest).max() < np.abs(best.rest).max():
                best = Explanation(rest, [*best.ties, tie])
        return best


def moves(ties: Sequence[Tie]) -> dict[int, list[tuple[int, float]]]:
    """For each call, the flat indices into its input and what to add there to decide near-ties the other way."""
    found: dict[int, list[tuple[int, float]]] = {}
    for tie in ties:
        found.setdefault(tie.kink, []).append((tie.index, tie.move))
    return found


def _moved(x: torch.Tensor, tie: Tie) -> torch.Tensor:
    flat = x.flatten()
    return flat[tie.index] - flat[tie.other] if tie.other >= 0 else flat[tie.index]


def fitted(difference: np.ndarray, changes: np.ndarray) -> list[int]:
    """Which of the changes [ties,K,...] add up to a difference [K,...], as far as they do."""
    if not len(changes):
        return []
    columns = changes.reshape(len(changes), -1).T
    shares, *_ = np.linalg.lstsq(columns, difference.flatten(), rcond=1e-9)
    # A near-tie is decided one way or the other: nothing in between is an explanation.
    return [int(i) for i in np.flatnonzero(shares > 0.5)]
