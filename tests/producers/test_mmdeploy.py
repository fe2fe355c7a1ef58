"""What a `pipeline.json` of MMDeploy states."""

import json
from pathlib import Path

import pytest

from helpers.producer_files import MMDEPLOY_TRANSFORMS as TRANSFORMS
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.mmdeploy import DIALECT
from onnx_xcam.producers.statement import Statement


def stated(transforms: object) -> Statement:
    """Return what a pipeline with these transforms states."""
    preprocess = {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": transforms}
    infer = {"name": "imageclassifier", "type": "Task", "module": "Net", "input_map": {"img": "input"}}
    data = {"pipeline": {"input": ["img"], "output": ["post_output"], "tasks": [infer, preprocess]}}
    file = DescriptionFile(Path("pipeline.json"), "pipeline.json", json.dumps(data), data)
    assert DIALECT.recognises(file)
    return DIALECT.read(file)


def test_a_classifier():
    statement = stated(TRANSFORMS)
    assert statement.settings == {
        "size": (224, 224),
        "resize": "crop",
        "resize_size": (256, 256),
        "size_rounding": "floor",
        "offset_rounding": "round",
        "align": "start",
        "interpolation": "linear",
        "antialias": False,
        "scale": 1.0,
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "channels": "RGB",
    }
    assert (statement.labels, statement.remarks) == (None, ())


def test_without_to_rgb_the_model_gets_bgr():
    normal = {"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1], "to_rgb": False}
    assert stated([{"type": "LoadImageFromFile"}, normal]).settings["channels"] == "BGR"
    assert stated([{"type": "LoadImageFromFile", "channel_order": "rgb"}, normal]).settings["channels"] == "RGB"
    assert stated([{"type": "LoadImageFromFile", "color_type": "grayscale"}, normal]).settings["channels"] == "GRAY"


def test_transforms_within_lift_are_followed():
    assert stated([{"type": "Lift", "transforms": TRANSFORMS}]).settings == stated(TRANSFORMS).settings


def test_borders_before_and_after_normalising():
    resize = {"type": "Resize", "size": [320, 320], "keep_ratio": True}
    normal = TRANSFORMS[3]
    before = stated([resize, {"type": "Pad", "size": [320, 320], "pad_val": {"img": [114, 114, 114]}}, normal])
    assert before.settings["pad_value"] == 114
    assert not before.remarks
    after = stated([resize, normal, {"type": "Pad", "size_divisor": 32}])
    assert after.settings["pad_value"] == pytest.approx((123.675, 116.28, 103.53))
    (remark,) = after.remarks
    assert "gives each photo a size of its own" in remark
    square = stated([resize, {"type": "Pad", "pad_to_square": True}])
    assert square.settings["size"] == (320, 320) and not square.remarks


def test_a_letterbox():
    statement = stated(
        [
            {"type": "LetterResize", "scale": [384, 640], "pad_val": {"img": 114}, "allow_scale_up": False},
            TRANSFORMS[3],
        ]
    )
    settings = statement.settings
    assert (settings["size"], settings["resize"], settings["align"]) == ((384, 640), "letterbox", "centre")
    assert settings["pad_value"] == 114
    (remark,) = statement.remarks
    assert "allow_scale_up" in remark


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"type": "TenCrop"}], "transforms: TenCrop is not supported"),
        ([{}], "transforms: None is not supported"),
        ([3], "transforms holds 3"),
        ([{"type": "Resize", "size": [9, 9], "interpolation": "hamming"}], "interpolation 'hamming'"),
        ([{"type": "Resize"}], "states no size"),
        ([{"type": "Resize", "size": [256, -1]}], "no crop follows"),
        ([{"type": "LetterResize", "scale": 64, "use_mini_pad": True}], "use_mini_pad"),
        ([{"type": "Pad", "size": [9, 9], "orientation_agnostic": True}], "orientation_agnostic"),
        ([{"type": "Pad", "size_divisor": 32}], "after a resize only"),
        ([{"type": "Normalize", "mean": [0, 0, 0], "std": [0, 1, 1]}], "std is"),
    ],
)
def test_what_cannot_be_followed_is_refused(transforms: list[object], message: str):
    with pytest.raises(PreprocessError) as error:
        stated(transforms)
    assert message in str(error.value)


@pytest.mark.parametrize("data", [[], 3, {}, {"pipeline": []}, {"pipeline": {"tasks": [{"module": "Net"}, 3]}}])
def test_another_pipeline_is_not_recognised(data: object):
    assert not DIALECT.recognises(DescriptionFile(Path("pipeline.json"), "pipeline.json", "", data))
