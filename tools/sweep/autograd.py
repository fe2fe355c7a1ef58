"""PyTorch's autograd gives the gradient at a layer that is known only by its values.

Needs torch, which is no dependency of onnx_xcam.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tools.common.matching import Match
from tools.sweep import kinks
from tools.sweep.kinks import Kink

Moves = Mapping[int, Sequence[tuple[int, float]]]
"""For calls with a kink: flat indices into the input, and what to add there."""

Given = tuple[int, torch.Tensor]
"""A feature map's place, and the values that it is to have."""

_FILLS_IN = ("__setitem__", "zero_", "fill_", "copy_")
"""Changes in place that are let be: the tensor is recorded with the values that it has in the end."""


def _out_of_place(func: Any, name: str) -> Any:
    """The function that makes a new tensor where `func` (`add_`, `__iadd__`) changes one."""
    if name in _FILLS_IN:
        return func
    if name.startswith("__i") and name.endswith("__"):
        return getattr(torch.Tensor, "__" + name[3:], func)
    other = getattr(torch.Tensor, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    return other if callable(other) else func  # requires_grad_ has an attribute beside it


class _Recorder(TorchFunctionMode):
    """Keeps every feature map that a forward pass makes; makes operations in place make a new tensor instead.

    A tensor that is changed after it was recorded would not be the one that the gradient is asked for.
    """

    def __init__(self, moves: Moves, given: Given | None) -> None:
        super().__init__()
        self.moves, self.given = moves, given
        self.tensors: list[torch.Tensor] = []
        self.kinks: list[Kink] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("inplace"):
            kwargs["inplace"] = False
        name = getattr(func, "__name__", "")
        if name in kinks.NAMES:
            args = (_moved(args[0], self.moves.get(len(self.kinks), ())), *args[1:])
        versions = [(a, a._version) for a in args if isinstance(a, torch.Tensor)]
        result = _out_of_place(func, name)(*args, **kwargs)
        if name not in _FILLS_IN and any(a._version != version for a, version in versions):
            raise RuntimeError(f"{func} changes a tensor in place")
        if self.given and isinstance(result, torch.Tensor) and len(self.tensors) == self.given[0]:
            result = result + (self.given[1] - result).detach()
        if name in kinks.NAMES:
            self.kinks.append(kinks.recorded(name, len(self.tensors), args, kwargs, result))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad and tensor.ndim >= 3:
                self.tensors.append(tensor)
        return result


def _moved(x: torch.Tensor, moves: Sequence[tuple[int, float]]) -> torch.Tensor:
    """x plus a constant that is zero but for the moves."""
    if not moves:
        return x
    by = torch.zeros(x.numel(), dtype=x.dtype)
    for index, move in moves:
        by[index] = move
    return x + by.reshape(x.shape)


@dataclass
class Forward:
    """One forward pass: the logits [N,C], every feature map on the way, and every call with a kink; differentiable."""

    logits: torch.Tensor
    tensors: list[torch.Tensor]
    kinks: list[Kink]


def forward(
    model: nn.Module,
    images: np.ndarray,
    dtype: torch.dtype,
    *,
    moves: Moves | None = None,
    given: Given | None = None,
) -> Forward:
    """Run a copy of the model in `dtype` on images float32 [N,3,H,W].

    With `moves` (then on one image), the inputs of calls with a kink are moved; with `given`, a feature map's values
    are replaced by others.
    """
    model = copy.deepcopy(model).to(dtype).requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    with _Recorder(moves or {}, given) as recorder:
        logits = model(torch.from_numpy(images).to(dtype).requires_grad_(True))
    return Forward(logits.reshape(len(images), -1), recorder.tensors, recorder.kinks)


def gradient(found: Forward, at: Match, classes: np.ndarray) -> np.ndarray:
    """d score / d layer, float64 [N,K,...] in the layer's layout, for the classes int64 [N,K]."""
    tensor = found.tensors[at.index]
    chosen = found.logits.gather(1, torch.from_numpy(classes))
    columns = []
    for k in range(classes.shape[1]):
        # Images don't mix in evaluation mode, so the sum's gradient is each image's own.
        (of_class,) = torch.autograd.grad(chosen[:, k].sum(), tensor, retain_graph=True)
        columns.append(at.to_layer(of_class.double().numpy()))
    return np.stack(columns, axis=1)
