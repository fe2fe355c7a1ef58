"""Networks of torchvision, timm and transformers for `tools.sweep.proofs`. It imports all that they share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm  # noqa: F401  # imported once, for all processes
import torch
import torchvision  # noqa: F401  # likewise
import transformers
from torch import nn

from onnx_xcam.surgery.analysis.input_values import InputValues
from tools.common import torch_models
from tools.sweep.wraps import WRAPS, Wrap

EXPORTERS: tuple[torch_models.Exporter, ...] = ("torchscript", "dynamo")
SMALL = 64
"""Height and width that networks get that can take them, for speed; the others get their own."""


class _Logits(nn.Module):
    """A classifier of transformers that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        """Run the model."""
        return self.model(x).logits


def exports(name: str, wraps: int | None, turn: int) -> Iterator[tuple[str, str, InputValues | None, Any]]:
    """The cases of a network: what stands before it, the exporter, what is proved, and what writes the file."""
    torch.set_num_threads(1)
    torch.manual_seed(turn)
    network, size = build(name)
    randomise(network)
    kinds = list(WRAPS)[1:]
    for place, exporter in enumerate(EXPORTERS):
        count = len(kinds) if wraps is None else wraps
        chosen = [kinds[(count * (2 * turn + place) + one) % len(kinds)] for one in range(count)]
        for kind in ["plain", *chosen]:
            write = functools.partial(_export, network, WRAPS[kind], size, exporter)
            yield kind, exporter, WRAPS[kind].proves, write


def _export(network: nn.Module, wrap: Wrap, size: int, exporter: torch_models.Exporter, path: Path) -> None:
    """Write a network with what stands before it to `path`."""
    with torch.no_grad():
        model = wrap.make(network).eval()
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8) if wrap.bytes_nhwc else None
    torch_models.export(model, size, path, exporter, "static", example=example)


def build(name: str) -> tuple[nn.Module, int]:
    """A network in evaluation mode, and the height and width of its pictures."""
    library, _, rest = name.rpartition(":")
    if library == "transformers":
        network, own = _of_transformers(rest)
    else:
        network, own = torch_models.build(name), torch_models.image_size(name)
    for size in dict.fromkeys((SMALL, own)):
        try:
            with torch.no_grad():
                network(torch.zeros(1, 3, size, size))
        except (RuntimeError, ValueError, AssertionError, IndexError):
            continue  # a size that it is not made for
        return network, size
    raise SystemExit(f"{name} takes neither {SMALL} nor {own} pixels")


def _of_transformers(kind: str) -> tuple[nn.Module, int]:
    """A classifier of transformers by the type of its model, as its configuration makes it by default, but shallow."""
    config = transformers.AutoConfig.for_model(kind)
    if isinstance(getattr(config, "num_hidden_layers", None), int) and not hasattr(config, "depths"):
        with contextlib.suppress(NotImplementedError, AttributeError):  # some have it fixed
            config.num_hidden_layers = 1
    own = getattr(config, "image_size", None) or 224
    own = own if isinstance(own, int) else own[0]
    model = transformers.AutoModelForImageClassification.from_config(config)
    return _Logits(model.eval()).eval(), own


def randomise(network: nn.Module) -> None:
    """Draw every parameter and every statistic at random, so that none is what it was initialised with."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 * parameter.abs().mean() + 0.1))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.5)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
