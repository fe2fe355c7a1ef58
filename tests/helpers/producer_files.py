"""Files of deployment tools as their exporters write them, for the tests of dialects."""

from __future__ import annotations

import json
from typing import Any

PADDLE_CLASSIFIER = """
Global:
  model_name: PP-LCNet_x1_0
PreProcess:
  transform_ops:
  - ResizeImage:
      resize_short: 256
  - CropImage:
      size: 224
  - NormalizeImage:
      channel_num: 3
      mean: [0.485, 0.456, 0.406]
      order: ''
      scale: 0.00392156862745098
      std: [0.229, 0.224, 0.225]
  - ToCHWImage: null
PostProcess:
  Topk:
    topk: 5
    label_list: [cat, dog, 7]
"""

PADDLE_DETECTOR = """
mode: paddle
arch: RCNN
Preprocess:
- interp: 2
  keep_ratio: true
  target_size: [800, 1333]
  type: Resize
- is_scale: true
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  type: NormalizeImage
- type: Permute
- stride: 32
  type: PadStride
label_list: [person, bicycle]
"""

PADDLE_SEGMENTER = """
Deploy:
  input_shape: [1, 3, 224, 398]
  model: model.pdmodel
  transforms:
  - target_size: [398, 224]
    type: Resize
  - type: Normalize
"""

MMDEPLOY_TRANSFORMS: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "keep_ratio": True, "size": [256, -1]},
    {"type": "CenterCrop", "crop_size": 224},
    {"type": "Normalize", "to_rgb": True, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    {"type": "ImageToTensor", "keys": ["img"]},
    {"type": "Collect", "meta_keys": ["img_shape"], "keys": ["img"]},
]

ROBOFLOW_CONFIG: dict[str, Any] = {
    "image_pre_processing": {"auto-orient": {"enabled": True}},
    "network_input": {
        "training_input_size": {"height": "192", "width": 256},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": "letterbox",
        "padding_value": 127,
        "input_channels": 3,
        "scaling_factor": 255,
        "normalization": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    },
}
ROBOFLOW_ENVIRONMENT: dict[str, Any] = {
    "PREPROCESSING": json.dumps(
        {
            "auto-orient": {"enabled": True},
            "resize": {"enabled": True, "width": 640, "height": 416, "format": "Fit (grey edges) in"},
        }
    ),
    "CLASS_MAP": {"1": "dog", "0": "cat"},
}
AI_HUB: dict[str, Any] = {
    "model_id": "mobilenet_v2",
    "runtime": "onnx",
    "model_files": {
        "mobilenet_v2.onnx": {
            "inputs": {
                "image_tensor": {
                    "shape": [1, 3, 224, 224],
                    "dtype": "float32",
                    "io_type": "image",
                    "value_range": [0.0, 1.0],
                    "image_metadata": {"color_format": "rgb"},
                }
            },
            "outputs": {"class_logits": {"shape": [1, 2], "dtype": "float32", "labels_file": "imagenet_labels.txt"}},
        }
    },
}
TFLITE: dict[str, Any] = {
    "name": "Image classifier",
    "subgraph_metadata": [
        {
            "input_tensor_metadata": [
                {
                    "name": "image",
                    "content": {
                        "content_properties_type": "ImageProperties",
                        "content_properties": {"color_space": "RGB"},
                    },
                    "process_units": [
                        {"options_type": "NormalizationOptions", "options": {"mean": [127.5], "std": [127.5]}}
                    ],
                    "stats": {"max": [1.0], "min": [-1.0]},
                }
            ],
            "output_tensor_metadata": [
                {"associated_files": [{"name": "sorts.txt", "type": "TENSOR_AXIS_LABELS"}], "name": "probability"}
            ],
        }
    ],
    "min_parser_version": "1.0.0",
}
