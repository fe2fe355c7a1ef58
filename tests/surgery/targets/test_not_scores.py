"""Outputs of other tasks are not taken for class scores, and class scores of every form still are."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest

from helpers.models import TRUNK, TRUNK_WEIGHTS, C, build, images, run, tensors
from onnx_xcam import inspect, instrument
from onnx_xcam.errors import ScoreError
from onnx_xcam.metadata import LABELS_KEY
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.targets.classification import find_score

POOL = "a = Relu(c2)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  "
LOGITS = POOL + "logits = Gemm<transB=1>(flat, fc, fb)  "
VECTOR = POOL + "v = Gemm<transB=1>(flat, wide)  "
"""v [N,16]"""
HEADS = {"fc": (C, 4), "fb": (C,), "wide": (16, 4), "one": (1, 4), "two": (2, 4), "four": (4, 4), "ten": (10, 4)}
GRID = "a = Relu(c2)  m = Conv(a, k2)  "
"""m [N,2,6,6]: what a detector's head says of each place."""
GRIDS = {"k1": (1, 4, 1, 1), "k2": (2, 4, 1, 1), "k4": (4, 4, 1, 1), "k10": (10, 4, 1, 1)}
BOTH = {**HEADS, **GRIDS, "lw": (1, 12, 4), "lr": (1, 12, 3), "k5": (5, 4, 1, 1)}


def made(body: str, outputs: str, image: str = "float[N,3,12,12] image", opset: int = 17) -> onnx.ModelProto:
    """A model of these nodes behind the trunk, with the weights that they read."""
    used = {name: shape for name, shape in BOTH.items() if f", {name}" in body or f"({name}," in body}
    return build(TRUNK + body, {**TRUNK_WEIGHTS, **used}, inputs=image, outputs=outputs, opset=opset)


def ints(name: str, *values: int) -> str:
    return f"{name} = Constant<value_ints={list(values)}>()  "


def number(name: str, value: float) -> str:
    return f"{name} = Constant<value_float={float(value)}>()  "


# --- other tasks ------------------------------------------------------------------------------------------------------

ONE_IMAGE, ANY_SIZE = "float[1,3,12,12] image", "float[1,3,H,W] image"
ROWS = "t = Transpose<perm=[2,3,0,1]>(m)  "
"""As SCRFD has them: places first."""
HWC = "t = Transpose<perm=[0,2,3,1]>(m)  "
SQUARES = "q = Mul(v, v)  s = ReduceSum(q, last)  "
PLACE, STEP, MAP, LENGTH = "each place or box", "each time step", "a map, as segmentation", "divided by its length"

OTHER_TASKS = {
    # anchors
    "scores without a batch axis": (GRID + ROWS + ints("s", -1, 1) + "y = Reshape(t, s)  z = Sigmoid(y)",
                                    "float[72,1] z", ONE_IMAGE, PLACE),
    "the same of any size": (GRID + ROWS + ints("s", -1, 1) + "y = Reshape(t, s)  z = Sigmoid(y)",
                             "float[n,1] z", ANY_SIZE, PLACE),
    "boxes alone": ("a = Relu(c2)  m = Conv(a, k4)  t = Transpose<perm=[2,3,0,1]>(m)  " + ints("s", -1, 4) +
                    "y = Reshape(t, s)", "float[36,4] y", ONE_IMAGE, PLACE),
    "key points of each": ("a = Relu(c2)  m = Conv(a, k10)  t = Transpose<perm=[2,3,0,1]>(m)  " + ints("s", -1, 10) +
                           "y = Reshape(t, s)", "float[36,10] y", ONE_IMAGE, PLACE),
    "one score of each, batched": (GRID + HWC + ints("s", 1, -1, 1) + "y = Reshape(t, s)  z = Sigmoid(y)",
                                   "float[1,72,1] z", ONE_IMAGE, PLACE),
    "one score of each, any batch": (GRID + HWC + ints("s", 0, -1, 1) + "y = Reshape(t, s)",
                                     "float[N,72,1] y", "float[N,3,12,12] image", PLACE),
    "one score of each, of any size": (GRID + HWC + ints("s", 0, -1, 1) + "y = Reshape(t, s)",
                                       "float[N,n,1] y", "float[N,3,H,W] image", PLACE),
    "a list of scores": (GRID + HWC + ints("s", -1) + "y = Reshape(t, s)", "float[72] y", ONE_IMAGE, PLACE),
    "channels first": (GRID + ints("s", 1, -1) + "y = Reshape(m, s)", "float[1,72] y", ONE_IMAGE, PLACE),
    "two levels": (
        GRID + HWC + ints("s", 1, -1, 1) + "y = Reshape(t, s)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  "
        "n = Conv(p, k2)  o = Transpose<perm=[0,2,3,1]>(n)  x = Reshape(o, s)  z = Concat<axis=1>(y, x)",
        "float[1,90,1] z", ONE_IMAGE, PLACE,
    ),
    "two levels and boxes": (
        GRID + HWC + ints("s", 1, -1, 1) + ints("f", 1, -1, 4) + "y = Reshape(t, s)  "
        "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  n = Conv(p, k2)  o = Transpose<perm=[0,2,3,1]>(n)  "
        "x = Reshape(o, s)  z = Concat<axis=1>(y, x)  b = Conv(a, k4)  g = Transpose<perm=[0,2,3,1]>(b)  "
        "h = Reshape(g, f)", "float[1,90,1] z, float[1,36,4] h", ONE_IMAGE, PLACE,
    ),
    "two levels of any size": (
        GRID + HWC + ints("s", 0, -1, 1) + "y = Reshape(t, s)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  "
        "n = Conv(p, k2)  o = Transpose<perm=[0,2,3,1]>(n)  x = Reshape(o, s)  z = Concat<axis=1>(y, x)",
        "float[N,n,1] z", "float[N,3,H,W] image", PLACE,
    ),
    "two levels and all images as rows": (
        GRID + HWC + ints("s", -1, 2) + "y = Reshape(t, s)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  "
        "n = Conv(p, k2)  o = Transpose<perm=[0,2,3,1]>(n)  x = Reshape(o, s)  z = Concat<axis=0>(y, x)  "
        "c = Softmax<axis=1>(z)", "float[n,2] c", "float[N,3,12,12] image", PLACE,
    ),
    "two levels and all images in a list": (
        GRID + ints("s", -1) + "y = Reshape(m, s)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  "
        "n = Conv(p, k2)  x = Reshape(n, s)  z = Concat<axis=0>(y, x)", "float[n] z", "float[N,3,12,12] image", PLACE,
    ),
    "two levels, one of a single place": (
        "a = Relu(c2)  m = Conv(a, k4)  " + HWC + ints("s", 1, -1, 2) + "y = Reshape(t, s)  p = GlobalAveragePool(a)  "
        "n = Conv(p, k4)  o = Transpose<perm=[0,2,3,1]>(n)  x = Reshape(o, s)  z = Concat<axis=1>(y, x)",
        "float[1,74,2] z", ONE_IMAGE, PLACE,
    ),
    "softmax of two classes each": (GRID + HWC + ints("s", 1, -1, 2) + "y = Reshape(t, s)  z = Softmax<axis=2>(y)",
                                    "float[1,36,2] z", ONE_IMAGE, PLACE),
    "without a batch axis, softmax": (GRID + HWC + ints("s", -1, 2) + "y = Reshape(t, s)  z = Softmax<axis=1>(y)",
                                      "float[36,2] z", ONE_IMAGE, PLACE),
    "a batch of anchors as rows": (GRID + HWC + ints("s", -1, 2) + "y = Reshape(t, s)",
                                   "float[n,2] y", "float[N,3,12,12] image", PLACE),
    "channels first, decoded": (GRID + ints("s", 1, 2, -1) + "y = Reshape(m, s)", "float[1,2,36] y", ONE_IMAGE, PLACE),
    # regions
    "classes of regions": (
        "a = Relu(c2)  r = RoiAlign<output_height=2, output_width=2>(a, boxes, of)  p = GlobalAveragePool(r)  "
        "f = Flatten(p)  g = Gemm<transB=1>(f, fc, fb)  z = Softmax<axis=1>(g)", f"float[R,{C}] z",
        "float[N,3,12,12] image, float[R,4] boxes, int64[R] of", "several rows",
    ),
    "classes of regions that are merged of two levels": (
        "a = Relu(c2)  r = RoiAlign<output_height=1, output_width=1>(a, boxes, of)  p = Flatten(r)  "
        "q = RoiAlign<output_height=1, output_width=1, spatial_scale=0.5>(a, boxes, of)  o = Flatten(q)  "
        "e = Concat<axis=0>(p, o)  k = ScatterElements<axis=0>(e, at, o)  g = Gemm<transB=1>(k, fc, fb)  "
        "z = Softmax<axis=1>(g)", f"float[P,{C}] z",
        "float[N,3,12,12] image, float[R,4] boxes, int64[R] of, int64[R,4] at", "several rows",
    ),
    # maps
    "depth": ("a = Relu(c2)  m = Conv(a, k1)  " + ints("s", 1) + "y = Squeeze(m, s)", "float[N,6,6] y",
              "float[N,3,12,12] image", MAP),
    "a map without batch and channel": ("a = Relu(c2)  m = Conv(a, k1)  " + ints("s", 0, 1) + "y = Squeeze(m, s)",
                                        "float[6,6] y", ONE_IMAGE, MAP),
    "segmentation": (GRID + "y = Softmax<axis=1>(m)", "float[N,2,6,6] y", "float[N,3,12,12] image", MAP),
    "classes of pixels": (GRID + "y = ArgMax<axis=1, keepdims=0>(m)", "int64[N,6,6] y", "float[N,3,12,12] image", MAP),
    "a heat map as a row": ("a = Relu(c2)  m = Conv(a, k1)  " + ints("s", 0, -1) + "r = Reshape(m, s)  "
                            "y = Softmax<axis=1>(r)", "float[N,36] y", "float[N,3,12,12] image", PLACE),
    # time steps
    "text": ("a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  t = Transpose<perm=[0,2,1]>(c)  "
             "y = Softmax<axis=2>(t)", "float[N,6,4] y", "float[N,3,12,12] image", STEP),
    "text, steps first": ("a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  y = Transpose<perm=[2,0,1]>(c)",
                          "float[6,1,4] y", ONE_IMAGE, STEP),
    "text, steps first, any batch": (
        "a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  y = Transpose<perm=[2,0,1]>(c)", "float[6,N,4] y",
        "float[N,3,12,12] image", STEP,
    ),
    "text of any width": ("a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  y = Transpose<perm=[2,0,1]>(c)",
                          "float[T,1,4] y", "float[1,3,12,W] image", STEP),
    "text by a recurrent layer": (
        "a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  t = Transpose<perm=[2,0,1]>(c)  "
        "l = LSTM<hidden_size=3>(t, lw, lr)  " + ints("s", 1) + "y = Squeeze(l, s)", "float[6,1,3] y", ONE_IMAGE, STEP,
    ),
    "the same of any width": (
        "a = Relu(c2)  c = ReduceMean<axes=[2], keepdims=0>(a)  t = Transpose<perm=[2,0,1]>(c)  "
        "l = LSTM<hidden_size=3>(t, lw, lr)  " + ints("s", 1) + "y = Squeeze(l, s)", "float[T,1,3] y",
        "float[1,3,12,W] image", STEP,
    ),
    # embeddings, by every spelling of the length
    "LpNormalization": (VECTOR + "y = LpNormalization<axis=1>(v)", "float[N,16] y", None, LENGTH),
    "ReduceL2": (VECTOR + "n = ReduceL2<axes=[1]>(v)  y = Div(v, n)", "float[N,16] y", None, LENGTH),
    "functional.normalize": (
        VECTOR + number("e", 1e-12) + "n = ReduceL2<axes=[1]>(v)  c = Clip(n, e)  s = Shape(v)  x = Expand(c, s)  "
        "y = Div(v, x)", "float[N,16] y", None, LENGTH,
    ),
    "length without its axis": (VECTOR + ints("o", 1) + "n = ReduceL2<axes=[1], keepdims=0>(v)  u = Unsqueeze(n, o)  "
                                "y = Div(v, u)", "float[N,16] y", None, LENGTH),
    "on its side": (VECTOR + "n = ReduceL2<axes=[1], keepdims=0>(v)  t = Transpose(v)  d = Div(t, n)  y = Transpose(d)",
                    "float[N,16] y", None, LENGTH),
    "Max": (VECTOR + number("e", 1e-12) + "n = ReduceL2<axes=[1]>(v)  c = Max(n, e)  y = Div(v, c)", "float[N,16] y",
            None, LENGTH),
    "root of squares": (VECTOR + ints("last", 1) + SQUARES + "n = Sqrt(s)  y = Div(v, n)", "float[N,16] y", None,
                        LENGTH),
    "root of powers": (VECTOR + ints("last", 1) + number("w", 2) + number("e", 1e-6) +
                       "q = Pow(v, w)  s = ReduceSum(q, last)  p = Add(s, e)  n = Sqrt(p)  y = Div(v, n)",
                       "float[N,16] y", None, LENGTH),
    "reciprocal root": (VECTOR + ints("last", 1) + number("e", 1e-12) + SQUARES +
                        "c = Max(s, e)  n = Sqrt(c)  i = Reciprocal(n)  y = Mul(v, i)", "float[N,16] y", None, LENGTH),
    "one by the root": (VECTOR + ints("last", 1) + number("i", 1) + SQUARES + "n = Sqrt(s)  d = Div(i, n)  "
                        "y = Mul(d, v)", "float[N,16] y", None, LENGTH),
    "power of minus a half": (VECTOR + ints("last", 1) + number("h", -0.5) + SQUARES + "n = Pow(s, h)  y = Mul(v, n)",
                              "float[N,16] y", None, LENGTH),
    "ReduceSumSquare": (VECTOR + "s = ReduceSumSquare<axes=[1]>(v)  n = Sqrt(s)  y = Div(v, n)", "float[N,16] y", None,
                        LENGTH),
    "scaled": (VECTOR + number("k", 30) + "n = ReduceL2<axes=[1]>(v)  u = Div(v, n)  y = Mul(u, k)", "float[N,16] y",
               None, LENGTH),
    "as half precision": (VECTOR + "n = ReduceL2<axes=[1]>(v)  u = Div(v, n)  y = Cast<to=10>(u)", "float16[N,16] y",
                          None, LENGTH),
    "named landmarks": (POOL + "landmarks = Gemm<transB=1>(flat, ten)", "float[N,10] landmarks", None,
                        "landmarks, by its name"),
    "named boxes, within 0..1": (POOL + "z = Gemm<transB=1>(flat, four)  bounding_box = Sigmoid(z)",
                                 "float[N,4] bounding_box", None, "boxes, by its name"),
    "named an embedding": (VECTOR + "image_embeds = Identity(v)", "float[N,16] image_embeds", None,
                           "an embedding, by its name"),
}  # fmt: skip
"""Nodes behind the trunk, outputs, the image input, and what is said."""


@pytest.mark.parametrize("kind", OTHER_TASKS)
def test_outputs_of_other_tasks_are_refused_with_what_they_are(kind):
    text, outputs, image, said = OTHER_TASKS[kind]
    model = made(text, outputs, image or "float[N,3,12,12] image")
    onnx.checker.check_model(model, full_check=True)
    for call in (instrument, inspect):
        with pytest.raises(ScoreError, match=f"No class score was found among the outputs: .*{said}") as caught:
            call(model)
    assert len(str(caught.value)) < 400


# --- classifiers ------------------------------------------------------------------------------------------------------

NHWC = "x = Transpose<perm=[0,3,1,2]>(picture)  image = Identity(x)  "
TOKENS = "a = Relu(c2)  " + ints("s", 0, 4, -1) + "r = Reshape(a, s)  k = Transpose<perm=[0,2,1]>(r)  "
"""k [N,36,4]"""
ANY_BATCH = "float[N,3,12,12] image"

CLASSIFIERS = {
    "logits": (LOGITS, "float[N,5] logits", ANY_BATCH, "logits", 5),
    "a batch of one": (LOGITS, "float[1,5] logits", ONE_IMAGE, "logits", 5),
    "a batch of four": (LOGITS, "float[4,5] logits", "float[4,3,12,12] image", "logits", 5),
    "a batch without a name": (LOGITS, "float[?,5] logits", "float[?,3,12,12] image", "logits", 5),
    "any size": (LOGITS, "float[N,5] logits", "float[N,3,H,W] image", "logits", 5),
    "one image without an axis": (LOGITS + ints("s", 0) + "y = Squeeze(logits, s)", "float[5] y", ONE_IMAGE, "y", 5),
    "a pooled convolution": ("a = Relu(c2)  p = GlobalAveragePool(a)  y = Conv(p, k5)", "float[N,5,1,1] y", ANY_BATCH,
                             "y", 5),
    "a pooled map of classes": ("a = Relu(c2)  m = Conv(a, k5)  b = Relu(m)  p = GlobalAveragePool(b)  y = Flatten(p)",
                                "float[N,5] y", ANY_BATCH, "y", 5),
    "channels last": (LOGITS + ints("s", 1, 2) + "y = Unsqueeze(logits, s)", "float[N,1,1,5] y", ANY_BATCH, "y", 5),
    "classes by a reshape": ("a = Relu(c2)  p = GlobalAveragePool(a)  c = Conv(p, k5)  " + ints("s", -1, 5) +
                             "y = Reshape(c, s)", "float[n,5] y", ANY_BATCH, "y", 5),
    "a window as large as the picture": (
        "a = Relu(c2)  p = AveragePool<kernel_shape=[6,6]>(a)  c = Conv(p, k5)  " + ints("s", -1, 5) +
        "y = Reshape(c, s)", "float[n,5] y", ANY_BATCH, "y", 5,
    ),
    "such a window of any size": (
        "a = Relu(c2)  p = AveragePool<kernel_shape=[112,112], strides=[112,112]>(a)  c = Conv(p, k5)  "
        "t = Transpose<perm=[0,2,3,1]>(c)  " +
        ints("s", -1, 5) + "y = Reshape(t, s)", "float[n,5] y", "float[N,3,H,W] image", "y", 5,
    ),
    "flattened by its own shape": (
        "a = Relu(c2)  p = GlobalAveragePool(a)  h = Shape<end=1>(p)  " + ints("u", -1) +
        "s = Concat<axis=0>(h, u)  flat = Reshape(p, s)  logits = Gemm<transB=1>(flat, fc, fb)", "float[N,5] logits",
        ANY_BATCH, "logits", 5,
    ),
    "squeezed": ("a = Relu(c2)  p = GlobalAveragePool(a)  c = Conv(p, k5)  y = Squeeze(c)", "float[5] y", ONE_IMAGE,
                 "y", 5),
    "channels last from the picture on": (LOGITS, "float[N,5] logits", "float[N,12,12,3] picture", "logits", 5),
    "one logit": (POOL + "y = Gemm<transB=1>(flat, one)", "float[N,1] y", ANY_BATCH, "y", 2),
    "one logit, squeezed": (POOL + "z = Gemm<transB=1>(flat, one)  " + ints("s", 1) + "y = Squeeze(z, s)",
                            "float[N] y", ANY_BATCH, "y", 2),
    "one logit, its length lost": (POOL + "z = Gemm<transB=1>(flat, one)  " + ints("s", -1) + "y = Reshape(z, s)",
                                   "float[lost] y", ANY_BATCH, "y", 2),
    "one probability": (POOL + "z = Gemm<transB=1>(flat, one)  y = Sigmoid(z)", "float[N,1] y", ANY_BATCH, "z", 2),
    "softmax": (LOGITS + "y = Softmax<axis=1>(logits)", "float[N,5] y", ANY_BATCH, "logits", 5),
    "several labels": (LOGITS + "y = Sigmoid(logits)", "float[N,5] y", ANY_BATCH, "logits", 5),
    "the class alone": (LOGITS + "y = ArgMax<axis=1>(logits)", "int64[N,1] y", ANY_BATCH, "logits", 5),
    "a sequence": (LOGITS + "y = SequenceConstruct(logits)", "seq(float[N,5]) y", ANY_BATCH, "logits", 5),
    "in half precision": (LOGITS + "y = Cast<to=10>(logits)", "float16[N,5] y", ANY_BATCH, "y", 5),
    "a mean of tokens": (TOKENS + "flat = ReduceMean<axes=[1], keepdims=0>(k)  logits = Gemm<transB=1>(flat, fc, fb)",
                         "float[N,5] logits", ANY_BATCH, "logits", 5),
    "the first token": (TOKENS + "i = Constant<value_int=0>()  flat = Gather<axis=1>(k, i)  "
                        "logits = Gemm<transB=1>(flat, fc, fb)", "float[N,5] logits", ANY_BATCH, "logits", 5),
    "tokens first": (TOKENS + "t = Transpose<perm=[1,0,2]>(k)  i = Constant<value_int=0>()  flat = Gather<axis=0>(t, i)"
                     "  logits = Gemm<transB=1>(flat, fc, fb)", "float[N,5] logits", ANY_BATCH, "logits", 5),
    "tokens weighted by a softmax": (
        TOKENS + "w = Softmax<axis=1>(k)  x = Mul(w, k)  flat = ReduceSum(x, last)  "
        "logits = Gemm<transB=1>(flat, fc, fb)", "float[N,5] logits", ANY_BATCH, "logits", 5,
    ),
    "features of length one": (
        POOL + "n = ReduceL2<axes=[1]>(flat)  u = Div(flat, n)  logits = Gemm<transB=1>(u, fc)", "float[N,5] logits",
        ANY_BATCH, "logits", 5,
    ),
    "cosines, scaled": (
        POOL + number("k", 16) + "n = ReduceL2<axes=[1]>(flat)  u = Div(flat, n)  g = Gemm<transB=1>(u, fc)  "
        "y = Mul(g, k)", "float[N,5] y", ANY_BATCH, "y", 5,
    ),
    "shares": (LOGITS + "y = LpNormalization<axis=1, p=1>(logits)", "float[N,5] y", ANY_BATCH, "y", 5),
    "by the length of the features": (LOGITS + "n = ReduceL2<axes=[1]>(flat)  y = Div(logits, n)", "float[N,5] y",
                                      ANY_BATCH, "y", 5),
    "the largest of all places": ("a = Relu(c2)  m = Conv(a, k5)  y = GlobalMaxPool(m)", "float[N,5,1,1] y", ANY_BATCH,
                                  "y", 5),
    "a standardised end": (
        LOGITS + "y = Sub(logits, fb)", "float[N,5] y", ANY_BATCH, "y", 5,
    ),
    "an older opset": (POOL + "logits = Gemm<transB=1>(flat, fc, fb)", "float[N,5] logits", ANY_BATCH, "logits", 5),
}  # fmt: skip
"""Nodes behind the trunk, outputs, the image input, the score and the number of its classes."""


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_of_every_form_are_taken(kind):
    text, outputs, image, score, count = CLASSIFIERS[kind]
    text += ints("last", 1) if ", last)" in text else ""
    model = made(text, outputs, image)
    if "picture" in image:
        first = onnx.helper.make_node("Transpose", ["picture"], ["image"], perm=[0, 3, 1, 2])
        model.graph.node.insert(0, first)
    report = inspect(model)
    assert (report.score, report.classes) == (score, count)
    found = find_score(prepare(model))
    assert (found.name, found.count) == (score, count)
    assert not any("several" in note for note in report.notes)


# --- several outputs --------------------------------------------------------------------------------------------------

MANY = {
    "box offsets before a softmax": (
        POOL + "y = Gemm<transB=1>(flat, four)  z = Gemm<transB=1>(flat, two)  p = Softmax<axis=1>(z)",
        "float[N,4] y, float[N,2] p", "z", "the one behind a Softmax of several outputs",
    ),
    "landmarks and boxes before a softmax": (
        POOL + "l = Gemm<transB=1>(flat, ten)  y = Gemm<transB=1>(flat, four)  z = Gemm<transB=1>(flat, two)  "
        "p = Softmax<axis=1>(z)", "float[N,10] l, float[N,4] y, float[N,2] p", "z",
        "the one behind a Softmax of several outputs",
    ),
    "landmarks before a sigmoid": (
        POOL + "l = Gemm<transB=1>(flat, ten)  z = Gemm<transB=1>(flat, one)  p = Sigmoid(z)",
        "float[N,10] l, float[N,1] p", "z", "the one behind a Sigmoid of several outputs",
    ),
    "several softmaxes behind a plain one": (
        LOGITS + "l = Gemm<transB=1>(flat, ten)  y = Softmax<axis=1>(logits)  z = Gemm<transB=1>(flat, two)  "
        "p = Softmax<axis=1>(z)", "float[N,10] l, float[N,5] y, float[N,2] p", "logits",
        "the first behind a Softmax of several outputs",
    ),
    "a label beside an embedding": (
        LOGITS + "v = Gemm<transB=1>(flat, wide)  y = ArgMax<axis=1>(logits)", "float[N,16] v, int64[N,1] y", "logits",
        "the one that a class is picked by of several outputs",
    ),
    "a label of one head before the softmax of another": (
        LOGITS + "z = Gemm<transB=1>(flat, two)  k = ArgMax<axis=1>(z)  y = Softmax<axis=1>(logits)",
        "int64[N,1] k, float[N,5] y", "logits", "the one behind a Softmax of several outputs",
    ),
    "a copy of the features that the scores are made of": (
        LOGITS + "v = Identity(flat)", "float[N,4] v, float[N,5] logits", "logits", None,
    ),
    "boxes by their name": (
        LOGITS + "bbox = Gemm<transB=1>(flat, four)", "float[N,4] bbox, float[N,5] logits", "logits",
        "called nothing else of several outputs",
    ),
    "boxes within 0..1 by their name": (
        LOGITS + "z = Gemm<transB=1>(flat, four)  bounding_box = Sigmoid(z)  y = Softmax<axis=1>(logits)",
        "float[N,4] bounding_box, float[N,5] y", "logits", "the one behind a Softmax of several outputs",
    ),
    "four numbers of 0..1 before a softmax": (
        LOGITS + "z = Gemm<transB=1>(flat, four)  o = Sigmoid(z)  y = Softmax<axis=1>(logits)",
        "float[N,4] o, float[N,5] y", "logits", "the one behind a Softmax of several outputs",
    ),
    "four labels before five": (
        LOGITS + "z = Gemm<transB=1>(flat, four)  o = Sigmoid(z)  y = Sigmoid(logits)",
        "float[N,4] o, float[N,5] y", "z", "the first of several outputs",
    ),
    "boxes that are predicted": (
        LOGITS + "pred_boxes = Gemm<transB=1>(flat, four)", "float[N,4] pred_boxes, float[N,5] logits", "logits",
        "called nothing else of several outputs",
    ),
    "an embedding of length one": (
        LOGITS + "n = ReduceL2<axes=[1]>(flat)  v = Div(flat, n)", "float[N,4] v, float[N,5] logits", "logits", None,
    ),
    "anchors beside classes": (
        LOGITS + "m = Conv(a, k2)  t = Transpose<perm=[2,3,0,1]>(m)  " + ints("s", -1, 1) + "y = Reshape(t, s)",
        "float[n,1] y, float[N,5] logits", "logits", None,
    ),
    "a constant and a copy": (
        LOGITS + "y = Identity(logits)  k = Identity(fb)", "float[5] k, float[N,5] logits, float[N,5] y", "logits",
        "the first of several outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MANY)
def test_of_several_outputs_the_one_that_tells_classes_is_taken(kind):
    text, outputs, score, said = MANY[kind]
    report = inspect(made(text, outputs))
    assert report.score == score
    several = [note for note in report.notes if "several outputs" in note]
    assert ([said in note and "--score" in note for note in several] or [None]) == ([True] if said else [None])


HEADS_OF_ONE = (
    POOL + "x = Gemm<transB=1>(flat, four)  left, right = Split<axis=1>(x)  p = Softmax<axis=1>(left)  "
    "q = Softmax<axis=1>(right)  z = Gemm<transB=1>(flat, one)  r = Sigmoid(z)"
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "score", "form"),
    [("auto", "left", "classes"), ("p", "p", "classes"), ("q", "q", "classes"), ("right", "right", "classes"),
     ("r", "z", "logit"), ("z", "z", "logit")],
)  # fmt: skip
def test_each_head_is_chosen_by_its_output(asked, score, form):
    model = made(HEADS_OF_ONE, "float[N,2] p, float[N,2] q, float[N,1] r")
    found = find_score(prepare(model), asked)
    assert (found.name, found.form) == (score, form)


# --- one number -------------------------------------------------------------------------------------------------------

NUMBERS = {
    "a probability by its name": (POOL + "z = Gemm<transB=1>(flat, one)  y = Sigmoid(z)", "float[N,1] y", "y", "z", 0),
    "what is left of one": (POOL + "z = Gemm<transB=1>(flat, one)  p = Sigmoid(z)  " + number("k", 1) + "y = Sub(k, p)",
                            "float[N,1] y", "auto", "y", 0.5),
    "a mean of two": (POOL + "z = Gemm<transB=1>(flat, two)  p = Sigmoid(z)  y = ReduceMean<axes=[1]>(p)",
                      "float[N,1] y", "auto", "y", 0.5),
    "half of a sum": (POOL + "z = Gemm<transB=1>(flat, one)  p = Sigmoid(z)  q = Sigmoid(flat)  " +
                      "m = ReduceMax<axes=[1]>(q)  s = Add(p, m)  " + number("k", 2) + "y = Div(s, k)",
                      "float[N,1] y", "auto", "y", 0.5),
    "one of two classes": (POOL + "z = Gemm<transB=1>(flat, two)  p = Softmax<axis=1>(z)  " + ints("i", 1) +
                           "y = Gather<axis=1>(p, i)", "float[N,1] y", "auto", "y", 0.5),
    "a sum of two": (POOL + "z = Gemm<transB=1>(flat, two)  p = Sigmoid(z)  y = ReduceSum(p, i)  " + ints("i", 1),
                     "float[N,1] y", "auto", "y", 0),
    "above a threshold": (POOL + "z = Gemm<transB=1>(flat, one)  " + number("k", 0.3) + "y = Greater(z, k)",
                          "float[N,1] z, bool[N,1] y", "auto", "z", 0.3),
    "of unknown length": (POOL + "z = Gemm<transB=1>(flat, one)  " + ints("i", -1) + "y = Reshape(z, i)", "float[n] y",
                          "auto", "y", 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBERS)
def test_of_one_number_class_1_is_the_top_from_where_the_model_decides(kind):
    text, outputs, asked, score, threshold = NUMBERS[kind]
    text = ints("i", 1) + text.replace(ints("i", 1), "") if kind == "a sum of two" else text
    model = made(text, outputs)
    found = find_score(prepare(model), asked)
    assert (found.name, found.form, found.threshold) == (score, "logit", pytest.approx(threshold))
    batch = images(16, seed=5) - np.linspace(0, 2, 16, dtype=np.float32).reshape(-1, 1, 1, 1)
    own = tensors(model, [score], batch)[score].reshape(-1)
    above = (own > threshold).astype(int)
    result = run(instrument(model, score=asked, emit=["map"]), batch, [[-1, -2, 1, 0]])
    np.testing.assert_array_equal(result["xcam_classes"][:, :2], np.stack([above, 1 - above], 1))
    np.testing.assert_allclose(result["xcam_scores"][:, 2:], np.stack([own, -own], 1), rtol=1e-5, atol=1e-7)


# --- plain numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "outputs", "said"),
    [
        (VECTOR + "y = Identity(v)", "float[N,16] y", r"Score: output 'y'\."),
        (VECTOR + "y = Abs(v)", "float[N,16] y", r"output 'y' \[N,16\], taken for scores of 16 classes; nothing in"),
        (VECTOR + "y = Abs(v)  scores = Identity(y)", "float[N,16] scores", r"Score: output 'scores'\."),
        (VECTOR + "t = Tanh(v)  y = Identity(t)", "float[N,16] y", "it ends in a Tanh, as features do"),
        (LOGITS, "float[N,5] logits", r"Score: output 'logits'\."),
        (LOGITS + "y = Softmax<axis=1>(logits)", "float[N,5] y", "'logits', the input of the final Softmax"),
    ],
)
def test_what_nothing_says_is_said(text, outputs, said):
    assert re.search(said, " ".join(inspect(made(text, outputs)).notes))


def test_labels_in_the_model_say_that_it_is_a_classifier():
    model = made(VECTOR + "y = Abs(v)", "float[N,16] y")
    onnx.helper.set_model_props(model, {LABELS_KEY: json.dumps([f"label {i}" for i in range(16)])})
    assert "Score: output 'y'." in inspect(model).notes


def test_a_vector_is_taken_where_it_is_named():
    model = made(VECTOR + "n = ReduceL2<axes=[1]>(v)  y = Div(v, n)", "float[N,16] y")
    score = find_score(prepare(model), "y")
    assert (score.name, score.count) == ("y", 16)
    assert any("divided by its own length" in note for note in score.notes)
    model = made(POOL + "landmarks = Gemm<transB=1>(flat, ten)", "float[N,10] landmarks")
    assert find_score(prepare(model), "landmarks").count == 10


def test_a_row_of_places_is_taken_where_it_is_named():
    text, outputs, image, said = OTHER_TASKS["a heat map as a row"]
    model = made(text, outputs, image)
    with pytest.raises(ScoreError, match=said):
        find_score(prepare(model))
    assert find_score(prepare(model), "r").count == 36


def test_places_are_no_images_where_they_are_named_either():
    text, outputs, image, said = OTHER_TASKS["scores without a batch axis"]
    for name in ("y", "z"):
        with pytest.raises(ScoreError, match=f"'y' has the shape.*{said}"):
            instrument(made(text, outputs, image), score=name)


def test_scores_that_were_only_reshaped_are_named():
    """Two classes for each of several findings."""
    model = made(POOL + "z = Gemm<transB=1>(flat, four)  " + ints("s", -1, 2, 2) + "r = Reshape(z, s)  "
                 "y = Softmax<axis=2>(r)", "float[N,2,2] y")  # fmt: skip
    with pytest.raises(ScoreError, match=r"'r' has the shape \[N,2,2\].*--score 'z' \(score=\) takes them as \[N,4\]"):
        instrument(model)
    assert find_score(prepare(model), "z").count == 4


SOFTMAXES = {
    "over the images": (LOGITS + "y = Softmax<axis=0>(logits)", "float[N,5] y", 17, "y"),
    "over an axis of one": (LOGITS + ints("s", 2) + "u = Unsqueeze(logits, s)  y = Softmax<axis=2>(u)",
                            "float[N,5,1] y", 17, "y"),
    "over the last axis, as before opset 13": (LOGITS + "u = Unsqueeze<axes=[2]>(logits)  y = Softmax<axis=1>(u)",
                                               "float[N,5,1] y", 11, "u"),
    "of a sigmoid": (LOGITS + "p = Sigmoid(logits)  y = Softmax<axis=1>(p)", "float[N,5] y", 17, "p"),
    "with a temperature": (LOGITS + number("k", 2) + "t = Div(logits, k)  y = Softmax<axis=1>(t)", "float[N,5] y", 17,
                           "t"),
    "two side by side": (LOGITS + "z = Gemm<transB=1>(flat, two)  p = Softmax<axis=1>(logits)  q = Softmax<axis=1>(z)  "
                         "y = Concat<axis=1>(p, q)", "float[N,7] y", 17, "y"),
    "a mean of two": (LOGITS + "n = Neg(logits)  p = Softmax<axis=1>(logits)  q = Softmax<axis=1>(n)  y = Mean(p, q)",
                      "float[N,5] y", 17, "y"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOFTMAXES)
def test_a_softmax_is_stepped_over_where_it_compares_classes(kind):
    text, outputs, opset, score = SOFTMAXES[kind]
    assert find_score(prepare(made(text, outputs, opset=opset))).name == score
