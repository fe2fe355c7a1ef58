"""Small good models of all kinds, for the fuzzer to damage."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import helper, numpy_helper

from helpers import ROOT

QUANTISED = """
  q = QuantizeLinear(a, step, zero) d = DequantizeLinear(q, step, zero) pooled = GlobalAveragePool(d)
  flat = Flatten(pooled) logits = Gemm<transB=1>(flat, fc, fb)
"""
DYNAMIC = """
  pooled = GlobalAveragePool(a) flat = Flatten(pooled) q, s, z = DynamicQuantizeLinear(flat)
  i = MatMulInteger(q, wq, z) f = Cast<to=1>(i) t = Mul(s, step) logits = Mul(f, t)
"""
BRANCHES = """
  shape = Shape(c2) rank = Size(shape) four = Constant<value_int=4>() same = Equal(rank, four)
  a = If<then_branch = t () => (float[N,4,6,6] u) { u = Relu(c2) },
         else_branch = e () => (float[N,4,6,6] v) { v = Neg(c2) }>(same)
"""
SEQUENCES = """
  s = SplitToSequence<axis=1>(c2, two) n = Constant<value_int=0>() p = SequenceAt(s, n)
  a = ConcatFromSequence<axis=1>(s)
"""
SHAPES = """
  b = Relu(c2) sh = Shape(b) zero = Constant<value=int64[1]{0}>() n = Gather(sh, zero)
  rest = Constant<value=int64[2]{4,-1}>() t = Concat<axis=0>(n, rest) lined = Reshape(b, t)
  back = Concat<axis=0>(n, hw) a = Reshape(lined, back)
"""


@cache
def seeds() -> tuple[bytes, ...]:
    """Small good models of all kinds."""
    from helpers.models import GAP_WEIGHTS, C, cnn
    from helpers.tiny_models import by_hand, tiny
    from helpers.token_models import token_model

    scales = {"step": np.array(0.1, np.float32), "zero": np.array(0, np.uint8), "wq": np.ones((4, C), np.int8)}
    more = {**GAP_WEIGHTS, **scales}
    label_text = '{"labels": ["a", "b", "c", "d", "e"], "preprocess": {"size": 16, "scale": "1/255"}}'
    models = [
        cnn("gap"),
        cnn("dense"),
        cnn("gap", opset=13),
        cnn("gap", opset=21, ir=10),
        cnn("gap", n=1, end="y = Softmax(logits)", output=f"float[N,{C}] y"),
        cnn(QUANTISED, weights=more),
        cnn(DYNAMIC, weights=more),
        cnn("gap", act=BRANCHES),
        cnn("gap", size="S"),
        cnn("gap", act=SEQUENCES, weights={"two": np.array(2)}),
        cnn("gap", act=SHAPES, weights={"hw": np.array([4, 6, 6])}),
        tiny(),
        tiny(end="sigmoid", classes=1),
        by_hand(),
        tiny(size="H"),
        _with(tiny(), label_text),
        _efficientnet(),
        *(token_model(name) for name in _token_names()),
    ]
    from helpers.hostile import functions

    models.append(functions({"F": ["Relu", "G"], "G": ["Relu"]}, "F"))
    old = cnn("gap", opset=9, ir=3)
    old.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in old.graph.initializer)
    models.append(old)
    return tuple(model.SerializeToString() for model in models)


def _token_names() -> list[str]:
    from helpers import token_models

    return list(token_models.MODELS)


def _with(model: onnx.ModelProto, text: str) -> onnx.ModelProto:
    model.metadata_props.add(key="onnx_xcam", value=text)
    model.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}")
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'stem', 'stem.conv', 'conv']")
    return model


def _efficientnet() -> onnx.ModelProto:
    """The first blocks of the sample model, with a head of five classes."""
    model = onnx.load(ROOT / "sample_models" / "efficientnet_lite0.onnx")
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node[:6]]
    used = {name for node in nodes for name in node.input}
    weights = [onnx.TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in used]
    constants = [n for n in model.graph.node if n.op_type == "Constant" and n.output[0] in used and n not in nodes]
    channels = next(t.dims[0] for t in weights if t.name == nodes[-1].input[1])
    nodes += [
        helper.make_node("GlobalAveragePool", [nodes[-1].output[0]], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc"], ["logits"]),
    ]
    weights.append(numpy_helper.from_array(np.ones((channels, 5), np.float32), "fc"))
    outputs = [helper.make_tensor_value_info("logits", 1, [None, 5])]
    graph = helper.make_graph([*constants, *nodes], "cut", list(model.graph.input), outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
