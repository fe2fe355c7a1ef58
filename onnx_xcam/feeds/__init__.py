"""This package decides what a model is fed: which input the picture goes to, and which values the others get."""

from onnx_xcam.feeds.model_inputs import (
    FedPicture,
    OtherInputs,
    example_feeds,
    free_picture,
    image_and_others,
    takes_bands,
    takes_pictures,
)
from onnx_xcam.feeds.values import InputValue, padded, parse_value

__all__ = [
    "FedPicture",
    "InputValue",
    "OtherInputs",
    "example_feeds",
    "free_picture",
    "image_and_others",
    "padded",
    "parse_value",
    "takes_bands",
    "takes_pictures",
]
