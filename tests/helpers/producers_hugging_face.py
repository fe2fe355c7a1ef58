"""The image processors of transformers: which there are, what each makes of the photos, and how far ours is from that.

A case is a class of image processors with keys of its file.
"""

from __future__ import annotations

import functools
import inspect
import json
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers import producers
from helpers.producers import Found, difference, library, prepared, save_classifier, worst_difference
from onnx_xcam import XcamError
from onnx_xcam.images import Preprocess
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.hugging_face import processor
from onnx_xcam.producers.dialects.hugging_face.classes import FOLLOWED

Keys = Mapping[str, Any]

PUBLISHED: Mapping[str, tuple[str, Keys]] = {
    "CLIP of before 2023: one number each": ("CLIPImageProcessor", {"size": 224, "crop_size": 224}),
    "CLIP 336": ("CLIPImageProcessor", {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}),
    "BiT 448": ("BitImageProcessor", {"size": {"shortest_edge": 448}, "crop_size": {"height": 448, "width": 448}}),
    "DINOv2 (BiT 256 to 224)": ("BitImageProcessor", {"size": {"shortest_edge": 256}, "crop_size": 224}),
    "MobileNetV1 192": ("MobileNetV1ImageProcessor", {"size": {"shortest_edge": 219}, "crop_size": 192}),
    "MobileNetV2 of before 2023": ("MobileNetV2ImageProcessor", {"size": 256, "crop_size": 224}),
    "PoolFormer, crop_pct 0.95": ("PoolFormerImageProcessor", {"size": 224, "crop_pct": 0.95}),
    "LeViT of before 2023": ("LevitImageProcessor", {"size": 224}),
    "PP-LCNet, resize_short 256": ("PPLCNetImageProcessor", {"resize_short": 256, "size_divisor": None}),
    "MobileViT 288 to 256": ("MobileViTImageProcessor", {"size": {"shortest_edge": 288}}),
    "MobileViT 544 to 512": ("MobileViTImageProcessor", {"size": 544, "crop_size": 512}),
    "Perceiver 256 to 224": ("PerceiverImageProcessor", {"size": 224, "crop_size": 256}),
    "ConvNeXT 224": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
    "ConvNeXT 384": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "ResNet of before 2023 (ConvNeXT 224)": ("ConvNextImageProcessor", {"size": 224, "crop_pct": 0.875}),
    "EfficientNet B0, include_top": ("EfficientNetImageProcessor", {"size": 224, "include_top": True}),
    "EfficientNet, rescale_offset": (
        "EfficientNetImageProcessor",
        {"size": 289, "rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
    ),
    "ALIGN (EfficientNet 346, cropped to 289)": (
        "EfficientNetImageProcessor",
        {"do_center_crop": True, "include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    ),
    "DeiT 438 to 384": ("DeiTImageProcessor", {"size": 438, "crop_size": 384}),
    "BEiT 384": ("BeitImageProcessor", {"size": 384}),
    "SegFormer 512": ("SegformerImageProcessor", {"size": 512}),
    "SigLIP 384": ("SiglipImageProcessor", {"size": {"height": 384, "width": 384}}),
    "ViT 384": ("ViTImageProcessor", {"size": 384, "resample": 2}),
    "DPT 518, multiples of 14": (
        "DPTImageProcessor",
        {"size": {"height": 518, "width": 518}, "ensure_multiple_of": 14, "image_mean": [0.485, 0.456, 0.406]},
    ),
    "RT-DETR 640": ("RTDetrImageProcessor", {"size": {"height": 640, "width": 640}}),
    "DETR, a fixed size": ("DetrImageProcessor", {"size": {"height": 480, "width": 640}}),
    "MaskFormer, a fixed size": ("MaskFormerImageProcessor", {"size": {"height": 512, "width": 640}}),
}
"""Configurations that differ from the defaults of their classes, in the forms that published files have."""

_SMALL: Keys = {"size": {"height": 192, "width": 192}}
VARIANTS: tuple[Keys, ...] = (
    {"size": {"height": 200, "width": 200}},
    {"size": {"height": 160, "width": 256}},
    {"size": {"shortest_edge": 180}},
    {"size": 190},
    {"do_center_crop": True, "crop_size": {"height": 150, "width": 170}},
    {"do_center_crop": True, "crop_size": {"height": 301, "width": 420}},
    {"do_center_crop": True, "crop_size": 187},
    {"do_center_crop": False},
    {"do_normalize": False},
    {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5},
    {"resample": 0, "crop_size": 160},  # small enough for no borders, of which Pillow's backend has others
    {"resample": 1},
    {"resample": 2},
    {"resample": 3},
    {"do_pad": True, "pad_size": {"height": 300, "width": 300}},
    {"do_pad": False},
    {"do_resize": False},
)
"""Each step switched on or off, and each setting changed, one at a time."""


photos = functools.cache(producers.photos)


def transformers() -> ModuleType:
    """Return the library with its two backends, or skip the test."""
    library("torchvision")
    found = library("transformers")
    found.utils.logging.set_verbosity_error()
    library("torch").set_num_threads(1)  # pictures this small only wait for other threads
    return found


def classes() -> dict[str, type]:
    """Return all classes of image processors with the torchvision backend, or the only one, by name."""
    base = import_module("transformers.image_processing_base").ImageProcessingMixin
    models = import_module("transformers.models")
    found = {}
    for model in pkgutil.iter_modules(models.__path__):
        folder = Path(models.__path__[0]) / model.name
        if not (folder / f"image_processing_{model.name}.py").exists() or model.name == "auto":
            continue
        module = import_module(f"transformers.models.{model.name}.image_processing_{model.name}")
        for name, one in vars(module).items():
            if inspect.isclass(one) and issubclass(one, base) and one.__module__ == module.__name__:
                found[name] = one
    return found


def keys_for_one_picture(name: str) -> Keys:
    """Return the keys by which a class makes one picture of a photo, where its defaults make several."""
    return {"crop_to_patches": False} if name == "Cohere2VisionImageProcessor" else {}


def tensors(made: Any) -> list[NDArray[Any]]:
    """Return what an image processor makes of the photos, [C,H,W] each.

    Raises:
        ValueError: it makes something else of a picture than one picture.
    """
    name = type(made).__name__
    options: dict[str, Any] = {"apply_ocr": False} if name.startswith("LayoutLM") else {}
    if name.startswith("OneFormer"):
        options["task_inputs"] = ["semantic"]
    found = []
    for photo in photos():
        tensor = np.asarray(made(Image.fromarray(photo), return_tensors="pt", **options)["pixel_values"])
        while tensor.ndim > 3 and len(tensor) == 1:
            tensor = tensor[0]
        if tensor.ndim != 3:
            raise ValueError(f"{name} makes {tensor.shape} of a picture")
        found.append(tensor)
    return found


def whole_way(made: Any, folder: Path, theirs: list[NDArray[Any]]) -> float:
    """Return the difference from an image processor's tensors, `theirs`, of what a model beside its file is fed.

    Raises:
        XcamError: its file is refused.
        ValueError: the processor makes pictures of several sizes, so that no one model could be fed.
    """
    made.save_pretrained(folder)
    if len({one.shape for one in theirs}) > 1:
        save_classifier(folder / "model.onnx", ["N", 3, "H", "W"])
    else:
        save_classifier(folder / "model.onnx", [1, *theirs[0].shape])
    return worst_difference(folder / "model.onnx", theirs)


def difference_of(name: str, keys: Keys, theirs: list[NDArray[Any]]) -> float:
    """Return the difference of what we make of the photos, by a file with a class and keys, from tensors.

    Raises:
        XcamError: the file is refused.
    """
    data = json.loads(json.dumps({"image_processor_type": name, **keys}))
    stated = processor.read(DescriptionFile(Path("preprocessor_config.json"), "the file", "", data))
    assert not stated.remarks
    preprocess = Preprocess(**stated.settings)
    return max(
        difference(prepared(preprocess, photo, [1, *one.shape]), one)
        for photo, one in zip(photos(), theirs, strict=True)
    )


def variants(name: str) -> Iterator[Keys]:
    """Yield keys for a class, each in a picture of moderate size."""
    large = {"DepthPro", "Sam2", "Sam3", "Sapiens2", "PPChart2Table", "OwlViT", "RTDetr"}
    large |= {f"PPDocLayoutV{n}" for n in (2, 3, 4)}
    small = _SMALL if name.removesuffix("ImageProcessor") in large else {}
    for keys in VARIANTS:
        yield small | keys_for_one_picture(name) | keys


def of_classes() -> Found:
    """Return what was found of each class that makes one picture of a photo, with its defaults."""
    found: dict[str, float | str] = {}
    library_itself = transformers()
    for name in sorted(classes()):
        try:
            made = getattr(library_itself, name)(**keys_for_one_picture(name))
            theirs = tensors(made)
        except Exception:  # no picture comes of a photo alone, which each class says in its own way
            if name in FOLLOWED:
                raise
            continue
        found[name.removesuffix("ImageProcessor")] = _found(made, theirs)
    return found


def of_published() -> Found:
    """Return what was found of each published configuration."""
    made = {row: getattr(transformers(), name)(**keys) for row, (name, keys) in PUBLISHED.items()}
    return {row: _found(one, tensors(one)) for row, one in made.items()}


def _found(made: Any, theirs: list[NDArray[Any]]) -> float | str:
    """Return the difference from an image processor's tensors, or the sentence of the refusal.

    Raises:
        AssertionError: the sentence says that the size follows each photo, and it does not.
    """
    with TemporaryDirectory() as folder:
        try:
            return whole_way(made, Path(folder), theirs)
        except XcamError as error:
            if "the size of the input follows each photo" in str(error):
                assert len({one.shape for one in theirs}) > 1, str(error)
            return str(error)
