"""The settings in which deployment tools are compared with their own code, by the rows of the table of producers."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.producers_deploy import (
    IMAGENET,
    Measure,
    mmdeploy_classifier,
    mmdeploy_detector,
    paddle_classifier,
    paddle_detector,
    paddle_segmenter,
    roboflow_package,
)

_SCALED = {"NormalizeImage": {"scale": 1 / 255, **IMAGENET, "order": "", "channel_num": 3}}
_BGR_VALUES = {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "to_rgb": False}
_RGB_VALUES = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}

CASES: Mapping[str, Mapping[str, Measure]] = {
    "PaddleClas": {
        "resize_short 256, crop 224": paddle_classifier(
            {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, _SCALED
        ),
        "resize_short 236, bicubic of Pillow": paddle_classifier(
            {"ResizeImage": {"resize_short": 236, "interpolation": "bicubic", "backend": "pil"}},
            {"CropImage": {"size": [224, 224]}},
            _SCALED,
        ),
        "area of OpenCV, scale in text": paddle_classifier(
            {"ResizeImage": {"resize_short": 187, "interpolation": "area", "backend": "cv2"}},
            {"CropImage": {"size": [160, 96]}},
            {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": ""}},
        ),
        "size [width, height]": paddle_classifier({"ResizeImage": {"size": [192, 256]}}, _SCALED),
        "nearest of OpenCV": paddle_classifier(
            {"ResizeImage": {"resize_short": 187, "interpolation": "nearest", "backend": "cv2"}},
            {"CropImage": {"size": 160}},
            _SCALED,
        ),
        "lanczos of Pillow": paddle_classifier(
            {"ResizeImage": {"size": 128, "interpolation": "lanczos", "backend": "pil"}}, _SCALED
        ),
    },
    "PaddleDetection": {
        "stretched": paddle_detector(
            {"type": "Resize", "target_size": [320, 416], "keep_ratio": False, "interp": 2},
            {"type": "NormalizeImage", "is_scale": True, **IMAGENET},
            {"type": "Permute"},
        ),
        "fitted, padded with 0 after normalising": paddle_detector(
            {"type": "Resize", "target_size": [320, 320], "keep_ratio": True, "interp": 1},
            {"type": "NormalizeImage", "is_scale": True, **IMAGENET},
            {"type": "Permute"},
            {"type": "PadStride", "stride": 320},
        ),
        "fitted, cubic": paddle_detector(
            {"type": "Resize", "target_size": [224, 224], "keep_ratio": True, "interp": 2},
            {"type": "NormalizeImage", "is_scale": True, **IMAGENET},
            {"type": "Permute"},
            {"type": "PadStride", "stride": 224},
        ),
        "nearest": paddle_detector(
            {"type": "Resize", "target_size": [320, 416], "keep_ratio": False, "interp": 0},
            {"type": "NormalizeImage", "is_scale": True, **IMAGENET},
            {"type": "Permute"},
        ),
        "values 0 to 255": paddle_detector(
            {"type": "Resize", "target_size": [608, 608], "keep_ratio": False, "interp": 1},
            {"type": "NormalizeImage", "is_scale": False, "mean": [123.675, 116.28, 103.53], "std": [58.4, 57.1, 57.4]},
            {"type": "Permute"},
        ),
    },
    "PaddleSeg": {
        "size [width, height]": paddle_segmenter({"type": "Resize", "target_size": [160, 96]}, {"type": "Normalize"}),
        "long side, padded": paddle_segmenter(
            {"type": "ResizeByLong", "long_size": 256},
            {"type": "Padding", "target_size": [256, 256]},
            {"type": "Normalize", **IMAGENET},
        ),
        "nearest": paddle_segmenter(
            {"type": "Resize", "target_size": [160, 96], "interp": "NEAREST"}, {"type": "Normalize"}
        ),
        "fitted, padded": paddle_segmenter(
            {"type": "Resize", "target_size": [192, 192], "keep_ratio": True, "interp": "CUBIC"},
            {"type": "Padding", "target_size": [224, 192], "im_padding_value": 10},
            {"type": "Normalize", **IMAGENET},
        ),
    },
    "MMPretrain": {
        "ResizeEdge 256, CenterCrop 224": mmdeploy_classifier(
            [{"type": "ResizeEdge", "scale": 256, "edge": "short"}, {"type": "CenterCrop", "crop_size": 224}],
            _RGB_VALUES,
        ),
        "BGR": mmdeploy_classifier(
            [{"type": "ResizeEdge", "scale": 171, "edge": "short"}, {"type": "CenterCrop", "crop_size": (128, 160)}],
            _BGR_VALUES,
        ),
        "Resize (width, height)": mmdeploy_classifier([{"type": "Resize", "scale": (192, 128)}], _RGB_VALUES),
        "Resize, bicubic": mmdeploy_classifier(
            [{"type": "Resize", "scale": (96, 96), "interpolation": "bicubic"}], _RGB_VALUES
        ),
        "Resize, nearest": mmdeploy_classifier(
            [{"type": "Resize", "scale": (96, 96), "interpolation": "nearest"}], _RGB_VALUES
        ),
        "Resize, bicubic of Pillow": mmdeploy_classifier(
            [{"type": "Resize", "scale": (96, 96), "interpolation": "bicubic", "backend": "pillow"}], _RGB_VALUES
        ),
    },
    "Roboflow": {
        "stretched": roboflow_package(
            resize_mode="stretch", scaling_factor=255, normalization=[IMAGENET["mean"], IMAGENET["std"]]
        ),
        "letterbox": roboflow_package(resize_mode="letterbox", padding_value=127, scaling_factor=255),
        "BGR, values 0 to 255": roboflow_package(resize_mode="letterbox", color_mode="bgr", padding_value=None),
    },
    "MMDetection": {
        "fitted and padded with 114": mmdeploy_detector(
            [
                {"type": "Resize", "scale": (320, 320), "keep_ratio": True},
                {"type": "Pad", "size": (320, 320), "pad_val": {"img": (114, 114, 114)}},
            ],
            {
                "mean": [103.53, 116.28, 123.675],
                "std": [57.375, 57.12, 58.395],
                "bgr_to_rgb": False,
                "pad_size_divisor": 32,
            },
            320,
        ),
        "fitted, padded with 0 after normalising": mmdeploy_detector(
            [{"type": "Resize", "scale": (320, 320), "keep_ratio": True}],
            {
                "mean": [123.675, 116.28, 103.53],
                "std": [58.395, 57.12, 57.375],
                "bgr_to_rgb": True,
                "pad_size_divisor": 320,
            },
            320,
        ),
    },
}
"""For each row of the table of producers the settings that are tried, each with what measures the difference."""
