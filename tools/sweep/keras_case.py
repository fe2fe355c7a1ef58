"""One model of Keras is exported, and TensorFlow's GradientTape asked for the gradient."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tools.common.images import pixels_nhwc
from tools.common.matching import Match
from tools.sweep import double_case, keras_models


@dataclass(frozen=True)
class Forward:
    """One forward pass: the logits [N,C], the outputs of all layers, and the tape that can differentiate."""

    logits: tf.Tensor
    tensors: list[tf.Tensor]
    tape: tf.GradientTape


def forward(model: Any, images: np.ndarray, given: tuple[int, np.ndarray] | None = None) -> Forward:
    """Run the model on images [N,H,W,3], keeping what every layer gives; one of these may be given other values."""
    tensors: list[tf.Tensor] = []

    def keep(layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if tf.is_tensor(result) and result.shape.rank >= 3:
            if given and len(tensors) == given[0]:
                result = result + (given[1] - tf.stop_gradient(result))
            tensors.append(result)
        return result

    with tf.GradientTape(persistent=True) as tape, keras_models.calls_through(model, keep):
        logits = tf.reshape(model(images, training=False), (len(images), -1))
    return Forward(logits, tensors, tape)


class Comparison(double_case.Comparison):
    """One model with random parameters and a softmax at its end, and what Keras says about it without the softmax."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(name, options, folder)
        tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        kind = name.partition(":")[2]
        self.images = pixels_nhwc(options.images, keras_models.SIZE, options.seed)
        exact = self.model64 = keras_models.build(kind, "float64", None)
        keras_models.randomise(exact, self.images.astype(np.float64), options.seed)
        single = keras_models.build(kind, "float32", None)
        self.model = keras_models.build(kind, "float32", "softmax")
        weights = [np.asarray(weight, np.float32) for weight in exact.weights]
        for model in (exact, single, self.model):
            model.set_weights(weights)
        self.exact = forward(exact, self.images.astype(np.float64))
        self.single = forward(single, self.images)
        self.exact_logits, self.single_logits = self.exact.logits.numpy(), self.single.logits.numpy()
        self.exact_tensors = [tensor.numpy() for tensor in self.exact.tensors]

    def export(self, path: Path, exporter: Any, batch: Any) -> None:
        """Write the model to `path`."""
        keras_models.export(self.model, path, exporter, batch)

    def rounding(self, index: int) -> float:
        """How far Keras' own float32 values of a layer are off, relative to the largest."""
        exact, single = self.exact_tensors[index], self.single.tensors[index].numpy()
        return float(np.abs(single - exact).max() / np.abs(exact).max())

    def differentiate(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tape's gradients in float64 and in float32."""
        exact, single = (gradient(found, at, classes) for found in (self.exact, self.single))
        return exact, single

    def gradient_from(self, at: Match, image: int, activations: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The tape's gradient in float64 on a pass that has these activations."""
        given = at.index, at.from_layer(activations, self.exact.tensors[at.index].shape)
        one = self.images[image : image + 1].astype(np.float64)
        return gradient(forward(self.model64, one, given), at, classes)


def gradient(found: Forward, at: Match, classes: np.ndarray) -> np.ndarray:
    """d score / d layer, float64 [N,K,...] in the layer's layout, for the classes int64 [N,K]."""
    tensor, columns = found.tensors[at.index], []
    for of_image in classes.T:
        # Images don't mix in inference, so the gradient of the sum over images is each image's own.
        seed = tf.one_hot(of_image, found.logits.shape[1], dtype=found.logits.dtype)
        of_class = found.tape.gradient(found.logits, tensor, output_gradients=seed, unconnected_gradients="zero")
        columns.append(at.to_layer(of_class.numpy().astype(np.float64)))
    return np.stack(columns, axis=1)
