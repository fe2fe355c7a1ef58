"""timm's `config.json` beside a model: what it means, and the tensors of the library itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.producers import LARGEST_DIFFERENCE, photos, prepared, save_classifier
from helpers.producers_named import timm_difference, timm_kinds, timm_settings
from onnx_xcam import Explainer
from onnx_xcam.errors import LabelsError, PreprocessError
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import timm
from onnx_xcam.producers.named import named

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CONFIG = {
    "input_size": [3, 288, 256],
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "crop_mode": "center",
    "mean": MEAN,
    "std": STD,
    "num_classes": 1000,
}


def described(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    return DescriptionFile.read(path, "'config.json' beside the model")


def settings(tmp_path, data):
    return Preprocess(**timm.read(described(tmp_path, data)).settings)


def test_the_settings_of_a_file(tmp_path):
    expected = Preprocess(
        size=(288, 256),
        resize="crop",
        crop_fraction=0.95,
        size_rounding="round",  # 303 x 269: not a square
        interpolation="cubic",
        scale=1 / 255,
        mean=tuple(MEAN),
        std=tuple(STD),
    )
    assert settings(tmp_path, CONFIG) == expected
    assert settings(tmp_path, {"architecture": "resnet50", "pretrained_cfg": CONFIG}) == expected
    square = CONFIG | {"input_size": [3, 256, 256]}
    assert settings(tmp_path, square) == expected.replace(size=(256, 256), size_rounding=None)
    squash = settings(tmp_path, CONFIG | {"crop_mode": "squash"})
    assert squash == expected.replace(resize="stretch", size_rounding=None)
    border = settings(tmp_path, CONFIG | {"crop_mode": "border"})
    assert border == expected.replace(resize="letterbox", pad_value=(124, 116, 104))


def test_what_is_left_out_is_what_timm_takes_then(tmp_path):
    stated = settings(tmp_path, {"pretrained_cfg": {"crop_pct": None}, "architecture": "x"})
    assert stated == Preprocess(
        size=(224, 224),
        resize="crop",
        crop_fraction=0.875,
        interpolation="cubic",
        scale=1 / 255,
        mean=tuple(MEAN),
        std=tuple(STD),
    )


TEST_SIZE = {"test_input_size": [3, 320, 320], "test_crop_pct": 1.0}


def test_the_size_for_tests_is_that_of_models_that_have_it(tmp_path):
    """A model exported at that size was meant for it; one of another size, or of an open one, was not."""
    stated = timm.read(described(tmp_path, CONFIG | TEST_SIZE))
    assert Preprocess(**stated.settings) == settings(tmp_path, CONFIG)
    for size in ((288, 256), (224, 224), (None, None), (320, None)):
        assert stated.at(size) is stated
    expected = settings(tmp_path, CONFIG).replace(size=(320, 320), crop_fraction=1.0, size_rounding=None)
    assert Preprocess(**stated.at((320, 320)).settings) == expected


def test_a_missing_crop_for_tests_is_the_crop(tmp_path):
    config = CONFIG | {"crop_pct": 0.9, "test_input_size": [3, 320, 320]}
    assert timm.read(described(tmp_path, config)).at((320, 320)).settings["crop_fraction"] == 0.9
    assert timm.read(described(tmp_path, CONFIG | {"test_crop_pct": 1.0})).at_sizes == ()
    assert timm.read(described(tmp_path, CONFIG | TEST_SIZE | {"test_input_size": [3, 288, 256]})).at_sizes == ()


def test_a_crop_above_one_leaves_black_borders(tmp_path):
    stated = settings(tmp_path, CONFIG | {"crop_pct": 1.15, "input_size": [3, 448, 448]})
    assert (stated.resize_size, stated.pad_value, stated.crop_fraction) == ((389, 389), 0, 1.0)
    placement = stated.placement((500, 400), (448, 448))
    assert (placement.scaled, placement.offset) == ((486, 389), (19, -29))


def test_pictures_of_other_channels(tmp_path):
    grey = settings(tmp_path, {"input_size": [1, 28, 28], "mean": [0.1], "std": [0.3], "crop_pct": 1.0})
    assert (grey.channels, grey.mean, grey.std, grey.size) == ("GRAY", (0.1,), (0.3,), (28, 28))
    grey = settings(tmp_path, CONFIG | {"input_size": [1, 28, 28]})
    assert grey.mean == pytest.approx((0.449,)) and grey.std == pytest.approx((0.226,))
    bands = timm.read(described(tmp_path, CONFIG | {"input_size": [13, 64, 64], "mean": [0.1] * 13, "std": [1.0] * 13}))
    assert len(bands.settings["mean"]) == 13 and "channels" not in bands.settings


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        ({"label_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"label_names": {"0": "cat", "2": "dog"}}, ("cat", "", "dog")),
        (
            {"label_names": ["n1", "n2"], "label_descriptions": {"n1": "tench, Tinca tinca"}},
            ("tench, Tinca tinca", "n2"),
        ),
        ({"labels": ["old", "form"]}, ("old", "form")),
        ({"pretrained_cfg": CONFIG | {"label_names": ["a", "b"]}}, ("a", "b")),
        ({"pretrained_cfg": CONFIG | {"label_names": ["a", "b"]}, "label_names": ["c", "d"]}, ("c", "d")),
        ({}, None),
    ],
)
def test_labels(tmp_path, data, labels):
    assert timm.read(described(tmp_path, {"pretrained_cfg": CONFIG} | data)).labels == labels


@pytest.mark.parametrize(
    "data",
    [
        {"model_type": "vit", "image_size": 224, "architectures": ["ViTForImageClassification"]},
        {"do_resize": True, "crop_pct": 0.875, "image_mean": MEAN, "image_std": STD},
        {"input_size": [3, 224, 224], "mean": MEAN, "std": STD, "input_range": [0, 255]},
        {"pretrained_cfg": "resnet50"},
        [CONFIG],
        None,
    ],
)
def test_files_of_others_are_not_taken_for_timm(tmp_path, data):
    assert not timm.recognises(described(tmp_path, data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 224}, r"'config.json' beside the model: input_size is 224; it must be \[channels"),
        ({"input_size": [3, 0, 0]}, r"input_size: size is \[0, 0\]"),
        ({"input_size": [10**9, 224, 224]}, r"input_size is \[1000000000"),
        ({"input_size": [3, 224, 1e300]}, "input_size: size is"),
        ({"test_input_size": [3, 320]}, r"test_input_size is \[3, 320\]; it must be \[channels"),
        ({"test_input_size": [3, 320, 320], "test_crop_pct": "1"}, "crop_pct is '1'; it must be a number"),
        ({"crop_mode": "centre"}, "crop_mode is 'centre'; did you mean center"),
        ({"interpolation": "random"}, "interpolation is 'random'; known are nearest, bilinear, bicubic, lanczos"),
        ({"crop_pct": -1}, "crop_pct is -1; it must be a number above 0"),
        ({"crop_pct": 1e-9}, "crop_pct is 1e-09"),
        ({"mean": ["x"]}, r"mean is \['x'\]"),
        ({"std": [0, 1, 1]}, r"std is \[0, 1, 1\]"),
    ],
)
def test_errors_name_file_and_key(tmp_path, changes, message):
    with pytest.raises(PreprocessError, match=message):
        timm.read(described(tmp_path, CONFIG | changes))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"x": "cat"}, "label_names has the key 'x'; class ids are 0 to 999999"),
        ({"99999999": "cat"}, "label_names has the key '99999999'"),
        ([1, 2], "label_names holds int; each name must be text"),
        ("cat", "label_names is str; it must be a list, or names by class id"),
    ],
)
def test_label_errors_name_file_and_key(tmp_path, names, message):
    with pytest.raises(LabelsError, match=f"'config.json' beside the model: {message}"):
        timm.read(described(tmp_path, {"pretrained_cfg": CONFIG, "label_names": names}))


@pytest.mark.parametrize("folder", [".", "onnx"])
def test_a_config_is_found_beside_the_model(folder, tmp_path):
    """Or in the folder above, for a model in a folder `onnx`."""
    (tmp_path / folder).mkdir(exist_ok=True)
    model = save_classifier(tmp_path / folder / "model.onnx", (1, 3, 96, 96), classes=3)
    config = CONFIG | {"input_size": [3, 96, 96], "crop_mode": "border", "num_classes": 3}
    data = {"architecture": "x", "num_classes": 3, "label_names": ["ant", "bee", "cow"], "pretrained_cfg": config}
    expected = settings(tmp_path, data)  # which writes the file
    explainer = Explainer(model)
    assert explainer.preprocess.replace(size=None) == expected.replace(size=None)
    assert list(explainer.labels) == ["ant", "bee", "cow"]
    (tmp_path / "config.json").write_text(json.dumps(data | {"pretrained_cfg": config | {"crop_mode": "edge"}}))
    with pytest.raises(PreprocessError, match=r"config.json.* pretrained_cfg: crop_mode is 'edge'; known are center"):
        Explainer(model)


MODES = {  # what timm 1.0.31 makes of the first photo: the mean of channel 0 in each quarter of the tensor
    ("center", "bicubic", 0.95, (3, 224, 160)): (-0.2702, -0.8001, -0.1034, -0.6474),
    ("center", "bilinear", 0.875, (3, 224, 224)): (-0.2802, -0.8192, -0.0722, -0.6819),
    ("center", "nearest", 1.0, (3, 96, 96)): (-0.4078, -0.8474, -0.2133, -0.7347),
    ("squash", "nearest", 1.0, (3, 96, 96)): (-0.5541, -0.8598, -0.3813, -0.7845),
    ("border", "nearest", 1.0, (3, 96, 96)): (-0.3681, -0.5745, -0.2557, -0.5241),
    ("center", "lanczos", 0.9, (3, 128, 128)): (-0.3132, -0.8219, -0.1062, -0.6893),
    ("center", "bicubic", 1.15, (3, 320, 320)): (-0.6771, -1.013, -0.5041, -0.9319),
    ("squash", "bicubic", 0.95, (3, 224, 160)): (-0.5109, -0.8573, -0.3357, -0.7786),
    ("squash", "bilinear", 0.875, (3, 224, 224)): (-0.4399, -0.8523, -0.2326, -0.7605),
    ("squash", "bicubic", 1.15, (3, 320, 320)): (-0.9355, -1.1708, -0.8077, -1.115),
    ("border", "bicubic", 0.95, (3, 224, 160)): (-0.2645, -0.4273, -0.1762, -0.3888),
    ("border", "bilinear", 0.875, (3, 224, 224)): (-0.384, -0.6542, -0.2403, -0.5858),
    ("border", "bicubic", 1.15, (3, 320, 320)): (-0.2742, -0.4326, -0.1889, -0.3915),
}


def config_of(mode, interpolation, part, size):
    return CONFIG | {
        "architecture": "x",
        "crop_mode": mode,
        "interpolation": interpolation,
        "crop_pct": part,
        "input_size": list(size),
    }


@pytest.mark.parametrize("kind", MODES, ids=str)
def test_each_mode_gives_the_numbers_of_timm(kind, tmp_path):
    tensor = prepared(settings(tmp_path, config_of(*kind)), photos()[0], (1, *kind[-1]))
    height, width = kind[-1][1] // 2, kind[-1][2] // 2
    parts = [tensor[0, rows, columns] for rows in np.s_[:height, height:] for columns in np.s_[:width, width:]]
    assert [part.mean(dtype=np.float64) for part in parts] == pytest.approx(MODES[kind], abs=0.002)


def test_each_mode_gives_the_tensors_of_timm():
    for kind in MODES:
        config = config_of(*kind)
        assert timm_difference(config, [timm_settings(config)]) <= LARGEST_DIFFERENCE
        config |= {"test_input_size": [3, 256, 192], "test_crop_pct": 0.9}
        assert timm_difference(config, [timm_settings(config, (256, 192))], use_test_size=True) <= LARGEST_DIFFERENCE


@pytest.mark.slow
def test_every_size_for_tests_gives_the_tensors_of_timm():
    kinds = timm_kinds("test_input_size", "test_crop_pct")
    published = {name: config for name, config in kinds.items() if config.get("test_input_size")}
    assert len(published) > 50
    for name, config in published.items():
        size = tuple(config["test_input_size"][1:])
        ours = [timm_settings(config, size), Preprocess(**named(f"timm:{name}").at(size).settings)]
        assert timm_difference(config, ours, use_test_size=True) <= LARGEST_DIFFERENCE, name
