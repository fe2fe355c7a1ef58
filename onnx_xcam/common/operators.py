"""This module says where operators that ONNX does not define come from, and what to do about a model that has some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx_xcam.text import listed, quoted

_WITHOUT = "export the model without it"


@dataclass(frozen=True)
class _Origin:
    """An _Origin says where operators of some domains, or with some names in the standard domain, come from.

    Attributes:
        whose: where the operators come from, in words.
        advice: what the user can do.
        domains: prefixes of the domains.
        names: prefixes of the names that such operators have in the standard domain.
    """

    whose: str
    advice: str
    domains: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


_ORIGINS = (
    _Origin(
        "a quantiser of Brevitas or QONNX",
        "export the model as QDQ (Brevitas: export_onnx_qcdq)",
        domains=("onnx.brevitas", "qonnx", "finn"),
    ),
    _Origin(
        "a custom operator of TensorFlow",
        "convert the model with standard operators only",
        domains=("tf", "ai.onnx.converters.tensorflow"),
        names=("TFL_", "Flex"),
    ),
    _Origin(
        "an operator of PyTorch that its exporter left as it is",
        "export the model again without the ATen fallback, with a newer opset",
        domains=("org.pytorch", "aten", "prim"),
        names=("ATen", "aten", "prim"),
    ),
    _Origin(
        "a plugin of TensorRT or MMDeploy",
        "export the model for ONNX Runtime, without its postprocessing",
        domains=("TRT", "trt", "mmdeploy", "mmcv", "nvinfer"),
        names=("TRT", "EfficientNMS", "BatchedNMS"),
    ),
    _Origin(
        "an operator of onnxruntime-extensions, which decodes pictures or texts and processes them",
        "use the model from before this processing was put into it",
        domains=("ai.onnx.contrib", "com.microsoft.extensions"),
    ),
)

REMOVED: Mapping[str, str] = {
    "Affine": "Mul and Add",
    "ConstantFill": "ConstantOfShape",
    "Crop": "Slice",
    "DynamicSlice": "Slice",
    "GRUUnit": "GRU",
    "GivenTensorFill": "an initializer",
    "ImageScaler": "Mul and Add",
    "ParametricSoftplus": "Mul and Softplus",
    "Scale": "Mul",
    "MeanVarianceNormalization": "that of opset 9",
    "ScaledTanh": "Mul and Tanh",
    "ThresholdedRelu": "that of opset 10",
}
"""The experimental operators of ONNX before version 1.5 by name, and the standard ones that do the same."""

RUNTIME_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"}
    | {"com.microsoft", "com.microsoft.experimental", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
)
"""The domains whose operators are defined by ONNX or by ONNX Runtime as it is installed."""


@dataclass
class Foreign:
    """A Foreign collects the nodes of a model whose operators neither ONNX nor ONNX Runtime has.

    Attributes:
        nodes: the names of the nodes by (domain, operator).
    """

    nodes: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, domain: str | None, op: str, node: str) -> None:
        """Add a node with a foreign operator."""
        self.nodes.setdefault((domain or "", op), []).append(node)

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def listed(self) -> str:
        """Return the operators with their nodes, as a part of a sentence: `TRT.EfficientNMS_TRT ('nms')`."""
        return ", ".join(
            f"{called(domain, op)} ({listed(quoted(names), 3)})" for (domain, op), names in self.nodes.items()
        )

    def sentence(self) -> str:
        """Return the sentence that names the operators, says where they come from, and what to do."""
        one = len(self.nodes) == 1
        what = "an operator that is" if one else "operators that are"
        return f"The model has {what} not ONNX's: {self.listed()}, {self.origin()}."

    def origin(self) -> str:
        """Return where the first operator comes from and what to do, which mostly holds for the others as well."""
        (domain, op), *_ = self.nodes
        return origin(domain, op)


def called(domain: str | None, op: str) -> str:
    """Return the name of an operator, after its domain unless that is the standard one: `com.microsoft.QGemm`."""
    return f"{domain}.{op}" if domain and domain != "ai.onnx" else op


def origin(domain: str | None, op: str) -> str:
    """Return where an operator that ONNX does not define comes from, and what to do, as a part of a sentence."""
    if not domain and op in REMOVED:
        return f"an experiment of old ONNX versions; put {REMOVED[op]} in its place, or export with a newer exporter"
    for known in _ORIGINS:
        if (domain or "").startswith(known.domains or ("\0",)) or (
            not domain and op.startswith(known.names or ("\0",))
        ):
            return f"{known.whose}; {known.advice}"
    if domain in RUNTIME_DOMAINS - {""}:
        return f"which another version of ONNX Runtime may have; upgrade onnxruntime, or {_WITHOUT}"
    return f"a custom operator of the domain {domain}; {_WITHOUT}" if domain else f"a custom operator; {_WITHOUT}"
