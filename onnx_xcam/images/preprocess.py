"""This module holds preprocessing as data, what is done to a picture before a model gets it, and applies it.

    x = (pixel * scale - mean) / std        pixel 0..255, channel by channel

The geometry has one form for all three resize rules. With the input (H, W) and a crop fraction f, the photo is scaled
to (H, W) / f: "stretch" to exactly that, "crop" so that it covers that, "letterbox" so that it fits within that. Then
the input is cut out of its middle, and padded where the scaled photo is smaller. A `resize_size` stands in the place of
(H, W) / f. With `crop_first`, the part is cut out of the photo itself, and then scaled to the input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onnx_xcam.errors import InputError, PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.images.place import Placement
from onnx_xcam.images.resize import Interpolation, resize_window

Resize = Literal["stretch", "crop", "letterbox"]
Channels = Literal["RGB", "BGR", "GRAY"]
Rounding = Literal["floor", "round"]
Align = Literal["centre", "start"]
ImageLayout = Literal["NCHW", "NHWC"]

DEFAULT_SIZE = 224
"""The height and width where neither the model nor the preprocessing states them; see `Preprocess.size_is_assumed`."""

_PHOTO_CHANNELS = frozenset({1, 3})
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV and Pillow have it
_LEAST_LEVELS = 32
"""An integer input must keep at least so many levels of the 256 of a picture."""
_MAX_INPUT_PIXELS = 2**26
"""The largest input in pixels: 8192 x 8192, which takes 800 MB as float32 with three channels."""


@dataclass(frozen=True)
class InputSpec:
    """An InputSpec describes a model's image input.

    Attributes:
        name: the input's name.
        dtype: its element type.
        layout: "NCHW" or "NHWC".
        channels: the number of channels.
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
        """Read layout, channels and size off an input's shape [N,C,H,W] or [N,H,W,C].

        Dimensions that are not positive integers are open. The channel axis is the one of size 1 or 3; where both
        fit or both are open, `layout` decides, and NCHW (ONNX's own) without it.

        Raises:
            InputError: the shape has not four dimensions, or no axis that can hold the channels.
        """
        dims = [d if isinstance(d, int) and d > 0 else None for d in shape]
        if len(dims) != 4:
            raise InputError(f"input {name!r} has the shape {list(shape)}; an image input has four dimensions")
        layouts: tuple[ImageLayout, ...] = (layout,) if layout else ("NCHW", "NHWC")
        for accepted in ((1, 3), (1, 3, None)):
            for candidate in layouts:
                channels, height, width = dims[1:] if candidate == "NCHW" else (dims[3], dims[1], dims[2])
                if channels in accepted:
                    return cls(name, np.dtype(dtype), candidate, channels or 3, height, width)
        raise InputError(
            f"input {name!r} has the shape {list(shape)}; an image input has 1 or 3 channels,"
            " at axis 1 (NCHW) or 3 (NHWC)"
        )

    @classmethod
    def of_bands(cls, name: str, dtype: npt.DTypeLike, shape: tuple[int | str | None, ...]) -> InputSpec | None:
        """Describe an input with another number of channels than a photo has; return None for one that takes photos.

        The channels are axis 1 or 3; where both are numbers, the smaller one, as the sides of a picture are longer.
        """
        if len(shape) != 4 or {shape[1], shape[3]} & _PHOTO_CHANNELS:
            return None
        first, last = (dim if isinstance(dim, int) and dim > 0 else None for dim in (shape[1], shape[3]))
        if first is None and last is None:
            return None
        layout: ImageLayout = "NCHW" if last is None or (first is not None and first <= last) else "NHWC"
        sides = shape[2:] if layout == "NCHW" else shape[1:3]
        height, width = (side if isinstance(side, int) and side > 0 else None for side in sides)
        channels = first if layout == "NCHW" else last
        return cls(name, np.dtype(dtype), layout, channels or 0, height, width)

    @property
    def takes_bands(self) -> bool:
        """Tell whether the input takes another number of channels than a photo has."""
        return self.channels not in _PHOTO_CHANNELS

    def only_tensors(self) -> str:
        """Return the words that pictures for an input of other channels cannot be read, and what to do instead."""
        axes = "N,{},H,W" if self.layout == "NCHW" else "N,H,W,{}"
        return (
            f"the model's input {self.name!r} takes pictures of {self.channels} channels, which are not read from "
            f"files; hand in a ready tensor [{axes.format(self.channels)}] (Python: explain(array))"
        )


@dataclass(frozen=True)
class Preprocess:
    """A Preprocess says what is done to a picture before a model gets it.

    With the size (H, W) of the model's input, the photo is scaled to (H, W) / `crop_fraction`, the input is cut out of
    its middle or padded, and each pixel value 0..255 becomes (value * `scale` - `mean`) / `std`.

    Attributes:
        size: (height, width) of the input, for models that leave it open.
        resize: "stretch" (aspect ratio lost), "crop" (centre crop) or "letterbox" (padded).
        crop_fraction: the part of the scaled height and width that the input keeps, above 0 up to 1.
        interpolation: "nearest", "linear", "cubic", "area" or "lanczos".
        antialias: smooth when shrinking, as Pillow and torchvision do; False is what `cv2.resize` does.
        scale: factor on the pixel values 0..255.
        mean, std: applied after `scale`; one number for all channels or one for each, in the order of `channels`.
        channels: what the input holds, in order: "RGB", "BGR" or "GRAY".
        pad_value: the pixel value 0..255 of borders, for all channels or one for each, in the order of `channels`.
        layout: "NCHW" or "NHWC" for inputs with a shape that leaves it open; else None.
        resize_size: (height, width) that the photo is scaled to (or is to cover, or to fit within) before the input is
            cut out of it, in place of (H, W) / `crop_fraction`; (n, n) with "crop" makes the shorter side n.
        crop_first: cut the part out of the photo first, and scale it then: the middle of the photo, `crop_fraction` of
            its height and width ("stretch"), or of the largest part with the input's aspect ratio ("crop").
        size_rounding: how the side of the scaled photo that follows from its aspect ratio becomes a whole number:
            "floor" (torchvision), "round" (OpenCV's pipelines), None for "round" in a letterbox and else "floor".
        offset_rounding: how half a pixel is rounded where the input is cut out of the scaled photo: "round"
            (torchvision, to the even number), "floor" (Hugging Face).
        align: where borders are added: "centre" on both sides, "start" to the right and below only.
        white: the value in a file that stands for pixel 255 (pixel = value * 255 / white, neither cut nor rounded);
            None takes what the file's type calls white: 255, 65535, 1.0. 255 hands the file's values on as they are.
        window: (low, high) of the values in a file: low becomes pixel 0, high 255, and what is outside is cut off.
        bands: the channels of a file that the input gets, in order, counted from 0; None for all, in the file's order.
        show_bands: the one or three channels of a file that are displayed, counted from 0; None for the first three, or
            the first.
    """

    size: tuple[int, int] | None = None
    resize: Resize = "stretch"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "linear"
    antialias: bool = True
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Channels = "RGB"
    pad_value: float | tuple[float, ...] = 0
    layout: ImageLayout | None = None
    resize_size: tuple[int, int] | None = None
    crop_first: bool = False
    size_rounding: Rounding | None = None
    offset_rounding: Rounding = "round"
    align: Align = "centre"
    white: float | None = None
    window: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    show_bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in check_fields(asdict(self), "preprocessing").items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "preprocessing") -> Preprocess:
        """Build a Preprocess from plain data, as `to_dict` returns it and JSON or YAML files hold it.

        Settings that are left out keep their defaults. Numbers may be fractions in text ("1/255"), and `size` may be
        one number for a square.

        Args:
            data: the settings by name.
            source: where they come from, for messages.

        Raises:
            PreprocessError: a key is unknown or a value impossible; the message names key and source.
        """
        return cls(**check_fields(data, source))

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain data for JSON or YAML."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def replace(self, **changes: Any) -> Preprocess:
        """Return a copy with some settings changed."""
        return replace(self, **changes)

    @property
    def is_raw(self) -> bool:
        """Tell whether pixel values stay as they are, 0..255."""
        return self.scale == 1.0 and set(self.mean) == {0.0} and set(self.std) == {1.0}

    def input_size(self, spec: InputSpec) -> tuple[int, int]:
        """Return (height, width) of the prepared picture: the model's fixed sizes, else `size`, else the default.

        Where the model fixes only one side, the other becomes equal to it.

        Raises:
            PreprocessError: `size` contradicts the model.
        """
        fixed = (spec.height, spec.width)
        if self.size:
            if any(f is not None and f != s for f, s in zip(fixed, self.size, strict=True)):
                raise PreprocessError(
                    f"preprocessing says size {_by(self.size)} (height x width), but the model's input {spec.name!r} "
                    f"is fixed to {_by(fixed)}; leave size out and the model's own is used"
                )
            return self.size
        height = spec.height or spec.width or DEFAULT_SIZE
        return height, spec.width or height

    def size_is_assumed(self, spec: InputSpec) -> bool:
        """Tell whether `input_size` has to assume a side, which the user should know."""
        return not self.size and not (spec.height and spec.width)

    def placement(self, photo: tuple[int, int], target: tuple[int, int]) -> Placement:
        """Return how a photo of (height, width) is laid into an input of (height, width)."""
        if self.crop_first:
            return Placement.of_part(photo, target, self._part(photo, target))
        working = self.resize_size or tuple(max(side, math.floor(side / self.crop_fraction + 1e-6)) for side in target)
        ratios = [Fraction(w, p) for w, p in zip(working, photo, strict=True)]
        if self.resize == "crop":
            ratios = [max(ratios)] * 2
        elif self.resize == "letterbox":
            ratios = [min(ratios)] * 2
        rounding = self.size_rounding or ("round" if self.resize == "letterbox" else "floor")
        whole = round if rounding == "round" else math.floor
        scaled = tuple(max(1, whole(p * r)) for p, r in zip(photo, ratios, strict=True))
        top, left = (self._offset(s, t) for s, t in zip(scaled, target, strict=True))
        return Placement(photo, target, (scaled[0], scaled[1]), (top, left))

    def _offset(self, scaled: int, target: int) -> int:
        """Return where the input begins in the scaled photo along an axis; a negative number is the border before it.

        torchvision rounds half a pixel of a crop to the even number, and puts the odd pixel of a border behind, as
        Ultralytics does; "floor" is the rule of Hugging Face, whose odd pixel of a border stands before.
        """
        if self.align == "start" and scaled <= target:
            return 0
        if self.offset_rounding == "floor":
            return (scaled - target) // 2
        return round((scaled - target) / 2) if scaled > target else -((target - scaled) // 2)

    def _part(self, photo: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of the part of the photo that `crop_first` cuts out."""
        scale = min(Fraction(p, t) for p, t in zip(photo, target, strict=True))
        largest = [math.floor(t * scale) for t in target] if self.resize == "crop" else photo
        sides = [max(1, math.floor(side * self.crop_fraction + 1e-6)) for side in largest]
        offset = math.floor if self.offset_rounding == "floor" else round
        top, left = (offset((p - s) / 2) for p, s in zip(photo, sides, strict=True))
        return top, left, top + sides[0], left + sides[1]

    def summary(self, spec: InputSpec) -> str:
        """Return one line for the user on geometry and values.

        An example: "224x224, centre crop 0.875, linear, RGB, (pixel * 0.003922 - [0.5]) / [0.5]".
        """
        values = "raw values 0..255"
        if not self.is_raw:
            mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
            values = f"(pixel * {self.scale:.4g} - [{mean}]) / [{std}]"
        return f"{self.geometry(spec)}, {values}"

    def geometry(self, spec: InputSpec) -> str:
        """Return the part of the summary that is not about values: "224x224, centre crop 0.875, linear, RGB"."""
        rule = {"stretch": "stretched", "crop": "centre crop", "letterbox": f"letterbox (padded with {self.pad_value})"}
        crop = f" {self.crop_fraction:g}" if self.crop_fraction < 1 or self.resize == "crop" else ""
        return f"{_by(self.input_size(spec))}, {rule[self.resize]}{crop}, {self.interpolation}, {self.channels}"


def preprocess_image(
    image_rgb: ImageRGB, preprocess: Preprocess, spec: InputSpec
) -> tuple[npt.NDArray[Any], Placement]:
    """Prepare one picture for a model, and return it with the way it was laid into the model's input.

    Args:
        image_rgb: [h,w,3] uint8 RGB, never changed.
        preprocess: what to do.
        spec: the model's input, which gives the result its layout, its dtype and, where they are fixed, its sizes.

    Returns:
        [C,H,W] or [H,W,C] (no batch dimension) in the input's dtype, C-contiguous, and the placement.

    Raises:
        PreprocessError: size, layout or channels contradict the model, its integer dtype cannot hold the values, the
            input has more than 2**26 pixels, or a very long photo would become gigantic before it is cropped
            (`resize_window` says when).
    """
    if spec.takes_bands:
        raise PreprocessError(spec.only_tensors())
    height, width = target = preprocess.input_size(spec)
    if height * width > _MAX_INPUT_PIXELS:
        raise PreprocessError(f"an input of {_by(target)} pixels is beyond the limit of {_MAX_INPUT_PIXELS}")
    if preprocess.layout not in (None, spec.layout):
        raise PreprocessError(
            f"preprocessing says layout {preprocess.layout}, but the model's input {spec.name!r} is {spec.layout}"
        )
    table = _value_table(preprocess, spec)
    placement = preprocess.placement((image_rgb.shape[0], image_rgb.shape[1]), target)
    pixels = _in_channels(_lay_in(image_rgb, preprocess, placement), preprocess.channels)
    planes = [column[pixels[..., channel]] for channel, column in enumerate(table)]
    return np.stack(planes, axis=0 if spec.layout == "NCHW" else 2), placement


def _lay_in(image_rgb: ImageRGB, preprocess: Preprocess, placement: Placement) -> ImageRGB:
    """Scale a photo and cut it or pad it to the model's input, [H,W,3] uint8."""
    if placement.part is not None:
        top, left, bottom, right = placement.part
        cut, scaled, offset = image_rgb[top:bottom, left:right], placement.input, (0, 0)
    else:
        height, width = placement.scaled
        cut, scaled, offset = image_rgb, (int(height), int(width)), (int(placement.offset[0]), int(placement.offset[1]))
    canvas = np.full((*placement.input, 3), preprocess.pad_value, np.uint8)
    spans = [(max(0, o), min(s, o + i)) for o, s, i in zip(offset, scaled, placement.input, strict=True)]
    (top, bottom), (left, right) = spans
    canvas[top - offset[0] : bottom - offset[0], left - offset[1] : right - offset[1]] = resize_window(
        cut, scaled, (top, left, bottom, right), preprocess.interpolation, antialias=preprocess.antialias
    )
    return canvas


def _in_channels(image_rgb: ImageRGB, channels: Channels) -> ImageRGB:
    """Return an RGB picture with the channels of the input: [H,W,3], or [H,W,1] for grey."""
    if channels == "RGB":
        return image_rgb
    if channels == "BGR":
        return image_rgb[..., ::-1]
    grey: ImageRGB = np.rint(image_rgb @ np.array(_GRAY_WEIGHTS)).astype(np.uint8)[..., None]
    return grey


@functools.lru_cache(maxsize=16)
def _value_table(preprocess: Preprocess, spec: InputSpec) -> npt.NDArray[Any]:
    """Return what each pixel value 0..255 becomes, in the input's dtype: [channels, 256], read-only.

    The values are computed in float64 and rounded once, so that they follow the formula to the last bit of the dtype.
    """
    count = 1 if preprocess.channels == "GRAY" else 3
    if spec.channels != count:
        wanted = "channels GRAY (preset gray)" if spec.channels == 1 else "channels RGB or BGR"
        raise PreprocessError(
            f"preprocessing makes {count} channel(s) ({preprocess.channels}), but the model's input {spec.name!r} has "
            f"{spec.channels}; say {wanted}"
        )
    for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
        if len(values) not in (1, count):
            raise PreprocessError(f"{name} has {len(values)} values for {count} channel(s) ({preprocess.channels})")
    mean, std = (np.broadcast_to(np.array(v)[:, None], (count, 1)) for v in (preprocess.mean, preprocess.std))
    exact: npt.NDArray[np.float64] = (np.arange(256) * preprocess.scale - mean) / std
    if not _fits(exact, spec.dtype):
        raise PreprocessError(
            f"the model's input {spec.name!r} holds {spec.dtype}, which cannot carry the values {exact.min():.4g} to "
            f"{exact.max():.4g} that the preprocessing makes; for pixels as they are, {_as_they_are(spec.dtype)}"
        )
    table = (np.rint(exact) if spec.dtype.kind in "iu" else exact).astype(spec.dtype)
    table.flags.writeable = False  # the cache returns the same array to every caller
    return table


def _as_they_are(dtype: np.dtype[Any]) -> str:
    """Return, as a part of a sentence, how pixel values are kept as they are for an input of this dtype."""
    if dtype == np.int8:
        return "say mean 128 (-128 to 127)"
    plain = "say scale 1, mean 0 and std 1"
    if dtype.kind not in "iu" or dtype.itemsize == 1:
        return plain
    largest = np.iinfo(dtype).max
    return (
        f"{plain}, for all of {dtype} a scale of at most {largest / 255:.6g} (0 to {largest}), and for the values of a "
        "file of more than 8 bits hand in a ready tensor (Python: explain(array))"
    )


def _fits(exact: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype can hold the values: in its range, and for integers in enough different levels."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        rounded = np.rint(exact)
        levels = min(len(np.unique(channel)) for channel in rounded)
        return bool(rounded.min() >= limits.min and rounded.max() <= limits.max and levels >= _LEAST_LEVELS)
    if dtype.kind not in "fV":  # V: bfloat16, of ml_dtypes
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(exact.astype(dtype).astype(np.float64)).all())


def _by(size: tuple[int | None, int | None]) -> str:
    """Return a size as messages show it: `224x224`, with `?` for an open side."""
    return "x".join("?" if side is None else str(side) for side in size)
