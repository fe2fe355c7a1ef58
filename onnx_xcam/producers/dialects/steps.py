"""This module turns a chain of steps (resize, crop, pad, normalise), as producers write it down, into settings.

A dialect names each step of a file in order; what can't be said with the settings of `Preprocess` is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields, number

Size = tuple[int, int]
"""A (height, width) in pixels."""

OPENCV_INTERPOLATIONS: Mapping[str, str] = {
    "nearest": "nearest",
    "linear": "linear",
    "bilinear": "linear",
    "cubic": "cubic",
    "bicubic": "cubic",
    "area": "area",
    "lanczos": "lanczos",
    "lanczos4": "lanczos",
}
"""The interpolations of `cv2.resize` by the names that producers give them, in lower case; all of them go with
`antialias: false`."""

PILLOW_INTERPOLATIONS: Mapping[str, str] = {
    "nearest": "nearest",
    "bilinear": "linear",
    "bicubic": "cubic",
    "lanczos": "lanczos",
}
"""The interpolations of Pillow by their names in lower case; its box and Hamming filters are not offered."""


class Steps:
    """Steps collect the steps of one file, in the order in which they are applied to a photo.

    Args:
        source: the file, as messages name it.
        geometry: the settings that say how this producer rounds sizes and offsets.
    """

    def __init__(self, source: str, geometry: Mapping[str, Any] | None = None) -> None:
        self.source = source
        self.remarks: list[str] = []
        self._geometry = dict(geometry or {})
        self._settings: dict[str, Any] = {"scale": 1.0, "mean": 0.0, "std": 1.0}
        self._resize: tuple[str, str, Size] | None = None  # the step's name, the rule, and what the photo is scaled to
        self._turned = False
        self._crop: Size | None = None
        self._pad: Size | None = None
        self._align = "start"
        self._normalised = False

    def apply(self, operators: Operators, where: str, name: str, parameters: Mapping[str, Any]) -> None:
        """Take a step of a file, by the function that is listed under its name.

        Args:
            operators: the steps that a producer has, by name.
            where: where in the file the step stands.
            name: the step's name in the file.
            parameters: what the file says of the step.

        Raises:
            PreprocessError: the step is not listed, or cannot be followed.
        """
        step = f"{where}: {name}"
        if name not in operators:
            self.refuse(step, "is not supported")
        operators[name](self, step, parameters)

    def refuse(self, step: str, why: str) -> NoReturn:
        """Raise the error that a step cannot be followed.

        Raises:
            PreprocessError: always.
        """
        raise PreprocessError(
            f"{self.source}: {step} {why}; state the preprocessing yourself (preprocess, --preprocess)"
        )

    def scale(self, step: str, rule: str, size: Any, *, turned: bool = False) -> None:
        """Scale the photo to a size: "stretch", "crop" so that it covers it, "letterbox" so that it fits within it.

        Args:
            step: the step's name in the file.
            rule: one of the three.
            size: the size, (height, width) or one number for both.
            turned: the size is turned with the photo: its larger number is for the photo's longer side.
        """
        self._turned = turned
        if self._resize or self._crop or self._pad:
            self.refuse(step, "is a second resize, or comes after a crop or a padding, which is not supported")
        self._resize = (step, rule, self.size(step, size))

    def crop(self, step: str, size: Any) -> None:
        """Cut a (height, width) out of the middle of the scaled photo."""
        if self._resize is None or self._crop or self._pad:
            self.refuse(step, "is supported once, after a resize, and before a padding")
        self._crop = self.size(step, size)

    def pad(self, step: str, size: Any, value: Any, *, align: str = "start") -> None:
        """Add borders up to a (height, width).

        Args:
            step: the step's name in the file.
            size: the size with borders.
            value: what the borders hold, one number or one for each channel; after `normalise` a normalised one.
            align: "start" for borders to the right and below, "centre" for borders on all sides.
        """
        self._align = align
        if self._resize is None or self._pad:
            self.refuse(step, "is supported once, after a resize")
        self._pad = self.size(step, size)
        self._border(step, value)

    def pad_to_multiple(self, step: str, divisor: Any, value: Any) -> None:
        """Add borders to the right and below, so that both sides are a multiple of a number.

        After a resize that keeps the aspect ratio, the size then depends on the photo, which `settings` remarks.
        """
        multiple, _ = self.size(step, divisor)
        if self._resize is None:
            self.refuse(step, "is supported after a resize only")
        _, rule, scaled = self._resize
        if self._pad is None and self._crop is None and rule == "letterbox":
            self._border(step, value)
            return
        height, width = (-(-side // multiple) * multiple for side in self._pad or self._crop or scaled)
        if (height, width) == (self._pad or self._crop or scaled):
            return
        if self._pad or self._crop:
            self.refuse(step, f"adds a border to {multiple} after a crop or another border, which is not supported")
        self.pad(step, (height, width), value)

    def pad_to_square(self, step: str, value: Any) -> None:
        """Add borders to the right and below up to a square of the longer side."""
        if self._resize is None or self._crop:
            self.refuse(step, "is supported after a resize only")
        self.pad(step, max(self._resize[2]), value)

    def swap_channels(self) -> None:
        """Turn BGR into RGB, or back."""
        order = {"BGR": "RGB", "RGB": "BGR"}
        self._settings["channels"] = order.get(self._settings["channels"], self._settings["channels"])

    def round_sizes(self, rule: str) -> None:
        """Set how the side that follows from the aspect ratio becomes a whole number, as `size_rounding`."""
        self._geometry["size_rounding"] = rule

    def _border(self, step: str, value: Any) -> None:
        """Set what borders hold, as a pixel value: of a normalised value b it is (b * std + mean) / scale."""
        if self._normalised:
            checked = check_fields({key: self._settings[key] for key in ("scale", "mean", "std")}, self.source)
            per_channel = (check_fields({"mean": value}, self.source)["mean"], checked["std"], checked["mean"])
            channels = max(map(len, per_channel))
            if any(len(values) not in (1, channels) for values in per_channel):
                self.refuse(step, "adds borders, and mean and std are not of the same number of channels")
            columns = zip(*(values * channels if len(values) == 1 else values for values in per_channel), strict=True)
            value = [round((border * std + mean) / checked["scale"], 9) for border, std, mean in columns]
        self._settings["pad_value"] = value

    def normalise(self, step: str, scale: Any, mean: Any, std: Any) -> None:
        """Compute (pixel * scale - mean) / std."""
        if self._normalised:
            self.refuse(step, "is a second normalisation, which is not supported")
        self._normalised = True
        self._settings |= {"scale": scale, "mean": mean, "std": std}

    def state(self, **settings: Any) -> None:
        """Set settings that are no matter of order."""
        self._settings |= settings

    def size(self, step: str, size: Any) -> Size:
        """Return a size in its final type: one number for both sides, or (height, width)."""
        checked: Size | None = check_fields({"size": size}, f"{self.source}: {step}")["size"]
        if checked is None:
            self.refuse(step, "states no size")
        return checked

    def settings(self) -> dict[str, Any]:
        """Return the settings that all steps together state."""
        if self._resize is None:
            return self._settings
        step, rule, scaled = self._resize
        settings = self._settings | self._geometry | {"resize": rule}
        if rule == "letterbox":
            return settings | self._letterbox(step, scaled)
        if rule == "crop" and self._crop is None:
            self.refuse(step, "scales the shorter side, and no crop follows: the input would have no fixed size")
        size = self._pad or self._crop or scaled
        return settings | {"size": size} | ({} if size == scaled else {"resize_size": scaled, "align": self._align})

    def _letterbox(self, step: str, scaled: Size) -> dict[str, Any]:
        """Return the settings of a photo that fits within a size, with borders."""
        if self._crop is not None:
            self.refuse(step, "keeps the aspect ratio, and a crop follows, which is not supported")
        size = self._pad or scaled
        if self._pad is None or (self._turned and scaled[0] != scaled[1]):
            self.remarks.append(
                f"{self.source}: {step} gives each photo a size of its own; every photo is fitted into "
                f"{size[0]}x{size[1]} (height x width) here, with borders to the right and below."
            )
        return {"size": size, "align": self._align} | ({} if size == scaled else {"resize_size": scaled})


Operators: TypeAlias = Mapping[str, Callable[[Steps, str, Mapping[str, Any]], None]]
"""The steps that a producer has, by their names in a file: each function gets the `Steps`, what messages call the step,
and its parameters."""


def one_or_pair(value: Any, *, width_first: bool) -> Any:
    """Return a size as [height, width], or as the one number that it is, of a file that may state the width first."""
    if width_first and isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return [value[1], value[0]]
    return value


def is_number(value: Any) -> bool:
    """Tell whether a value of a file is a finite number, or a text that states one."""
    try:
        number(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return False
    return True


def label_texts(value: Any) -> list[str] | None:
    """Return a list of labels as texts, or None for anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(one, (str, int, float)) for one in value):
        return None
    return [str(one) for one in value]
