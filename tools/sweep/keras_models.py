"""Classifiers of Keras get random parameters and are exported here, for the sweep.

Needs tensorflow-cpu, keras and tf2onnx, which are no dependencies of onnx_xcam.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tools.common.sessions import session

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf
    import tf2onnx
    from tf2onnx.handler import tf_op

SIZE = 224
"""Height and width of the images, for every model."""


def build(name: str, dtype: str, activation: str | None) -> keras.Model:
    """A model of keras.applications, or `vit`, with the activation behind its logits: images 0 to 255, [N,H,W,3]."""
    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    if name == "vit":
        return _vit(activation)
    shape = (SIZE, SIZE, 3)
    return getattr(keras.applications, name)(weights=None, input_shape=shape, classifier_activation=activation)


def _vit(activation: str | None, size: int = SIZE, patch: int = 32, width: int = 96, depth: int = 3) -> keras.Model:
    """A small transformer of Keras layers: patches, encoder blocks, the mean of the tokens, a Dense head."""
    layers = keras.layers
    image = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(width, patch, patch)(x)
    x = layers.Reshape(((size // patch) ** 2, width))(x)
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(2 * width, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(100, activation=activation)(x))


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers without layers in them."""
    for layer in model._flatten_layers(include_self=False):
        if not any(layer._flatten_layers(include_self=False)):
            yield layer


@contextlib.contextmanager
def calls_through(model: keras.Model, around: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, a layer's call goes through `around(layer, call, *args, **kwargs)`."""
    patched = [(layer, layer.call) for layer in leaves(model)]
    for layer, call in patched:
        object.__setattr__(layer, "call", _bound(around, layer, call))
    try:
        yield
    finally:
        for layer, _ in patched:
            object.__delattr__(layer, "call")


def _bound(around: Callable[..., Any], layer: Any, call: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: around(layer, call, *args, **kwargs)


# --- random parameters ------------------------------------------------------------------------------------------------


def randomise(model: keras.Model, images: np.ndarray, seed: int = 0) -> None:
    """Draw every parameter and batch-norm statistic at random, each layer's at the scale of its actual input."""
    random = np.random.default_rng(seed)

    def draw(layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.weights:
            if isinstance(layer, keras.layers.BatchNormalization):
                _draw_batch_norm(layer, np.asarray(args[0]), random)
            else:
                _draw_weights(layer, lambda: np.asarray(call(*args, **kwargs)), random)
        return call(*args, **kwargs)

    with calls_through(model, draw):
        model(images, training=False)
    for weight in model.weights:
        values = np.asarray(weight)
        if "seed" not in weight.path and (not np.isfinite(values).all() or (values == 0).mean() > 1e-4):
            raise SystemExit(f"{weight.path} is zero or not finite")


def _draw_batch_norm(layer: Any, x: np.ndarray, random: np.random.Generator) -> None:
    """Statistics of the actual input, each channel's moved by about half a deviation and scaled by 0.5 to 1.5."""
    axes, count = tuple(range(x.ndim - 1)), x.shape[-1]
    mean, variance = x.mean(axes), x.var(axes)
    variance = np.maximum(variance, 0.01 * variance.mean())
    layer.moving_mean.assign(mean + 0.5 * np.sqrt(variance) * random.normal(size=count))
    layer.moving_variance.assign(variance * random.uniform(0.5, 1.5, count))
    if layer.gamma is not None:
        layer.gamma.assign(random.uniform(0.5, 1.5, count))
    if layer.beta is not None:
        layer.beta.assign(0.5 * random.normal(size=count))


def _draw_weights(layer: Any, call: Callable[[], np.ndarray], random: np.random.Generator) -> None:
    """Kernels scaled to an output of variance 1; biases around zero; factors of a norm or a layer scale around 1."""
    kernels = [weight for weight in layer.weights if "kernel" in weight.name]
    for weight in layer.weights:
        if "kernel" in weight.name:
            weight.assign(random.normal(size=weight.shape))
        elif "gamma" in weight.name:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(0.5 * random.normal(size=weight.shape))
    if not kernels:
        return
    bias = getattr(layer, "bias", None)
    drawn = None if bias is None else np.asarray(bias)
    activation, layer.activation = getattr(layer, "activation", None), keras.activations.linear
    if bias is not None:
        bias.assign(np.zeros(bias.shape))
    y = call()
    mean = y.mean(tuple(range(y.ndim - 1)))
    scale = max(float((y - mean).std()), 0.3 * float(y.std()))
    kernels[-1].assign(np.asarray(kernels[-1]) / scale)
    if bias is not None:
        centred = -mean / scale if bias.shape == mean.shape else 0
        bias.assign(centred + drawn)
    layer.activation = activation


# --- export -----------------------------------------------------------------------------------------------------------


def export(model: keras.Model, path: Path, exporter: str, batch: str, size: int = SIZE) -> None:
    """Write the model to `path` with tf2onnx or with Keras' own exporter, N symbolic or 1, as one that can be run."""
    write(model, path, exporter, batch, size)
    asked_for = [value.name for value in session(path, 1).get_inputs()]
    if len(asked_for) > 1:
        raise ValueError(f"the exported model wants its own constants as inputs: {', '.join(asked_for[1:])}")


def write(model: keras.Model, path: Path, exporter: str, batch: str, size: int = SIZE) -> None:
    """Write what an exporter makes of the model to `path`; see `export`."""
    shape = (None if batch == "dynamic" else 1, size, size, 3)
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), silence[0], silence[1], never_compiled():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            if exporter == "keras":
                signature = [keras.InputSpec(shape=shape, dtype="float32", name="image")]
                model.export(path, format="onnx", verbose=False, input_signature=signature)
            else:
                spec = tf.TensorSpec(shape, tf.float32, name="image")
                tf2onnx.convert.from_keras(model, (spec,), opset=17, output_path=str(path))
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def never_compiled() -> Iterator[None]:
    """While it lasts, no function is compiled by XLA.

    Keras compiles convolutions in groups (`conv` in `keras/src/backend/tensorflow/nn.py`), which tf2onnx cannot see
    into: it would write calls of functions that ONNX does not have.
    """
    original = tf.function

    def plain(*args: Any, jit_compile: bool | None = None, **others: Any) -> Any:
        return (lambda function: function) if jit_compile else original(*args, **others)

    tf.function = plain
    try:
        yield
    finally:
        tf.function = original


@tf_op("Erfc")
class Erfc:
    """Gives tf2onnx what it lacks for GELU: erfc(x) = 1 - erf(x)."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Replace the node."""
        shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, node.output
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", [node.input[0]], shapes=shapes, dtypes=dtypes)
        one = ctx.make_const(f"{node.name}/one", np.float32(1))
        ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=shapes, dtypes=dtypes)
