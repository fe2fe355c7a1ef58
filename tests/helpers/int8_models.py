"""int8 QDQ models with int8 inputs and outputs, as MLPerf Tiny has them: made by ONNX Runtime's quantiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from helpers.models import build

SIZE = 16


def resnet8(layout: str = "NCHW", *, classes: int = 6, width: int = 8, seed: int = 5) -> onnx.ModelProto:
    """A ResNet-8 with a softmax, narrower than the original's 16, 32 and 64 channels; random weights, opset 13."""
    weights: dict[str, tuple[int, ...]] = {}
    text = "x = Transpose<perm=[0,3,1,2]>(image) " if layout == "NHWC" else ""

    def conv(name: str, given: str, channels: tuple[int, int], kernel: int = 3, stride: int = 1) -> str:
        weights[f"w_{name}"], weights[f"b_{name}"] = (channels[1], channels[0], kernel, kernel), (channels[1],)
        pads, strides = ",".join([str(kernel // 2)] * 4), f"{stride},{stride}"
        return f"{name} = Conv<pads=[{pads}], strides=[{strides}]>({given}, w_{name}, b_{name}) "

    text += conv("stem", "x" if text else "image", (3, width)) + "r = Relu(stem) "
    given, had = "r", width
    for index, channels in enumerate((width, 2 * width, 4 * width)):
        stride = 1 if index == 0 else 2
        text += conv(f"a{index}", given, (had, channels), stride=stride) + f"ra{index} = Relu(a{index}) "
        text += conv(f"c{index}", f"ra{index}", (channels, channels))
        if stride == 2:
            text += conv(f"d{index}", given, (had, channels), kernel=1, stride=2)
            given = f"d{index}"
        text += f"s{index} = Add(c{index}, {given}) r{index} = Relu(s{index}) "
        given, had = f"r{index}", channels
    text += (
        f"pool = AveragePool<kernel_shape=[{SIZE // 4},{SIZE // 4}]>({given}) flat = Flatten(pool) "
        "logits = Gemm<transB=1>(flat, fc, fb) prob = Softmax<axis=-1>(logits)"
    )
    shape = f"N,3,{SIZE},{SIZE}" if layout == "NCHW" else f"N,{SIZE},{SIZE},3"
    return build(
        text,
        {**weights, "fc": (classes, had), "fb": (classes,)},
        inputs=f"float[{shape}] image",
        outputs=f"float[N,{classes}] prob",
        opset=13,
        seed=seed,
    )


def photos(count: int, seed: int, *, size: int = SIZE, last: bool = False) -> np.ndarray:
    """Pictures in patches with a little noise, float32 `[count,3,size,size]`, or the channels last."""
    random = np.random.default_rng(seed)
    patches = np.kron(random.normal(0, 1, (count, 3, 4, 4)), np.ones((size // 4, size // 4)))
    found = (patches + 0.2 * random.normal(0, 1, patches.shape)).astype(np.float32)
    return np.ascontiguousarray(found.transpose(0, 2, 3, 1)) if last else found


class _Photos(CalibrationDataReader):
    def __init__(self, batches: list[np.ndarray]) -> None:
        self.left = [{"image": batch} for batch in batches]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def quantised(
    model: onnx.ModelProto,
    folder: Path,
    pictures: np.ndarray,
    *,
    activations: QuantType = QuantType.QInt8,
    per_channel: bool = True,
    integers_outside: bool = True,
) -> onnx.ModelProto:
    """The QDQ twin of a model; its input and output are integers too, if so wished."""
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        _Photos(np.array_split(pictures, 4)),
        quant_format=QuantFormat.QDQ,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    found = onnx.load(folder / "int8.onnx")
    return _with_integers_outside(found, pictures.shape[1:]) if integers_outside else found


def _with_integers_outside(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The model, changed: its picture is what the first QuantizeLinear gives, its output what the last one gives."""
    graph = model.graph
    zero_points = {tensor.name: tensor for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    kind = zero_points[first.input[2]].data_type
    graph.input[0].CopyFrom(helper.make_tensor_value_info("integers", kind, ["N", *shape]))
    if first.input[0] == "image":
        for node in graph.node:
            node.input[:] = ["integers" if name == first.output[0] else name for name in node.input]
        graph.node.remove(first)
    else:  # behind a Transpose
        graph.node.insert(0, helper.make_node("DequantizeLinear", ["integers", *first.input[1:]], ["image"]))
    last = next((node for node in graph.node if node.output[0] == graph.output[0].name), None)
    assert last is not None and last.op_type == "DequantizeLinear"
    given = graph.output[0].type.tensor_type.shape
    dims = [dim.dim_param or dim.dim_value for dim in given.dim]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(last.input[0], kind, dims))
    graph.node.remove(last)
    onnx.checker.check_model(model)
    return model


def fed(model: onnx.ModelProto, pictures: np.ndarray) -> np.ndarray:
    """Pictures as the model takes them: as its integers, if its input is made of these."""
    name = model.graph.input[0].name
    if name == "image":
        return pictures
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    reader = next(node for node in model.graph.node if name in node.input)
    scale, zero = values[reader.input[1]], values[reader.input[2]]
    info = np.iinfo(zero.dtype)
    return np.clip(np.round(pictures / scale) + int(zero), info.min, info.max).astype(zero.dtype)
