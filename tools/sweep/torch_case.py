"""One model of PyTorch is exported, autograd asked for the gradient, and near-ties are looked into."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.common import torch_models
from tools.common.matching import Match
from tools.sweep import autograd, comparison
from tools.sweep.autograd import Forward
from tools.sweep.comparison import LOOKED_INTO, Found, per_image
from tools.sweep.kinks import Explanation, NearTies, Tie, moves

EXPLAINED = 1e-5
"""Errors above LOOKED_INTO are looked into for near-ties, until what is left is below this."""
LOOKED_AT = (6, 16, 40)
"""How many of an image's closest near-ties are tried, step by step."""


class Comparison(comparison.Comparison):
    """One model with random parameters, and what PyTorch says about it."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(name, options, folder)
        torch.set_num_threads(self.threads)
        self.model, self.images = self.build()
        self.exact = autograd.forward(self.model, self.images, torch.float64)
        self.single = autograd.forward(self.model, self.images, torch.float32)
        if len(self.exact.tensors) != len(self.single.tensors):
            raise SystemExit(f"{name} takes another way in float64 than in float32")
        self.exact_logits, self.single_logits = (one.logits.detach().numpy() for one in (self.exact, self.single))
        self.exact_tensors = [tensor.detach().numpy() for tensor in self.exact.tensors]
        self.moved: dict[tuple[int, bytes, int, tuple[Tie, ...]], np.ndarray] = {}

    def build(self) -> tuple[nn.Module, np.ndarray]:
        """The model with random parameters, and images float32 [N,3,H,W] for it."""
        model = torch_models.build(self.name, self.options.seed)
        images = torch_models.test_images(self.name, self.options.images, self.options.seed)
        torch_models.randomise(model, images, self.options.seed)
        return model, images

    def export(self, path: Path, exporter: Any, batch: Any) -> None:
        """Write the model to `path` with one of PyTorch's exporters."""
        torch_models.export(self.model, torch_models.image_size(self.name), path, exporter, batch)

    def rounding(self, index: int) -> float:
        """How far PyTorch's own float32 values of a feature map are off, relative to the largest."""
        exact, single = self.exact.tensors[index].detach(), self.single.tensors[index].detach()
        return float((single - exact).abs().max() / exact.abs().max())

    def differentiate(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Autograd's gradients in float64 and in float32."""
        both: list[Forward] = [self.exact, self.single]
        exact, single = (autograd.gradient(found, at, classes) for found in both)
        return exact, single

    def explained(self, found: Found, exact: np.ndarray) -> dict[str, Any]:
        """What is left of each image's error where PyTorch starts from the activations that ONNX Runtime had, with
        near-ties behind them decided as ONNX Runtime did; and how many that takes.
        """
        rests, counts = per_image(found.ours - exact, exact), [0] * len(exact)
        for n in np.flatnonzero(rests > LOOKED_INTO).tolist():
            smallest = np.abs(exact[n]).reshape(len(exact[n]), -1).max(1).min()
            best = self._explanation(found, n, EXPLAINED * float(smallest))
            rests[n], counts[n] = per_image(best.rest[None], exact[n][None])[0], len(best.ties)
        return {"rests": rests.tolist(), "ties": counts}

    def _explanation(self, found: Found, image: int, enough: float) -> Explanation:
        """The near-ties that explain an image's difference, looked for until what is left is `enough`."""
        again = functools.partial(self._difference, found, image)
        best = Explanation(again([]), [])
        if np.abs(best.rest).max() <= enough:
            return best
        known = self._near_ties(found, image)
        for count in LOOKED_AT:
            known.look(count)
            best = known.explain(best, again)
            if np.abs(best.rest).max() <= enough:
                return best
        return known.explain_masked(best, again, enough)

    def _near_ties(self, found: Found, image: int) -> NearTies:
        at, passed = found.at, self._pass(found, image, [])
        return NearTies(
            *(passed.kinks, self.single.kinks, image, at.index),
            layer=passed.tensors[at.index],
            arrange=lambda values: torch.from_numpy(at.to_layer(values.numpy())),
            scores=passed.logits[0, torch.from_numpy(found.classes[image])],
        )

    def _pass(self, found: Found, image: int, ties: list[Tie]) -> Forward:
        """A float64 pass on one image from ONNX Runtime's own activations of the layer, with these near-ties behind it
        decided the other way.
        """
        at, one = found.at, slice(image, image + 1)
        values = at.from_layer(found.activations[one].astype(np.float64), self.exact.tensors[at.index].shape)
        # The moves come behind the layer, which keeps its place among the feature maps.
        return autograd.forward(
            self.model, self.images[one], torch.float64, moves=moves(ties), given=(at.index, torch.from_numpy(values))
        )

    def _difference(self, found: Found, image: int, ties: list[Tie]) -> np.ndarray:
        """An image's difference [K,...] from autograd on such a pass."""
        classes = found.classes[image : image + 1]
        key = (found.at.index, classes.tobytes() + found.activations[image].tobytes(), image, tuple(ties))
        if key not in self.moved:
            self.moved[key] = autograd.gradient(self._pass(found, image, ties), found.at, classes)[0]
        return found.ours[image] - self.moved[key]
