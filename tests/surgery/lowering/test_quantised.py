"""Each operator on integers, and the standard operators that it is taken for: both run by ONNX Runtime, exactly.

The standard ones are computed in float; of those on integers the weights are such as no processor saturates at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest

from helpers.models import build, session
from onnx_xcam.surgery.lowering import LOWERINGS, lowered, quantised

MS = ', "com.microsoft" : 1'
S = {name: np.array(value, np.float32) for name, value in {"xs": 0.03, "bs": 0.02, "ys": 0.05}.items()}
U8 = {name: np.array(value, np.uint8) for name, value in {"xz": 120, "bz": 100, "yz": 128}.items()}
S8 = {name: np.array(value, np.int8) for name, value in {"xz": 5, "bz": -7, "yz": 3}.items()}
Q = "q = QuantizeLinear(x, xs, xz)  "
QB = "b = QuantizeLinear(x, bs, bz)  "
D = "  y = DequantizeLinear(r, ys, yz)"


def integers(*shape: int, kind: type = np.int8, low: int = -63, high: int = 64) -> np.ndarray:
    """Random weights, those of int8 within 7 bits: with 8, ONNX Runtime's products are inexact on x86 without VNNI."""
    return np.random.default_rng(len(shape)).integers(low, high, shape).astype(kind)


def per_channel(count: int) -> np.ndarray:
    """Scales, one for each channel."""
    return np.linspace(0.001, 0.004, count).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A model around one operator.

    Attributes:
        key: domain and operator.
        body: nodes from the float `x` to the float `y`.
        weights: initializers; scales and zero points of uint8 are there already.
        shape: of x.
        opset: of the standard operators.
        steps: how many quantisation steps of y the two may differ: of rounding at other places.
    """

    key: tuple[str, str]
    body: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    shape: tuple[int, ...] = (2, 4, 6, 6)
    opset: int = 17
    steps: float = 1.0

    def model(self) -> onnx.ModelProto:
        dims = ",".join(map(str, self.shape))
        return build(
            self.body,
            {**S, **U8, **self.weights},
            inputs=f"float[{dims}] x",
            outputs="float[] y",
            opset=self.opset,
            imports=MS,
        )


def ms(op: str, *rest, **options) -> Case:
    return Case(("com.microsoft", op), *rest, **options)


def std(op: str, *rest, **options) -> Case:
    return Case(("", op), *rest, **options)


W = {"w": integers(5, 4, 3, 3), "ws": np.array(0.002, np.float32), "wz": np.array(0, np.int8)}
WC = {"w": integers(5, 4, 3, 3), "ws": per_channel(5), "wz": np.zeros(5, np.int8)}
BIAS = {"bias": np.arange(-2000, 3000, 1000, dtype=np.int32)}
CONV = "r = QLinearConv<pads=[1,1,1,1]>(q, xs, xz, w, ws, wz, ys, yz{})"
LAST = "t = Transpose<perm=[0,2,3,1]>(q)  "
M = {"w": integers(4, 6, kind=np.uint8, low=0, high=255), "ws": np.array(0.002, np.float32)}
M |= {"wz": np.array(130, np.uint8)}
MC = {"w": integers(4, 6), "ws": per_channel(6), "wz": np.zeros(6, np.int8)}
G = {"w": integers(6, 4), "ws": per_channel(6), "wz": np.zeros(6, np.int8)}
GB = {"bias": np.arange(-3000, 3000, 1000, dtype=np.int32)}
N4 = {"w": integers(6, 3, 8, kind=np.uint8, low=0, high=256), "ws": per_channel(18)}
FLAT = (3, 4)

CASES = [
    std("QLinearConv", Q + CONV.format("") + D, W),
    std("QLinearConv", Q + CONV.format(", bias") + D, WC | BIAS),
    std("QLinearConv", Q + CONV.format(", bias") + D, WC | BIAS | S8, opset=13),
    std("QLinearConv", Q + CONV.format(", bias") + D, WC | BIAS, opset=11),
    std("QLinearConv", Q + CONV.format("").replace("pads=[1,1,1,1]", "auto_pad=\"SAME_UPPER\", strides=[2,2]") + D, W),
    ms("QLinearConv", Q + LAST + "u = com.microsoft.QLinearConv<channels_last=1, pads=[1,1,1,1]>(t, xs, xz, w, ws, wz, "
       "ys, yz, bias)  r = Transpose<perm=[0,3,1,2]>(u)" + D, WC | BIAS),
    std("QLinearMatMul", Q + "r = QLinearMatMul(q, xs, xz, w, ws, wz, ys, yz)" + D, M, FLAT),
    std("QLinearMatMul", Q + "r = QLinearMatMul(q, xs, xz, w, ws, wz, ys, yz)" + D, MC, (2, 3, 4)),
    std("QLinearMatMul", Q + QB + "t = Transpose<perm=[1,0]>(b)  r = QLinearMatMul(q, xs, xz, t, bs, bz, ys, yz)" + D,
        {}, FLAT),
    ms("QGemm", Q + "r = com.microsoft.QGemm<transB=1>(q, xs, xz, w, ws, wz, bias, ys, yz)" + D, G | GB, FLAT),
    ms("QGemm", Q + "r = com.microsoft.QGemm<alpha=2.0>(q, xs, xz, w, ws, wz, bias, ys, yz)" + D, M | GB, FLAT),
    ms("QGemm", Q + "y = com.microsoft.QGemm<transB=1>(q, xs, xz, w, ws, wz, bias)", G | GB, FLAT, steps=1e-3),
    std("ConvInteger", Q + "i = ConvInteger<pads=[1,1,1,1]>(q, w, xz, wz)  y = Cast<to=1>(i)",
        W | {"wz": np.array(4, np.int8)}, steps=1e-3),
    std("MatMulInteger", Q + "i = MatMulInteger(q, w, xz, wz)  y = Cast<to=1>(i)", M, FLAT, steps=1e-3),
    std("MatMulInteger", Q + "i = MatMulInteger(q, w, xz)  y = Cast<to=1>(i)", MC, FLAT, steps=1e-3),
    ms("MatMulIntegerToFloat", Q + "y = com.microsoft.MatMulIntegerToFloat(q, w, xs, ws, xz, wz)", M, FLAT, steps=1e-3),
    ms("MatMulIntegerToFloat", Q + "y = com.microsoft.MatMulIntegerToFloat(q, w, xs, ws, xz, wz, f)",
       MC | {"f": per_channel(6) * 1000}, FLAT, steps=1e-3),
    # The lowered form does not quantise x: it differs by half a step of x for each product.
    ms("DynamicQuantizeMatMul", "y = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz)", M, FLAT, steps=0.2),
    ms("DynamicQuantizeMatMul", "y = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz, f)",
       MC | {"f": per_channel(6) * 1000}, FLAT, steps=0.2),
    ms("QLinearAdd", Q + QB + "r = com.microsoft.QLinearAdd(q, xs, xz, b, bs, bz, ys, yz)" + D),
    ms("QLinearAdd", Q + QB + "r = com.microsoft.QLinearAdd(q, xs, xz, b, bs, bz, ys, yz)" + D, S8),
    ms("QLinearMul", Q + QB + "r = com.microsoft.QLinearMul(q, xs, xz, b, bs, bz, ys, yz)" + D),
    ms("QLinearSigmoid", Q + "r = com.microsoft.QLinearSigmoid(q, xs, xz, ys, yz)" + D,
       {"ys": np.array(0.004, np.float32), "yz": np.array(0, np.uint8)}),
    ms("QLinearLeakyRelu", Q + "r = com.microsoft.QLinearLeakyRelu<alpha=0.2>(q, xs, xz, ys, yz)" + D),
    ms("QLinearSoftmax", Q + "r = com.microsoft.QLinearSoftmax<axis=-1, opset=13>(q, xs, xz, ys, yz)" + D,
       {"ys": np.array(0.004, np.float32), "yz": np.array(0, np.uint8)}, (3, 7)),
    ms("QLinearSoftmax", Q + "r = com.microsoft.QLinearSoftmax<axis=1, opset=11>(q, xs, xz, ys, yz)" + D,
       {"ys": np.array(0.004, np.float32), "yz": np.array(0, np.uint8)}, (3, 2, 7)),
    ms("QLinearWhere", Q + QB + "n = Constant<value_float=0.0>() c = Less(x, n)  "
       "r = com.microsoft.QLinearWhere(c, q, xs, xz, b, bs, bz, ys, yz)" + D),
    ms("QLinearConcat", Q + QB + "r = com.microsoft.QLinearConcat<axis=1>(ys, yz, q, xs, xz, b, bs, bz)" + D),
    ms("QLinearGlobalAveragePool", Q + "r = com.microsoft.QLinearGlobalAveragePool(q, xs, xz, ys, yz)" + D),
    ms("QLinearGlobalAveragePool", Q + LAST + "r = com.microsoft.QLinearGlobalAveragePool<channels_last=1>"
       "(t, xs, xz, ys, yz)" + D),
    ms("QLinearAveragePool", Q + "r = com.microsoft.QLinearAveragePool<kernel_shape=[3,2], pads=[1,0,1,1], "
       "count_include_pad=0>(q, xs, xz, ys, yz)" + D),
    ms("QLinearAveragePool", Q + LAST + "r = com.microsoft.QLinearAveragePool<kernel_shape=[2,2], strides=[2,2], "
       "channels_last=1>(t, xs, xz, ys, yz)" + D),
    ms("NhwcMaxPool", Q + LAST + "r = com.microsoft.NhwcMaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>(t)  "
       "y = DequantizeLinear(r, xs, xz)"),
    ms("QuantizeLinear", "r = com.microsoft.QuantizeLinear(x, xs, z16)  "
       "y = com.microsoft.DequantizeLinear(r, xs, z16)", {"z16": np.array(300, np.uint16)}, opset=21),
    ms("DequantizeLinear", "r = com.microsoft.QuantizeLinear<axis=1>(x, xs, z16)  "
       "y = com.microsoft.DequantizeLinear<axis=1>(r, xs, z16)",
       {"xs": per_channel(4) * 30, "z16": np.zeros(4, np.int16)}, opset=21),
    ms("MatMulNBits", "y = com.microsoft.MatMulNBits<K=40, N=6, bits=4, block_size=16>(x, w, ws)", N4, (3, 40),
       steps=1e-3),
    ms("MatMulNBits", "y = com.microsoft.MatMulNBits<K=40, N=6, bits=4, block_size=16>(x, w, ws, wz)",
       N4 | {"wz": integers(12, kind=np.uint8, low=0, high=256)}, (3, 40), steps=1e-3),
    ms("MatMulNBits", "y = com.microsoft.MatMulNBits<K=40, N=6, bits=4, block_size=16>(x, w, ws, wz, , f)",
       N4 | {"wz": np.linspace(0, 15, 18).astype(np.float32), "f": per_channel(6)}, (3, 40), steps=1e-3),
    ms("MatMulNBits", "y = com.microsoft.MatMulNBits<K=40, N=6, bits=8, block_size=16>(x, w, ws)",
       {"w": integers(6, 3, 16, kind=np.uint8, low=0, high=256), "ws": per_channel(18)}, (3, 40), steps=1e-3),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key[1])
def test_the_standard_operators_compute_the_same(case):
    model = case.model()
    made = lowered(model)
    ops = {(node.domain, node.op_type) for node in made.model.graph.node}
    assert case.key not in ops
    assert not any(domain for domain, _ in ops)
    onnx.checker.check_model(with_output_type(made.model), full_check=False)
    x = np.random.default_rng(1).normal(0, 1, case.shape).astype(np.float32)
    want = session(model).run(None, {"x": x})[0]
    have = session(made.model, optimised=False).run(None, {"x": x})[0]
    assert have.shape == want.shape
    step = float(case.weights.get("ys", S["ys"]))
    assert np.abs(want).max() > 3 * step, "the comparison says something"
    assert np.abs(have - want).max() <= case.steps * step * 1.001
    assert np.mean(np.abs(have - want) > 1e-4 * step) <= max(0.2, case.steps == 0.2), "rounding is seldom near a half"


def with_output_type(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of its outputs inferred."""
    return onnx.shape_inference.infer_shapes(model)


def test_every_operator_on_integers_has_a_case():
    own = {key for key, function in LOWERINGS.items() if function.__module__ == quantised.__name__}
    assert own == {case.key for case in CASES}


def test_a_model_of_standard_operators_is_left_alone():
    model = build("a = Relu(image)", inputs="float[1,3,4,4] image", outputs="float[1,3,4,4] a")
    found = lowered(model)
    assert found.model is model
    assert not found.inner


def test_the_model_is_not_changed():
    model = CASES[0].model()
    before = model.SerializeToString()
    assert lowered(model).model is not model
    assert model.SerializeToString() == before
