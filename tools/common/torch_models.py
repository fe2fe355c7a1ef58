"""Classifiers of torch get random parameters, test images and ONNX exports here. Needs torchvision or timm.

Run as `python -m tools.common.torch_models NAME FILE.onnx EXPORTER`, it exports one model with a symbolic batch: what
`tools.common.exported` starts.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tools.common.images import pixels_nhwc

Exporter = Literal["torchscript", "dynamo"]
Batch = Literal["static", "dynamic"]

OPSET = 17
"""Of the TorchScript exports; the dynamo exporter chooses its own."""

LITE = "efficientnet_lite0"
_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
_SIZES = {"inception_v3": 299, "swin_v2_t": 256}
"""Height and width of torchvision's models that don't take 224 x 224."""
LARGEST_SIZE, SMALL_SIZE = 512, 256
"""Models made for larger pictures than the one take pictures of the other: autograd keeps every tensor in memory."""


def build(name: str, seed: int = 0) -> nn.Module:
    """A classifier without trained weights, in evaluation mode: torchvision's name, or `timm:` and timm's."""
    torch.manual_seed(seed)
    if name == LITE:
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name("efficientnet-lite0").eval()
    library, _, rest = name.rpartition(":")
    if library == "timm":
        import timm

        return timm.create_model(rest, pretrained=False).eval()
    import torchvision

    return torchvision.models.get_model(name, weights=None, **_OPTIONS.get(name, {})).eval()


def image_size(name: str) -> int:
    """Height and width that a model is made for."""
    library, _, rest = name.rpartition(":")
    if library == "timm":
        import timm

        size = int(timm.get_pretrained_cfg(rest, allow_unregistered=False).input_size[-1])
        return size if size <= LARGEST_SIZE else SMALL_SIZE
    return _SIZES.get(name, 224)


def test_images(name: str, count: int, seed: int = 0) -> np.ndarray:
    """Images as the model takes them, float32 [count,3,H,W], RGB: the sample photos first, then smooth noise."""
    pixels = pixels_nhwc(count, image_size(name), seed)
    if name == LITE:
        scaled = (pixels - 127) / 128
    else:
        scaled = (pixels / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


# --- random parameters ------------------------------------------------------------------------------------------------


def randomise(model: nn.Module, images: np.ndarray, seed: int = 0) -> None:
    """Draw every parameter and buffer at random, at a scale that keeps the activations alive.

    One pass over the images goes through the model layer by layer: a layer's weights are drawn and scaled to its actual
    input, a batch norm gets the statistics of its actual input with a random offset and factor for each channel. So no
    two channels are alike, no parameter is zero or one, and neither activations nor gradients die out.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _draw_batch_norm(module, args[0], random)
        else:
            _draw_linear(module, args[0], random)

    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)
    hooks = [m.register_forward_pre_hook(draw) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        for parameter in model.parameters():
            # Layer scales start at next to nothing; drawn larger, the branches that they scale take part.
            least = 0.1 if parameter.squeeze().ndim <= 1 else 0.01
            parameter.add_(torch.randn(parameter.shape, generator=random) * (0.3 * parameter.abs().mean() + least))
        model(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    _check_all_drawn(model)


SILENT = 1e-6
"""A standard deviation below which a layer's output counts as constant."""


def _draw_linear(module: nn.Module, x: torch.Tensor, random: torch.Generator) -> None:
    """Weights scaled to an output of variance 1 between images and places; biases around that output's mean."""
    assert isinstance(module.weight, nn.Parameter)
    gain = _uniform(module.weight.shape[0], random).reshape(-1, *[1] * (module.weight.ndim - 1))
    module.weight.copy_(torch.randn(module.weight.shape, generator=random) * gain)
    bias = module.bias
    if isinstance(bias, nn.Parameter):
        bias.zero_()
    y = module.forward(x)
    channels = y.ndim - 1 if isinstance(module, nn.Linear) else 1
    axes = [axis for axis in range(y.ndim) if axis != channels]
    mean = y.mean(axes, keepdim=True)
    # The floor: where images hardly differ, as behind a global pool, their difference is not blown up.
    floor = 1.0 if y[0].numel() == y.shape[channels] else 0.3
    scale = max(float((y - mean).std()), floor * float(y.std()))
    if not scale > SILENT:  # a single number, or nothing comes in: there is nothing to scale by
        scale = 1.0
    module.weight.div_(scale)
    if isinstance(bias, nn.Parameter):
        bias.copy_(-mean.flatten() / scale + 0.5 * torch.randn(bias.shape, generator=random))


def _draw_batch_norm(module: nn.modules.batchnorm._BatchNorm, x: torch.Tensor, random: torch.Generator) -> None:
    """Statistics of the actual input, each channel's moved by about half a deviation and scaled by 0.5 to 1.5."""
    count = module.num_features
    axes = [axis for axis in range(x.ndim) if axis != 1]
    mean = x.mean(axes)
    alone = x.numel() == count  # a single value a channel has no variance
    variance = mean.square().mean().expand(count) if alone else x.var(axes)
    variance = variance.clamp_min(0.01 * float(variance.mean()))  # dead channels are not blown up
    assert module.running_mean is not None and module.running_var is not None
    module.running_mean.copy_(mean + 0.5 * variance.sqrt() * torch.randn(count, generator=random))
    module.running_var.copy_(variance * _uniform(count, random))
    module.weight.copy_(_uniform(count, random))
    module.bias.copy_(0.5 * torch.randn(count, generator=random))


def _uniform(count: int, random: torch.Generator) -> torch.Tensor:
    return 0.5 + torch.rand(count, generator=random)


def _check_all_drawn(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        # Among millions of random numbers a few are exactly zero.
        if not torch.isfinite(parameter).all() or (parameter == 0).float().mean() > 1e-4:
            raise SystemExit(f"parameter {name} is zero or not finite")
        if parameter.numel() > 1 and parameter.std() == 0:
            raise SystemExit(f"parameter {name} is constant")


# --- export -----------------------------------------------------------------------------------------------------------


def export(
    model: nn.Module, size: int, path: Path, exporter: Exporter, batch: Batch, *, example: torch.Tensor | None = None
) -> None:
    """Write the model to `path`: image float32 [N,3,size,size], or as in the example, -> logits, N symbolic or 1."""
    if example is None:
        example = torch.zeros(2 if batch == "dynamic" else 1, 3, size, size)
    options: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    if batch == "dynamic" and exporter == "torchscript":
        options["dynamic_axes"] = {"image": {0: "batch"}, "logits": {0: "batch"}}
    elif batch == "dynamic":
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    write(model, (example,), path, exporter, **options)


def write(model: nn.Module, args: tuple[torch.Tensor, ...], path: Path, exporter: Exporter, **options: Any) -> None:
    """Write a model that takes `args` to `path`; `options` are those of `torch.onnx.export`."""
    own = {"opset_version": OPSET} if exporter == "torchscript" else {"external_data": False, "verbose": False}
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")  # the exporters' own; what they write is compared with the model
        # With parameters that want gradients, the dynamo exporter fails on attention with a bias; with others,
        # nn.MultiheadAttention takes a fast path that the TorchScript exporter does not know.
        torch.backends.mha.set_fastpath_enabled(False)
        frozen = copy.deepcopy(model).requires_grad_(False)
        torch.onnx.export(frozen, args, path, dynamo=exporter == "dynamo", **own, **options)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide all that this process prints, be it C++ that prints: the exporter prints whole graphs."""
    sys.stdout.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        for number, copy_of in zip((1, 2), kept, strict=True):
            os.dup2(copy_of, number)
            os.close(copy_of)


def main() -> None:
    """Export one model with random parameters and a symbolic batch, as the command line names it."""
    name, path, exporter = sys.argv[1:]
    model = build(name)
    randomise(model, test_images(name, 4))
    export(model, image_size(name), Path(path), exporter, "dynamic")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
