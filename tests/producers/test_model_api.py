"""The entries `model_info` of OpenVINO's Model API, against its own ONNX Runtime adapter."""

import numpy as np
import pytest

from helpers.producers import LARGEST_DIFFERENCE, library, photos, save_classifier, worst_difference
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers import model_api

MEAN, SCALE = "123.675 116.28 103.53", "58.395 57.12 57.375"
INFO = {
    "model_type": "Classification",
    "labels": "a_cat dog c d e",
    "mean_values": MEAN,
    "scale_values": SCALE,
    "resize_type": "standard",
    "pad_value": "0",
    "reverse_input_channels": "False",
}
"""What OTX writes for a classifier, with other labels."""


def entries(**changes):
    """Return the metadata of a model with some entries changed or, with None, left out."""
    return {f"model_info {key}": value for key, value in (INFO | changes).items() if value is not None}


def test_a_classifier():
    statement = model_api.metadata(entries())
    assert statement.labels == ("a_cat", "dog", "c", "d", "e")
    assert statement.settings == {
        **{"channels": "RGB", "interpolation": "linear", "antialias": False, "resize": "stretch", "scale": 1.0},
        **{"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    }


def test_the_model_gets_rgb_whatever_order_the_caller_has():
    assert model_api.metadata(entries(reverse_input_channels="True")).settings["channels"] == "RGB"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"intensity_mode": "scale_to_unit", "input_dtype": "u16"}, {"scale": 1 / 255, "white": 65535.0}),
        ({"intensity_mode": "scale_to_unit", "intensity_max_value": "4095"}, {"scale": 1 / 255, "white": 4095.0}),
        (
            {"intensity_mode": "window", "intensity_window_center": "40", "intensity_window_width": "400"},
            {"window": (-160.0, 240.0), "scale": 1 / 255},
        ),
        (
            {"intensity_mode": "range_scale", "intensity_scale_factor": "0.5", "intensity_max_value": "100"},
            {"window": (0.0, 200.0), "scale": 1 / 255},
        ),
        ({"input_dtype": "i16"}, {"white": 255}),
        ({"embedded_processing": "True"}, {"scale": 1.0, "channels": "RGB"}),
    ],
)
def test_depths(changes, expected):
    settings = model_api.metadata(entries(**changes)).settings
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_type": "fit"}, "model_info resize_type is 'fit'"),
        ({"mean_values": "1 x 3"}, "model_info mean_values is '1 x 3'; it must hold numbers"),
        ({"scale_values": "1 0 1"}, "std"),
        ({"intensity_mode": "percentile"}, "intensity_mode is 'percentile', which is not supported"),
        ({"intensity_mode": "range_scale"}, "intensity_mode is 'range_scale', which is not supported"),
        ({"intensity_mode": "window"}, "intensity_window_center is ''; it must be a number"),
        ({"interpolation_mode": "LANCZOS5"}, "interpolation is 'lanczos5'"),
        ({"input_dtype": "f64"}, "input_dtype is 'f64'"),
    ],
)
def test_what_cannot_be_followed(changes, message):
    with pytest.raises(PreprocessError, match=message) as caught:
        model_api.metadata(entries(**changes))
    assert "the model's metadata" in str(caught.value)


def test_other_metadata():
    assert model_api.metadata({"mean_values": MEAN, "model_info": "x"}) is None
    assert model_api.metadata({"model_info model_type": "Classification"}) is None
    only = model_api.metadata({"model_info labels": "a b"})
    assert (only.labels, only.settings) == (("a", "b"), {})


@pytest.mark.filterwarnings("ignore")  # those of OpenVINO
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reverse_input_channels": "True"},
        {"resize_type": "fit_to_window"},
        {"resize_type": "fit_to_window_letterbox", "pad_value": "114"},
        {"resize_type": "crop"},
        {"interpolation_mode": "CUBIC"},
        {"mean_values": None, "scale_values": "255 255 255"},
        {"mean_values": None, "scale_values": None},
        {"intensity_mode": "scale_to_unit", "mean_values": "0.485 0.456 0.406", "scale_values": "0.229 0.224 0.225"},
    ],
    ids=str,
)
def test_the_adapter(tmp_path, changes):
    """The adapter prepares what its caller has: BGR where the file says that it is to be reversed, else RGB."""
    adapters, models = library("model_api.adapters"), library("model_api.models")
    model = save_classifier(tmp_path / "m.onnx", [1, 3, 96, 96], metadata=entries(**changes))
    theirs = models.ClassificationModel(adapters.ONNXRuntimeAdapter(str(model)), preload=True)
    reverse = theirs.params.reverse_input_channels
    tensors = []
    for photo in photos():
        inputs = photo[None, ..., ::-1] if reverse else photo[None]
        tensors.append(theirs.inference_adapter.preprocessor(np.ascontiguousarray(inputs)))
    assert worst_difference(model, tensors) <= LARGEST_DIFFERENCE
