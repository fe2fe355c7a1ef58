"""Preprocessing: geometry, resampling, values, and the files that describe it."""

import json

import cv2
import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from onnx_xcam.errors import InputError, PreprocessError
from onnx_xcam.images import (
    DEFAULT_SIZE,
    PRESETS,
    InputSpec,
    Placement,
    Preprocess,
    preprocess_image,
)
from onnx_xcam.images.resize import _nearest, resize_window
from onnx_xcam.producers.stated import load_preprocess

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, (60, 80, 3), np.uint8)


def spec(dtype="float32", layout="NCHW", channels=3, height=224, width=224) -> InputSpec:
    return InputSpec("image", np.dtype(dtype), layout, channels, height, width)


# --- the model's input ---


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((1, 3, 224, 192), None, ("NCHW", 3, 224, 192)),
        (("N", 3, "H", "W"), None, ("NCHW", 3, None, None)),
        ((1, 224, 192, 3), None, ("NHWC", 3, 224, 192)),
        ((None, None, None, 3), None, ("NHWC", 3, None, None)),
        ((1, 1, 28, 28), None, ("NCHW", 1, 28, 28)),
        ((1, 28, 28, 1), None, ("NHWC", 1, 28, 28)),
        ((1, 3, 64, 3), None, ("NCHW", 3, 64, 3)),
        ((1, 3, 64, 3), "NHWC", ("NHWC", 3, 3, 64)),
        ((1, "C", "H", "W"), None, ("NCHW", 3, None, None)),
        ((1, "H", "W", "C"), "NHWC", ("NHWC", 3, None, None)),
        ((1, 3, -1, 0), None, ("NCHW", 3, None, None)),
        ((1, 4, 224, 192), None, ("NCHW", 4, 224, 192)),
        ((1, 13, 64, 64), None, ("NCHW", 13, 64, 64)),
        ((1, 64, 64, 13), None, ("NHWC", 13, 64, 64)),
        ((1, 200, 11, 11), None, ("NCHW", 200, 11, 11)),
        ((1, 13, 64, 80), None, ("NCHW", 13, 64, 80)),
        ((1, 64, 80, 13), None, ("NHWC", 13, 64, 80)),
        (("N", 6, "H", "W"), None, ("NCHW", 6, None, None)),
        (("N", "H", "W", 6), None, ("NHWC", 6, None, None)),
        (("N", "C", 64, 64), None, ("NCHW", 3, 64, 64)),
        (("N", "C", 224, 192), None, ("NCHW", 3, 224, 192)),
        (("N", 64, 64, "C"), None, ("NHWC", 3, 64, 64)),
        (("N", "H", 64, 13), None, ("NHWC", 13, None, 64)),
    ],
)
def test_input_spec_from_shape(shape, layout, expected):
    got = InputSpec.from_shape("x", np.float16, shape, layout)
    assert (got.layout, got.channels, got.height, got.width) == expected
    assert got.dtype == np.float16


@pytest.mark.parametrize("shape", [(1, 3), (3, 224, 224), (1, 5, 7, 7), (1, 2, 3, 4, 5), ()])
def test_inputs_that_take_no_image(shape):
    with pytest.raises(InputError, match=r"'x'.*image input has"):
        InputSpec.from_shape("x", np.float32, shape)


@pytest.mark.parametrize(
    ("own", "height", "width", "expected", "assumed"),
    [
        (None, 224, 192, (224, 192), False),
        ((224, 192), 224, 192, (224, 192), False),
        ((300, 200), None, None, (300, 200), False),
        ((300, 200), 300, None, (300, 200), False),
        (None, None, None, (DEFAULT_SIZE, DEFAULT_SIZE), True),
        (None, 96, None, (96, 96), True),
        (None, None, 64, (64, 64), True),
    ],
)
def test_input_size(own, height, width, expected, assumed):
    preprocess, target = Preprocess(size=own), spec(height=height, width=width)
    assert preprocess.input_size(target) == expected
    assert preprocess.size_is_assumed(target) is assumed


def test_a_size_that_contradicts_the_model():
    with pytest.raises(PreprocessError, match=r"size 256x256 .*'image' is fixed to 224x\?"):
        Preprocess(size=(256, 256)).input_size(spec(width=None))


# --- geometry ---


@pytest.mark.parametrize(
    ("preprocess", "photo", "target", "scaled", "offset"),
    [
        (Preprocess(), (300, 451), (224, 224), (224, 224), (0, 0)),
        # torchvision: Resize(256) gives 256 x int(256 * 451 / 300), CenterCrop(224) starts at round(diff / 2)
        (Preprocess(resize="crop", crop_fraction=0.875), (300, 451), (224, 224), (256, 384), (16, 80)),
        (Preprocess(resize="crop", crop_fraction=0.875), (451, 300), (224, 224), (384, 256), (80, 16)),
        (Preprocess(resize="crop", crop_fraction=0.875), (300, 453), (224, 224), (256, 386), (16, 81)),
        # an odd difference is halved to the even number
        (Preprocess(resize="crop", crop_fraction=0.875), (300, 454), (224, 224), (256, 387), (16, 82)),
        (Preprocess(resize="crop", crop_fraction=0.875), (300, 452), (224, 224), (256, 385), (16, 80)),
        (Preprocess(resize="crop", crop_fraction=0.9033), (100, 100), (224, 224), (247, 247), (12, 12)),  # 247.98
        (Preprocess(resize="crop", crop_fraction=0.9), (100, 100), (224, 224), (248, 248), (12, 12)),
        (Preprocess(resize="crop"), (100, 300), (50, 200), (66, 200), (8, 0)),
        (Preprocess(crop_fraction=0.5), (300, 451), (100, 60), (200, 120), (50, 30)),
        (Preprocess(resize="letterbox"), (300, 451), (224, 224), (149, 224), (-37, 0)),
        (Preprocess(resize="letterbox"), (1080, 810), (640, 640), (640, 480), (0, -80)),
        (Preprocess(resize="letterbox", crop_fraction=0.5), (100, 50), (50, 50), (100, 50), (25, 0)),
        (Preprocess(resize="letterbox"), (1, 60000), (224, 224), (1, 224), (-111, 0)),
        (Preprocess(resize="crop"), (1, 60000), (224, 224), (224, 13440000), (0, 6719888)),
        (Preprocess(resize="crop"), (7, 7), (224, 224), (224, 224), (0, 0)),
    ],
)
def test_placement(preprocess, photo, target, scaled, offset):
    assert preprocess.placement(photo, target) == Placement(photo, target, scaled, offset)


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("photo", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_extreme_photos(resize, photo):
    image = np.full((*photo, 3), 200, np.uint8)
    tensor, _ = preprocess_image(image, Preprocess(resize=resize, pad_value=200), spec(height=32, width=32))
    np.testing.assert_array_equal(tensor, np.full((3, 32, 32), 200, np.float32))


def test_letterbox_is_padded_around_the_photo():
    image = np.full((20, 40, 3), 200, np.uint8)
    tensor, _ = preprocess_image(image, Preprocess(resize="letterbox", pad_value=114), spec(height=40, width=40))
    expected = np.full((3, 40, 40), 114, np.float32)
    expected[:, 10:30] = 200
    np.testing.assert_array_equal(tensor, expected)


def test_crop_of_the_photos_own_size_copies_pixels():
    tensor, _ = preprocess_image(NOISE, Preprocess(resize="crop", crop_fraction=0.5), spec(height=30, width=40))
    np.testing.assert_array_equal(tensor, NOISE[15:45, 20:60].transpose(2, 0, 1))


# --- resampling ---

# Image.fromarray(pixels).resize((3, 4), filter) of Pillow 13, red channel
PIXELS = (np.arange(9 * 7 * 3).reshape(9, 7, 3) * 37 % 256).astype(np.uint8)
PILLOW = {
    "nearest": [[120, 86, 52], [138, 104, 70], [156, 122, 88], [174, 140, 106]],
    "linear": [[102, 144, 121], [107, 148, 140], [88, 125, 160], [105, 119, 158]],
    "cubic": [[98, 156, 116], [103, 157, 137], [80, 124, 167], [104, 114, 163]],
    "lanczos": [[99, 162, 112], [102, 160, 135], [73, 125, 175], [104, 113, 166]],
}


@pytest.mark.parametrize("interpolation", PILLOW)
def test_shrinking_agrees_with_pillow(interpolation):
    got = resize_window(PIXELS, (4, 3), (0, 0, 4, 3), interpolation)
    np.testing.assert_array_equal(got[..., 0], PILLOW[interpolation])


@pytest.mark.parametrize("size", [(17, 23), (60, 31), (130, 200), (1, 1), (61, 81)])
@pytest.mark.parametrize(
    ("interpolation", "flag"),
    [("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC), ("lanczos", cv2.INTER_LANCZOS4)],
)
def test_without_antialias_it_is_opencv(interpolation, flag, size):
    got = resize_window(NOISE, size, (0, 0, *size), interpolation, antialias=False)
    np.testing.assert_array_equal(got, cv2.resize(NOISE, size[::-1], interpolation=flag))


@pytest.mark.parametrize("size", [(17, 23), (60, 31), (130, 200), (1, 1), (61, 81), (36, 48), (28, 24)])
def test_nearest_takes_the_pixel_that_pillow_and_opencv_take(size):
    """In 28 x 24 some centres fall between two pixels."""
    window = (0, 0, *size)
    by_pillow = np.asarray(Image.fromarray(NOISE).resize(size[::-1], Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_window(NOISE, size, window, "nearest"), by_pillow)
    by_opencv = cv2.resize(NOISE, size[::-1], interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(resize_window(NOISE, size, window, "nearest", antialias=False), by_opencv)


def test_nearest_of_every_size_is_that_of_pillow():
    line = np.arange(224 * 3, dtype=np.uint16).astype(np.int32)[None]
    for target in range(1, 2 * line.shape[1]):
        theirs = np.asarray(Image.fromarray(line).resize((target, 1), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(_nearest(line.shape[1], target, 0, target), theirs[0])
        np.testing.assert_array_equal(_nearest(line.shape[1], target, target // 3, target), theirs[0, target // 3 :])


def test_nearest_far_out_in_a_very_long_picture_takes_little_memory():
    source, target, first = 2**20, 224 * 2**20, 3 * 2**20 + 77
    whole = np.cumsum(np.append(source / target / 2, np.full(first + 9, source / target))).astype(int)
    np.testing.assert_array_equal(_nearest(source, target, first, first + 10), whole[first : first + 10])


def cover(source: int, target: int) -> np.ndarray:
    """What share of each output every input has: [target, source]."""
    edges = np.arange(target + 1)[:, None] * source / target
    inputs = np.arange(source)
    shares = np.minimum(edges[1:], inputs + 1) - np.maximum(edges[:-1], inputs)
    return np.clip(shares, 0, None) * target / source


@pytest.mark.parametrize("size", [(17, 23), (20, 40), (1, 1), (59, 79)])
def test_area_is_the_mean_of_what_is_covered(size):
    got = resize_window(NOISE, size, (0, 0, *size), "area")
    np.testing.assert_array_equal(got, cv2.resize(NOISE, size[::-1], interpolation=cv2.INTER_AREA))
    rows, columns = (cover(a, b) for a, b in zip((60, 80), size, strict=True))
    means = np.einsum("ih,jw,hwc->ijc", rows, columns, NOISE.astype(float))
    np.testing.assert_allclose(got, means, atol=0.51)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_a_window_is_part_of_the_whole(interpolation, antialias):
    for scaled in ((25, 33), (130, 170)):
        whole = resize_window(NOISE, scaled, (0, 0, *scaled), interpolation, antialias=antialias)
        window = resize_window(NOISE, scaled, (3, 9, 20, 28), interpolation, antialias=antialias)
        # Pillow keeps the window's edges in float32, which now and then tips a rounding.
        by_pillow = antialias and interpolation not in ("nearest", "area")
        np.testing.assert_allclose(window.astype(int), whole[3:20, 9:28], rtol=0, atol=1 if by_pillow else 0)


@pytest.mark.parametrize(("interpolation", "antialias"), [("area", True), ("linear", False)])
def test_a_whole_that_opencv_cannot_make_is_refused(interpolation, antialias):
    preprocess = Preprocess(resize="crop", interpolation=interpolation, antialias=antialias)
    with pytest.raises(PreprocessError, match=r"1x60000 .* scaled to 224x13440000 before .*antialias true"):
        preprocess_image(np.zeros((1, 60000, 3), np.uint8), preprocess, spec())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_an_even_picture_stays_even(interpolation, antialias):
    image = np.full((31, 47, 3), 255, np.uint8)
    for scaled in ((10, 10), (100, 90), (31, 90)):
        got = resize_window(image, scaled, (0, 0, *scaled), interpolation, antialias=antialias)
        assert np.all(got == 255)


# --- values ---


def test_formula_and_channel_order():
    image = np.zeros((1, 1, 3), np.uint8)
    image[0, 0] = (10, 20, 30)
    preprocess = Preprocess(scale=0.5, mean=(1, 2, 3), std=(2, 4, 8))
    at = spec(height=1, width=1)
    rgb, _ = preprocess_image(image, preprocess, at)
    np.testing.assert_array_equal(rgb[:, 0, 0], [(5 - 1) / 2, (10 - 2) / 4, (15 - 3) / 8])
    bgr, _ = preprocess_image(image, preprocess.replace(channels="BGR"), at)
    np.testing.assert_array_equal(bgr[:, 0, 0], [(15 - 1) / 2, (10 - 2) / 4, (5 - 3) / 8])
    grey, _ = preprocess_image(image, Preprocess(channels="GRAY"), spec(channels=1, height=1, width=1))
    np.testing.assert_array_equal(grey, [[[round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)]]])


def test_imagenet_is_torchvisions():
    image = RNG.integers(0, 256, (256, 256, 3), np.uint8)
    tensor, _ = preprocess_image(image, PRESETS["imagenet"], spec())
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (image[16:240, 16:240] / 255 - mean) / std
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, expected.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [
        ("inception", [-1] * 3, [1] * 3),
        ("caffe", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
        ("unit", [0] * 3, [1] * 3),
        ("raw", [0] * 3, [255] * 3),
        ("yolo", [0] * 3, [1] * 3),
        ("gray", [0], [1]),
        ("clip", [-1.792263, -1.752097, -1.480220], [1.930336, 2.074884, 2.145897]),
        ("imagenet", [-2.117904, -2.035714, -1.804444], [2.248908, 2.428571, 2.640000]),
    ],
)
def test_preset_ranges(preset, low, high):
    at = spec(channels=len(low), height=8, width=8)
    for level, expected in ((0, low), (255, high)):
        tensor, _ = preprocess_image(np.full((8, 8, 3), level, np.uint8), PRESETS[preset], at)
        np.testing.assert_allclose(tensor[:, 3, 3], expected, atol=2e-6)


def test_every_preset_has_a_range_above():
    assert set(PRESETS) == {"imagenet", "inception", "caffe", "clip", "yolo", "raw", "unit", "gray"}


def test_layout_and_contiguity():
    planes, _ = preprocess_image(NOISE, Preprocess(), spec(height=60, width=80))
    pixels, _ = preprocess_image(NOISE, Preprocess(), spec(layout="NHWC", height=60, width=80))
    np.testing.assert_array_equal(pixels, NOISE)
    np.testing.assert_array_equal(planes, NOISE.transpose(2, 0, 1))
    assert planes.flags.c_contiguous
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floating_dtypes_round_once(dtype):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    tensor, _ = preprocess_image(ramp, PRESETS["imagenet"].replace(crop_fraction=1), spec(dtype, height=1, width=256))
    expected = ((np.arange(256) * (1 / 255) - 0.485) / 0.229).astype(dtype)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[0, 0], expected)


def test_integer_inputs():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    raw, _ = preprocess_image(ramp, PRESETS["raw"], spec("uint8", height=1, width=256))
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw[1, 0], np.arange(256))
    signed, _ = preprocess_image(ramp, Preprocess(mean=128), spec("int8", height=1, width=256))
    np.testing.assert_array_equal(signed[2, 0], np.arange(-128, 128))


@pytest.mark.parametrize(
    ("preprocess", "dtype"),
    [
        (PRESETS["imagenet"], "uint8"),
        (PRESETS["imagenet"], "int8"),
        (PRESETS["unit"], "uint8"),
        (PRESETS["raw"], "int8"),
        (Preprocess(scale=1000), "float16"),
        (PRESETS["raw"], "bool"),
    ],
)
def test_values_that_the_dtype_cannot_carry(preprocess, dtype):
    with pytest.raises(PreprocessError, match=f"'image' holds {dtype}, which cannot carry"):
        preprocess_image(NOISE, preprocess, spec(dtype))


@pytest.mark.parametrize(
    ("preprocess", "at", "message"),
    [
        (Preprocess(), spec(channels=1), "makes 3 channel.*has 1; say channels GRAY"),
        (PRESETS["gray"], spec(), "makes 1 channel.*has 3; say channels RGB or BGR"),
        (Preprocess(channels="GRAY", mean=(1, 2, 3)), spec(channels=1), "mean has 3 values for 1"),
        (Preprocess(layout="NHWC"), spec(), "layout NHWC, but the model's input 'image' is NCHW"),
        (Preprocess(size=(100, 100)), spec(), "fixed to 224x224"),
        (Preprocess(size=(2**20, 2**20)), spec(height=None, width=None), "beyond the limit"),
    ],
)
def test_preprocessing_that_contradicts_the_model(preprocess, at, message):
    with pytest.raises(PreprocessError, match=message):
        preprocess_image(NOISE, preprocess, at)


def test_the_photo_is_never_changed():
    image = NOISE.copy()
    image.flags.writeable = False
    for preprocess in PRESETS.values():
        preprocess_image(image, preprocess, spec(channels=1 if preprocess.channels == "GRAY" else 3))
    np.testing.assert_array_equal(image, NOISE)


# --- as data ---


@pytest.mark.parametrize("name", PRESETS)
def test_dict_round_trip(name):
    data = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert Preprocess.from_dict(data) == PRESETS[name]
    assert load_preprocess(data) == PRESETS[name]
    assert load_preprocess(name) == PRESETS[name]


def test_from_dict_is_lenient_in_form():
    got = Preprocess.from_dict(
        {
            "size": 96,
            "scale": "1/255",
            "mean": 0.5,
            "std": ["1/2", 0.25, 1],
            "interpolation": "Bicubic",
            "channels": "bgr",
        }
    )
    assert got == Preprocess(
        size=(96, 96), scale=1 / 255, mean=(0.5,), std=(0.5, 0.25, 1.0), interpolation="cubic", channels="BGR"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"interpolaton": "linear"}, "unknown setting 'interpolaton'; did you mean interpolation"),
        ({"zzz": 1}, "unknown setting 'zzz'; known are size, resize"),
        ({3: 1}, "unknown setting 3"),
        ({"size": [224]}, "size is .*height, width"),
        ({"size": 0}, "size is 0"),
        ({"size": [224, 2.5]}, "size is"),
        ({"size": "224"}, "size is '224'"),
        ({"size": True}, "size is True"),
        ({"resize": "crp"}, "resize is 'crp'; it must be one of stretch, crop, letterbox"),
        ({"resize": None}, "resize is None"),
        ({"crop_fraction": 0}, "crop_fraction is 0"),
        ({"crop_fraction": 1.01}, "crop_fraction is 1.01"),
        ({"interpolation": 2}, "interpolation is 2"),
        ({"antialias": "yes"}, "antialias is 'yes'; it must be true or false"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": "1/0"}, "scale is '1/0'"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"scale": True}, "scale is True"),
        ({"mean": []}, "mean is"),
        ({"mean": "abc"}, "mean is 'abc'"),
        ({"mean": [0, 0, float("nan")]}, "mean is"),
        ({"std": [1, 0, 1]}, "std is .*none of them 0"),
        ({"channels": "RGBA"}, "channels is 'RGBA'"),
        ({"pad_value": 256}, "pad_value is 256"),
        ({"pad_value": "x"}, "pad_value is"),
        ({"layout": "NCWH"}, "layout is 'NCWH'"),
    ],
)
def test_wrong_settings(data, message):
    with pytest.raises(PreprocessError, match=rf"^my\.json: {message}"):
        Preprocess.from_dict(data, "my.json")
    if all(isinstance(key, str) for key in data) and data.keys() <= Preprocess().to_dict().keys():
        with pytest.raises(PreprocessError, match=message):
            Preprocess(**data)


def test_files(tmp_path):
    yaml_file = tmp_path / "мой.yaml"
    yaml_file.write_text("preset: imagenet\nsize: [299, 299]\nscale: 1/127.5  # fraction\n", encoding="utf-8")
    assert load_preprocess(str(yaml_file)) == PRESETS["imagenet"].replace(size=(299, 299), scale=1 / 127.5)
    json_file = tmp_path / "p.json"
    json_file.write_text("\ufeff" + json.dumps({"resize": "crop"}), encoding="utf-8")
    assert load_preprocess(json_file) == Preprocess(resize="crop")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{", "p.json: not valid JSON"),
        ("p.yaml", "a: [", "p.yaml: not valid YAML"),
        ("p.yaml", "!!python/object/apply:os.getcwd []", "p.yaml: not valid YAML"),
        ("p.json", "[1]", "p.json: must hold settings by name.*it holds list"),
        ("p.yml", "", "it holds NoneType"),
        ("p.json", '{"preset": "imagnet"}', "p.json: preset is 'imagnet'; did you mean imagenet"),
        ("p.json", '{"meen": 1}', "p.json: unknown setting 'meen'; did you mean mean"),
        ("p.json", '{"preset": ["raw"]}', "p.json: preset is"),
    ],
)
def test_wrong_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(PreprocessError, match=message):
        load_preprocess(tmp_path / name)


def test_no_preset_and_no_file(tmp_path):
    with pytest.raises(PreprocessError, match=r"'imagnet' is neither a preset nor .*did you mean imagenet"):
        load_preprocess("imagnet")
    with pytest.raises(PreprocessError, match="no such preprocessing file"):
        load_preprocess(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(PreprocessError, match="cannot be read"):
        load_preprocess(tmp_path / "folder.json")
    (tmp_path / "latin.yaml").write_bytes(b"resize: \xe9")
    with pytest.raises(PreprocessError, match=r"not a text file in UTF-8: .* at byte 8"):
        load_preprocess(tmp_path / "latin.yaml")


def test_summary_says_everything():
    assert PRESETS["imagenet"].summary(spec()) == (
        "224x224, centre crop 0.875, linear, RGB, values (pixel / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]"
    )
    assert PRESETS["raw"].summary(spec(height=8, width=9)) == "8x9, stretched, linear, RGB, values 0..255"
    assert PRESETS["yolo"].summary(spec()).startswith("224x224, letterbox (padded with 114), linear, RGB, ")


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (np.uint8, r"say scale 1, mean 0 and std 1$"),
        (np.int16, r"say scale 1, .* at most 128\.498 \(0 to 32767\), .* white 255$"),
    ],
)
def test_values_that_an_input_of_whole_numbers_cannot_hold_are_refused_with_what_it_can(dtype, advice):
    grey = Preprocess(channels="GRAY", scale=257)
    narrow = InputSpec("x", np.dtype(dtype), "NCHW", 1, 8, 8)
    with pytest.raises(PreprocessError, match=advice):
        preprocess_image(NOISE, grey, narrow)
    for scale in (1, 128.498) if dtype == np.int16 else (1,):
        preprocess_image(NOISE, grey.replace(scale=scale), narrow)


@pytest.mark.parametrize(
    ("photo", "resize", "antialias", "scaled", "offset"),
    [
        ((427, 640), "letterbox", False, (96 * 427 / 640, 96), (-16, 0)),
        ((427, 640), "crop", True, (96, 96 * 640 / 427), (0, (96 * 640 / 427 - 96) / 2)),
        ((427, 640), "crop", False, (96, 96 * 640 / 427), (0, 24)),
        ((96, 192), "crop", True, (96, 192), (0, 48)),
    ],
)
def test_exact_sides(photo, resize, antialias, scaled, offset):
    preprocess = Preprocess(resize=resize, size_rounding="exact", antialias=antialias)
    placement = preprocess.placement(photo, (96, 96))
    assert placement.scaled == pytest.approx(scaled, abs=1e-9)
    assert placement.offset == pytest.approx(offset, abs=1e-9)


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "lanczos", "area"])
@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("antialias", [True, False])
def test_exact_sides_of_any_photo(interpolation, resize, antialias):
    spec = InputSpec("x", np.dtype(np.float32), "NCHW", 3, 11, 13)
    preprocess = Preprocess(resize=resize, size_rounding="exact", antialias=antialias, interpolation=interpolation)
    for height in range(7, 31, 3):
        for width in range(6, 31, 4):
            photo = np.full((height, width, 3), 200, np.uint8)
            item, _ = preprocess_image(photo, preprocess, spec)
            inside = item[item != 0]
            assert item.shape == (3, 11, 13) and np.abs(inside - 200).max() <= 1
            assert resize == "letterbox" or len(inside) == item.size
