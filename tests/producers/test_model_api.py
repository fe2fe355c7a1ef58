"""The entries `model_info` of OpenVINO's Model API in a model's metadata."""

import pytest

from helpers.producers_exporters import model_info
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialects import model_api

MEAN = "123.675 116.28 103.53"


def entries(**changes):
    """Return the metadata of a model with some entries changed or, with None, left out."""
    return model_info(changes)


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
