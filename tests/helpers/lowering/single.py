"""One operator of ONNX Runtime's own as a model, and the table of their forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

MICROSOFT = "com.microsoft"
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Case:
    """A node: shapes (random floats) or arrays of its inputs, None for one that is not given."""

    op: str
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int | Sequence[int] = 1
    opsets: Sequence[int] = (11, 13, 18)
    domain: str = MICROSOFT
    note: str = ""
    weights: Sequence[int] = ()
    since: tuple[int, int] = (1, 0)
    """Since which version of ONNX Runtime the node runs, or is refused as one without a kernel."""

    @property
    def too_new(self) -> pytest.MarkDecorator:
        """The mark that skips the case where ONNX Runtime is too old for it."""
        first = ".".join(map(str, self.since))
        return pytest.mark.skipif(not self.runs, reason=f"{self.op} in this form needs ONNX Runtime {first}")

    @property
    def runs(self) -> bool:
        """Whether this version of ONNX Runtime is new enough for the node."""
        return tuple(map(int, ort.__version__.split(".")[:2])) >= self.since

    @property
    def name(self) -> str:
        """A name for the test."""
        said = [f"{key}={value}" for key, value in self.attributes.items()]
        shapes = ["x".join(map(str, np.shape(i) if isinstance(i, np.ndarray) else i or ())) for i in self.inputs]
        return " ".join([self.op, *said, self.note, *shapes, f"out{self.outputs}"])

    def arrays(self, seed: int = 0) -> list[np.ndarray | None]:
        """The inputs' values."""
        random = np.random.default_rng(seed)
        return [
            given if given is None or isinstance(given, np.ndarray) else random.normal(size=given).astype(np.float32)
            for given in self.inputs
        ]

    def model(self, opset: int) -> onnx.ModelProto:
        """The node alone; those of its inputs whose indices are in `weights` are initializers."""
        arrays = self.arrays()
        names = [f"i{index}" if array is not None else "" for index, array in enumerate(arrays)]
        asked = range(self.outputs) if isinstance(self.outputs, int) else self.outputs
        outputs = [f"o{index}" if index in asked else "" for index in range(max(asked) + 1)]
        node = helper.make_node(self.op, names, outputs, name="node", domain=self.domain, **self.attributes)
        given = [(n, a) for n, a in zip(names, arrays, strict=True) if a is not None]
        kept = {names[index] for index in self.weights}
        graph = helper.make_graph(
            [node],
            "single",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in given
                if n not in kept
            ],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs if name],
            [onnx.numpy_helper.from_array(a, n) for n, a in given if n in kept],
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 20 else 8)

    def feeds(self) -> dict[str, np.ndarray]:
        """What to run it with."""
        arrays = enumerate(self.arrays())
        return {f"i{index}": array for index, array in arrays if array is not None and index not in self.weights}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


IMAGE, WEIGHT, BIAS, RESULT = (2, 3, 6, 5), (4, 3, 3, 3), (4,), (2, 4, 6, 5)
NHWC, NHWC_WEIGHT, NHWC_RESULT = (2, 6, 5, 3), (4, 3, 1, 3), (2, 6, 5, 4)
PADS = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
FLOAT_NHWC = (1, 27)
"""Before it, NhwcFusedConv takes float16 only. What needs another version crashed the process before."""
ALL = (11, 13, 17, 18, 21, 23)

CONVOLUTIONS = [
    Case("FusedConv", [IMAGE, WEIGHT], PADS),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "Relu"}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "Sigmoid"}),
    Case("FusedConv", [IMAGE, WEIGHT, None], {**PADS, "activation": "Tanh"}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "Silu"}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "LeakyRelu", "activation_params": [0.3]}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "Clip", "activation_params": [-0.5, 0.7]}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS], {**PADS, "activation": "HardSigmoid", "activation_params": [0.1, 0.4]}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS, RESULT], {**PADS, "activation": "Relu"}),
    Case("FusedConv", [IMAGE, WEIGHT, None, RESULT], {**PADS, "activation": "Tanh"}),
    Case("FusedConv", [IMAGE, WEIGHT, BIAS, RESULT], PADS),
    Case("FusedConv", [(2, 3, 9, 9), (6, 1, 3, 3), (6,)], {"group": 3, "strides": [2, 2], "activation": "Relu"}),
    Case("NhwcFusedConv", [NHWC, WEIGHT, BIAS], {**PADS, "activation": "Relu"}, since=FLOAT_NHWC),
    Case("NhwcFusedConv", [NHWC, WEIGHT, BIAS, NHWC_RESULT], {**PADS, "activation": "Relu"}, since=FLOAT_NHWC),
    Case("NhwcFusedConv", [NHWC, WEIGHT, BIAS, NHWC_RESULT], PADS, since=FLOAT_NHWC),
    Case("NhwcConv", [NHWC, NHWC_WEIGHT, BIAS], {"pads": [1, 0, 1, 0], "kernel_shape": [3, 1]}),
    Case("NhwcConv", [NHWC, NHWC_WEIGHT], {"pads": [1, 0, 1, 0], "kernel_shape": [3, 1]}),
]

GEMM = [(5, 4), (4, 3), (3,)]
PRODUCTS = [
    Case("FusedGemm", GEMM, {"activation": "Relu", "alpha": 0.5, "beta": 2.0}),
    Case("FusedGemm", [(4, 5), (3, 4), (3,)], {"activation": "Tanh", "transA": 1, "transB": 1}),
    Case("FusedGemm", GEMM[:2], {"activation": "Sigmoid"}),
    Case("FusedGemm", GEMM, {"activation": "LeakyRelu", "activation_alpha": 0.3}),
    Case("FusedGemm", GEMM, {"activation": "HardSigmoid", "activation_alpha": 0.1, "activation_beta": 0.4}),
    Case("FusedGemm", GEMM, {"activation": "Elu", "activation_alpha": 0.7}),
    Case("FusedGemm", GEMM, {"activation": "Selu", "activation_alpha": 1.7, "activation_gamma": 1.1}),
    Case("FusedGemm", GEMM, {"activation": "Softplus"}),
    Case("FusedGemm", GEMM, {"activation": "Softsign"}),
    Case("FusedGemm", GEMM, {"activation": "ThresholdedRelu", "activation_alpha": 0.6}),
    Case("FusedGemm", GEMM, {"activation": "ScaledTanh", "activation_alpha": 0.6, "activation_beta": 1.5}),
    Case("FusedGemm", GEMM, {"activation": "ParametricSoftplus", "activation_alpha": 0.6, "activation_beta": 1.5}),
    Case("FusedMatMul", [(2, 5, 4), (2, 4, 3)], {}),
    Case("FusedMatMul", [(2, 5, 4), (2, 4, 3)], {"alpha": 0.25}),
    Case("FusedMatMul", [(2, 4, 5), (4, 3)], {"transA": 1, "alpha": 0.25}),
    Case("FusedMatMul", [(2, 5, 4), (2, 3, 4)], {"transB": 1}),
    Case("TransposeMatMul", [(4, 5), (3, 4)], {"transA": 1, "transB": 1}),
    Case("FusedMatMul", [(5, 2, 3, 4), (2, 3, 4, 6)], {"transBatchA": 1}),
    Case("FusedMatMul", [(2, 3, 5, 4), (4, 2, 3, 6)], {"transBatchB": 1}),
    Case("FusedMatMul", [(4, 2, 3, 5), (4, 2, 3, 6)], {"transBatchA": 1, "transA": 1, "transBatchB": 1}),
    Case("FusedMatMul", [(5, 2, 3, 4), (6, 2, 3, 4)], {"transBatchA": 1, "transBatchB": 1, "transB": 1}),
    Case("FusedMatMul", [(4,), (2, 4, 3)], {"transA": 1}),
    Case("FusedMatMul", [(2, 5, 4), (4,)], {"transB": 1}),
    Case("FusedMatMulActivation", [(2, 5, 4), (2, 3, 4)], {"transB": 1, "alpha": 0.5, "activation": "Relu"}),
]

ACTIVATIONS = [
    Case("Gelu", [(2, 5, 4)], opsets=(11, 13, 20)),
    Case("BiasGelu", [(2, 5, 4), (4,)], opsets=(11, 13, 20)),
    Case("FastGelu", [(2, 5, 4)], opsets=(11, 13, 20)),
    Case("FastGelu", [(2, 5, 4), (4,)], opsets=(11, 13, 20)),
    Case("GemmFastGelu", [(2, 5, 4), (4, 3), (3,)]),
    Case("GemmFastGelu", [(2, 5, 4), (4, 3)]),
    Case("QuickGelu", [(2, 5, 4)]),
    Case("QuickGelu", [(2, 5, 4)], {"alpha": 1.0}),
    Case("BiasSplitGelu", [(2, 5, 8), (8,)]),
    Case("BiasSoftmax", [(2, 3, 5, 5), (2, 1, 1, 5)], {"axis": 3, "is_inner_broadcast": 1}),
    Case("BiasSoftmax", [(2, 3, 5, 5), (1, 1, 5, 5)], {"axis": -1, "is_inner_broadcast": 0}),
    Case("BiasSoftmax", [(2, 3, 5, 5), (1, 1, 5, 5)], {"axis": 2, "is_inner_broadcast": 0}),
    Case("BiasAdd", [(2, 5, 4), (4,), (2, 5, 4)]),
    Case("BitmaskDropout", [(2, 5, 4)]),
    Case("BitmaskDropout", [(2, 5, 4), np.array(0.5, np.float32), np.array(False)], weights=(2,)),
]

NORMS = [
    Case("LayerNormalization", [(2, 5, 4), (4,), (4,)], {"axis": -1}, domain="", opsets=(11, 13, 16)),
    Case("LayerNormalization", [(2, 5, 4), (4,)], {"axis": -1, "epsilon": 0.1}, domain="", opsets=(11, 13, 16)),
    Case("LayerNormalization", [(2, 5, 4), (5, 4), (5, 4)], {"axis": 1}, 3, domain="", opsets=(11, 16)),
    Case("SimplifiedLayerNormalization", [(2, 5, 4), (4,)], {"axis": -1}, domain="", opsets=ALL),
    Case("SimplifiedLayerNormalization", [(2, 5, 4), (4,)], {"axis": 2, "epsilon": 0.1}, 2, domain="", opsets=ALL),
    Case("SkipLayerNormalization", [(2, 5, 4), (2, 5, 4), (4,), (4,), (4,)], opsets=ALL),
    Case("SkipLayerNormalization", [(2, 5, 4), (2, 5, 4), (4,), (4,)], {"epsilon": 0.1}, (0, 3), opsets=ALL),
    Case("SkipLayerNormalization", [(2, 5, 4), (2, 5, 4), (4,), (4,), (4,)], {}, (0, 3), opsets=ALL),
    Case("SkipLayerNormalization", [(2, 5, 4), (5, 4), (4,), None, (4,)], opsets=ALL),
    Case("SkipLayerNormalization", [(2, 5, 4), (1, 5, 4), (4,)], opsets=ALL),
    Case("SkipSimplifiedLayerNormalization", [(2, 5, 4), (2, 5, 4), (4,)], {"epsilon": 0.1}, opsets=ALL),
    Case("SkipSimplifiedLayerNormalization", [(2, 5, 4), (2, 5, 4), (4,), (4,)], {}, (0, 3), opsets=ALL),
    Case("GroupNorm", [(2, 3, 4, 8), (8,), (8,)], {"groups": 2, "activation": 0}),
    Case("GroupNorm", [(2, 3, 4, 8), (8,), (8,)], {"groups": 2, "activation": 1, "epsilon": 0.1}),
    Case("GroupNorm", [(2, 8, 3, 4), (8,), (8,)], {"groups": 4, "activation": 0, "channels_last": 0}),
    Case("GroupNorm", [(2, 8, 3, 4), (8,), (8,)], {"groups": 4, "activation": 1, "channels_last": 0}),
    Case("SkipGroupNorm", [(2, 3, 4, 8), (8,), (8,), (2, 3, 4, 8), (8,)], {"groups": 2, "activation": 1}, 2),
    Case("SkipGroupNorm", [(2, 3, 4, 8), (8,), (8,), (2, 8)], {"groups": 2, "activation": 0}),
    Case("SkipGroupNorm", [(2, 3, 4, 8), (8,), (8,), (2, 1, 1, 8)], {"groups": 2, "activation": 0}, 2),
]

TOKENS, QKV, QKV_BIAS = (2, 5, 8), (8, 24), (24,)
MASK2, MASK3 = (np.arange(10).reshape(2, 5) % 3 > 0).astype(np.int32), ints(*(1, 1, 0, 1, 1) * 10).reshape(2, 5, 5)
ATTENTION = [
    Case("Attention", [TOKENS, QKV, QKV_BIAS], {"num_heads": 2}),
    Case("Attention", [TOKENS, QKV, QKV_BIAS], {"num_heads": 4, "scale": 0.3}),
    Case("Attention", [TOKENS, QKV, None], {"num_heads": 2}, note="no bias", since=(1, 32)),
    Case("Attention", [TOKENS, QKV, QKV_BIAS, MASK2], {"num_heads": 2}, note="mask"),
    Case("Attention", [TOKENS, QKV, QKV_BIAS, MASK2], {"num_heads": 2, "mask_filter_value": -1.0}),
    Case("Attention", [TOKENS, QKV, QKV_BIAS, MASK3], {"num_heads": 2}, note="mask"),
    Case("Attention", [TOKENS, QKV, QKV_BIAS, None, None, (1, 2, 5, 5)], {"num_heads": 2}, note="bias"),
    Case("Attention", [TOKENS, QKV, QKV_BIAS, None, None, (2, 1, 5, 5)], {"num_heads": 2}, note="bias"),
    Case("Attention", [TOKENS, QKV, QKV_BIAS], {"num_heads": 2, "unidirectional": 1}, opsets=(14, 18)),
    Case("Attention", [TOKENS, (8, 28), (28,)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 12]}),
    Case("MultiHeadAttention", [TOKENS, TOKENS, TOKENS], {"num_heads": 2}),
    Case("MultiHeadAttention", [TOKENS, (2, 7, 8), (2, 7, 12), (28,)], {"num_heads": 2, "scale": 0.3}),
    Case("MultiHeadAttention", [(2, 5, 2, 3, 4)], {"num_heads": 2}),
    Case("MultiHeadAttention", [TOKENS, (2, 7, 2, 2, 4)], {"num_heads": 2}),
    Case("MultiHeadAttention", [TOKENS, (2, 2, 7, 4), (2, 2, 7, 4)], {"num_heads": 2}, note="by head"),
    Case("MultiHeadAttention", [TOKENS, TOKENS, TOKENS, QKV_BIAS, MASK2], {"num_heads": 2}, note="mask"),
    Case("MultiHeadAttention", [TOKENS, TOKENS, TOKENS, None, MASK3], {"num_heads": 2}, note="mask"),
    Case("MultiHeadAttention", [TOKENS] * 3 + [None, None, (1, 2, 5, 5)], {"num_heads": 2}, note="bias"),
    Case("MultiHeadAttention", [TOKENS] * 3, {"num_heads": 2, "unidirectional": 1}, opsets=(14, 18)),
]

ALIASES = [
    Case(
        "Pad",
        [(2, 3, 4), np.array([0, 1, 0, 0, 0, 2], np.int64), np.array([1.5], np.float32)],
        {"mode": "constant"},
        weights=(1,),
    ),
    Case("Pad", [(2, 3, 4), np.array([0, 1, 0, 0, 0, 2], np.int64)], {"mode": "reflect"}, weights=(1,)),
    Case("ExpandDims", [(2, 3), ints(1)], weights=(1,), since=(1, 28)),
    Case("GatherND", [(2, 3, 4), np.array([[0, 1], [1, 2]], np.int64)]),
    Case("Trilu", [(2, 4, 4)], {"upper": 0}, opsets=(14, 18)),
    Case("GridSample", [(1, 2, 4, 4), (1, 3, 3, 2)], {"mode": "bilinear"}, opsets=(16,)),
]

CASES = [*CONVOLUTIONS, *PRODUCTS, *ACTIVATIONS, *NORMS, *ATTENTION, *ALIASES]
