"""Networks of PyTorch are put behind what people put before them, with what a graph then proves of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from onnx_xcam.surgery.analysis.input_values import InputValues

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = (103.939, 116.779, 123.68)
HALF = (0.5,) * 3
UNIT, PIXELS = (0.0, 1.0), (0.0, 255.0)


def _column(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


class Normalized(nn.Module):
    """(scale x - mean) / std before a network, as torchvision's Normalize writes it."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], divisor: float = 1) -> None:
        super().__init__()
        self.network, self.divisor = network, divisor
        self.register_buffer("mean", _column(mean))
        self.register_buffer("std", _column(std))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise, and run the network."""
        scaled = x if self.divisor == 1 else x / self.divisor
        return self.network((scaled - self.mean) / self.std)


class Bytes(nn.Module):
    """Pixels uint8 [N,H,W,3], normalised and transposed before a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = Normalized(network, *IMAGENET, 255)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cast, transpose, normalise, and run the network."""
        return self.inner(x.permute(0, 3, 1, 2).float())


class Statistics(nn.Module):
    """A batch norm before a network, with the statistics of what it saw in training, and random weights."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.norm, self.network = nn.BatchNorm2d(3), network
        nn.init.normal_(self.norm.weight, 1, 0.5)
        nn.init.normal_(self.norm.bias, 0, 0.5)
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        self.norm.running_mean.copy_(torch.tensor(mean) + torch.randn(3) * 0.1 * torch.tensor(std))
        self.norm.running_var.copy_(torch.tensor(std) ** 2 * (0.5 + torch.rand(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise by the statistics, and run the network."""
        return self.network(self.norm(x))


class Learned(nn.Module):
    """A learned factor and shift of each channel before a network, as if x had been normalised already."""

    def __init__(self, network: nn.Module, factor: float, shift: float, shift_first: bool) -> None:
        super().__init__()
        self.network, self.shift_first = network, shift_first
        self.factor = nn.Parameter(factor + torch.randn(3, 1, 1) * 0.3)
        self.shift = nn.Parameter(shift + torch.randn(3, 1, 1) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift, and run the network."""
        return self.network((x + self.shift) * self.factor if self.shift_first else x * self.factor + self.shift)


class Renormalized(nn.Module):
    """ImageNet's normalisation turned into -1 to 1 before a network, as torchvision's Inception and GoogLeNet do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Change each channel by itself, join them, and run the network."""
        channels = [
            torch.unsqueeze(x[:, place], 1) * (std / 0.5) + (mean - 0.5) / 0.5
            for place, (mean, std) in enumerate(zip(*IMAGENET, strict=True))
        ]
        return self.network(torch.cat(channels, 1))


@dataclass(frozen=True)
class Wrap:
    """A Wrap makes a network of a network, and says what the new graph proves."""

    make: Callable[[nn.Module], nn.Module]
    proves: InputValues | None
    bytes_nhwc: bool = False


WRAPS: dict[str, Wrap] = {
    "plain": Wrap(lambda network: network, None),
    "ImageNet of 0..1": Wrap(lambda network: Normalized(network, *IMAGENET), InputValues(*UNIT, "RGB")),
    "ImageNet of 0..255": Wrap(lambda network: Normalized(network, *IMAGENET, 255), InputValues(*PIXELS, "RGB")),
    "half of 0..1": Wrap(lambda network: Normalized(network, HALF, HALF), InputValues(*UNIT)),
    "half of 0..255": Wrap(lambda network: Normalized(network, HALF, HALF, 255), InputValues(*PIXELS)),
    "Caffe": Wrap(lambda network: Normalized(network, CAFFE, (1.0,) * 3), InputValues(*PIXELS, "BGR")),
    "bytes": Wrap(Bytes, InputValues(*PIXELS, "RGB"), bytes_nhwc=True),
    "batch norm": Wrap(lambda network: Statistics(network, (0.0,) * 3, (1.0,) * 3), None),
    "batch norm of bright -1..1": Wrap(lambda network: Statistics(network, (0.5,) * 3, (0.3,) * 3), None),
    "batch norm of 0..255": Wrap(
        lambda network: Statistics(network, (124.0, 116.0, 104.0), (58.0,) * 3), InputValues(*PIXELS)
    ),
    "learned": Wrap(lambda network: Learned(network, 1.0, 0.0, False), None),
    "learned, large": Wrap(lambda network: Learned(network, 4.0, -1.6, False), None),
    "learned, shift first": Wrap(lambda network: Learned(network, 4.0, -0.4, True), None),
    "renormalised": Wrap(Renormalized, None),
}
"""What is put before a network, by name."""
