"""The rows of the table of producers: what each states, against the producer's own tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from helpers import producers_deploy_cases as deploy
from helpers import producers_exporters as exporters
from helpers import producers_hugging_face as hugging_face
from helpers import producers_keras as keras_exports
from helpers import producers_named as named_weights
from helpers import producers_written_out as written_out
from helpers.producers import Found, measured


@dataclass(frozen=True)
class Row:
    """A Row is one producer, with what is compared with its own tensors.

    Attributes:
        producer: the producer, with the kind of what it states where it has several rows.
        packages: the distributions that make its tensors. Where there are none, `source` is written out in the tests.
        find: measures all cases.
        dialects: the dialects that are measured, by the names that `dialect_names` gives them.
        source: the public source that is written out.
    """

    producer: str
    packages: tuple[str, ...]
    find: Callable[[], Found]
    dialects: tuple[str, ...] = ()
    source: str = ""


def _deployed(producer: str, packages: tuple[str, ...], *dialects: str) -> Row:
    return Row(producer, packages, partial(measured, deploy.CASES[producer]), dialects)


def _exported(producer: str, packages: tuple[str, ...], *dialects: str, source: str = "") -> Row:
    return Row(producer, packages, partial(measured, exporters.CASES[producer]), dialects, source)


def _written_out(producer: str, dialect: str, source: str) -> Row:
    return Row(producer, (), partial(measured, written_out.CASES[producer]), (dialect,), source)


_TRANSFORMERS = ("transformers", "torchvision")
_OTHERS = ("SemanticSegmentation", "ObjectDetection", "OpticalFlow", "VideoClassification")

ROWS: tuple[Row, ...] = (
    Row("Hugging Face: classes", _TRANSFORMERS, hugging_face.of_classes, ("Hugging Face image processor",)),
    Row("Hugging Face: published files", _TRANSFORMERS, hugging_face.of_published),
    Row("timm: files and names", ("timm",), named_weights.timm_found, ("timm",)),
    Row("torchvision: classifiers", ("torchvision",), partial(named_weights.torchvision_found, "ImageClassification")),
    Row("torchvision: others", ("torchvision",), partial(named_weights.torchvision_found, *_OTHERS)),
    Row("Keras: applications", ("keras",), named_weights.keras_found),
    Row("Keras: exports that normalise inside", ("keras", "tf2onnx"), keras_exports.exports_found),
    _exported("Ultralytics", ("ultralytics",), "Ultralytics", "metadata: ultralytics"),
    _exported("Model API", ("openvino-model-api",), "metadata: model_api"),
    _deployed("PaddleClas", ("paddleclas",), "PaddleClas"),
    _deployed("PaddleDetection", ("paddleclas",), "PaddleDetection"),
    _deployed("PaddleSeg", ("paddleseg",), "PaddleSeg"),
    _deployed("MMPretrain", ("mmpretrain", "mmdeploy"), "MMDeploy"),
    _deployed("MMDetection", ("mmcv-lite",), "MMDeploy"),
    _deployed("Roboflow", ("inference-models",), "Roboflow inference_config.json"),
    _exported("Lobe", ("lobe",), "Lobe"),
    _exported("Azure Custom Vision", (), "Azure Custom Vision", source="Microsoft's sample for ONNX"),
    _exported("Teachable Machine", (), "Teachable Machine", source="the snippet for Keras"),
    _written_out("ONNX standard", "metadata: onnx_image", "MetadataProps.md"),
    _written_out("NVIDIA DeepStream", "NVIDIA DeepStream", "the manual of Gst-nvinfer"),
    _written_out("Qualcomm AI Hub", "Qualcomm AI Hub", "TensorSpec"),
    _written_out("TFLite", "TFLite", "metadata_schema.fbs"),
)

WITHOUT_TENSORS: Mapping[str, str] = {
    "Hugging Face configuration": "labels, and a size where nothing else states one",
    "Roboflow environment.json": "a resize rule and labels",
    "NVIDIA Triton": "a layout and labels",
    "plain label files": "labels",
}
"""The dialects that state too little of a picture for a tensor to be compared, and what they state."""
