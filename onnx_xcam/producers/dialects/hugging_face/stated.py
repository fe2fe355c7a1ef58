"""This module holds what the file of an image processor states, key by key, over the defaults of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import number

Size = Mapping[str, int]
"""A size as transformers write it: {"height", "width"}, {"shortest_edge"}, {"longest_edge"}, ..."""

_SIZE_KEYS = frozenset({"height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"})
_LARGEST_SIDE = 2**20
_INSTEAD = "state what the model gets in a file of your own (--preprocess FILE)"


@dataclass(frozen=True)
class Stated:
    """Stated is the content of an image processor's file, with the defaults of its class for what it leaves out.

    Attributes:
        source: what messages call the file.
        name: the name of the class, without "Fast", "Pil" or "FeatureExtractor"; None where the file names none.
        data: the keys of the file; None stands for the default, as in `BaseImageProcessor._set_attributes`.
        defaults: the values of the class for keys that the file leaves out.
    """

    source: str
    name: str | None
    data: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Return the value of a key, else the default of the class, else None."""
        value = self.data.get(key)
        return self.defaults.get(key) if value is None else value

    def flag(self, key: str) -> bool:
        """Tell whether a step is switched on.

        Raises:
            PreprocessError: the value is neither true nor false.
        """
        value = self.get(key)
        if value is not None and not isinstance(value, bool) and value not in (0, 1):
            raise self.wrong(key, "it must be true or false")
        return bool(value)

    def whole(self, key: str) -> int:
        """Return a whole number above 0.

        Raises:
            PreprocessError: it is none.
        """
        value = self.get(key)
        if not _is_side(value):
            raise self.wrong(key, "it must be a whole number above 0")
        return int(value)

    def real(self, key: str) -> float:
        """Return a number above 0.

        Raises:
            PreprocessError: it is none.
        """
        try:
            value = number(self.get(key))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            value = 0.0
        if not value > 0:
            raise self.wrong(key, "it must be a number above 0")
        return value

    def per_channel(self, key: str) -> tuple[float, ...]:
        """Return one number for all channels, or one for each.

        Raises:
            PreprocessError: it holds something else, or more than four numbers.
        """
        value = self.get(key)
        values = value if isinstance(value, (list, tuple)) else (value,)
        try:
            numbers = tuple(number(one) for one in values)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            numbers = ()
        if not 1 <= len(numbers) <= 4:
            raise self.wrong(key, "it must be one number, or one for each channel")
        return numbers

    def size(self, key: str) -> Size:
        """Return a size as transformers read it (`get_size_dict`).

        A pair is height and width. One number is a square, or the shorter side where the class says so by
        `default_to_square`.

        Raises:
            PreprocessError: it is no size.
        """
        value = self.get(key)
        if isinstance(value, Mapping):
            sides = {name: side for name, side in value.items() if side is not None and name in _SIZE_KEYS}
            odd = [name for name in value if name not in _SIZE_KEYS]
        elif isinstance(value, (list, tuple)) and len(value) == 2:
            sides, odd = {"height": value[0], "width": value[1]}, []
        elif key == "size" and self.get("default_to_square") is False:
            sides, odd = {"shortest_edge": value}, []
        else:
            sides, odd = {"height": value, "width": value}, []
        if odd or not sides or not all(_is_side(side) for side in sides.values()):
            raise self.wrong(key, "it must be a number of pixels, or height and width, or shortest_edge")
        return {name: int(side) for name, side in sides.items()}

    def wrong(self, key: str, wanted: str) -> PreprocessError:
        """Return the error that a key has an impossible value."""
        value = repr(self.get(key))
        return PreprocessError(f"{self.source}: {key} is {value[:80]}; {wanted}")

    def not_followed(self, what: str) -> PreprocessError:
        """Return the error that a file asks for something that cannot be followed; `what` is a clause."""
        return PreprocessError(f"{self.source}: {what}, which is not supported; {_INSTEAD}")

    def follows_the_photo(self, why: str) -> PreprocessError:
        """Return the error that the input has another size for each photo; `why` is a clause."""
        return self.not_followed(f"{why}, so the size of the input follows each photo")


def _is_side(value: Any) -> bool:
    """Tell whether a value is a whole number of pixels within bounds."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 1 <= value <= _LARGEST_SIDE
        and value == int(value)
    )
