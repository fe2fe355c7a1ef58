"""This package reads, preprocesses and writes pictures, and places maps on photos and colours them.

No other package uses OpenCV and Pillow, and this one only where pixels are read, resized, coloured or written
(`images.backend`).
"""

from __future__ import annotations

from onnx_xcam.images.backend import MAX_PIXELS
from onnx_xcam.images.boxes import DrawnBox, draw_boxes
from onnx_xcam.images.draw import COLOUR_MAPS, colour, overlay, united
from onnx_xcam.images.find import find_images
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.images.place import Placement, scale_heatmap
from onnx_xcam.images.prepare import preprocess_image
from onnx_xcam.images.preprocess import DEFAULT_SIZE, Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.images.read import read_image, read_mask, read_photo
from onnx_xcam.images.sources import open_photo
from onnx_xcam.images.write import write_image

__all__ = [
    "COLOUR_MAPS",
    "DEFAULT_SIZE",
    "MAX_PIXELS",
    "PRESETS",
    "DrawnBox",
    "ImageRGB",
    "InputSpec",
    "Photo",
    "Placement",
    "Preprocess",
    "colour",
    "draw_boxes",
    "find_images",
    "open_photo",
    "overlay",
    "preprocess_image",
    "read_image",
    "read_mask",
    "read_photo",
    "scale_heatmap",
    "united",
    "write_image",
]
