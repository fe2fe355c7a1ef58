"""Small classifiers for tests: plain ones, and one that was instrumented by hand as the contract says."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

from onnx_xcam import Explainer

CLASSES = 5
MEAN_255 = [123.675, 116.28, 103.53]
LABELS = ["ant", "bee", "cat", "dog", "emu"]
METADATA = {"layers": ["features"], "layouts": ["NCHW"], "method": "xgrad-cam", "relu": True, "version": 1}

BODY = """
  c = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w, b)
  features = Relu(c)
  pooled = GlobalAveragePool(features)
  flat = Flatten(pooled)
  logits = Gemm<transB=1>(flat, fc, fb)
"""

# XGrad-CAM of a global-average-pool head: the weight of a channel is the head's own, divided by h*w.
BY_HAND = """
  one = Constant<value=int64[1]{1}>()
  zero = Constant<value=int64[1]{0}>()
  k5 = Constant<value=int64[1]{5}>()
  ranked, order = TopK<axis=1>(logits, k5)
  full_shape = Shape(logits)
  n = Slice(full_shape, zero, one)
  class_shape = Shape(xcam_class)
  k = Slice(class_shape, one, two)
  nk = Concat<axis=0>(n, k)
  wanted = Expand(xcam_class, nk)
  zero_scalar = Constant<value_int=0>()
  minus_one = Constant<value_int=-1>()
  from_top = Less(wanted, zero_scalar)
  negative = Mul(wanted, minus_one)
  rank = Add(negative, minus_one)
  no_rank = Sub(rank, rank)
  safe_rank = Where(from_top, rank, no_rank)
  ranked_class = GatherElements<axis=1>(order, safe_rank)
  xcam_classes = Where(from_top, ranked_class, wanted)
  xcam_scores = GatherElements<axis=1>(logits, xcam_classes)
  rows = Gather<axis=0>(fc, xcam_classes)
  axes = Constant<value=int64[2]{3,4}>()
  weights = Unsqueeze(rows, axes)
  axis1 = Constant<value=int64[1]{1}>()
  per_image = Unsqueeze(features, axis1)
  weighted = Mul(weights, per_image)
  axis2 = Constant<value=int64[1]{2}>()
  raw_map = ReduceSum<keepdims=0>(weighted, axis2)
  feature_shape = Shape<start=2>(features)
  pixels_int = ReduceProd<keepdims=0>(feature_shape)
  pixels = Cast<to=1>(pixels_int)
  scaled = Div(raw_map, pixels)
  xcam_map = Relu(scaled)
"""


def tiny(
    *,
    n: int | str = "N",
    size: int | str = 16,
    channels: int = 3,
    classes: int = CLASSES,
    end: str = "logits",
    seed: int = 0,
    metadata: dict | None = None,
) -> onnx.ModelProto:
    """A classifier of 5 classes: Conv, Relu (`features`), global average pool, Gemm (`logits`).

    Args:
        n: batch size, or a name.
        size: height and width, or a name.
        channels: of the image.
        classes: number of classes; 1 is one logit.
        end: "logits", "softmax", "sigmoid" or "logsoftmax": what the output `y` is.
        seed: of the weights.
        metadata: JSON for metadata_props["onnx_xcam"].
    """
    ops = {"logits": "Identity", "softmax": "Softmax<axis=1>", "sigmoid": "Sigmoid", "logsoftmax": "LogSoftmax<axis=1>"}
    h, w = (size, size) if isinstance(size, int) else ("H", "W")
    signature = f"(float[{n},{channels},{h},{w}] image) => (float[{n},{classes}] y)"
    arrays = _weights(seed, channels, classes)
    return _model(signature, f"{BODY} y = {ops[end]}(logits)", arrays, metadata)


def by_hand(
    *,
    n: int | str = "N",
    size: int | str = 16,
    class_input: str = "optional",
    seed: int = 0,
    metadata: dict | None = None,
) -> onnx.ModelProto:
    """`tiny`, instrumented by hand: an independent reading of the contract, without `xcam_status`."""
    h, w = (size, size) if isinstance(size, int) else ("H", "W")
    fed = "" if class_input == "fixed" else ", int64[M,K] xcam_class"
    default = {"optional": [[-1]], "fixed": [[3, 1]]}.get(class_input)
    return _model(
        f"(float[{n},3,{h},{w}] image{fed}) => (float[{n},{CLASSES}] logits, int64[N,K] xcam_classes, "
        "float[N,K] xcam_scores, float[N,K,h,w] xcam_map)",
        BODY + "two = Constant<value=int64[1]{2}>()" + BY_HAND,
        _weights(seed) | ({} if default is None else {"xcam_class": np.array(default, np.int64)}),
        {**METADATA, "score": "logits", **(metadata or {})},
    )


def _weights(seed: int, channels: int = 3, classes: int = CLASSES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = {
        "w": random.normal(0, 0.3, (4, channels, 3, 3)),
        "b": random.normal(0, 0.3, 4),
        "fc": random.normal(0, 1, (classes, 4)),
        "fb": random.normal(0, 1, classes),
    }
    return {name: value.astype(np.float32) for name, value in weights.items()}


def _model(signature: str, body: str, arrays: dict[str, np.ndarray], metadata: dict | None) -> onnx.ModelProto:
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> tiny {signature} {{ {body} }}')
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in arrays.items())
    if metadata is not None:
        model.metadata_props.add(key="onnx_xcam", value=json.dumps(metadata))
    onnx.checker.check_model(model)
    return model


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    """The value of an initializer."""
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def count_runs(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What an Explainer feeds to the runs from now on, a dict for each."""
    runs: list[dict] = []
    run = explainer.model.loaded.session.run
    monkeypatch.setattr(
        explainer.model.loaded.session, "run", lambda feeds, outputs: runs.append(feeds) or run(feeds, outputs)
    )
    return runs
