"""Which input the picture goes to, and what the others are fed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import InputError
from onnx_xcam.feeds.values import InputValue, described, fitted_value, padded, read_values
from onnx_xcam.runtime import TensorInfo

_LARGEST = 1 << 28
"""Random inputs have at most so many elements."""


class FedPicture(NamedTuple):
    """What is told of a picture that is fed to an input beside the explained one.

    Attributes:
        how: its file and what is done to it, as a part of a sentence.
        remarks: sentences on what was assumed or lost when the file was read.
    """

    how: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherInputs:
    """The values of the inputs beside the picture.

    Attributes:
        values: by name, as the model takes them.
        per_image: the names of those whose first axis is that of the images: its size is 1 (for all images), their
            number, or the batch size that the model was exported with.
        perhaps: the names of those of which the file does not tell: the same, but any other size is taken as it is.
        unused: what those are fed that play no part in the explanation: for each a row of zeros or of empty texts, or
            None where nothing at all reads a value of its kind.
        told: what is said of those that are pictures, by name; of the others their shape is told.
    """

    values: Mapping[str, NDArray[Any]]
    per_image: frozenset[str]
    perhaps: frozenset[str]
    unused: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)
    told: Mapping[str, FedPicture] = field(default_factory=dict)

    def rows(self, start: int, length: int, images: int) -> dict[str, Any]:
        """What belongs to a run of `length` images from `start` on, of `images` in all; the last row is repeated."""
        found: dict[str, Any] = {**self.values, **self.unused}
        for name in self.per_image | self.perhaps:
            if len(found[name]) in (1, images):
                rows = found[name] if len(found[name]) == 1 else found[name][start : start + length]
                found[name] = padded(rows, length)
        return found

    def are_of_places(self, images: int) -> bool:
        """Whether a value has rows for the places of a batch, and not for the images of a call."""
        return any(len(self.values[name]) not in (1, images) for name in self.per_image.intersection(self.values))

    def check_count(self, images: int, batch: int | None) -> None:
        """Raise an InputError unless each value is there once, for each image, or for each place of the batch."""
        for name in sorted(self.per_image.intersection(self.values)):
            if len(self.values[name]) not in (1, images, batch):
                count = f"{images} image{'' if images == 1 else 's'}"
                raise InputError(
                    f"The input '{name}' is given {len(self.values[name])} rows for {count}; give one row, which is "
                    "used for all, or one for each image of a call."
                )

    def warnings(self) -> list[str]:
        """What was assumed or lost when the pictures among them were read."""
        return [remark for picture in self.told.values() for remark in picture.remarks]

    def notes(self) -> list[str]:
        """What is fed, as sentences."""
        of_pictures = {name: picture.how for name, picture in self.told.items()}
        said = [
            f"Input: '{name}' is fed {of_pictures.get(name) or _described_value(value)}."
            for name, value in self.values.items()
        ]
        return [*said, *([contract.unused_note(list(self.unused))] if self.unused else [])]


def image_and_others(
    inputs: Iterable[TensorInfo],
    optional: Iterable[TensorInfo],
    given: Mapping[str, InputValue] | None,
    unused: Collection[str] = (),
) -> tuple[TensorInfo, OtherInputs]:
    """The input that pictures are fed to, and the values of the others.

    The picture goes to the one input of rank 4 with 1, 3 or 4 channels first or last for which no value is given.

    Args:
        inputs: the model's inputs.
        optional: those that have a default value; they may be given a value too.
        given: by name, see `InputValue`.
        unused: those that play no part; they are fed zeros where no value is given.

    Raises:
        InputError: no input is left for the picture, or several are; a value is missing, or does not fit.
    """
    wanted = [info for info in inputs if info.name != contract.CLASS_INPUT]
    infos = [*wanted, *optional]
    values = read_values(infos, given)
    free = [info for info in wanted if info.name not in values]
    used = [info for info in free if info.name not in unused] or free
    idle = [info for info in free if info not in used]
    image = _image(used, bool(values))
    return image, _others(infos, image, values, idle)


def free_picture(inputs: Iterable[TensorInfo], given: Iterable[str]) -> str:
    """The one picture input for which no value is given; "auto" where none or several are left."""
    free = [info.name for info in inputs if info.name not in set(given) and takes_pictures(info)]
    return free[0] if len(free) == 1 else "auto"


def _image(free: Sequence[TensorInfo], some_given: bool) -> TensorInfo:
    images = [info for info in free if takes_pictures(info)] or [info for info in free if _takes_bands(info)]
    if not images:
        others = ", ".join(map(described, free)) or "none"
        raise InputError(
            "The model has no input that a picture can be fed to (rank 4, with 1, 3 or 4 channels first or last)"
            + (f" beside those that are given; left: {others}." if some_given else f". {_taken(free)}")
        )
    if len(images) > 1:
        raise InputError(
            f"A picture could be fed to {' and to '.join(map(described, images))}; say the value of all but one of "
            f"these: {_how('NAME')}."
        )
    missing = [info for info in free if info is not images[0]]
    if missing:
        *first, last = map(described, missing)
        name = "NAME" if first else missing[0].name
        raise InputError(
            f"The model needs {', '.join(first)}{' and ' if first else ''}{last} beside the picture, which goes to "
            f"'{images[0].name}': {_how(name)}."
        )
    return images[0]


def _taken(free: Sequence[TensorInfo]) -> str:
    """What a model without an input for pictures takes, and what can be done, as a sentence or two."""
    if len(free) != 1:
        return f"Its inputs: {', '.join(map(described, free)) or 'none'}."
    what = contract.input_kind(free[0].shape, free[0].kind if free[0].dtype is None else str(free[0].dtype))
    advice = ""
    if (what and what.startswith("a picture without")) or what == "pictures without the axis of channels":
        advice = " Export it for [N,C,H,W] or [N,H,W,C]."
    return f"It takes {described(free[0])}, {what or 'no numbers that are known here'}.{advice}"


def _how(name: str) -> str:
    given = "give each" if name == "NAME" else "give it"
    return f'{given} with --input {name}=FILE or --input {name}=NUMBERS (inputs={{"{name}": array}})'


def _others(
    infos: Sequence[TensorInfo],
    image: TensorInfo | None,
    values: Mapping[str, NDArray[Any]],
    unused: Sequence[TensorInfo] = (),
) -> OtherInputs:
    by_name = {info.name: info for info in infos}
    zeros = {info.name: _zeros(info, image is not None and _is_per_image(info, image) is True) for info in unused}
    arrays = [*values, *(name for name, value in zeros.items() if value is not None)]
    sure = {name: image is not None and _is_per_image(by_name[name], image) for name in arrays}
    return OtherInputs(
        {name: fitted_value(by_name[name], value, sure[name] is not False) for name, value in values.items()},
        frozenset(name for name, answer in sure.items() if answer),
        frozenset(name for name, answer in sure.items() if answer is None),
        zeros,
    )


def _zeros(info: TensorInfo, per_image: bool) -> NDArray[Any] | None:
    """A row of zeros, or of empty texts, for an input that plays no part; None where numpy has no such values.

    Raises:
        InputError: it takes gigabytes.
    """
    dtype = np.dtype("<U1") if info.kind == "string" else info.dtype
    if dtype is None:
        return None
    shape = [
        dim if isinstance(dim, int) and not (per_image and axis == 0) else 1 for axis, dim in enumerate(info.shape)
    ]
    if math.prod(shape) > _LARGEST:
        raise InputError(
            f"No zeros are fed to {described(info)}, which plays no part in the score: it takes more than 2**28. "
            "Remove that input from the model."
        )
    return np.zeros(shape, dtype)


def takes_pictures(info: TensorInfo) -> bool:
    """Whether pictures can be fed to an input."""
    return info.dtype is not None and info.dtype.kind != "b" and contract.image_axes(info.shape) is not None


def _takes_bands(info: TensorInfo) -> bool:
    """Whether an input takes pictures of more channels, or others, than a photo has."""
    if info.dtype is None or len(info.shape) != 4 or takes_pictures(info):
        return False
    return contract.channel_count(info.shape) is not None


def _is_per_image(info: TensorInfo, image: TensorInfo) -> bool | None:
    """Whether the first axis of an input is that of the images: it has their symbol, or their fixed number.

    None where it is open and the file has no symbol that tells.
    """
    if not info.shape:
        return False
    first, images = info.shape[0], image.shape[0]
    if isinstance(first, int) or isinstance(images, int) or (_is_told(first) and _is_told(images)):
        return first == images
    return None if len(info.shape) > 1 else False


def _is_told(symbol: str | None) -> bool:
    """Whether a symbol means something; tf2onnx numbers unknown axes through."""
    return symbol is not None and not symbol.startswith("unk__")


def example_feeds(
    inputs: Sequence[TensorInfo],
    optional: Sequence[TensorInfo],
    given: Mapping[str, InputValue] | None,
    random: np.random.Generator,
    image: NDArray[Any] | None = None,
    *,
    size: tuple[int, int] = (224, 224),
    images: int = 1,
    unused: Collection[str] = (),
) -> dict[str, Any]:
    """A feed for one run: the image and what is given, and random numbers for what is not.

    Inputs that are not used are fed zeros.

    Random are `images` images (or as many as the model was exported with), of the height and width `size` where they
    are open. With an image everything else must be given.

    Raises:
        InputError: an input takes no numbers, or as `image_and_others`.
    """
    if image is not None:
        picture, others = image_and_others(inputs, optional, given, unused)
        assert picture.dtype is not None
        others.check_count(len(image), len(image))
        return {picture.name: image.astype(picture.dtype), **others.rows(0, len(image), len(image))}
    values = read_values([*inputs, *optional], given)
    missing = [info for info in inputs if info.name not in values]
    free = [info for info in missing if info.name not in unused]
    target = next((info for info in free if takes_pictures(info)), None)
    others = _others([*inputs, *optional], target, values, [info for info in missing if info.name in unused])
    count = target.shape[0] if target is not None and isinstance(target.shape[0], int) else images
    others.check_count(count, count)
    found = others.rows(0, count, count)
    for info in free:
        per_image = target is not None and _is_per_image(info, target)
        found[info.name] = _random_numbers(info, random, size, count if per_image else 1)
    return found


def _random_numbers(info: TensorInfo, random: np.random.Generator, size: tuple[int, int], count: int) -> NDArray[Any]:
    if info.dtype is None:
        raise InputError(f"No value can be fed to {described(info)}: only numbers can.")
    sides = dict(zip(contract.image_axes(info.shape) or (), size, strict=False))
    shape = [
        dim if isinstance(dim, int) else sides.get(axis, count if axis == 0 else 3)
        for axis, dim in enumerate(info.shape)
    ]
    if math.prod(shape) > _LARGEST:
        raise InputError(f"No random numbers are fed to {described(info)}: it takes more than 2**28.")
    if info.dtype.kind == "f":
        return random.standard_normal(shape).astype(info.dtype)
    return random.integers(0, 255, shape).astype(info.dtype)


def _described_value(value: NDArray[Any]) -> str:
    if value.size and (value == value.reshape(-1)[0]).all():
        return f"{value.reshape(-1)[0]} ({value.dtype} {contract.shape_text(value.shape)})"
    return f"the given {value.dtype} {contract.shape_text(value.shape)}"
