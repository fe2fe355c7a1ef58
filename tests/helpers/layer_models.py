"""Small models whose layers are ablated and decomposed, and tensors of theirs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from helpers.models import GAP, GAP_WEIGHTS, C, build, cnn, session
from onnx_xcam.surgery.submodels.more_outputs import with_outputs

NHWC = build(
    "x = Transpose<perm=[0,3,1,2]>(image)  c = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(c)  a = Relu(t) "
    "flat = ReduceMean<axes=[1,2], keepdims=0>(a)  q = Mul(flat, flat)  logits = Gemm<transB=1>(q, fc, fb)",
    {"w": (4, 3, 3, 3), **GAP_WEIGHTS},
    inputs="float[N,12,12,3] image",
)
ROUND = "r2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(r2, w3)  {join}  a = Relu(s3)"
ADDED = cnn(act=ROUND.format(join="s3 = Add(c3, p2)  p2 = Mul(r2, r2)"), weights={**GAP_WEIGHTS, "w3": (4, 4, 3, 3)})
ONE_LOGIT = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  f2 = Mul(flat, flat)  z = Gemm<transB=1>(f2, one)"


def side(join: str, width: int) -> onnx.ModelProto:
    """A model whose layer `c3` has a way round it, `r2`."""
    act = f"r2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(p1, w3)  {join}  a = Relu(s3)"
    return cnn("gap", act=act, weights={"w3": (4, 3, 3, 3), "fc": (C, width)})


MODELS = {
    "gap": (cnn("gap"), ["a", "c2", "p1", "r1"]),
    "dense": (cnn("dense"), ["a", "c2", "p1"]),
    "added": (side("s3 = Add(c3, r2)", 4), ["c3", "a"]),
    "joined": (side("s3 = Concat<axis=1>(c3, r2)", 8), ["c3", "r2", "a"]),
    "channels last": (NHWC, ["a"]),
    "opset 9": (cnn("dense", opset=9, ir=4), ["p1"]),
    "one logit": (cnn(ONE_LOGIT, output="float[N,1] z", weights={"one": (1, 4)}), ["a", "p1"]),
    "[N]": (
        cnn(ONE_LOGIT + " ax = Constant<value_ints=[1]>()  y = Squeeze(z, ax)", output="float[N] y",
            weights={"one": (1, 4)}), ["a", "p1"]),
    "[C]": (cnn(GAP + " ax = Constant<value_ints=[0]>()  y = Squeeze(logits, ax)", n=1, output=f"float[{C}] y",
                weights=GAP_WEIGHTS), ["a", "p1"]),
    "[N,C,1,1]": (cnn("p = GlobalAveragePool(a)  y = Conv(p, k)", output=f"float[N,{C},1,1] y",
                      weights={"k": (C, 4, 1, 1)}), ["a", "p1"]),
    "a batch of 1": (cnn("dense", n=1), ["a", "p1"]),
    "a batch of 1 in a Reshape": (
        cnn("to = Constant<value_ints=[1,144]>()  flat = Reshape(a, to)  hidden = Gemm<transB=1>(flat, d1, e1) "
            "logits = Gemm<transB=1>(hidden, d2)", n=1, weights={"d1": (7, 144), "e1": (7,), "d2": (C, 7)}),
        ["a", "p1"]),
    "a batch of 4 in a Reshape": (
        cnn("to = Constant<value_ints=[4,144]>()  flat = Reshape(a, to)  hidden = Gemm<transB=1>(flat, d1, e1) "
            "logits = Gemm<transB=1>(hidden, d2)", n=4, weights={"d1": (7, 144), "e1": (7,), "d2": (C, 7)}),
        ["a", "p1"]),
    "lengths of the image": (
        cnn("s = Shape<start=0, end=1>(image)  m = Constant<value_ints=[144]>()  to = Concat<axis=0>(s, m) "
            "flat = Reshape(a, to)  logits = Gemm<transB=1>(flat, d1)", weights={"d1": (C, 144)}), ["a", "p1"]),
    "any size": (cnn("gap", size="H"), ["a", "p1"]),
}  # fmt: skip


def rows_of(model: onnx.ModelProto) -> int:
    """The batch that a model was exported with, 1 for any."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1


def picture(model: onnx.ModelProto) -> np.ndarray:
    """Different images, as many as the model takes at least."""
    dims = [dim.dim_value or 12 for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    return np.random.default_rng(3).normal(size=(rows_of(model), *dims)).astype(kind)


def run_of(model: onnx.ModelProto, names: tuple[str, ...], image: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of a model."""
    have = {out.name for out in model.graph.output}
    made = session(with_outputs(model.SerializeToString(), [name for name in names if name not in have]))
    return dict(zip(names, made.run(list(names), {"image": image}), strict=True))


def with_zeroed(model, channel):
    """The model with a channel of its layer `a` set to zero by nodes of its own."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    keep = np.ones((1, 4, 1, 1), np.float32)
    keep[:, channel] = 0
    changed.graph.initializer.append(onnx.numpy_helper.from_array(keep, "keep"))
    index, node = next((i, node) for i, node in enumerate(changed.graph.node) if "a" in node.output)
    node.output[0] = "whole"
    changed.graph.node.insert(index + 1, onnx.helper.make_node("Mul", ["whole", "keep"], ["a"]))
    return changed
