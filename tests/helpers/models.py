"""Small models in ONNX text syntax with random weights, and a way to run them in ONNX Runtime."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.parser import parse_model

C = 5
"""Classes of the models below."""

Shapes = Mapping[str, Sequence[int]]

TRUNK = """
  c1 = Conv<pads=[1,1,1,1]>(image, w1, b1)
  r1 = Relu(c1)
  p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
  c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2)
"""
"""image [N,3,12,12] -> c2 [N,4,6,6]."""
TRUNK_WEIGHTS: Shapes = {"w1": (3, 3, 3, 3), "b1": (3,), "w2": (4, 3, 3, 3), "b2": (4,)}

GAP = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"
"""A head whose gradient is constant over space: G[k,c,i,j] = fc[k,c] / (h w)."""
GAP_WEIGHTS: Shapes = {"fc": (C, 4), "fb": (C,)}

DENSE = """
  flat = Flatten(a)  hidden = Gemm<transB=1>(flat, d1, e1)  active = Relu(hidden)
  logits = Gemm<transB=1>(active, d2, e2)
"""
"""A head whose gradient varies over space and images."""
DENSE_WEIGHTS: Shapes = {"d1": (7, 4 * 6 * 6), "e1": (7,), "d2": (C, 7), "e2": (C,)}


def build(
    body: str,
    weights: Shapes | Mapping[str, np.ndarray] | None = None,
    *,
    inputs: str = "float[N,3,12,12] image",
    outputs: str = f"float[N,{C}] logits",
    opset: int = 17,
    ir: int = 8,
    seed: int = 0,
    dtype: type = np.float32,
    functions: str = "",
    imports: str = "",
) -> onnx.ModelProto:
    """A model from the text of its nodes; `weights` are arrays, or shapes that are filled with random numbers."""
    text = f'<ir_version: {ir}, opset_import: ["" : {opset}{imports}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = parse_model(text + functions)
    random = np.random.default_rng(seed)
    for name, value in (weights or {}).items():
        array = value if isinstance(value, np.ndarray) else _drawn(random, value).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def _drawn(random: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 4
    return np.asarray(random.normal(0, 1 / np.sqrt(fan_in), shape))


def cnn(
    head: str = "gap",
    *,
    act: str = "a = Relu(c2)",
    n: int | str = "N",
    end: str = "",
    output: str = f"float[N,{C}] logits",
    size: int | str = 12,
    opset: int = 17,
    ir: int = 8,
    seed: int = 0,
    weights: Shapes | None = None,
    image: str | None = None,
    dtype: type = np.float32,
) -> onnx.ModelProto:
    """Conv, Relu (r1), MaxPool (p1), Conv (c2), an activation (a), and the head "gap", "dense" or nodes as text."""
    known = {"gap": (GAP, GAP_WEIGHTS), "dense": (DENSE, DENSE_WEIGHTS)}
    text, more = known.get(head, (head, {}))
    h, w = (size, size) if isinstance(size, int) else ("H", "W")
    kind = {np.float32: "float", np.float64: "double"}[dtype]
    return build(
        TRUNK + act + " " + text + " " + end,
        {**TRUNK_WEIGHTS, **more, **(weights or {})},
        inputs=image or f"{kind}[{n},3,{h},{w}] image",
        outputs=re.sub(r"\bN\b", str(n), output).replace("float", kind),
        opset=opset,
        ir=ir,
        seed=seed,
        dtype=dtype,
    )


def images(n: int = 2, size: int = 12, channels: int = 3, seed: int = 1) -> np.ndarray:
    """Random images, float32 `[n, channels, size, size]`."""
    return np.random.default_rng(seed).normal(size=(n, channels, size, size)).astype(np.float32)


def session(model: onnx.ModelProto | bytes | str, *, optimised: bool = True) -> ort.InferenceSession:
    """A session on the CPU with one thread and without chatter.

    Unoptimised, what stands in float between quantisers is computed in float. Else ONNX Runtime makes products of 8
    bits of it, which not every processor adds up exactly, and rounds float weights to 8 bits for them.
    """
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def saved(model: onnx.ModelProto, level: ort.GraphOptimizationLevel, folder: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime optimises and saves it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def run(model: onnx.ModelProto | bytes | str, image: np.ndarray, classes: object = None) -> dict[str, np.ndarray]:
    """All outputs by name; `image` goes to the first input, `classes` (`[M,K]`) to `xcam_class` if given."""
    made = session(model)
    feeds = {made.get_inputs()[0].name: image}
    if classes is not None:
        feeds["xcam_class"] = np.array(classes, np.int64)
    names = [out.name for out in made.get_outputs()]
    return dict(zip(names, made.run(names, feeds), strict=True))


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    """The value of an initializer."""
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def tensors(model: onnx.ModelProto, names: Sequence[str], image: np.ndarray) -> dict[str, np.ndarray]:
    """Inner tensors of a model, by ONNX Runtime."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {out.name for out in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    found = run(copy, image)
    return {name: found[name] for name in names}


def dense_gradients(model: onnx.ModelProto, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The gradient of the DENSE head, `[N,K,4,6,6]`, written out: d2[k] * (hidden > 0) @ d1."""
    hidden = tensors(model, ["hidden"], image)["hidden"].astype(np.float64)
    first, second = weight(model, "d1").astype(np.float64), weight(model, "d2").astype(np.float64)
    slopes = second[classes] * (hidden > 0)[:, None]
    return np.asarray((slopes @ first).reshape(*classes.shape, 4, 6, 6))


def props(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """The metadata entries in order."""
    return [(entry.key, entry.value) for entry in model.metadata_props]


def outputs(model: onnx.ModelProto) -> list[str]:
    """The names of the outputs."""
    return [out.name for out in model.graph.output]


MOVED = {"ReorderOutput", "ReorderInput", "Transpose"}
"""Changes of layout around what ONNX Runtime computes in one of its own: reading a tensor takes one more."""


def forward_ops(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime makes of the model's own nodes."""
    nodes = saved(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, folder).graph.node
    own = [n for n in nodes if "xcam" not in n.name and not any("xcam" in name for name in n.output)]
    return Counter(f"{n.domain}:{n.op_type}" for n in own if n.op_type not in MOVED)
