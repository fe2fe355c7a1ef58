"""TensorFlow.js models become ONNX: those few operators that the classifiers of `real_models.py` have.

Both formats of TensorFlow.js are read: a graph model (a TensorFlow graph) and a layers model (a Keras configuration).
The made model takes the picture as TensorFlow does, `[N,H,W,3]`, transposes it once and is `[N,C,H,W]` from there on.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def read_weights(manifest: list[dict[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """Every tensor of the manifest by its name, dequantised as TensorFlow.js does: value * scale + min."""
    tensors, at = {}, 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        how = weight.get("quantization")
        stored = np.dtype(how["dtype"] if how else weight["dtype"])
        count = int(np.prod(weight["shape"], dtype=np.int64))
        values = np.frombuffer(data, stored, count, at).reshape(weight["shape"])
        at += count * stored.itemsize
        tensors[weight["name"]] = (values * how["scale"] + how["min"]).astype(np.float32) if how else values
    if at != len(data):
        raise ValueError(f"the manifest describes {at} bytes of {len(data)}")
    return tensors


class Writer:
    """Nodes and weights of one ONNX graph; names are those of the source."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, named as that is; the output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: np.ndarray) -> str:
        """Add an initializer; its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv(
        self, x: str, kernel: np.ndarray, bias: np.ndarray | None, output: str, *, depthwise: bool, **attributes: Any
    ) -> str:
        """`kernel` as TensorFlow keeps it: `[h,w,in,out]`, depthwise `[h,w,in,1]`."""
        values = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
        inputs = [x, self.weight(f"{output}/kernel", values)]
        if bias is not None:
            inputs.append(self.weight(f"{output}/bias", bias))
        group = kernel.shape[2] if depthwise else 1
        return self.node("Conv", inputs, output, group=group, kernel_shape=list(kernel.shape[:2]), **attributes)

    def model(self, size: int, output: str, classes: int) -> onnx.ModelProto:
        """The model of all nodes so far: float32 [N,size,size,3] -> float32 [N,classes]."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", size, size, 3])
        scores = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(self.nodes, "tfjs", [image], [scores], self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


PADDING = {"same": "SAME_UPPER", "valid": "VALID"}


def from_graph(topology: dict[str, Any], weights: dict[str, np.ndarray], size: int) -> onnx.ModelProto:
    """A graph model: convolutions with what is fused to them, Mul, Sub, BiasAdd, Relu6, a global mean, Squeeze."""
    writer, names = Writer(), {}
    for node in topology["node"]:
        op, name, attr = node["op"], node["name"], node.get("attr", {})
        if op in ("Const", "Placeholder"):
            if op == "Placeholder":
                names[name] = writer.node("Transpose", ["image"], name, perm=[0, 3, 1, 2])
            continue
        x, *others = node["input"]
        x, given = names[x], [weights[other] for other in others]
        if op in ("Mul", "Sub"):
            made = writer.node(op, [x, writer.weight(others[0], given[0])], name)
        elif op in ("_FusedConv2D", "DepthwiseConv2dNative"):
            strides = [int(step) for step in attr["strides"]["list"]["i"][1:3]]
            made = _graph_conv(writer, x, given, name, attr, strides=strides, depthwise=op != "_FusedConv2D")
        elif op == "BiasAdd":
            made = writer.node("Add", [x, writer.weight(others[0], given[0].reshape(-1, 1, 1))], name)
        elif op == "Relu6":
            made = _relu6(writer, x, name)
        elif op == "Mean":
            made = writer.node("GlobalAveragePool", [x], name)
        elif op == "Squeeze":
            made = writer.node("Flatten", [x], name)
        else:
            raise ValueError(f"{name}: {op} is not converted")
        names[name] = made
    return writer.model(size, made, given[0].shape[-1] if given else _width(writer))


def _graph_conv(
    writer: Writer,
    x: str,
    given: list[np.ndarray],
    name: str,
    attr: dict[str, Any],
    *,
    strides: list[int],
    depthwise: bool,
) -> str:
    padding = base64.b64decode(attr["padding"]["s"]).decode().lower()
    fused = [base64.b64decode(text).decode() for text in attr.get("fused_ops", {}).get("list", {}).get("s", [])]
    bias = given[1] if "BiasAdd" in fused else None
    inner = f"{name}/conv" if "Relu6" in fused else name
    made = writer.conv(x, given[0], bias, inner, depthwise=depthwise, strides=strides, auto_pad=PADDING[padding])
    return _relu6(writer, made, name) if "Relu6" in fused else made


def _relu6(writer: Writer, x: str, name: str) -> str:
    low, high = (writer.weight(f"{name}/{part}", np.float32(value)) for part, value in (("min", 0), ("max", 6)))
    return writer.node("Clip", [x, low, high], name)


def _width(writer: Writer) -> int:
    """Channels of the last convolution."""
    kernels = [weight for weight in writer.weights if weight.name.endswith("/kernel")]
    return int(kernels[-1].dims[0])


def from_layers(config: dict[str, Any], weights: dict[str, np.ndarray], size: int) -> onnx.ModelProto:
    """A layers model made of Conv2D, BatchNormalization, activations, pooling, Concatenate, Flatten and Dense."""
    writer, names = Writer(), {}
    for layer in config["layers"]:
        kind, settings, name = layer["class_name"], layer["config"], layer["config"]["name"]
        if kind == "InputLayer":
            names[name] = writer.node("Transpose", ["image"], name, perm=[0, 3, 1, 2])
            continue
        xs = [names[source[0]] for source in layer["inbound_nodes"][0]]
        own = {key.partition("/")[2]: value for key, value in weights.items() if key.partition("/")[0] == name}
        names[name] = _layer(writer, kind, settings, xs, own)
    return writer.model(size, names[name], own["bias"].shape[0])


def _layer(writer: Writer, kind: str, settings: dict[str, Any], xs: list[str], own: dict[str, np.ndarray]) -> str:
    name, x = settings["name"], xs[0]
    activation = settings.get("activation", "linear")
    inner = name if activation == "linear" or kind == "Activation" else f"{name}/{kind}"
    if kind == "Conv2D":
        padding, strides = PADDING[settings["padding"]], settings["strides"]
        made = writer.conv(x, own["kernel"], own.get("bias"), inner, depthwise=False, strides=strides, auto_pad=padding)
    elif kind == "BatchNormalization":
        beta = own["beta"]
        values = {"gamma": own.get("gamma", np.ones_like(beta)), "beta": beta}
        values |= {"mean": own["moving_mean"], "variance": own["moving_variance"]}
        inputs = [x, *(writer.weight(f"{name}/{part}", value) for part, value in values.items())]
        made = writer.node("BatchNormalization", inputs, name, epsilon=settings["epsilon"])
    elif kind in ("MaxPooling2D", "AveragePooling2D"):
        padding, strides, window = PADDING[settings["padding"]], settings["strides"], settings["pool_size"]
        op = kind.removesuffix("ing2D")
        made = writer.node(op, [x], name, kernel_shape=window, strides=strides, auto_pad=padding)
    elif kind == "Concatenate":
        made = writer.node("Concat", xs, name, axis=1)
    elif kind == "Flatten":  # TensorFlow flattens height, width, channels
        made = writer.node("Flatten", [writer.node("Transpose", [x], f"{name}/nhwc", perm=[0, 2, 3, 1])], name)
    elif kind == "Dense":
        inputs = [x, writer.weight(f"{name}/kernel", own["kernel"]), writer.weight(f"{name}/bias", own["bias"])]
        made = writer.node("Gemm", inputs, inner)
    elif kind in ("Activation", "Dropout"):
        made = x
    else:
        raise ValueError(f"{name}: {kind} is not converted")
    if activation == "linear":
        return made
    op = {"relu": "Relu", "softmax": "Softmax"}[activation]
    return writer.node(op, [made], name)
