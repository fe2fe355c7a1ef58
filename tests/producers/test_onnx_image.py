"""The image entries of the ONNX standard in a model's metadata."""

import numpy as np
import pytest
from PIL import Image

from helpers.producers import photos, save_classifier, worst_difference
from onnx_xcam import Explainer
from onnx_xcam.errors import XcamWarning
from onnx_xcam.producers.dialects import onnx_image


@pytest.mark.parametrize(
    ("stated", "channels", "low", "high"),
    [
        ({"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}, "BGR", 0, 255),
        ({"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "Normalized_0_1"}, "RGB", 0, 1),
        ({"IMAGE.BITMAPPIXELFORMAT": "GRAY8", "image.nominalpixelrange": "NORMALIZED_1_1"}, "GRAY", -1, 1),
        ({"Image.NominalPixelRange": "NominalRange_16_235"}, None, 16, 235),
        ({"Image.BitmapPixelFormat": "Rgba8"}, "RGB", None, None),
    ],
)
def test_entries(stated, channels, low, high):
    statement = onnx_image.metadata(stated | {"author": "x"})
    assert statement.settings.get("channels") == channels
    if low is None:
        assert not statement.states("values")
    else:
        mean, std = (statement.settings.get(key, default)[0] for key, default in (("mean", (0,)), ("std", (1,))))
        values = [(pixel * statement.settings["scale"] - mean) / std for pixel in (0, 255)]
        assert values == pytest.approx([low, high])
    assert not statement.states("geometry")
    assert statement.remarks == ()


def test_a_fourth_channel():
    assert onnx_image.metadata({"Image.BitmapPixelFormat": "Bgra8"}).settings["bands"] == (2, 1, 0, 3)


def test_what_is_not_followed_is_said():
    linear = onnx_image.metadata({"Image.ColorSpaceGamma": "Linear", "Image.BitmapPixelFormat": "Bgr9"})
    assert linear.settings == {}
    assert len(linear.remarks) == 2
    assert linear.remarks[0].endswith("BitmapPixelFormat is 'Bgr9', which is not followed; did you mean bgr8 or bgra8.")
    assert "Linear" in linear.remarks[1]
    assert onnx_image.metadata({"Image.ColorSpaceGamma": "SRGB"}).remarks == ()


def test_none_are_found():
    assert onnx_image.metadata({}) is None
    assert onnx_image.metadata({"Image.Creator": "me", "imagery": "x"}) is None


def test_a_model(tmp_path):
    entries = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    model = save_classifier(tmp_path / "m.onnx", [1, 3, 60, 80], metadata=entries)
    theirs = []
    for photo in photos():
        stretched = np.asarray(Image.fromarray(photo).resize((80, 60), Image.Resampling.BILINEAR))
        theirs.append(stretched[..., ::-1].transpose(2, 0, 1).astype(np.float32))
    with pytest.warns(
        XcamWarning, match="values and channel order from the model's metadata, resize rule and interpolation assumed"
    ):
        assert worst_difference(model, theirs) <= 1e-6


def test_an_order_that_the_model_does_not_take_is_told_in_whole_sentences(tmp_path):
    path = save_classifier(tmp_path / "m.onnx", (1, 3, 32, 32), metadata={"Image.BitmapPixelFormat": "Gray8"})
    with pytest.warns(XcamWarning):
        warnings = Explainer(path).warnings
    assert warnings[0].startswith("Preprocessing: nothing states it, so ImageNet's mean and standard deviation are")
    assert warnings[1].startswith("Preprocessing: the model's metadata says channels GRAY, but the model's input has 3")
