"""A picture holds a photo, the item that a model is fed of it, and how the item lies on the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.images.place import Placement


@dataclass(frozen=True)
class Picture:
    """A Picture is an image that is prepared for the model: the photo, and what the model is fed of it.

    Attributes:
        name: the file's path or another name, for messages and file names.
        image_rgb: the photo, uint8 [H,W,3], upright; None for a ready tensor.
        item: the preprocessed image, in the shape of the model's input without the batch axis.
        placement: how the item's pixels lie on the photo; the whole item for a ready tensor.
        remarks: what was assumed or lost when the file was read, as clauses without the file's name.
    """

    name: str
    image_rgb: NDArray[np.uint8] | None
    item: NDArray[np.generic]
    placement: Placement
    remarks: tuple[str, ...] = ()
