"""The folders that Azure Custom Vision exports, against the public sample's way, written out."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.producers import photos, save_classifier, worst_difference
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError, XcamWarning
from onnx_xcam.producers import custom_vision
from onnx_xcam.producers.dialect import DescriptionFile

PROPERTIES = {
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


def sample(is_bgr, is_range255, size=(96, 96)):
    """Return what samples/python/onnx/classification/predict.py feeds of the three photos."""
    tensors = []
    for photo in photos():
        image = Image.fromarray(photo).resize(size)
        array = np.array(image, dtype=np.float32)[np.newaxis, :, :, :].transpose((0, 3, 1, 2))
        array = array[:, (2, 1, 0), :, :] if is_bgr else array
        tensors.append(array if is_range255 else array / 255)
    return tensors


def export(folder, metadata=None, manifest=None, properties=None):
    """Write an exported folder and return the model's path."""
    model = save_classifier(folder / "model.onnx", [1, 3, 96, 96], metadata=metadata)
    if manifest is not None:
        (folder / "cvexport.manifest").write_text(json.dumps(MANIFEST | manifest))
    (folder / "metadata_properties.json").write_text(json.dumps(PROPERTIES | (properties or {})))
    (folder / "tags.txt").write_text("ash\nbeech\nelm\noak\nyew")
    return model


BGR_255 = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}


@pytest.mark.parametrize(
    ("metadata", "manifest", "properties", "as_pixels"),
    [
        (BGR_255, {}, BGR_255, True),
        (None, {}, {}, False),
        (None, None, BGR_255, True),
        (None, {"Platform": "TensorFlow", "Flavor": "TensorFlowNormal"}, {}, True),
    ],
)
def test_a_folder(tmp_path, metadata, manifest, properties, as_pixels):
    model = export(tmp_path, metadata, manifest, properties)
    assert worst_difference(model, sample(as_pixels, as_pixels)) <= 1e-6
    explainer = Explainer(model)
    assert not explainer.warnings
    if manifest is not None:
        assert list(explainer.labels) == ["ash", "beech", "elm", "oak", "yew"]


def test_a_centre_crop(tmp_path):
    changes = {
        "CustomVision.Preprocess.CropMethod": "OneCropCenter",
        "CustomVision.Preprocess.ResizeMethod": "ByShorterSide",
        **{f"CustomVision.Preprocess.Crop{side}": "96" for side in ("Height", "Width")},
        **{f"CustomVision.Preprocess.Target{side}": "112" for side in ("Height", "Width")},
    }
    preprocess = Explainer(export(tmp_path, properties=changes)).preprocess
    assert (preprocess.resize, preprocess.resize_size) == ("crop", (112, 112))


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [("[123.0, 117.0, 104.0]", "[1.0, 1.0, 1.0]", 1.0), ("[0.5, 0.5, 0.5]", "[0.2, 0.2, 0.2]", 1 / 255)],
)
def test_a_mean(tmp_path, mean, std, scale):
    changes = {f"CustomVision.Preprocess.Normalize{name}": text for name, text in (("Mean", mean), ("Std", std))}
    preprocess = Explainer(export(tmp_path, properties=changes)).preprocess
    assert (preprocess.scale, list(preprocess.mean), list(preprocess.std)) == (scale, json.loads(mean), json.loads(std))


def test_damaged_values(tmp_path):
    model = export(tmp_path, properties={"CustomVision.Preprocess.NormalizeMean": "[0.1,"})
    with pytest.raises(PreprocessError, match=r"'metadata_properties.json' .*NormalizeMean is '\[0.1,'"):
        Explainer(model)


def test_files_of_others(tmp_path):
    path = tmp_path / "metadata_properties.json"
    assert not custom_vision.recognises(DescriptionFile(path, "x", "", {"mean": 1}))
    assert not custom_vision.recognises(DescriptionFile(tmp_path / "cvexport.manifest", "x", "no json"))


def test_a_label_file_elsewhere_is_not_read(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("a\nb\nc\nd\ne")
    model = export(folder, manifest={"LabelFileName": "../secret.txt"})
    with pytest.warns(XcamWarning, match="LabelFileName names '../secret.txt', which does not lie beside it"):
        assert Explainer(model).labels is None
