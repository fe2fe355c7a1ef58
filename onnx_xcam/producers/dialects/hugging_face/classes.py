"""This module lists the classes of image processors of transformers: how each is followed, or why it is not.

The names of the classes are what files state under `image_processor_type` or `feature_extractor_type`. Each followed
class was compared with the library's own tensors, with its defaults and with each of its steps switched on or off
(`tests/producers/test_hugging_face.py`). `tables/hugging_face.json` holds the values that each takes for keys that a
file leaves out; `python -m tools.release.hugging_face_defaults` writes it from the library.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx_xcam.producers.dialects.hugging_face import geometry
from onnx_xcam.text import load_json

TABLE = Path(__file__).parents[2] / "tables" / "hugging_face.json"
"""The file with the defaults of the followed classes."""


@dataclass(frozen=True)
class Processor:
    """A Processor says how one class of image processors is followed.

    Attributes:
        geometry: the function that reads where the photo is laid.
        follows: the keys beyond those of the base pipeline that are read.
        ignores: the keys of the base pipeline that the class itself does not read.
        refuses: the steps that are not followed, by key, as a clause of what they do.
        antialias: whether the class smooths when it shrinks.
        bgr: whether the class turns the channels round, after normalisation.
    """

    geometry: geometry.Geometry = geometry.base
    follows: frozenset[str] = frozenset()
    ignores: frozenset[str] = frozenset()
    refuses: Mapping[str, str] = field(default_factory=dict)
    antialias: bool = True
    bgr: bool = False


def _keys(text: str) -> frozenset[str]:
    """Return the keys in a text."""
    return frozenset(text.split())


_BASE = Processor()
_WITHOUT_CROP = Processor(ignores=_keys("do_center_crop crop_size do_pad pad_size"))
_FROM_ZERO_TO_ONE = _keys("do_normalize image_mean image_std")
_TILES = Processor(ignores=_WITHOUT_CROP.ignores, refuses={"crop_to_patches": "splits the picture into tiles"})
_DETECTOR = Processor(ignores=_keys("do_center_crop crop_size"))
_MASKS = Processor(geometry.whole_multiples, _keys("size_divisor"), _keys("do_center_crop crop_size do_pad pad_size"))
_DEPTH = Processor(geometry.multiples, _keys("ensure_multiple_of keep_aspect_ratio size_divisor"), _keys("pad_size"))
_SQUARE = Processor(geometry.on_a_square, ignores=_keys("do_center_crop crop_size pad_size"))
_NO_PADDING = Processor(ignores=_keys("do_pad pad_size"))

FOLLOWED: Mapping[str, Processor] = {
    **dict.fromkeys(
        (
            "BitImageProcessor",
            "BlipImageProcessor",
            "ChameleonImageProcessor",
            "ChineseCLIPImageProcessor",
            "CLIPImageProcessor",
            "DeiTImageProcessor",
            "MobileNetV1ImageProcessor",
            "OwlViTImageProcessor",
            "PI0ImageProcessor",
            "PPChart2TableImageProcessor",
            "PvtImageProcessor",
            "Sam2ImageProcessor",
            "Sam3ImageProcessor",
            "SiglipImageProcessor",
            "Tipsv2DptImageProcessor",
            "Tipsv2ImageProcessor",
            "ViTImageProcessor",
        ),
        _BASE,
    ),
    **dict.fromkeys(
        (
            "BeitImageProcessor",
            "DINOv3ViTImageProcessor",
            "FlavaImageProcessor",
            "LayoutLMv3ImageProcessor",
            "MobileNetV2ImageProcessor",
            "VideoMAEImageProcessor",
        ),
        _NO_PADDING,
    ),
    **dict.fromkeys(("GotOcr2ImageProcessor", "Cohere2VisionImageProcessor"), _TILES),
    **dict.fromkeys(("JanusImageProcessor", "DeepseekVLImageProcessor"), _SQUARE),
    **dict.fromkeys((f"PPDocLayoutV{n}ImageProcessor" for n in (2, 3, 4)), Processor(antialias=False)),
    "DPTImageProcessor": _DEPTH,
    "PromptDepthAnythingImageProcessor": replace(_DEPTH, ignores=_WITHOUT_CROP.ignores - {"do_pad"}),
    **dict.fromkeys(
        (
            "ConditionalDetrImageProcessor",
            "DeformableDetrImageProcessor",
            "DetrImageProcessor",
            "GroundingDinoImageProcessor",
            "RTDetrImageProcessor",
            "YolosImageProcessor",
        ),
        _DETECTOR,
    ),
    **dict.fromkeys(("MaskFormerImageProcessor", "Mask2FormerImageProcessor"), _MASKS),
    "OneFormerImageProcessor": _WITHOUT_CROP,
    **dict.fromkeys(("SegformerImageProcessor", "SegGptImageProcessor"), _WITHOUT_CROP),
    "ConvNextImageProcessor": Processor(geometry.cropped_below_384, _keys("crop_pct"), _NO_PADDING.ignores),
    "DepthProImageProcessor": Processor(ignores=_WITHOUT_CROP.ignores, antialias=False),
    "EfficientNetImageProcessor": Processor(follows=_keys("rescale_offset include_top"), ignores=_NO_PADDING.ignores),
    "Gemma3ImageProcessor": Processor(
        ignores=_WITHOUT_CROP.ignores, refuses={"do_pan_and_scan": "adds parts of the picture"}
    ),
    "LayoutLMv2ImageProcessor": Processor(
        ignores=_WITHOUT_CROP.ignores | _FROM_ZERO_TO_ONE | {"do_rescale", "rescale_factor"}, bgr=True
    ),
    "LevitImageProcessor": Processor(geometry.enlarged_by_256_224),
    "LlavaImageProcessor": Processor(
        ignores=_keys("pad_size"), refuses={"do_pad": "pads the photo to a square before it is scaled"}
    ),
    "MobileViTImageProcessor": Processor(
        follows=_keys("do_flip_channel_order"), ignores=_FROM_ZERO_TO_ONE | _NO_PADDING.ignores
    ),
    "Ovis2ImageProcessor": Processor(ignores=_NO_PADDING.ignores, refuses=_TILES.refuses),
    "PerceiverImageProcessor": Processor(geometry.cropped_first, ignores=_NO_PADDING.ignores),
    "PoolFormerImageProcessor": Processor(geometry.enlarged_by_crop_pct, _keys("crop_pct")),
    "PPLCNetImageProcessor": Processor(
        geometry.shorter_side, _keys("resize_short size_divisor"), _NO_PADDING.ignores, bgr=True
    ),
    "RfDetrImageProcessor": replace(_DETECTOR, antialias=False),
    "SamImageProcessor": Processor(geometry.at_the_corner),
    "Sapiens2ImageProcessor": Processor(
        ignores=_keys("pad_size"), refuses={"do_pad": "adds borders to a photo that keeps its aspect ratio"}
    ),
    "SLANeXtImageProcessor": Processor(geometry.at_the_corner, ignores=_keys("resample"), antialias=False),
    "SuperPointImageProcessor": Processor(
        ignores=_WITHOUT_CROP.ignores | _FROM_ZERO_TO_ONE,
        refuses={"do_grayscale": "makes three equal channels of a grey picture"},
    ),
}
"""The classes that are followed."""

NOT_FOLLOWED: Mapping[str, str] = {
    name: why
    for why, names in {
        "cuts each picture into patches": """
            CohereCompass Cosmos3Edge Ernie4_5_VLMoe Ernie4_5_VL_Moe Fuyu Gemma4 Gemma4Unified Glm46V Glm4v Glm5Next
            GlmImage Glmga HunYuanVL HYV4VL Inkling Inkling2 Kimi_K25 Kosmos2_5 Lfm2Vl MiniCPMOcr MiniCPMV4_6
            MiniMaxM3VL Molmo2 MuseGlimmer NemotronH_Omni_Reasoning_V3 NeoMME PaddleOCRVL Pix2Struct Qwen2VL Siglip2
            VideoLlama3
            """,
        "splits each picture into tiles": """
            Aria DeepseekOcr2 GraniteDocling Idefics2 Idefics3 Llama4 LlavaNext LlavaOnevision Mllama PerceptionLM
            Phi4Multimodal SmolVLM Step3p7 UltraVBert UnlimitedOcr
            """,
        "scales each photo to multiples of a number of pixels, so that the size of the input follows the photo": """
            Apertus1p5 CHMv2 Emu3 Eomt GLPN PPOCRV5ServerDet PPOCRV5ServerRec PPOCRV6SmallRec Pixtral Swin2SR TextNet
            Vilt ZoeDepth
            """,
        "stretches each photo by a few pixels, to multiples of size_divisor, before it is cropped": "BridgeTower",
        "takes two pictures at once": "EfficientLoFTR LightGlue SuperGlue",
        "makes a second picture for another input, and the first one from that": "DeepseekVLHybrid",
        "replaces colours by the numbers of clusters": "ImageGPT",
        "scales each page twice": "Donut Nougat PPFormulaNet",
        "blurs the photo before it is scaled": "Owlv2",
        "places the corner pixels of the photo on those of the input": "UVDoc",
        "takes a trimap beside the picture": "VitMatte",
        "cuts stated boxes out of the picture": "VitPose",
        "takes the pictures of a dialogue": "Idefics",
        "takes the frames of a video": "Tvp VideoLlava Vivit",
    }.items()
    for name in (f"{stem}ImageProcessor" for stem in names.split())
}
"""The classes that are known and not followed, and what each does to a picture."""


@functools.cache
def class_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the values that each followed class takes for keys that a file leaves out."""
    defaults: Mapping[str, Mapping[str, Any]] = load_json(TABLE.read_text(encoding="utf-8"))
    return defaults
