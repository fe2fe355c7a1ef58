"""The folders that Azure Custom Vision exports, against the public sample's way, written out."""

import json

import pytest

from helpers.producers_exporters import BGR_255, NAMES
from helpers.producers_exporters import custom_vision_export as export
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError, XcamWarning
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import custom_vision


@pytest.mark.parametrize(
    ("metadata", "manifest", "properties"),
    [(BGR_255, {}, BGR_255), (None, {}, {}), (None, {"Platform": "TensorFlow"}, {})],
)
def test_a_folder_that_says_everything_warns_of_nothing(tmp_path, metadata, manifest, properties):
    explainer = Explainer(export(tmp_path, metadata, manifest, properties))
    assert not explainer.warnings
    assert list(explainer.labels) == NAMES


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
