"""An instrumented model runs in float64 here, where no rounding decides on which side of a kink it goes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnx_xcam.verification.reference import evaluate
from tools.common.matching import Match
from tools.sweep import comparison
from tools.sweep.comparison import LOOKED_INTO, Found, per_image


class Comparison(comparison.Comparison):
    """A comparison with a framework in which near-ties cannot be decided at will."""

    @abstractmethod
    def gradient_from(self, at: Match, image: int, activations: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The float64 gradient `[1,K,...]` of one image on a pass in which the layer has these values `[1,...]`."""

    def explained(self, found: Found, exact: np.ndarray) -> dict[str, Any]:
        """What is left where the instrumented model runs in float64, too, and the framework from its activations on.

        An exporter folds batch norms in float32: its model has other activations than the framework even in float64.
        """
        rests = per_image(found.ours - exact, exact)
        for n in np.flatnonzero(rests > LOOKED_INTO).tolist():
            one, chosen = self.images[n : n + 1], found.classes[n : n + 1]
            a, ours = run_in_double(self.instrumented, one, chosen, ["xcam_activations", "xcam_gradients"])
            rests[n] = per_image(ours - self.gradient_from(found.at, n, a, chosen), exact[n : n + 1])[0]
        return {"rests": rests.tolist(), "ties": [0] * len(exact)}


def run_in_double(model: bytes, image: np.ndarray, classes: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
    """Outputs of a float32 instrumented model, computed in float64 by onnx's reference evaluator, which is slow.

    Args:
        model: without local functions; weights in the file.
        image: `[1,...]`, the model's first input.
        classes: int64 `[1,K]`.
        outputs: their names.
    """
    double = _as_double(onnx.load_from_string(model))
    feeds = {double.graph.input[0].name: image.astype(np.float64), "xcam_class": classes}
    return evaluate(double, feeds, outputs)


def _as_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in place of float32 everywhere; the model given is changed."""
    graph = model.graph
    del graph.value_info[:]
    for value in [*graph.input, *graph.output]:
        kind = value.type.tensor_type
        kind.elem_type = TensorProto.DOUBLE if kind.elem_type == TensorProto.FLOAT else kind.elem_type
    _convert(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _convert([attribute.t])
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return model


def _convert(tensors: Iterable[onnx.TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
