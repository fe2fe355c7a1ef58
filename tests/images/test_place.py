"""The heat map comes back to where it belongs on the photo."""

import cv2
import numpy as np
import pytest

from onnx_xcam.images import InputSpec, Placement, Preprocess, preprocess_image, scale_heatmap

RNG = np.random.default_rng(5)


def slow_place(placement: Placement, map_hw: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """The definition, pixel by pixel: photo pixel centre -> scaled photo -> input -> map, then bilinear."""
    height, width = size or placement.photo
    h, w = map_hw.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = (y + 0.5) / height * placement.scaled[0] - placement.offset[0]
            u = (x + 0.5) / width * placement.scaled[1] - placement.offset[1]
            if not (0 <= v <= placement.input[0] and 0 <= u <= placement.input[1]):
                continue
            v = min(max(v / placement.input[0] * h - 0.5, 0), h - 1)
            u = min(max(u / placement.input[1] * w - 0.5, 0), w - 1)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            above = map_hw[y0, x0] * (1 - (u - x0)) + map_hw[y0, x1] * (u - x0)
            below = map_hw[y1, x0] * (1 - (u - x0)) + map_hw[y1, x1] * (u - x0)
            result[y, x] = above * (1 - (v - y0)) + below * (v - y0)
    return result


@pytest.mark.parametrize("photo", [(30, 40), (40, 17), (9, 50), (1, 1)])
@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(crop_fraction=0.8),
        Preprocess(resize="crop", crop_fraction=0.875),
        Preprocess(resize="letterbox"),
    ],
)
@pytest.mark.parametrize("size", [None, (13, 21)])
def test_place_is_its_definition(photo, preprocess, size):
    placement = preprocess.placement(photo, (24, 24))
    map_hw = RNG.random((5, 7), np.float32)
    before = map_hw.copy()
    got = placement.place(map_hw, size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, slow_place(placement, map_hw, size), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(map_hw, before)


@pytest.mark.parametrize("shape", [(7, 7), (3, 5), (1, 1), (1, 4), (60, 90)])
def test_a_stretched_map_is_opencvs_linear_resize(shape):
    map_hw = RNG.random(shape, np.float32)
    got = Placement((120, 200), (224, 224), (224, 224)).place(map_hw)
    np.testing.assert_allclose(got, cv2.resize(map_hw, (200, 120), interpolation=cv2.INTER_LINEAR), atol=2e-6)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(resize="crop", crop_fraction=0.875),
        Preprocess(resize="letterbox"),
        Preprocess(),
        Preprocess(crop_fraction=0.9),
    ],
)
@pytest.mark.parametrize("photo", [(200, 320), (320, 200), (90, 100), (450, 300)])
def test_a_spot_comes_back_to_where_it_was(preprocess, photo):
    """Preprocess a photo with one bright spot; the input itself, as a map, must put the spot back in its place."""
    y, x = np.mgrid[: photo[0], : photo[1]]
    centre = (photo[0] * 0.45, photo[1] * 0.6)
    spot = 255 * np.exp(-((y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2) / (2 * 12.0**2))
    image = np.repeat(spot.astype(np.uint8)[..., None], 3, axis=2)
    spec = InputSpec("x", np.dtype(np.float32), "NCHW", 3, 224, 224)
    tensor, placement = preprocess_image(image, preprocess, spec)
    back = placement.place(tensor[0])
    weight = back * (back > 60)
    found = ((weight * (y + 0.5)).sum() / weight.sum(), (weight * (x + 0.5)).sum() / weight.sum())
    assert found == pytest.approx(centre, abs=0.35)
    seen = placement.seen()
    np.testing.assert_allclose(back[seen], image[seen][:, 0], atol=12)


def test_crop_sees_the_middle():
    placement = Preprocess(resize="crop", crop_fraction=0.5).placement((100, 200), (50, 50))
    assert placement == Placement((100, 200), (50, 50), (100, 200), (25, 75))
    assert placement.box == (25, 75, 75, 125)
    assert placement.seen_box() == (25, 75, 75, 125)
    assert not placement.sees_all
    placed = placement.place(np.ones((7, 7), np.float32))
    expected = np.zeros((100, 200), np.float32)
    expected[25:75, 75:125] = 1
    np.testing.assert_array_equal(placed, expected)
    np.testing.assert_array_equal(placement.seen(), expected.astype(bool))


def test_letterbox_borders_are_cut_off():
    placement = Preprocess(resize="letterbox").placement((50, 100), (100, 100))
    assert placement.offset == (-25, 0)
    assert placement.box == (-25, 0, 75, 100)
    assert placement.sees_all
    rows = np.repeat(np.array([9.0, 1.0, 2.0, 9.0], np.float32)[:, None], 4, axis=1)  # 9: mostly border
    placed = placement.place(rows)
    # Rows 0..49 of the photo are rows 25..74 of the input: the inner half of the map.
    assert placed[0, 0] == pytest.approx(1 + 8 * (0.5 - 0.5 / 25), abs=1e-5)
    assert placed[12, 50] == pytest.approx(1.0, abs=1e-5)
    assert placed[37, 50] == pytest.approx(2.0, abs=1e-5)


def test_place_at_another_size_sees_the_same_part():
    placement = Preprocess(resize="crop").placement((100, 200), (50, 50))
    assert placement.seen_box((10, 20)) == (0, 5, 10, 15)
    assert placement.place(np.ones((2, 2), np.float32), (10, 20)).sum() == 100


@pytest.mark.parametrize("shape", [(3,), (1, 7, 7), (0, 4)])
def test_place_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"must be \[h,w\]"):
        Placement((4, 4), (4, 4), (4, 4)).place(np.zeros(shape, np.float32))


@pytest.mark.parametrize("photo", [(50, 70), (300, 451), (1, 1), (3, 900)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("odd", [1.0, np.nan, np.inf, -np.inf, 0.0])
def test_a_heatmap_is_the_map_resized_and_scaled_to_the_last_bit(photo, resize, odd):
    """As written first: both axes at once, in one piece, then scaled by the mask, in float64."""
    placement = Preprocess(resize=resize, crop_fraction=0.8).placement(photo, (32, 32))
    map_hw = RNG.random((7, 5)).astype(np.float32) * (odd != 0)
    map_hw[2, 3] = odd

    def lerp(rows, place):
        at = np.clip(place * len(rows) - 0.5, 0, len(rows) - 1)
        low = np.floor(at).astype(int)
        part = (at - low).astype(np.float32)[:, None]
        return rows[low] + part * (rows[np.minimum(low + 1, len(rows) - 1)] - rows[low])

    with np.errstate(invalid="ignore"):
        placed = lerp(lerp(map_hw, placement._axis(0, None)).T, placement._axis(1, None)).T
    seen = placement.seen()
    placed = np.where(seen, placed, 0).astype(np.float32)
    np.testing.assert_array_equal(placement.place(map_hw), placed)
    usable = seen & np.isfinite(placed)
    expected = np.zeros(photo, np.float32)
    if usable.any():
        low, high = (float(value) for value in (placed[usable].min(), placed[usable].max()))
        wide = placed[usable].astype(np.float64)
        expected[usable] = (wide / 2 - low / 2) / (high / 2 - low / 2) if high > low else float(high > 0)
    np.testing.assert_array_equal(placement.heatmap(map_hw), expected)


def test_scale_heatmap_is_the_papers():
    x = RNG.random((6, 8)) * 7 + 3
    got = scale_heatmap(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, (x - x.min()) / (x.max() - x.min()), atol=1e-7)
    assert (got.min(), got.max()) == (0.0, 1.0)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (3.0, 1.0), (1e-30, 1.0), (-2.0, 0.0), (np.nan, 0.0)])
def test_scale_heatmap_of_constant_maps(value, expected):
    np.testing.assert_array_equal(scale_heatmap(np.full((3, 4), value)), np.full((3, 4), expected, np.float32))


def test_scale_heatmap_takes_its_range_from_what_was_seen():
    x = np.array([[0.0, 2.0, 3.0, 4.0, 99.0]])
    seen = np.array([[False, True, True, True, False]])
    np.testing.assert_array_equal(scale_heatmap(x, seen), [[0.0, 0.0, 0.5, 1.0, 0.0]])
    assert not scale_heatmap(x, np.zeros_like(seen)).any()


def test_scale_heatmap_is_never_nan():
    x = np.array([[np.nan, 1.0, np.inf, 3.0, -np.inf]])
    np.testing.assert_array_equal(scale_heatmap(x), [[0.0, 0.0, 0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(scale_heatmap(np.array([[-1e308, 1e308]])), [[0.0, 1.0]])
    np.testing.assert_allclose(scale_heatmap(np.array([[0.0, 2.5e-44, 5e-44]], np.float32)), [[0, 0.5, 1]], atol=0.03)


def test_scale_heatmap_never_changes_its_argument():
    x = np.array([[1.0, 2.0]], np.float32)
    x.flags.writeable = False
    np.testing.assert_array_equal(scale_heatmap(x), [[0.0, 1.0]])
