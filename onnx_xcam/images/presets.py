"""This module holds named preprocessings."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_xcam.images.preprocess import Preprocess

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The mean and the standard deviation of ImageNet's photos in red, green and blue, of values of 0 to 1."""
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PRESETS: Mapping[str, Preprocess] = {
    # torchvision's classifiers and most of timm's
    "imagenet": Preprocess(resize="crop", crop_fraction=0.875, scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    # TensorFlow's classifiers (Inception, MobileNet, EfficientNetV2) and many vision transformers take -1..1
    "inception": Preprocess(resize="crop", crop_fraction=0.875, scale=1 / 255, mean=(0.5,), std=(0.5,)),
    # Caffe's classifiers, and Keras's VGG and ResNet, take blue first and 0..255 less the mean colour
    "caffe": Preprocess(resize="crop", crop_fraction=0.875, mean=(103.939, 116.779, 123.68), channels="BGR"),
    # OpenAI's CLIP
    "clip": Preprocess(resize="crop", interpolation="cubic", scale=1 / 255, mean=_CLIP_MEAN, std=_CLIP_STD),
    # Ultralytics' detectors and segmenters
    "yolo": Preprocess(resize="letterbox", antialias=False, scale=1 / 255, pad_value=114),
    # The whole photo in 0..255, in 0..1, and in 0..1 and grey
    "raw": Preprocess(),
    "unit": Preprocess(scale=1 / 255),
    "gray": Preprocess(scale=1 / 255, channels="GRAY"),
}
"""The named preprocessings. None of them states a size, which the model's own input does."""
