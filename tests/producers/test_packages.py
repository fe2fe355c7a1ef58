"""What Roboflow, Qualcomm AI Hub and the tools of TFLite state beside a model, read from files as they write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.producer_files import AI_HUB, ROBOFLOW_CONFIG, ROBOFLOW_ENVIRONMENT, TFLITE
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects import ai_hub, roboflow, tflite
from onnx_xcam.producers.statement import Statement


def stated(dialect: Dialect, data: Any, folder: Path) -> Statement:
    """Write data into a folder as a producer does, and return what a dialect states of the file."""
    path = folder / dialect.files[0].replace("{stem}", "model")
    path.write_text(json.dumps(data))
    file = DescriptionFile.read(path, path.name)
    assert dialect.recognises(file)
    return dialect.read(file)


def changed(data: Any, value: Any, *keys: str | int) -> Any:
    """Return a copy of data with another value at a path of keys."""
    copy = json.loads(json.dumps(data))
    place = copy
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return copy


def test_a_roboflow_package(tmp_path: Path):
    statement = stated(roboflow.CONFIG, ROBOFLOW_CONFIG, tmp_path)
    assert statement.settings == {
        "size": (192, 256),
        "resize": "letterbox",
        "size_rounding": "floor",
        "align": "centre",
        "pad_value": 127,
        "interpolation": "linear",
        "antialias": False,
        "channels": "RGB",
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }


def test_a_roboflow_package_without_values_gets_pixels(tmp_path: Path):
    data = changed(ROBOFLOW_CONFIG, None, "network_input", "scaling_factor")
    settings = stated(roboflow.CONFIG, changed(data, None, "network_input", "normalization"), tmp_path).settings
    assert (settings["scale"], settings["mean"], settings["std"]) == (1.0, (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("value", "keys", "message"),
    [
        ("center-crop", ("network_input", "resize_mode"), "resize_mode center-crop is not supported"),
        (["stretch"], ("network_input", "resize_mode"), "is not supported"),
        ({"enabled": True}, ("image_pre_processing", "grayscale"), "image_pre_processing: grayscale is enabled"),
        ({"enabled": True}, ("image_pre_processing", "static-crop"), "static-crop is enabled"),
        (3, ("network_input", "training_input_size"), "must hold height and width"),
        (-1, ("network_input", "training_input_size", "width"), "size is"),
        (0, ("network_input", "normalization"), None),
        ([1], ("network_input", "normalization"), "must be a list of mean and std"),
        (-255, ("network_input", "scaling_factor"), "scaling_factor is -255"),
        ("cmyk", ("network_input", "color_mode"), "color_mode 'cmyk'"),
        (4, ("network_input", "input_channels"), "4 channels"),
    ],
)
def test_what_a_roboflow_package_asks_for_in_vain(
    value: object, keys: tuple[str, ...], message: str | None, tmp_path: Path
):
    data = changed(ROBOFLOW_CONFIG, value, *keys)
    if message is None:
        assert stated(roboflow.CONFIG, data, tmp_path).settings["mean"] == (0.0,)
        return
    with pytest.raises(PreprocessError) as error:
        stated(roboflow.CONFIG, data, tmp_path)
    assert message in str(error.value)


def test_an_older_roboflow_package_states_no_values(tmp_path: Path):
    statement = stated(roboflow.ENVIRONMENT, ROBOFLOW_ENVIRONMENT, tmp_path)
    assert statement.labels == ("cat", "dog")
    assert (statement.settings["size"], statement.settings["pad_value"]) == ((416, 640), 114)
    assert (statement.settings["resize"], statement.settings["align"]) == ("letterbox", "centre")
    assert not statement.states("values") and statement.settings["channels"] == "RGB"


def test_an_older_roboflow_package_that_cannot_be_followed(tmp_path: Path):
    for text, message in (
        ("{", "PREPROCESSING is not valid JSON"),
        ('{"resize": {"width": 9, "height": 9, "format": "Fit within"}}', "format is 'Fit within'"),
        ('{"contrast": {"enabled": true}}', "PREPROCESSING: contrast is enabled"),
    ):
        with pytest.raises(PreprocessError) as error:
            stated(roboflow.ENVIRONMENT, {"PREPROCESSING": text}, tmp_path)
        assert message in str(error.value)
    assert stated(roboflow.ENVIRONMENT, {"CLASS_MAP": {"0": "a", "2": "b"}}, tmp_path).labels is None


def test_ai_hub(tmp_path: Path):
    (tmp_path / "imagenet_labels.txt").write_text("cat\ndog\n")
    statement = stated(ai_hub.DIALECT, AI_HUB, tmp_path)
    assert statement.settings == {"channels": "RGB", "scale": 1 / 255, "mean": (0.0,), "std": (1.0,)}
    assert statement.labels == ("cat", "dog")


def test_ai_hub_values_from_minus_one_to_one(tmp_path: Path):
    data = changed(AI_HUB, [-1, 1], "model_files", "mobilenet_v2.onnx", "inputs", "image_tensor", "value_range")
    settings = stated(ai_hub.DIALECT, data, tmp_path).settings
    scale, (mean,), (std,) = settings["scale"], settings["mean"], settings["std"]
    assert [(pixel * scale - mean) / std for pixel in (0, 255)] == [-1, 1]


@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        ([1, 0], "value_range", "value_range is [1, 0]"),
        ("0..1", "value_range", "value_range is '0..1'"),
        ({"color_format": "yuv"}, "image_metadata", "color_format is 'yuv'"),
        ({"color_format": ["rgb"]}, "image_metadata", "color_format is ['rgb']"),
    ],
)
def test_ai_hub_metadata_that_cannot_be_followed(value: object, key: str, message: str, tmp_path: Path):
    data = changed(AI_HUB, value, "model_files", "mobilenet_v2.onnx", "inputs", "image_tensor", key)
    with pytest.raises(PreprocessError) as error:
        stated(ai_hub.DIALECT, data, tmp_path)
    assert message in str(error.value)


def test_tflite(tmp_path: Path):
    (tmp_path / "sorts.txt").write_text("cat\ndog\n")
    statement = stated(tflite.DIALECT, TFLITE, tmp_path)
    assert statement.settings == {"channels": "RGB", "scale": 1.0, "mean": (127.5,), "std": (127.5,)}
    assert statement.labels == ("cat", "dog")


def test_a_quantised_tflite_model_gets_pixels(tmp_path: Path):
    place = ("subgraph_metadata", 0, "input_tensor_metadata", 0, "stats")
    settings = stated(tflite.DIALECT, changed(TFLITE, {"min": [0.0], "max": [255.0]}, *place), tmp_path).settings
    assert (settings["scale"], settings["mean"], settings["std"]) == (1.0, (0.0,), (1.0,))
    for odd in ([], {"min": [0], "max": [[255]]}, {"min": 0, "max": 255}, {"min": [0, 0], "max": [255, 1]}):
        assert stated(tflite.DIALECT, changed(TFLITE, odd, *place), tmp_path).settings["mean"] == (127.5,)


def test_labels_are_read_in_the_folder_of_the_description_only(tmp_path: Path):
    (tmp_path / "sorts.txt").write_text("cat\ndog\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    place = ("subgraph_metadata", 0, "output_tensor_metadata", 0, "associated_files", 0, "name")
    for name in ("../sorts.txt", str(tmp_path / "sorts.txt"), "..", "", "a\0b", 3, "model.json"):
        assert stated(tflite.DIALECT, changed(TFLITE, name, *place), inner).labels is None, name


@pytest.mark.parametrize(
    "data", [[], 3, {}, {"model_files": [1]}, {"network_input": 1}, {"subgraph_metadata": [1, {}]}]
)
def test_another_file_is_not_recognised(data: object):
    file = DescriptionFile(Path("metadata.json"), "metadata.json", "", data)
    for dialect in (roboflow.CONFIG, roboflow.ENVIRONMENT, ai_hub.DIALECT, tflite.DIALECT):
        assert not dialect.recognises(file)
