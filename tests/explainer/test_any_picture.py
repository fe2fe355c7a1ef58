"""From a file of any depth and any channels to the map: what the model gets, what is said, and what is displayed."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build
from helpers.tiff_files import Tiff
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError, XcamWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*the map is zero everywhere:onnx_xcam.errors.XcamWarning")

SIDE = 16
RANDOM = np.random.default_rng(11)


def model(channels, kind="float", layout="NCHW"):
    """A small classifier of pictures of this number of channels and element type."""
    shape = f"N,{channels},{SIDE},{SIDE}" if layout == "NCHW" else f"N,{SIDE},{SIDE},{channels}"
    start = "floats = Cast<to=1>(raw) " + ("image = Identity(floats) " if layout == "NCHW" else "")
    start += "" if layout == "NCHW" else "image = Transpose<perm=[0,3,1,2]>(floats) "
    weights = {**TRUNK_WEIGHTS, "w1": (3, channels, 3, 3), **GAP_WEIGHTS}
    return build(f"{start}{TRUNK} a = Relu(c2) {GAP}", weights, inputs=f"{kind}[{shape}] raw", opset=17)


def agrees(explainer, path, tensor):
    """Whether a file gives the map of the ready tensor that it should become."""
    of_file, of_tensor = explainer.explain(path, [0, 1, 2]), explainer.explain(tensor, [0, 1, 2])
    np.testing.assert_allclose(of_file.scores, of_tensor.scores, rtol=1e-5)
    largest = np.abs(of_tensor.maps).max()
    assert largest > 0
    np.testing.assert_allclose(of_file.maps, of_tensor.maps, atol=1e-5 * largest)
    return of_file


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [2, 4, 6, 13])
def test_a_file_of_bands_gives_the_map_of_its_tensor(channels, layout, tmp_path):
    pixels = RANDOM.integers(0, 65535, (SIDE, SIDE, channels), np.uint16)
    (tmp_path / "p.tif").write_bytes(Tiff(deflate=True).write(pixels))
    with pytest.warns(XcamWarning, match=r"nothing states it, so values 0\.\.1 are assumed"):
        explainer = Explainer(model(channels, layout=layout))
    values = (pixels / 65535).astype(np.float32)[None]
    found = agrees(explainer, tmp_path / "p.tif", values if layout == "NHWC" else values.transpose(0, 3, 1, 2))
    assert found.overlay(0).shape == (SIDE, SIDE, 3)


def test_a_photo_for_a_model_of_bands_is_refused_by_one_sentence(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((9, 9, 3), np.uint8))
    explainer = Explainer(model(6), preprocess="unit")
    with pytest.raises(PreprocessError, match=r"p\.png has 3 channels \(RGB\), but the model's input 'raw' takes 6"):
        explainer.explain(tmp_path / "p.png")
    with pytest.raises(PreprocessError, match=r"^image 0 has 3 channels \(RGB\)"):
        explainer.explain(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize("kind", ["uint16", "int16", "int32"])
def test_integers_of_more_bits_get_the_files_own_values(kind, tmp_path):
    pixels = RANDOM.integers(0, 4096, (SIDE, SIDE), np.uint16)
    cv2.imwrite(str(tmp_path / "p.png"), pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is assumed that may be wrong
        explainer = Explainer(model(1, kind))
    agrees(explainer, tmp_path / "p.png", pixels.astype(kind)[None, None])
    assert any("values as in the file: nothing states it" in note for note in explainer.notes)


def test_a_deep_picture_with_white_and_with_a_window(tmp_path):
    pixels = RANDOM.integers(0, 4096, (SIDE, SIDE), np.uint16)
    cv2.imwrite(str(tmp_path / "p.png"), pixels)
    wanted = (pixels / 4095 * 2048 - 1024).astype(np.float32)
    exact = (cv2.IMWRITE_TIFF_COMPRESSION, 1)
    assert cv2.imwrite(str(tmp_path / "f.tif"), wanted, exact)
    plain = {"channels": "GRAY", "scale": "2048/255", "mean": 1024}
    for name, levels in (("p.png", {"white": 4095}), ("f.tif", {"window": [-1024, 1024]})):
        explainer = Explainer(model(1), preprocess=plain | levels)
        agrees(explainer, tmp_path / name, wanted[None, None])
    explainer = Explainer(model(1), preprocess={"channels": "GRAY", "white": 255})
    agrees(explainer, tmp_path / "f.tif", wanted[None, None])
    with pytest.warns(XcamWarning, match=r"p\.png: its uint16 values go from .* but 65535 is taken for white"):
        Explainer(model(1), preprocess=plain).explain(tmp_path / "p.png")


def test_the_display_follows_the_window_and_the_bands(tmp_path):
    pixels = RANDOM.integers(0, 4096, (SIDE, SIDE, 5), np.uint16)
    (tmp_path / "p.tif").write_bytes(Tiff().write(pixels))
    settings = {"window": [1000, 2000], "bands": [4, 0], "show_bands": [3]}
    picture = Explainer(model(2), preprocess=settings).prepare(tmp_path / "p.tif")
    expected = np.rint(np.clip((pixels[..., 3].astype(float) - 1000) / 1000, 0, 1) * 255)
    np.testing.assert_array_equal(picture.image_rgb, np.repeat(expected[..., None], 3, 2))
    np.testing.assert_allclose(picture.item[0], np.clip((pixels[..., 4].astype(float) - 1000) / 1000, 0, 1) * 255)


def test_random_pictures_of_bands_have_the_size_of_pictures():
    from onnx_xcam.feeds import example_feeds
    from onnx_xcam.runtime import TensorInfo

    info = TensorInfo("x", ("N", 13, "H", "W"), np.dtype(np.float32))
    feeds = example_feeds([info], [], None, np.random.default_rng(0), size=(32, 48), images=2)
    assert feeds["x"].shape == (2, 13, 32, 48)
