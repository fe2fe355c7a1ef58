"""One model of JAX is exported, and jax.vjp asked for the gradient at any value of its jaxpr."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tools.common.matching import Match
from tools.sweep import double_case, jax_models

INLINED = ("jit", "pjit", "closed_call", "remat", "checkpoint")
"""Calls that are looked into; a function with a derivative of its own is one step."""


class Recorder:
    """Evaluates a jaxpr, keeps its feature maps, and adds something to one of them."""

    def __init__(self, index: int = -1, delta: Any = None) -> None:
        self.index, self.delta = index, delta
        self.tensors: list[jax.Array] = []

    def run(self, closed: Any, *args: Any) -> list[Any]:
        """The outputs of a closed jaxpr."""
        jaxpr = closed.jaxpr
        known = dict(zip(jaxpr.constvars, closed.consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))
        read = lambda variable: variable.val if hasattr(variable, "val") else known[variable]  # noqa: E731
        for equation in jaxpr.eqns:
            values = [read(variable) for variable in equation.invars]
            known.update(zip(equation.outvars, self._step(equation, values), strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _step(self, equation: Any, values: list[Any]) -> list[Any]:
        primitive = equation.primitive
        if primitive.name in INLINED:
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            return self.run(inner if hasattr(inner, "consts") else jax.extend.core.ClosedJaxpr(inner, ()), *values)
        results = primitive.bind(*values, **primitive.get_bind_params(equation.params))
        results = results if primitive.multiple_results else [results]
        # Changes of the floating type are not the same in float64 as in float32.
        return results if primitive.name == "convert_element_type" else [self._kept(result) for result in results]

    def _kept(self, value: Any) -> Any:
        if not jnp.issubdtype(value.dtype, jnp.floating) or value.ndim < 3:
            return value
        if len(self.tensors) == self.index:
            value = value + self.delta
        self.tensors.append(value)
        return value


class Forward:
    """A forward pass in one floating type: the logits [N,C] and every feature map on the way."""

    def __init__(self, model: jax_models.Model, images: np.ndarray, dtype: Any) -> None:
        self.x64 = dtype == jnp.float64
        with jax.enable_x64(self.x64):
            self.images = jnp.asarray(images, dtype)
            self.closed = jax.make_jaxpr(model.as_dtype(dtype))(self.images)
            recorder = Recorder()
            (logits,) = recorder.run(self.closed, self.images)
        self.logits = np.asarray(logits)
        self.tensors = [np.asarray(tensor) for tensor in recorder.tensors]

    def gradient(self, at: Match, classes: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """d score / d layer, float64 [N,K,...] in the layer's layout, for the classes int64 [N,K]; at other values of
        the tensor, where these are given.
        """
        with jax.enable_x64(self.x64):
            tensor, columns = self.tensors[at.index], []
            delta = jnp.zeros_like(tensor) if given is None else jnp.asarray(given - tensor)
            _, pull = jax.vjp(functools.partial(self._moved, at.index), delta)
            for of_image in classes.T:
                # Images don't mix in inference, so the gradient of the sum over images is each image's own.
                (of_class,) = pull(jax.nn.one_hot(of_image, self.logits.shape[1], dtype=self.logits.dtype))
                columns.append(at.to_layer(np.asarray(of_class, np.float64)))
        return np.stack(columns, axis=1)

    def _moved(self, index: int, delta: Any) -> Any:
        (logits,) = Recorder(index, delta).run(self.closed, self.images)
        return logits


class Comparison(double_case.Comparison):
    """One model with random parameters and a softmax at its end, and what JAX says about it without the softmax."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(name, options, folder)
        self.model = jax_models.build(name.partition(":")[2], options.seed)
        self.images = jax_models.test_images(self.model, options.images, options.seed)
        self.exact, self.single = (Forward(self.model, self.images, dtype) for dtype in (jnp.float64, jnp.float32))
        if [t.shape for t in self.exact.tensors] != [t.shape for t in self.single.tensors]:
            raise SystemExit(f"{name} takes another way in float64 than in float32")
        self.exact_logits, self.single_logits = self.exact.logits, self.single.logits
        self.exact_tensors = self.exact.tensors

    def export(self, path: Path, exporter: Any, batch: Any) -> None:
        """Write the model to `path`."""
        jax_models.export(self.model, path, batch)

    def rounding(self, index: int) -> float:
        """How far JAX's own float32 values of a tensor are off, relative to the largest."""
        exact, single = self.exact.tensors[index], self.single.tensors[index]
        return float(np.abs(single - exact).max() / np.abs(exact).max())

    def differentiate(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """JAX's gradients in float64 and in float32."""
        return self.exact.gradient(at, classes), self.single.gradient(at, classes)

    def gradient_from(self, at: Match, image: int, activations: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """JAX's gradient in float64 on a pass that has these activations."""
        one = Forward(self.model, self.images[image : image + 1], jnp.float64)
        return one.gradient(at, classes, at.from_layer(activations, one.tensors[at.index].shape))
