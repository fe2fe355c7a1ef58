"""Each format in which models go into production is made from a float ONNX file by the tool that is used for it.

Needs onnxruntime; onnxslim and onnxsim for the formats of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort

Kind = Literal["float", "float16", "static", "dynamic"]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        title: what the table calls it.
        kind: how it is judged.
        source: the format that it is made from, "" for what the exporter writes.
        make: writes it: the source's file, the file to write, images float32 `[N,3,H,W]` to calibrate with.
    """

    title: str
    kind: Kind
    source: str
    make: Callable[[Path, Path, np.ndarray], None]


def _optimised(level: ort.GraphOptimizationLevel) -> Callable[[Path, Path, np.ndarray], None]:
    def make(source: Path, path: Path, images: np.ndarray) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return make


def _preprocessed(source: Path, path: Path, images: np.ndarray) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Symbolic shape inference gives up on attention with a symbolic batch.
    quant_pre_process(source, path, skip_symbolic_shape=True)


def _static(operators: bool, signed: bool) -> Callable[[Path, Path, np.ndarray], None]:
    def make(source: Path, path: Path, images: np.ndarray) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Images(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.feeds: Iterator[dict[str, np.ndarray]] = iter([{"image": image[None]} for image in images])

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.feeds, None)

        quantize_static(
            source,
            path,
            Images(),
            quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        )

    return make


def _dynamic(signed: bool) -> Callable[[Path, Path, np.ndarray], None]:
    def make(source: Path, path: Path, images: np.ndarray) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(source, path, weight_type=QuantType.QInt8 if signed else QuantType.QUInt8)

    return make


def _half(source: Path, path: Path, images: np.ndarray) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source)), path)


def _slim(source: Path, path: Path, images: np.ndarray) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), path)


def _sim(source: Path, path: Path, images: np.ndarray) -> None:
    import onnxsim

    model, same = onnxsim.simplify(onnx.load(source))
    if not same:
        raise RuntimeError("onnxsim's result differs from the model")
    onnx.save(model, path)


_BASIC, _EXTENDED = (
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
)
PREPROCESSED = "preprocessed"
"""What the quantiser starts from; no format of its own."""

FORMATS: dict[str, Format] = {
    "float": Format("float", "float", "", lambda source, path, images: None),
    "basic": Format("ONNX Runtime, basic", "float", "float", _optimised(_BASIC)),
    "extended": Format("ONNX Runtime, extended", "float", "float", _optimised(_EXTENDED)),
    "onnxslim": Format("onnxslim", "float", "float", _slim),
    "onnxsim": Format("onnxsim", "float", "float", _sim),
    "float16": Format("float16", "float16", "float", _half),
    "qdq": Format("QDQ, uint8 activations", "static", PREPROCESSED, _static(operators=False, signed=False)),
    "qdq_int8": Format("QDQ, int8 activations", "static", PREPROCESSED, _static(operators=False, signed=True)),
    "qdq_extended": Format("QDQ, ONNX Runtime, extended", "static", "qdq", _optimised(_EXTENDED)),
    "qoperator": Format("QOperator", "static", PREPROCESSED, _static(operators=True, signed=False)),
    "dynamic": Format("dynamic, uint8 weights", "dynamic", PREPROCESSED, _dynamic(signed=False)),
    "dynamic_int8": Format("dynamic, int8 weights", "dynamic", PREPROCESSED, _dynamic(signed=True)),
}
_STEPS: dict[str, Any] = {PREPROCESSED: Format(PREPROCESSED, "float", "float", _preprocessed)}


def file_of(folder: Path, name: str, images: np.ndarray) -> Path:
    """A format's file in a folder that has `float.onnx`, made with all that it is made from unless it is there.

    Raises what the tool raises that makes it.
    """
    path = folder / f"{name}.onnx"
    if not path.is_file():
        made_by = FORMATS.get(name) or _STEPS[name]
        source, scratch = file_of(folder, made_by.source, images), folder / f"{name}.part.onnx"
        made_by.make(source, scratch, images)
        scratch.rename(path)
    return path
