"""Ranks and element types that a file does not note are found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from helpers.models import build
from onnx_xcam import instrument
from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.lowering import lowered

_MICROSOFT = ', "com.microsoft" : 1'
_BEFORE = """
  c = Conv<strides=[4,4]>(image, w)  shape = Shape(c)  n = Gather<axis=0>(shape, zero)  n1 = Unsqueeze(n, zero1)
  target = Concat<axis=0>(n1, rest)  lined = Reshape(c, target)
"""
_HEAD = "pooled = ReduceMean<axes=[1], keepdims=0>(y)  logits = MatMul(pooled, fc)"
_WEIGHTS = {
    "w": (4, 3, 4, 4),
    "zero": np.array(0, np.int64),
    "zero1": np.array([0], np.int64),
    "rest": np.array([9, 4], np.int64),
    "fc": (9, 5),
}


def model(body: str) -> onnx.ModelProto:
    return build(_BEFORE + body + _HEAD, _WEIGHTS, imports=_MICROSOFT)  # type: ignore[arg-type]


def test_a_rank_that_follows_from_nodes_before():
    """The target of the Reshape is computed; nothing is noted of what it makes, nor of the first product."""
    products = "a = com.microsoft.FusedMatMul<transB=1>(lined, lined)  y = com.microsoft.FusedMatMul<transA=1>(a, a) "
    given = model(products)
    assert not given.graph.value_info
    standard = lowered(given).model
    assert not [node.op_type for node in standard.graph.node if node.domain]
    perms = [list(node.attribute[0].ints) for node in standard.graph.node if node.op_type == "Transpose"]
    assert perms == [[0, 2, 1], [0, 2, 1]]


def test_an_element_type_that_follows_from_nodes_before():
    given = model("h = Cast<to=10>(lined)  g = com.microsoft.Gelu(h)  f = Cast<to=1>(g)  t = MatMul(f, m)  y = Abs(t) ")
    given.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 9), np.float32), "m"))
    standard = lowered(given).model
    onnx.shape_inference.infer_shapes(standard, check_type=True, strict_mode=True)
    numbers = [node.attribute[0].t.data_type for node in standard.graph.node if node.op_type == "Constant"]
    assert set(numbers) == {TensorProto.FLOAT16}


def test_an_operator_whose_rank_nothing_tells_is_named():
    unknown = model("s = example.Strange(lined)  y = com.microsoft.FusedMatMul<transB=1>(s, k) ")
    unknown.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((9, 4), np.float32), "k"))
    unknown.opset_import.add(domain="example", version=1)
    assert [node.op_type for node in lowered(unknown).model.graph.node if node.domain] == ["Strange", "FusedMatMul"]
    with pytest.raises(UnsupportedOpError, match=r"FusedMatMul"):
        instrument(unknown, layers="c")
