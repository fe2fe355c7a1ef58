"""Boxes and points go from the photo into the model's input and back, by every geometry of the preprocessing."""

import cv2
import numpy as np
import pytest

from onnx_xcam.images import InputSpec, Placement, Preprocess, preprocess_image

GEOMETRIES = {
    "stretched": Preprocess(),
    "stretched and cropped": Preprocess(crop_fraction=0.8),
    "crop": Preprocess(resize="crop"),
    "crop 0.875": Preprocess(resize="crop", crop_fraction=0.875),
    "crop after resize": Preprocess(resize="crop", resize_size=(150, 150)),
    "crop rounded down": Preprocess(resize="crop", offset_rounding="floor", crop_fraction=0.9),
    "crop of exact size": Preprocess(resize="crop", size_rounding="exact", interpolation="cubic"),
    "crop of exact size by OpenCV": Preprocess(resize="crop", size_rounding="exact", antialias=False),
    "crop of exact size by areas": Preprocess(resize="crop", size_rounding="exact", interpolation="area"),
    "letterbox": Preprocess(resize="letterbox"),
    "letterbox rounded down": Preprocess(resize="letterbox", size_rounding="floor"),
    "letterbox of exact size": Preprocess(resize="letterbox", size_rounding="exact"),
    "letterbox at the upper left": Preprocess(resize="letterbox", align="start"),
    "letterbox by OpenCV": Preprocess(resize="letterbox", antialias=False),
    "letterbox within less": Preprocess(resize="letterbox", resize_size=(100, 100)),
    "part first": Preprocess(resize="crop", crop_first=True, crop_fraction=0.875),
    "part of the whole first": Preprocess(crop_first=True, crop_fraction=0.7),
    "part first, rounded down": Preprocess(resize="crop", crop_first=True, offset_rounding="floor"),
}
TARGET = (128, 160)
PHOTOS = [(200, 320), (320, 200), (97, 131), (451, 300)]

geometries = pytest.mark.parametrize("preprocess", GEOMETRIES.values(), ids=GEOMETRIES)
photos = pytest.mark.parametrize("photo", PHOTOS, ids=lambda size: "x".join(map(str, size)))


def measured_box(plane: np.ndarray) -> np.ndarray:
    """Where a bright box lies on a dark picture [h,w]: its sides by the light across it, its middle by their centre."""
    light = plane.astype(np.float64) / plane.max()
    columns, rows = light.sum(0), light.sum(1)
    width, height = rows.max(), columns.max()
    x, y = ((np.arange(len(sums)) + 0.5) @ sums / sums.sum() for sums in (columns, rows))
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


@geometries
@photos
def test_a_box_lies_in_the_input_where_its_pixels_do(preprocess, photo):
    """A white box is painted into a black photo, the photo is prepared, and the box is measured in the result.

    Its edges are soft, so that the light of a photo that is resized by any rule is what it was.
    """
    height, width = photo
    box = [round(width * 0.41), round(height * 0.36), round(width * 0.62), round(height * 0.58)]
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    image = cv2.GaussianBlur(image, (0, 0), 2.5)
    spec = InputSpec("x", np.dtype(np.float32), "NCHW", 3, *TARGET)
    tensor, placement = preprocess_image(image, preprocess, spec)
    expected = measured_box(tensor[0])
    got = placement.to_model(box)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.04)
    np.testing.assert_allclose(placement.to_photo(got), box, rtol=0, atol=1e-3)


@geometries
@photos
def test_coordinates_come_back(preprocess, photo):
    placement = preprocess.placement(photo, TARGET)
    boxes = np.random.default_rng(1).uniform(-50, 500, (2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(placement.to_photo(placement.to_model(boxes)), boxes, rtol=0, atol=2e-4)
    np.testing.assert_allclose(placement.to_model(placement.to_photo(boxes)), boxes, rtol=0, atol=2e-4)
    np.testing.assert_array_equal(placement.to_photo(boxes)[..., 2:], placement.to_photo(boxes[..., 2:]))


@geometries
@photos
def test_the_whole_input_is_the_placements_box(preprocess, photo):
    placement = preprocess.placement(photo, TARGET)
    top, left, bottom, right = placement.box
    whole = placement.to_photo([0, 0, TARGET[1], TARGET[0]])
    np.testing.assert_allclose(whole, [left, top, right, bottom], rtol=1e-6, atol=1e-4)


def test_by_hand():
    """A photo of 100x50 is doubled and laid into the middle of 200x200, or at its upper left."""
    middle = Preprocess(resize="letterbox").placement((50, 100), (200, 200))
    np.testing.assert_array_equal(
        middle.to_model([[0, 0, 100, 50], [10, 20, 30, 40]]), [[0, 50, 200, 150], [20, 90, 60, 130]]
    )
    np.testing.assert_array_equal(middle.to_photo([20, 90]), [10, 20])
    start = Preprocess(resize="letterbox", align="start").placement((50, 100), (200, 200))
    np.testing.assert_array_equal(start.to_model([10, 20, 30, 40]), [20, 40, 60, 80])
    part = Placement.of_part((100, 100), (200, 200), (25, 50, 75, 100))
    np.testing.assert_array_equal(part.to_model([50, 25, 75, 50]), [0, 0, 100, 100])


def test_boxes_are_cut_off_at_the_photos_edge():
    placement = Preprocess(resize="letterbox").placement((50, 100), (200, 200))
    got = placement.within_photo(placement.to_photo([[-10, 10, 400, 90], [20, 90, 60, 130]]))
    np.testing.assert_array_equal(got, [[0, 0, 100, 20], [10, 20, 30, 40]])
    assert got.dtype == np.float32


def test_no_coordinates_are_none():
    placement = Preprocess().placement((50, 100), (200, 200))
    for shape in ((0, 4), (3, 0, 4), (2, 0)):
        assert placement.to_photo(np.zeros(shape)).shape == shape


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_coordinates_must_be_pairs(shape):
    placement = Preprocess().placement((50, 100), (200, 200))
    for move in (placement.to_photo, placement.to_model, placement.within_photo):
        with pytest.raises(ValueError, match="must be pairs"):
            move(np.zeros(shape))
