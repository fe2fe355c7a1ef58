"""Classifiers of JAX get random parameters and are exported here, for the sweep.

Needs jax2onnx, flax and equinox, which are no dependencies of onnx_xcam.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tools.common.images import pixels_nhwc

CLASSES = 50


class FlaxBlock(nnx.Module):
    """Two convolutions with batch norms, and a way around them."""

    def __init__(self, width: int, out: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(width, out, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(out, use_running_average=True, rngs=rngs)
        self.second = nnx.Conv(out, out, (3, 3), use_bias=False, rngs=rngs)
        self.last_norm = nnx.BatchNorm(out, use_running_average=True, rngs=rngs)
        self.around = nnx.Conv(width, out, (1, 1), strides=stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,H,W,width] -> [N,h,w,out]."""
        y = nnx.relu(self.norm(self.first(x)))
        return nnx.relu(self.last_norm(self.second(y)) + self.around(x))


class FlaxCnn(nnx.Module):
    """A residual network, NHWC."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 24, (7, 7), strides=2, rngs=rngs)
        widths = (24, 48, 96, 96)
        pairs = itertools.pairwise(widths)
        self.blocks = nnx.List([FlaxBlock(width, out, 2, rngs=rngs) for width, out in pairs])
        self.head = nnx.Linear(widths[-1], CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,112,112,3] -> probabilities [N,CLASSES]."""
        x = nnx.max_pool(nnx.swish(self.stem(x)), window_shape=(3, 3), strides=(2, 2), padding="SAME")
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class EquinoxCnn(eqx.Module):
    """Convolutions with group norms, NCHW."""

    convolutions: list[eqx.nn.Conv2d]
    norms: list[eqx.nn.GroupNorm]
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 5)
        widths = (3, 24, 48, 96, 96)
        pairs = list(zip(keys, widths, widths[1:], strict=False))
        self.convolutions = [eqx.nn.Conv2d(width, out, 3, 2, 1, key=k) for k, width, out in pairs]
        self.norms = [eqx.nn.GroupNorm(8, out) for out in widths[1:]]
        self.head = eqx.nn.Linear(widths[-1], CLASSES, key=keys[-1])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,3,112,112] -> logits [N,CLASSES]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.gelu(jax.vmap(norm)(jax.vmap(convolution)(x)))
        return jax.vmap(self.head)(x.mean((2, 3)))


class EquinoxVit(eqx.Module):
    """The DINOv3 of jax2onnx's examples, small, with a head on its class token; NCHW."""

    trunk: Any
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        from jax2onnx.plugins.examples.eqx.dino import VisionTransformer

        first, second = jax.random.split(key)
        self.trunk = VisionTransformer(img_size=112, patch_size=16, embed_dim=96, depth=3, num_heads=3, key=first)
        self.head = eqx.nn.Linear(96, CLASSES, key=second)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,3,112,112] -> logits [N,CLASSES]."""
        return jax.vmap(self.head)(self.trunk(x)[:, 0])


def _flax_vit(rngs: nnx.Rngs) -> nnx.Module:
    """The vision transformer of jax2onnx's examples, for one-channel images of 28 x 28."""
    from jax2onnx.plugins.examples.nnx.vit import VisionTransformer

    sizes = {"num_hiddens": 96, "num_layers": 3, "num_heads": 4, "mlp_dim": 192, "num_classes": CLASSES}
    return VisionTransformer(28, 28, **sizes, embedding_type="patch", rngs=rngs)


@dataclass(frozen=True)
class Model:
    """A classifier.

    Attributes:
        parameters: a tree of arrays, float32.
        shape: of an image, without the batch.
        bind: parameters -> a function from images [N,*shape] to logits [N,C].
    """

    parameters: Any
    shape: tuple[int, ...]
    bind: Callable[[Any], Callable[[jax.Array], jax.Array]]

    def as_dtype(self, dtype: Any) -> Callable[[jax.Array], jax.Array]:
        """The function with its parameters in another floating type."""
        floating = lambda x: eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        return self.bind(jax.tree.map(lambda x: x.astype(dtype) if floating(x) else x, self.parameters))


def build(name: str, seed: int) -> Model:
    """One of flax_cnn, flax_vit, equinox_cnn and equinox_vit, with random parameters."""
    if name.startswith("flax"):
        rngs = nnx.Rngs(seed)
        module = FlaxCnn(rngs=rngs) if name == "flax_cnn" else _flax_vit(rngs)
        module.eval()
        graph, state = nnx.split(module)
        shape = (112, 112, 3) if name == "flax_cnn" else (28, 28, 1)
        return Model(_randomised(state, seed), shape, lambda parameters: nnx.merge(graph, parameters))
    kind = {"equinox_cnn": EquinoxCnn, "equinox_vit": EquinoxVit}[name]
    tree = eqx.nn.inference_mode(kind(jax.random.key(seed)))
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return Model(_randomised(arrays, seed), (3, 112, 112), lambda parameters: eqx.combine(parameters, rest))


def _randomised(tree: Any, seed: int) -> Any:
    """Kernels as their initialiser drew them; what starts at zero or one, moved by random numbers."""
    random = np.random.default_rng(seed)

    def drawn(path: Any, x: Any) -> Any:
        if not eqx.is_array(x) or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        if ".var" in jax.tree_util.keystr(path) or "'var'" in jax.tree_util.keystr(path):
            return jnp.asarray(random.uniform(0.3, 1.0, x.shape), x.dtype)
        if x.ndim > 1 and float(jnp.std(x)) > 0:
            return x
        return x + jnp.asarray(0.3 * random.normal(size=x.shape), x.dtype)

    return jax.tree_util.tree_map_with_path(drawn, tree)


def test_images(model: Model, count: int, seed: int) -> np.ndarray:
    """Images float32 [count,*shape], about -2 to 2."""
    shape = model.shape
    channels_last = shape[-1] in (1, 3)
    size = shape[1]
    pixels = pixels_nhwc(count, 4 * size, seed)
    pixels = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in pixels])
    scaled = (pixels - 127) / np.float32(64)
    return scaled[..., : shape[-1]] if channels_last else np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def export(model: Model, path: Path, batch: str) -> None:
    """Write the model to `path`: image float32 [N,*shape] -> probabilities, N symbolic or 1."""
    from jax2onnx import to_onnx

    logits = model.as_dtype(jnp.float32)
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), silence[0], silence[1]:
        warnings.simplefilter("ignore")
        shape = ("B" if batch == "dynamic" else 1, *model.shape)
        to_onnx(lambda x: jax.nn.softmax(logits(x), axis=-1), inputs=[shape], return_mode="file", output_path=str(path))
