"""Seeds of every dialect for the fuzzer: what producers write beside a model, and into its metadata."""

from __future__ import annotations

from typing import Any

FILES: tuple[tuple[str, Any], ...] = (
    ("processor_config.json", {"image_processor": {"do_resize": True, "size": {"height": 8, "width": 8}}}),
    ("config.json", {"id2label": {"0": "a"}, "image_size": 8, "num_channels": 3, "model_type": "x"}),
    ("config.json", {"label_names": ["a"], "num_classes": 1, "pretrained_cfg": {"input_size": [3, 8, 8], "mean": [0]}}),
    (
        "inference.yml",
        {
            "PreProcess": {
                "transform_ops": [
                    {"DecodeImage": {"to_rgb": True, "channel_first": False}},
                    {"ResizeImage": {"resize_short": 10, "interpolation": "bicubic", "backend": "pil"}},
                    {"CropImage": {"size": 8}},
                    {"NormalizeImage": {"scale": "1.0/255.0", "mean": [0, 0, 0], "std": [1, 1, 1], "order": "hwc"}},
                    {"ToCHWImage": None},
                ]
            },
            "PostProcess": {"Topk": {"topk": 5, "label_list": ["a", "b"]}},
        },
    ),
    (
        "infer_cfg.yml",
        {
            "Preprocess": [
                {"type": "Resize", "target_size": [8, 8], "keep_ratio": False, "interp": 2},
                {"type": "NormalizeImage", "is_scale": True, "mean": [0, 0, 0], "std": [1, 1, 1], "norm_type": "x"},
                {"type": "Permute"},
                {"type": "PadStride", "stride": 32},
            ],
            "label_list": ["a", "b"],
        },
    ),
    ("deploy.yaml", {"Deploy": {"transforms": [{"type": "Resize", "target_size": [8, 8]}, {"type": "Normalize"}]}}),
    (
        "pipeline.json",
        {
            "pipeline": {
                "tasks": [
                    {
                        "type": "Task",
                        "module": "Transform",
                        "transforms": [
                            {"type": "LoadImageFromFile"},
                            {"type": "Resize", "keep_ratio": True, "size": [8, -1]},
                            {"type": "CenterCrop", "crop_size": 8},
                            {"type": "Normalize", "to_rgb": True, "mean": [1, 2, 3], "std": [1, 2, 3]},
                            {"type": "Pad", "size_divisor": 32, "pad_val": {"img": 114}},
                        ],
                    }
                ]
            }
        },
    ),
    ("metadata.yaml", {"task": "classify", "imgsz": [8, 8], "names": {0: "a"}, "stride": 32, "channels": 3}),
    (
        "metadata_properties.json",
        {
            "CustomVision.Preprocess.CropMethod": "FullImageShorterSide",
            "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
            "CustomVision.Preprocess.TargetHeight": "8",
            "Image.BitmapPixelFormat": "Rgb8",
            "Image.NominalPixelRange": "Normalized_0_1",
        },
    ),
    ("cvexport.manifest", {"DomainType": "Classification", "Platform": "ONNX", "LabelFileName": "labels.txt"}),
    ("signature.json", {"inputs": {"Image": {"shape": [None, 8, 8, 3]}}, "classes": {"Label": ["a", "b"]}}),
    ("metadata.json", {"tmVersion": "2.4.5", "labels": ["a", "b"], "imageSize": 8, "grayscale": False}),
    (
        "metadata.json",
        {
            "model_files": {
                "model.onnx": {
                    "inputs": {"image": {"io_type": "image", "shape": [1, 3, 8, 8], "value_range": [0.0, 1.0]}},
                    "outputs": {"class_logits": {"shape": [1, 2]}},
                }
            }
        },
    ),
    ("config_infer_primary.txt", "[property]\nnet-scale-factor=0.0039\noffsets=1;2;3\nmodel-color-format=1\n"),
    (
        "inference_config.json",
        {"network_input": {"resize_mode": "stretch", "training_input_size": {"height": 8, "width": 8}}},
    ),
    ("environment.json", {"PREPROCESSING": '{"resize": {"width": 8, "height": 8}}', "CLASS_MAP": {"0": "a"}}),
    (
        "model.json",
        {
            "subgraph_metadata": [
                {
                    "input_tensor_metadata": [
                        {
                            "content": {
                                "content_properties_type": "ImageProperties",
                                "content_properties": {"color_space": "RGB"},
                            },
                            "process_units": [{"options_type": "NormalizationOptions", "options": {"mean": [127.5]}}],
                        }
                    ]
                }
            ]
        },
    ),
    ("config.pbtxt", 'platform: "onnxruntime_onnx"\ninput [{ name: "i" format: FORMAT_NCHW dims: [3, 8, 8] }]\n'),
    ("config.pbtxt", 'output [{ name: "o" label_filename: "labels.txt" }]\n'),
    ("label_map.pbtxt", "item { id: 1 name: 'a' }\nitem { id: 2 display_name: 'b' }\n"),
    ("labels.csv", "id,name\n0,a\n1,b\n"),
    ("labels.txt", "0 a\n1 b\n"),
    ("class_indices.json", {"a": 0, "b": 1}),
)
"""The name of a file, and its data or its text; suffixes that are neither JSON nor YAML hold JSON where it is data."""

METADATA: tuple[dict[str, Any], ...] = (
    {"task": "detect", "imgsz": "[8, 16]", "names": "{0: 'a'}", "stride": "32", "channels": "3", "batch": "1"},
    {
        "model_info model_type": "Classification",
        "model_info labels": "a b",
        "model_info mean_values": "1 2 3",
        "model_info scale_values": "1 2 3",
        "model_info resize_type": "fit_to_window_letterbox",
        "model_info pad_value": "114",
        "model_info intensity_mode": "window",
        "model_info intensity_window_center": "40",
        "model_info intensity_window_width": "400",
    },
    {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_16_235"},
    {"onnx_xcam.preprocess": '{"preset": "imagenet"}', "onnx_xcam.labels": '["a"]'},
    {"onnx_xcam": '{"preprocess": {"scale": 2}, "labels": ["a"]}'},
)
"""Entries of a model's metadata, by key."""
