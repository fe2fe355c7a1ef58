"""A float model and its quantised twins, in every format that ONNX Runtime's quantiser writes."""

from __future__ import annotations

import onnx
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType

from helpers.models import C, cnn, images

HEAD = (
    "c3 = Conv<strides=[2,2], pads=[1,1,1,1]>(a, w3, b3)  a3 = Relu(c3)  s = Add(a3, a3)  "
    "pooled = GlobalAveragePool(s)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"
)
FLOAT = cnn(HEAD, weights={"w3": (6, 4, 3, 3), "b3": (6,), "fc": (C, 6), "fb": (C,)}, seed=2)


class Photos(CalibrationDataReader):
    """Random pictures to calibrate with."""

    def __init__(self) -> None:
        self.left = [{"image": images(4, seed=seed)} for seed in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


FORMATS = {
    "qdq": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8},
    "qdq int8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QInt8},
    "qdq per tensor": {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QUInt8,
        "per_channel": False,
    },
    "qdq symmetric": {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True},
    },
    "qdq 16 bit": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt16},
    "qoperator": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8},
    "qoperator int8": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8},
}


def quantised(form: str, folder, model: onnx.ModelProto = FLOAT) -> onnx.ModelProto:
    options = {"weight_type": QuantType.QInt8, "per_channel": True, **FORMATS[form]}
    onnx.save(model, folder / "float.onnx")
    quantization.quantize_static(folder / "float.onnx", folder / "int8.onnx", Photos(), **options)
    return onnx.load(folder / "int8.onnx")


def middle(model: onnx.ModelProto) -> str:
    """What the layer `a` of FLOAT is called in a quantised form of it: QOperator takes it up into the convolution."""
    return "c2_quantized" if any(node.op_type == "QLinearConv" for node in model.graph.node) else "a"
