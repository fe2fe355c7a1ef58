"""A picture on its way into a model: the photo, what the model is fed of it, and how one lies on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.images.place import Placement


@dataclass(frozen=True)
class Picture:
    """An image on its way into the model.

    Attributes:
        name: where it came from, for messages and file names.
        image_rgb: uint8 [H,W,3], upright; None for a ready tensor.
        item: what the model is fed, the input's shape without the batch axis.
        placement: how the item's pixels lie on the photo; None for a ready tensor.
        remarks: what was assumed or lost when its file was read, as parts of sentences about it.
    """

    name: str
    image_rgb: NDArray[np.uint8] | None
    item: NDArray[np.generic]
    placement: Placement
    remarks: tuple[str, ...] = ()
