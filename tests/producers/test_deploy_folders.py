"""What an Explainer finds beside a model in the files of deployment tools, without an option."""

import json
import warnings
from pathlib import Path

import pytest

from helpers.producer_files import (
    AI_HUB,
    MMDEPLOY_TRANSFORMS,
    PADDLE_CLASSIFIER,
    PADDLE_DETECTOR,
    PADDLE_SEGMENTER,
    ROBOFLOW_CONFIG,
    ROBOFLOW_ENVIRONMENT,
    TFLITE,
)
from helpers.producers import save_classifier
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError, XcamWarning

PIPELINE = json.dumps({"pipeline": {"tasks": [{"module": "Transform", "transforms": MMDEPLOY_TRANSFORMS}]}})
FOLDERS = [
    (
        "inference.yml",
        PADDLE_CLASSIFIER,
        3,
        {"resize_size": (256, 256), "scale": 0.00392156862745098},
        ["cat", "dog", "7"],
    ),
    ("infer_cfg.yml", PADDLE_DETECTOR, 2, {"resize": "letterbox", "interpolation": "cubic"}, ["person", "bicycle"]),
    ("deploy.yaml", PADDLE_SEGMENTER, 2, {"mean": (0.5,), "resize": "stretch"}, None),
    ("pipeline.json", PIPELINE, 2, {"mean": (123.675, 116.28, 103.53), "channels": "RGB"}, None),
    ("inference_config.json", json.dumps(ROBOFLOW_CONFIG), 2, {"pad_value": 127, "resize": "letterbox"}, None),
    (
        "environment.json",
        json.dumps(ROBOFLOW_ENVIRONMENT),
        2,
        {"pad_value": 114, "size_rounding": "floor"},
        ["cat", "dog"],
    ),
    ("metadata.json", json.dumps(AI_HUB), 2, {"scale": 1 / 255, "mean": (0.0,)}, None),
    ("model.json", json.dumps(TFLITE), 2, {"mean": (127.5,), "std": (127.5,)}, None),
]


@pytest.mark.parametrize("row", FOLDERS, ids=[row[0] for row in FOLDERS])
def test_a_file_beside_the_model_is_found(
    row: tuple[str, str, int, dict[str, object], list[str] | None], tmp_path: Path
):
    name, text, classes, settings, labels = row
    model = save_classifier(tmp_path / "model.onnx", (1, 3, "height", "width"), classes)
    (tmp_path / name).write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XcamWarning)  # of what is followed in part, or assumed
        explainer = Explainer(model)
    assert {key: getattr(explainer.preprocess, key) for key in settings} == settings
    assert (list(explainer.labels) if explainer.labels else None) == labels
    assert any(f"'{name}' beside the model" in said for said in [*explainer.notes, *explainer.warnings])


def test_a_file_that_cannot_be_followed_is_refused_until_another_is_stated(tmp_path: Path):
    model = save_classifier(tmp_path / "model.onnx", (1, 3, 32, 32))
    (tmp_path / "inference.yml").write_text("PreProcess: {transform_ops: [{RandCropImage: {size: 32}}]}")
    with pytest.raises(PreprocessError) as error:
        Explainer(model)
    assert "'inference.yml' beside the model: transform_ops: RandCropImage is not supported" in str(error.value)
    assert Explainer(model, preprocess="unit").preprocess.scale == 1 / 255
