"""What Ultralytics writes into a model's metadata, against its own predictors on the model that it exports."""

import cv2
import numpy as np
import pytest
import yaml

from helpers.producers import LARGEST_DIFFERENCE, library, photos, save_classifier, save_photos, worst_difference
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers import ultralytics

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


@pytest.mark.filterwarnings("ignore")  # those of PyTorch's exporter and of Ultralytics
@pytest.mark.parametrize(
    ("name", "predictor", "size"),
    [
        ("yolo11n-cls.yaml", "yolo.classify.ClassificationPredictor", 96),
        ("yolo11n-cls.yaml", "yolo.classify.ClassificationPredictor", [96, 64]),
        ("yolo11n.yaml", "yolo.detect.DetectionPredictor", [96, 160]),
        ("yolo11n-seg.yaml", "yolo.segment.SegmentationPredictor", 96),
    ],
)
def test_the_predictor_on_its_own_export(tmp_path, monkeypatch, name, predictor, size):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    monkeypatch.chdir(tmp_path)
    yolo = library("ultralytics").YOLO
    module, _, kind = predictor.rpartition(".")
    model = tmp_path / yolo(name, verbose=False).export(format="onnx", imgsz=size, simplify=False, verbose=False)
    theirs = []

    class Seeing(getattr(library(f"ultralytics.models.{module}"), kind)):
        """A predictor that keeps the tensors that it hands on."""

        def inference(self, im, *args, **kwargs):
            theirs.append(im.numpy().copy())
            return super().inference(im, *args, **kwargs)

    for path in save_photos(tmp_path):
        yolo(model, verbose=False).predict(str(path), predictor=Seeing, save=False, verbose=False)
    if "-cls" in name:
        assert worst_difference(model, theirs) <= LARGEST_DIFFERENCE
    else:
        preprocess = dict(ultralytics.metadata(_metadata(model)).settings)
        twin = save_classifier(tmp_path / "twin.onnx", theirs[0].shape)
        assert worst_difference(twin, theirs, preprocess=preprocess) <= LARGEST_DIFFERENCE


def _metadata(model):
    """Return the metadata of a model."""
    return {entry.key: entry.value for entry in library("onnx").load(str(model)).metadata_props}
