"""A detector of another framework: random parameters, its table of candidates, and its export. Needs torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from tools.common import torch_models

CONF, IOU = 0.25, 0.45
"""The thresholds of objects: of the probability, and of the overlap of two boxes of one class."""
SPREAD = 1.7
"""Class logits get this standard deviation, about that of a trained detector's."""

Picks = Literal["nothing", "queries", "rows"]
"""What the file itself has picked: nothing, as where every place of a grid is a candidate; queries, a few of which are
objects; or rows, which are objects with their classes."""


@dataclass(frozen=True)
class Table:
    """The candidates of one picture, as the framework's own modules give them.

    Attributes:
        scores: what is explained, [Q,C], differentiable.
        probabilities: what the detector tells, [Q,C].
        boxes: x1, y1, x2, y2 in pixels of the picture, [Q,4], or [Q,C,4] where each class has its own.
    """

    scores: torch.Tensor
    probabilities: torch.Tensor
    boxes: torch.Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of a file that picks objects itself: classes int64 [R], probabilities [R], boxes [R,4] in pixels."""

    classes: np.ndarray
    probabilities: np.ndarray
    boxes: np.ndarray


class Detector(ABC):
    """One detector with random parameters.

    Attributes:
        module: takes the picture as the file does, in evaluation mode.
        image: the picture, float32, as the module takes it.
        picks: what the file itself has picked.
        exporters: those that can be asked for.
    """

    exporters: ClassVar[tuple[str, ...]] = ("torchscript", "dynamo")

    module: nn.Module
    image: np.ndarray
    picks: Picks = "nothing"

    @abstractmethod
    def table(self, module: nn.Module, x: torch.Tensor) -> Table:
        """The candidates that a copy of the module, in any precision, finds in the picture."""

    @abstractmethod
    def export(self, path: Path, exporter: torch_models.Exporter) -> None:
        """Write the module to `path`."""

    def rows(self, outputs: dict[str, np.ndarray]) -> Rows:
        """The rows of the file's outputs, where it picks them."""
        raise NotImplementedError(f"{type(self).__name__} picks {self.picks}")

    def further(self) -> dict[str, np.ndarray]:
        """What the file takes beside the picture."""
        return {}


# --- random parameters ------------------------------------------------------------------------------------------------


def picture(size: int, seed: int) -> np.ndarray:
    """Smooth noise of three scales, float32 [3,size,size] of 0..1."""
    random = torch.Generator().manual_seed(seed)
    waves = [torch.randn(1, 3, max(2, size // step), max(2, size // step), generator=random) for step in (4, 16, 48)]
    sized = [nn.functional.interpolate(wave, (size, size), mode="bicubic") for wave in waves]
    mixed = 0.5 * sized[0] + sized[1] + sized[2]
    values: np.ndarray = ((mixed - mixed.min()) / (mixed.max() - mixed.min()))[0].numpy()
    return values


class Heard:
    """What a module gives in passes that run inside `with`, call by call."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.outputs = module, list[torch.Tensor]()

    def __enter__(self) -> list[torch.Tensor]:
        self.hook = self.module.register_forward_hook(lambda _module, _inputs, output: self.outputs.append(output))
        return self.outputs

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def spread(run: Callable[[], object], layers: Iterable[nn.Module], deviation: float = SPREAD) -> None:
    """Scale last layers, so that what each gives in `run` has this standard deviation, and the mean 0.

    A few values far out, as depthwise layers give them, count for more than the deviation.
    """
    for layer in layers:
        values = _given(run, layer)
        if values is None:
            continue  # a head that is only trained
        width = max(float(values.std()), float((values - values.mean()).abs().max()) / 4.5)
        assert isinstance(layer.weight, nn.Parameter)
        layer.weight.data.mul_(deviation / width)
        if isinstance(layer.bias, nn.Parameter):
            layer.bias.data.mul_(deviation / width)
            layer.bias.data.sub_(values.mean() * deviation / width)


def _given(run: Callable[[], object], layer: nn.Module) -> torch.Tensor | None:
    """All values that a layer gives, flat; None if it does not run."""
    with Heard(layer) as heard, torch.no_grad():
        run()
    return torch.cat([output.flatten() for output in heard]) if heard else None


def aim(table: Callable[[], Table], shift: Callable[[float], None], share: float) -> None:
    """Move class logits by `shift`, until about this share of the candidates are above the threshold, none close to it.

    Args:
        table: a pass.
        shift: adds to all class logits, or takes from those of the background.
        share: of the candidates; what overlaps is dropped later.
    """

    def largest() -> torch.Tensor:
        with torch.no_grad():
            return table().probabilities.max(1).values

    at, low, high = 0.0, -16.0, 16.0
    for _ in range(16):
        middle = (low + high) / 2
        shift(middle - at)
        at = middle
        low, high = (low, middle) if float((largest() > CONF).float().mean()) > share else (middle, high)
    gaps = {}
    for to in np.linspace(at - 0.1, at + 0.1, 15).tolist():
        shift(to - at)
        at = to
        gaps[to] = float((largest() - CONF).abs().min())
    shift(max(gaps, key=gaps.__getitem__) - at)


def export(
    module: nn.Module,
    args: Sequence[torch.Tensor],
    path: Path,
    exporter: torch_models.Exporter,
    names: tuple[Sequence[str], Sequence[str]],
) -> None:
    """Write a module to `path`; `names` are those of the inputs and of the outputs."""
    torch_models.write(module, tuple(args), path, exporter, input_names=list(names[0]), output_names=list(names[1]))
