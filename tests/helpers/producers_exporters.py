"""The cases in which what exporters write into and beside a model is compared with their own code: a row, a measure."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from helpers.producers import Measure, library, photos, save_classifier, save_photos, worst_difference

Tensor = NDArray[np.generic]

MODEL_INFO = {
    "model_type": "Classification",
    "labels": "a_cat dog c d e",
    "mean_values": "123.675 116.28 103.53",
    "scale_values": "58.395 57.12 57.375",
    "resize_type": "standard",
    "pad_value": "0",
    "reverse_input_channels": "False",
}
"""What OTX writes for a classifier, with other labels."""
CUSTOM_VISION = {
    "CustomVision.Metadata.AdditionalModelInfo": "",
    "CustomVision.Metadata.Version": "1.2",
    "CustomVision.Postprocess.Method": "ClassificationMultiClass",
    "CustomVision.Preprocess.CropHeight": "0",
    "CustomVision.Preprocess.CropMethod": "FullImageShorterSide",
    "CustomVision.Preprocess.CropWidth": "0",
    "CustomVision.Preprocess.MaxDimension": "0",
    "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
    "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
    "CustomVision.Preprocess.ResizeMethod": "ByShorterSideAlign32",
    "CustomVision.Preprocess.TargetHeight": "96",
    "CustomVision.Preprocess.TargetWidth": "96",
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "Normalized_0_1",
}
"""The `metadata_properties.json` of a compact classifier, as published exports show it."""
MANIFEST = {
    "DomainType": "Classification",
    "Platform": "ONNX",
    "Flavor": "",
    "ExporterVersion": "2.0",
    "ModelFileName": "model.onnx",
    "LabelFileName": "tags.txt",
    "MetadataPropsFileName": "metadata_properties.json",
    "SchemaVersion": "1.0",
}
BGR_255 = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
NAMES = ["ash", "beech", "elm", "oak", "yew"]
SIGNATURE = {
    "doc_id": "1",
    "doc_name": "trees",
    "format": "onnx",
    "filename": "model.onnx",
    "classes": {"Label": NAMES},
    "inputs": {"Image": {"dtype": "float32", "shape": [None, 96, 96, 3], "name": "Image:0"}},
    "outputs": {"Confidences": {"dtype": "float32", "shape": [None, 5], "name": "sequential/dense/Softmax:0"}},
    "tensorflow_version": "2.5.0",
    "export_model_version": 1,
}
"""The `signature.json` of a Lobe export."""


def model_info(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the metadata of a model for Model API with some entries changed or, with None, left out."""
    return {f"model_info {key}": value for key, value in (MODEL_INFO | dict(changes)).items() if value is not None}


def ultralytics_export(name: str, predictor: str, size: int | Sequence[int]) -> Measure:
    """Return the measure for a model of Ultralytics: what its predictor feeds to its own ONNX export."""

    def measure(folder: Path) -> float:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of PyTorch's exporter and of Ultralytics
            for key, value in (("CONFIG_DIR", str(folder)), ("OFFLINE", "true"), ("AUTOINSTALL", "false")):
                patch.setenv(f"YOLO_{key}", value)
            patch.chdir(folder)
            yolo = getattr(library("ultralytics"), "RTDETR" if name.startswith("rtdetr") else "YOLO")
            model = folder / yolo(name).export(format="onnx", imgsz=size, simplify=False, verbose=False)
            theirs = _seen(yolo(model), predictor, save_photos(folder))
        metadata = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
        classes = metadata["names"].count(":")
        twin = save_classifier(folder / "twin.onnx", theirs[0].shape, classes, metadata=metadata)
        return worst_difference(twin, theirs)

    return measure


def _seen(model: Any, predictor: str, paths: Sequence[Path]) -> list[Tensor]:
    """Return the tensors that a predictor of Ultralytics hands on for pictures."""
    module, _, kind = predictor.rpartition(".")
    theirs: list[Tensor] = []
    own: Any = getattr(library(f"ultralytics.models.{module}"), kind)

    class Seeing(own):  # type: ignore[misc]
        """A predictor that keeps the tensors that it hands on."""

        def inference(self, im: Any, *args: Any, **kwargs: Any) -> Any:
            theirs.append(im.numpy().copy())
            return super().inference(im, *args, **kwargs)

    for path in paths:
        model.predict(str(path), predictor=Seeing, save=False, verbose=False)
    return theirs


def model_api_classifier(**changes: str | None) -> Measure:
    """Return the measure for a model with entries of Model API: what its ONNX Runtime adapter prepares.

    The adapter is given what its caller has: BGR where the entries say that it is to be reversed, else RGB.
    """

    def measure(folder: Path) -> float:
        model = save_classifier(folder / "m.onnx", [1, 3, 96, 96], metadata=model_info(changes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of OpenVINO
            adapters, models = library("model_api.adapters"), library("model_api.models")
            theirs = models.ClassificationModel(adapters.ONNXRuntimeAdapter(str(model)), preload=True)
        tensors = []
        for photo in photos():
            inputs = photo[None, ..., ::-1] if theirs.params.reverse_input_channels else photo[None]
            tensors.append(theirs.inference_adapter.preprocessor(np.ascontiguousarray(inputs)))
        return worst_difference(model, tensors)

    return measure


def custom_vision_export(
    folder: Path,
    metadata: Mapping[str, str] | None = None,
    manifest: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> Path:
    """Write a folder as Custom Vision exports it, with some entries changed, and return the model's path."""
    model = save_classifier(folder / "model.onnx", [1, 3, 96, 96], metadata=dict(metadata or {}))
    if manifest is not None:
        (folder / "cvexport.manifest").write_text(json.dumps(MANIFEST | dict(manifest)))
    (folder / "metadata_properties.json").write_text(json.dumps(CUSTOM_VISION | dict(properties or {})))
    (folder / "tags.txt").write_text("\n".join(NAMES))
    return model


def custom_vision_sample(as_pixels: bool, **parts: Mapping[str, str] | None) -> Measure:
    """Return the measure for an export of Custom Vision: samples/python/onnx/classification/predict.py, written out.

    Args:
        as_pixels: whether it takes BGR in 0..255, else RGB in 0..1.
        parts: what is changed of the export.
    """

    def measure(folder: Path) -> float:
        model = custom_vision_export(folder, **parts)
        tensors = []
        for photo in photos():
            image = Image.fromarray(photo).resize((96, 96))
            array = np.array(image, dtype=np.float32)[np.newaxis, :, :, :].transpose((0, 3, 1, 2))
            tensors.append(array[:, (2, 1, 0), :, :] if as_pixels else array / 255)
        return worst_difference(model, tensors)

    return measure


def lobe_written_out(folder: Path) -> float:
    """Return the difference for a Lobe model from what lobe-python does, written out."""
    theirs = []
    for photo in photos():
        image = Image.fromarray(photo)
        scale = max(96 / image.width, 96 / image.height)
        image = image.resize((round(scale * image.width), round(scale * image.height)))
        left, top = ((length - 96) // 2 for length in image.size)
        theirs.append(np.asarray(image.crop((left, top, left + 96, top + 96)), np.float64)[None] / 255)
    return worst_difference(lobe_export(folder), theirs)


def lobe_package(folder: Path) -> float:
    """Return the difference for a Lobe model from the package `lobe`."""
    utilities = library("lobe.image_utils")
    prepared = (utilities.preprocess_image(Image.fromarray(photo), (96, 96)) for photo in photos())
    return worst_difference(lobe_export(folder), [utilities.image_to_array(image) for image in prepared])


def lobe_export(folder: Path) -> Path:
    """Write a model with the signature of Lobe beside it, and return its path."""
    (folder / "signature.json").write_text(json.dumps(SIGNATURE))
    return save_classifier(folder / "model.onnx", ["N", 96, 96, 3])


def teachable_machine(folder: Path) -> float:
    """Return the difference for a Keras export of Teachable Machine from its snippet, keras.md, written out."""
    model = save_classifier(folder / "keras_model.onnx", ["N", 96, 96, 3])
    (folder / "labels.txt").write_text("\n".join(f"{index} {name}" for index, name in enumerate(NAMES)))
    images = (Image.fromarray(photo) for photo in photos())
    fitted = (ImageOps.fit(image, (96, 96), Image.Resampling.LANCZOS) for image in images)
    return worst_difference(model, [np.asarray(image).astype(np.float32) / 127.5 - 1 for image in fitted])


_UNIT_VALUES = {"mean_values": "0.485 0.456 0.406", "scale_values": "0.229 0.224 0.225"}
_CLASSIFY = "yolo.classify.ClassificationPredictor"

CASES: Mapping[str, Mapping[str, Measure]] = {
    "Ultralytics": {
        "classify": ultralytics_export("yolo11n-cls.yaml", _CLASSIFY, 96),
        "classify, no square": ultralytics_export("yolo11n-cls.yaml", _CLASSIFY, (96, 64)),
        "detect": ultralytics_export("yolo11n.yaml", "yolo.detect.DetectionPredictor", (96, 160)),
        "segment": ultralytics_export("yolo11n-seg.yaml", "yolo.segment.SegmentationPredictor", 96),
        "pose": ultralytics_export("yolo11n-pose.yaml", "yolo.pose.PosePredictor", 96),
    },
    "Model API": {
        "standard": model_api_classifier(),
        "reversed channels": model_api_classifier(reverse_input_channels="True"),
        "fit_to_window": model_api_classifier(resize_type="fit_to_window"),
        "fit_to_window_letterbox": model_api_classifier(resize_type="fit_to_window_letterbox", pad_value="114"),
        "crop": model_api_classifier(resize_type="crop"),
        "cubic": model_api_classifier(interpolation_mode="CUBIC"),
        "scale alone": model_api_classifier(mean_values=None, scale_values="255 255 255"),
        "values 0 to 255": model_api_classifier(mean_values=None, scale_values=None),
        "scale_to_unit": model_api_classifier(intensity_mode="scale_to_unit", **_UNIT_VALUES),
    },
    "Azure Custom Vision": {
        "ONNX, BGR": custom_vision_sample(True, metadata=BGR_255, manifest={}, properties=BGR_255),
        "ONNX, RGB": custom_vision_sample(False, manifest={}),
        "the properties alone": custom_vision_sample(True, properties=BGR_255),
        "converted from TensorFlow": custom_vision_sample(True, manifest={"Platform": "TensorFlow"}),
    },
    "Lobe": {"classifier": lobe_package},
    "Teachable Machine": {"the snippet for Keras": teachable_machine},
}
"""What is measured of each producer; a measure takes an empty folder and returns the largest difference."""
