"""Values: numbers that stay pending, masks, and what else keeps the added nodes few and fast."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper

from helpers.models import GAP, GAP_WEIGHTS, build, cnn, images, run, session
from onnx_xcam import instrument
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.values import Value

A = np.array([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32)
B = np.array([[2.0, 4.0, -0.5], [0.125, -3.0, 8.0]], np.float32)
FORMULAS = {
    "products meet": (lambda a, b: (a * 2) * (b / 4) * 3, 2),
    "a sum of like factors": (lambda a, b: (a * 2 + b * 2) * 3, 2),
    "a sum of unlike factors": (lambda a, b: a * 2 + b * 5, 3),
    "a sum with a plain value": (lambda a, b: (a * 2 + b) * 4, 3),
    "a difference": (lambda a, b: a * 2 - b / 4, 3),
    "taken from a number": (lambda a, b: 1 - a * 2 + b * 0, 4),
    "a quotient": (lambda a, b: (a * 6) / (b * 2), 2),
    "twice the same": (lambda a, b: (a * 2) * (a * 2) + b * 0, 4),
    "minus": (lambda a, b: -(a * 2) * b, 2),
    "factors that cancel": (lambda a, b: (a * 2) / 2 + b, 1),
    "factors that cancel but for a rounding": (lambda a, b: (a * 0.1) / 3 * 30 + b, 1),
    "a square": (lambda a, b: (a * 3) ** 2 + b * 0, 4),
}


def evaluated(values: list[Value], emitter: Emitter) -> tuple[list[np.ndarray], list[str]]:
    """What the values are for A and B, and the operators that give them."""
    named = [emitter.named(value, f"xcam_{i}") for i, value in enumerate(values)]
    graph = export(emitter, [value.name for value in named], 8)
    graph.name = "g"
    ops = [node.op_type for node in graph.node]
    for name in ("a", "b"):
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, A.shape))
    for value in named:
        graph.output.append(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, list(value.shape)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return list(session(model).run(None, {"a": A, "b": B})), ops


def operands() -> tuple[Emitter, Value, Value]:
    emitter = Emitter(17, lambda name: False)
    a, b = (emitter.input(name, np.float32, A.shape) for name in ("a", "b"))
    return emitter, a, b


@pytest.mark.parametrize("case", FORMULAS)
def test_pending_numbers_give_what_the_formula_says_in_few_nodes(case):
    formula, most = FORMULAS[case]
    emitter, a, b = operands()
    (found,), ops = evaluated([formula(a, b)], emitter)
    np.testing.assert_allclose(found, formula(A, B), rtol=1e-6)
    assert len(ops) <= most


def test_linear_functions_hand_a_number_on():
    emitter, a, _ = operands()
    moved = (a * 3).transpose([1, 0]).unsqueeze([0]).reshape([3, 2]).sum([1]).cast(np.float64).cast(np.float32)
    (found,), ops = evaluated([moved], emitter)
    np.testing.assert_allclose(found, (A * 3).T.sum(1, keepdims=True), rtol=1e-6)
    assert ops[-1] == "Mul", "at the end"
    assert not {"Mul", "Div"} & set(ops[:-1]), "once"


def test_zero_times_what_is_not_finite_is_not_zero():
    emitter, a, _ = operands()
    (found,), _ = evaluated([(a / 0) * 0], emitter)
    assert np.isnan(found).all()


def test_integers_are_divided_as_integers():
    emitter = Emitter(17, lambda name: False)
    seven = emitter.constant(np.array([7], np.int64))
    result = emitter.named((seven / 2) * 2, "xcam_0")
    assert [node.op_type for node in export(emitter, [result.name], 8).node] == ["Div", "Mul"]


def test_a_mask_is_multiplied_and_an_infinity_picked():
    emitter, a, b = operands()
    plain, infinite = b.masked(a > 0), (b / (a - a)).masked(a > 100)
    found, ops = evaluated([plain, infinite], emitter)
    np.testing.assert_array_equal(found[0], np.where(A > 0, B, 0))
    np.testing.assert_array_equal(found[1], np.zeros_like(A))
    assert Counter(ops)["Where"] == 1


def test_a_scale_that_is_divided_by_again_leaves_nothing():
    emitter, a, b = operands()
    (found,), ops = evaluated([(a.scaled(b) * 2).unscaled(b) + a], emitter)
    np.testing.assert_allclose(found, 3 * A, rtol=1e-6)
    assert ops == ["Mul", "Add"]


def test_a_sum_of_scaled_values_is_scaled_once():
    emitter, a, b = operands()
    (found,), ops = evaluated([a.scaled(b) + b.scaled(b)], emitter)
    np.testing.assert_allclose(found, (A + B) * B, rtol=1e-6)
    assert ops == ["Add", "Mul"]


def test_a_sum_of_scaled_values_keeps_their_numbers():
    emitter, a, b = operands()
    (found,), _ = evaluated([a.scaled(b) * 2 + b.scaled(b) * 5], emitter)
    np.testing.assert_allclose(found, (2 * A + 5 * B) * B, rtol=1e-6)


def test_what_is_unfolded_and_folded_is_not_reshaped():
    emitter, a, _ = operands()
    like = emitter.constant(np.zeros((1, 2, 3), np.float32))
    (found,), ops = evaluated([(a.unfolded(like) * 2).folded() + 1], emitter)
    np.testing.assert_allclose(found, A * 2 + 1, rtol=1e-6)
    assert "Reshape" not in ops


def test_a_one_hot_row_times_a_matrix_is_a_row_of_it():
    emitter, a, _ = operands()
    lines = emitter.constant(np.array([1, 0, 1], np.int64))
    (found,), ops = evaluated([(lines.one_hot(a.range_of(0), np.float32) * 3) @ a], emitter)
    np.testing.assert_allclose(found, 3 * A[[1, 0, 1]], rtol=1e-6)
    assert sorted(ops) == ["Gather", "Mul"]


def test_rows_of_integer_weights_are_picked_before_they_are_dequantised():
    emitter, a, _ = operands()
    q = emitter.constant(np.arange(12, dtype=np.uint8).reshape(4, 3))
    scale = emitter.constant(np.array([[0.5], [0.25], [1.0], [2.0]], np.float32))
    zero_point = emitter.constant(np.array(3, np.float32))
    rows = q.dequantised(scale, zero_point).gather(emitter.constant(np.array([2, 0], np.int64)), 0)
    (found,), ops = evaluated([rows + a], emitter)
    expected = (np.arange(12, dtype=np.float32).reshape(4, 3) - 3) * scale.const
    np.testing.assert_allclose(found, expected[[2, 0]] + A, rtol=1e-6)
    assert ops.index("Gather") < ops.index("Sub")


def test_a_slope_that_is_infinite_where_it_is_clipped_leaves_no_trace():
    """sqrt(relu(x)): the slope of the root is infinite wherever relu has clipped, and relu hands on nothing there."""
    model = cnn(GAP, act="r = Relu(c2)  a = Sqrt(r)", weights=GAP_WEIGHTS)
    found = run(instrument(model, layers="c2"), images())
    assert np.isfinite(found["xcam_gradients"]).all()
    assert (found["xcam_gradients"] == 0).any()
    assert (found["xcam_gradients"] != 0).any()


def test_the_usual_nets_have_no_where_behind_the_layer():
    """ONNX Runtime's Where takes ten times as long as a product; the map's own is small."""
    norm = "t = BatchNormalization(r, s, o, m, v)"
    act = f"r = Relu(c2)  {norm}  u = Clip(t, zero, six)  w = HardSwish(u)  a = LeakyRelu(w)"
    stored = {"zero": np.float32(0), "six": np.float32(6), "v": np.full(4, 0.5, np.float32)}
    weights = {**GAP_WEIGHTS, "s": (4,), "o": (4,), "m": (4,), **{k: np.asarray(a) for k, a in stored.items()}}
    emitted = instrument(cnn(GAP, act=act, weights=weights), layers="c2", emit=("map",))
    large = [node for node in emitted.graph.node if node.op_type == "Where" and node.name.startswith("xcam")]
    assert len(large) <= 6, "those of the classes, and of the map"


def test_a_scalar_never_meets_unit_axes_at_the_end():
    """There ONNX Runtime takes a scalar element by element: 13 ms for a gradient [1000,1,1280,1,1], for one."""
    emitter = Emitter(17, lambda name: False)
    gate = emitter.input("gate", np.float32, ("N", 8, 1, 1))
    assert (1 - gate).shape == ("N", 8, 1, 1)
    (step,) = emitter.steps
    assert step.inputs[0].shape == (1, 1, 1)


@pytest.mark.parametrize("stride", [2, 3])
def test_a_strided_depthwise_convolution_goes_back_by_a_convolution(stride):
    body = f"""c = Conv<group=4, strides=[{stride},{stride}], pads=[1,1,1,1]>(image, w)  a = Relu(c)
    pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"""
    model = build(body, {"w": (4, 1, 3, 3), **GAP_WEIGHTS}, inputs="float[N,4,12,12] image")
    with_relu = onnx.ModelProto()
    with_relu.CopyFrom(model)
    with_relu.graph.node.insert(0, helper.make_node("Relu", ["image"], ["layer"]))
    with_relu.graph.node[1].input[0] = "layer"
    emitted = instrument(with_relu, layers="layer", emit=("map",))
    ops = Counter(node.op_type for node in emitted.graph.node)
    assert ops["ConvTranspose"] == 0
    assert ops["Resize"] == 1
