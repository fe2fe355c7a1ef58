"""An InputSpec describes the input of a model that pictures go to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_xcam.contract import ImageLayout, picture_layout
from onnx_xcam.errors import InputError


@dataclass(frozen=True)
class InputSpec:
    """An InputSpec describes a model's image input.

    Attributes:
        name: the input's name.
        dtype: its element type.
        layout: "NCHW" or "NHWC".
        channels: the number of channels: 1 (grey), 3 (colours), or another of bands.
        height, width: the size of pictures, None where the model leaves it open.
    """

    name: str
    dtype: np.dtype[Any]
    layout: ImageLayout
    channels: int
    height: int | None = None
    width: int | None = None

    @classmethod
    def from_shape(
        cls, name: str, dtype: npt.DTypeLike, shape: tuple[int | str | None, ...], layout: ImageLayout | None = None
    ) -> InputSpec:
        """Read layout, channels and size off an input's shape [N,C,H,W] or [N,H,W,C], for any number of channels.

        Dimensions that are not positive integers are open; `contract.picture_layout` says which axis is the channels'.
        An open number of channels counts as three.

        Args:
            name: the input's name.
            dtype: its element type.
            shape: its shape.
            layout: the layout where the preprocessing states one.

        Raises:
            InputError: the shape has not four dimensions, or no axis that can hold the channels.
        """
        dims = [d if isinstance(d, int) and d > 0 else None for d in shape]
        if len(dims) != 4:
            raise InputError(f"input {name!r} has the shape {list(shape)}; an image input has four dimensions")
        found = picture_layout(shape, layout)
        if found is None:
            raise InputError(
                f"input {name!r} has the shape {list(shape)}; an image input has channels at axis 1 (NCHW) or 3 (NHWC),"
                f" and pictures of at least 8x8 pixels{f'; layout is said to be {layout}' if layout else ''}"
            )
        channels, height, width = dims[1:] if found == "NCHW" else (dims[3], dims[1], dims[2])
        return cls(name, np.dtype(dtype), found, channels or 3, height, width)

    @property
    def takes_photos(self) -> bool:
        """Tell whether the input takes the channels of a photo, grey or RGB, and not other bands."""
        return self.channels in (1, 3)
