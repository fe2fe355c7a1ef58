"""This module holds preprocessing as data: what is done to a picture before a model gets it.

    x = (pixel * scale - mean) / std        pixel 0..255, channel by channel

The geometry has one form for all three resize rules. With the input (H, W) and a crop fraction f, the photo is scaled
to (H, W) / f: "stretch" to exactly that, "crop" so that it covers that, "letterbox" so that it fits within that. Then
the input is cut out of its middle, and padded where the scaled photo is smaller. A `resize_size` stands in the place of
(H, W) / f. With `crop_first`, the part is cut out of the photo itself, and then scaled to the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from onnx_xcam.contract import ImageLayout
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.place import Placement
from onnx_xcam.images.resize import Interpolation, cuts_between_pixels

Resize = Literal["stretch", "crop", "letterbox"]
Channels = Literal["RGB", "BGR", "GRAY"]
Rounding = Literal["floor", "round"]
SizeRounding = Literal["floor", "round", "exact"]
Align = Literal["centre", "start"]

DEFAULT_SIZE = 224
"""The height and width where neither the model nor the preprocessing states them; see `Preprocess.size_is_assumed`."""


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
            "exact" scales by the aspect ratio itself, and rounds nothing but the sides of the result (OpenCV's `resize`
            with factors); a centre crop is then cut out between pixels where Pillow resizes (its `ImageOps.fit`).
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
    size_rounding: SizeRounding | None = None
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
                    f"preprocessing says size {by(self.size)} (height x width), but the model's input {spec.name!r} "
                    f"is fixed to {by(fixed)}; leave size out and the model's own is used"
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
        scaled = tuple(max(1, _rounded(p * r, rounding)) for p, r in zip(photo, ratios, strict=True))
        top, left = (self._offset(s, t) for s, t in zip(scaled, target, strict=True))
        return Placement(photo, target, (scaled[0], scaled[1]), (top, left))

    def _offset(self, exactly: float, target: int) -> float:
        """Return where the input begins in the scaled photo along an axis; a negative number is the border before it.

        torchvision rounds half a pixel of a crop to the even number, and "floor" is the rule of Hugging Face. The odd
        pixel of a border stands behind, in both and in Ultralytics.
        """
        is_exact = self.size_rounding == "exact" and cuts_between_pixels(self.interpolation, self.antialias)
        if is_exact and exactly > target:
            return (exactly - target) / 2
        scaled = round(exactly)
        if self.align == "start" and scaled <= target:
            return 0
        if scaled <= target:
            return -((target - scaled) // 2)
        return (scaled - target) // 2 if self.offset_rounding == "floor" else round((scaled - target) / 2)

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

        An example: "224x224, centre crop 0.875, linear, RGB, values -1..1".
        """
        return f"{self.geometry(spec)}, values {self.values()}"

    def geometry(self, spec: InputSpec) -> str:
        """Return the part of the summary that is not about values: "224x224, centre crop 0.875, linear, RGB"."""
        order = self.order() if spec.takes_photos or self.bands is not None else f"{spec.channels} channels"
        return f"{by(self.input_size(spec))}, {self.rule()}, {self.interpolation}, {order}"

    def rule(self) -> str:
        """Return the resize rule in words: "centre crop 0.875", "letterbox (padded with 114)"."""
        pad = self.pad_value if isinstance(self.pad_value, tuple) else (self.pad_value,)
        words = {
            "stretch": "stretched",
            "crop": "centre crop",
            "letterbox": f"letterbox (padded with {_listed(pad)})",
        }
        crop = f" {self.crop_fraction:g}" if self.crop_fraction < 1 else ""
        if self.crop_first:
            return f"{words[self.resize]}{crop} of the photo itself"
        if self.resize_size is not None:
            return f"{words[self.resize]} after scaling to {by(self.resize_size)}"
        return f"{words[self.resize]}{crop}"

    def values(self) -> str:
        """Return what the values are in words: "0..255", "-1..1", "as in the file", or the formula."""
        if self.is_raw:
            values = "as in the file" if self.white == 255 and self.window is None else "0..255"
        else:
            values = self._range() or self._formula()
        return f"{values}{self._levels()}"

    def _range(self) -> str | None:
        """Return what black and white become, "-1..1", where that is the same in all channels and easily told."""
        if len(set(self.mean)) > 1 or len(set(self.std)) > 1:
            return None
        ends = [(pixel * self.scale - self.mean[0]) / self.std[0] for pixel in (0.0, 255.0)]
        rounded = [round(end, 2) + 0.0 for end in ends]  # -0.0 + 0.0 is 0.0
        if not all(math.isclose(*pair, abs_tol=1e-5) for pair in zip(ends, rounded, strict=True)):
            return None
        return "{:g}..{:g}".format(*rounded)

    def _formula(self) -> str:
        """Return what a pixel becomes: "(pixel / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]"."""
        divisor = 1 / self.scale
        is_short = math.isclose(divisor, float(f"{divisor:.4g}"), rel_tol=1e-6)
        pixel = "pixel" + (f" / {divisor:.4g}" if is_short else f" * {self.scale:.4g}") * (self.scale != 1)
        if any(self.mean):
            pixel += f" - {_listed(self.mean)}"
        if set(self.std) == {1.0}:
            return pixel
        return f"({pixel}) / {_listed(self.std)}" if " " in pixel else f"{pixel} / {_listed(self.std)}"

    def _levels(self) -> str:
        """Return the part of the summary on the values in a file that are black and white; empty for none stated."""
        if self.window is not None:
            return " with pixel 0 at {:g} and 255 at {:g} of the file's values, cut off outside".format(*self.window)
        if self.white is None or (self.white == 255 and self.is_raw):
            return ""
        return f" with pixel 255 at {self.white:g} of the file's values"

    def order(self) -> str:
        """Return the order of the channels in words: "RGB", "bands 3, 2, 1"."""
        if self.bands is not None:
            return f"band{'s' if len(self.bands) > 1 else ''} {', '.join(map(str, self.bands))}"
        return self.channels


def by(size: tuple[int | None, int | None]) -> str:
    """Return a size as messages show it: `224x224`, with `?` for an open side."""
    return "x".join("?" if side is None else str(side) for side in size)


def _listed(values: tuple[float, ...]) -> str:
    """Return the values of the channels as messages show them: `[0.485, 0.456, 0.406]`, or the one that all have."""
    texts = [f"{value:.4g}" for value in values]
    return texts[0] if len(set(values)) == 1 else f"[{', '.join(texts)}]"


def _rounded(side: Fraction, rounding: SizeRounding) -> float:
    """Return the side of a scaled photo as a rounding of sizes makes it."""
    if rounding == "exact":
        return float(side)
    return round(side) if rounding == "round" else math.floor(side)
