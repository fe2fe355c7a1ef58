"""What Ultralytics writes into a model's metadata."""

import cv2
import numpy as np
import pytest
import yaml

from helpers.producers import photos, save_classifier, worst_difference
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialects import ultralytics

CLASSIFIER = {
    "description": "Ultralytics YOLO11n-cls model ",
    "author": "Ultralytics",
    "version": "8.4.190",
    "stride": "1",
    "task": "classify",
    "batch": "1",
    "imgsz": "[96, 96]",
    "names": "{0: 'a cat', 1: \"dog's\", 2: 'c', 3: 'd', 4: 'e'}",
    "args": "{'batch': 1, 'fraction': 1.0, 'half': False, 'dynamic': False, 'simplify': True, 'nms': False}",
    "channels": "3",
}
"""The metadata of `yolo export model=yolo11n-cls.yaml format=onnx imgsz=96`, with other names."""
DETECTOR = CLASSIFIER | {"task": "detect", "stride": "32", "imgsz": "[96, 160]", "description": "Ultralytics YOLO11n"}


def test_a_classifier():
    statement = ultralytics.metadata(CLASSIFIER)
    assert statement.settings == {
        **{"size": (96, 96), "resize": "crop", "interpolation": "linear", "scale": 1 / 255, "channels": "RGB"},
    }
    assert statement.labels == ("a cat", "dog's", "c", "d", "e")
    assert statement.remarks == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"resize": "letterbox", "pad_value": 114, "antialias": False, "size": (96, 160)}),
        ({"task": "pose"}, {"resize": "letterbox"}),
        ({"imgsz": "640"}, {"size": (640, 640)}),
        ({"head": "RTDETRDecoder"}, {"resize": "stretch", "antialias": False}),
        ({"description": "Ultralytics rtdetr-l model trained on coco.yaml"}, {"resize": "stretch"}),
        ({"task": "classify"}, {"resize": "stretch", "interpolation": "linear"}),
        ({"channels": "1"}, {"channels": "GRAY"}),
    ],
)
def test_other_tasks(changes, expected):
    settings = ultralytics.metadata(DETECTOR | changes).settings
    assert {key: settings[key] for key in expected} == expected
    assert settings["scale"] == 1 / 255


def test_more_than_three_channels_have_no_order():
    assert "channels" not in ultralytics.metadata(DETECTOR | {"channels": "6"}).settings


def test_an_open_size_is_padded_to_the_whole_size_and_said():
    dynamic = DETECTOR | {"args": "{'fraction': 1.0, 'dynamic': True}"}
    (remark,) = ultralytics.metadata(dynamic).remarks
    assert "args says dynamic" in remark


def test_entries_of_other_tools_are_passed_over():
    assert ultralytics.metadata({"names": "{0: 'cat'}", "stride": "32"}) is None
    assert ultralytics.metadata({"task": "classify"}) is None
    assert ultralytics.metadata({"task": "translate", "stride": "1", "imgsz": "[1]"}) is None


@pytest.mark.parametrize("size", ["[1, 2, 3]", "-3", "large", "[]", "{1: 2}"])
def test_an_impossible_size(size):
    with pytest.raises(PreprocessError, match="the model's metadata: imgsz is"):
        ultralytics.metadata(CLASSIFIER | {"imgsz": size})


def test_classifiers_of_old_versions_cut_out_first(tmp_path):
    model = save_classifier(tmp_path / "old.onnx", [1, 3, 96, 96], metadata=CLASSIFIER | {"version": "8.0.196"})
    theirs = []
    for photo in photos():  # `CenterCrop` and `ToTensor` of 8.0.200, on the BGR picture that OpenCV reads
        bgr = photo[..., ::-1]
        side = min(bgr.shape[:2])
        top, left = ((length - side) // 2 for length in bgr.shape[:2])
        resized = cv2.resize(bgr[top : top + side, left : left + side], (96, 96), interpolation=cv2.INTER_LINEAR)
        theirs.append(np.ascontiguousarray(resized.transpose(2, 0, 1)[::-1]).astype(np.float32) / 255)
    assert worst_difference(model, theirs) <= 1e-6


def test_a_metadata_yaml_beside_the_model(tmp_path):
    model = save_classifier(tmp_path / "m.onnx", [1, 3, 96, 160])
    data = {"task": "detect", "stride": 32, "imgsz": [96, 160], "names": dict(enumerate("abcde")), "channels": 3}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(data))
    explainer = Explainer(model)
    assert list(explainer.labels) == list("abcde")
    assert (explainer.preprocess.resize, explainer.preprocess.pad_value) == ("letterbox", 114)
