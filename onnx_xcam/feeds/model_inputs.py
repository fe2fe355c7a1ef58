"""This module decides which input of a model the picture goes to, and what the other inputs are fed."""

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
"""Inputs of zeros or random numbers have at most this many elements."""


class FedPicture(NamedTuple):
    """A FedPicture describes a picture that is fed to another input than the explained picture is.

    Attributes:
        how: the picture's file and what is done to it, as a part of a sentence.
        remarks: sentences on what was assumed or lost when the file was read, or what contradicts its preprocessing.
    """

    how: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherInputs:
    """OtherInputs hold the values of all inputs except the picture's.

    Attributes:
        values: the values that were given, by name, in the dtype and shape that the model takes.
        per_image: the names of inputs whose first axis is that of the images: its size is 1 (for all images), their
            number, or the batch size that the model was exported with.
        maybe_per_image: the names of inputs whose first axis may be that of the images, which the file does not say:
            values with one row, or one for each image, count as such, any others are fed as they are.
        unused: the values of inputs that play no part in the explanation, by name: a row of zeros or of empty texts,
            or None where numpy has no such values and no node reads the input.
        pictures: the descriptions of values that are pictures, by name; other values are described by their shape.
    """

    values: Mapping[str, NDArray[Any]]
    per_image: frozenset[str]
    maybe_per_image: frozenset[str]
    unused: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)
    pictures: Mapping[str, FedPicture] = field(default_factory=dict)

    def rows(self, start: int, length: int, images: int) -> dict[str, Any]:
        """Return the values for a run of `length` images from `start` on, of `images` in all.

        Where fewer images are left than `length`, their last row is repeated.
        """
        feeds: dict[str, Any] = {**self.values, **self.unused}
        for name in self.per_image | self.maybe_per_image:
            if len(feeds[name]) in (1, images):
                rows = feeds[name] if len(feeds[name]) == 1 else feeds[name][start : start + length]
                feeds[name] = padded(rows, length)
        return feeds

    def are_of_places(self, images: int) -> bool:
        """Tell whether a value has a row for each place of the model's batch, not for each image of a call."""
        return any(len(self.values[name]) not in (1, images) for name in self.per_image.intersection(self.values))

    def check_count(self, images: int, batch: int | None) -> None:
        """Raise an InputError unless each value has one row, one for each image, or one for each place of the batch."""
        for name in sorted(self.per_image.intersection(self.values)):
            if len(self.values[name]) not in (1, images, batch):
                count = f"{images} image{'' if images == 1 else 's'}"
                raise InputError(
                    f"The input '{name}' is given {len(self.values[name])} rows for {count}; give one row, which is "
                    "used for all, or one for each image of a call."
                )

    def warnings(self) -> list[str]:
        """Return sentences on what was assumed or lost when the pictures among the values were read."""
        return [remark for picture in self.pictures.values() for remark in picture.remarks]

    def notes(self) -> list[str]:
        """Return sentences on what each input is fed."""
        of_pictures = {name: picture.how for name, picture in self.pictures.items()}
        notes = [
            f"Input: '{name}' is fed {of_pictures.get(name) or _described_value(value)}."
            for name, value in self.values.items()
        ]
        return [*notes, *([contract.unused_note(list(self.unused))] if self.unused else [])]


def image_and_others(
    inputs: Iterable[TensorInfo],
    optional: Iterable[TensorInfo],
    given: Mapping[str, InputValue] | None,
    unused: Collection[str] = (),
) -> tuple[TensorInfo, OtherInputs]:
    """Return the input that pictures are fed to, and the values of the others.

    The picture goes to the one input of rank 4 with 1, 3 or 4 channels first or last for which no value is given; where
    there is none, to the one with another number of channels.

    Args:
        inputs: the model's inputs without a default value.
        optional: the model's inputs with a default value, which may be given another one.
        given: values by the names of inputs; see `InputValue`.
        unused: names of inputs that play no part in the score; without a given value they are fed zeros.

    Raises:
        InputError: no input is left for the picture, or several are; a value is missing, or does not fit.
    """
    wanted = [info for info in inputs if info.name not in contract.CHOICE_INPUTS]
    infos = [*wanted, *optional]
    values = read_values(infos, given)
    free = [info for info in wanted if info.name not in values]
    used = [info for info in free if info.name not in unused] or free
    idle = [info for info in free if info not in used]
    image = _image(used, bool(values))
    return image, _others(infos, image, values, idle)


def free_picture(inputs: Iterable[TensorInfo], given: Iterable[str]) -> str:
    """Return the name of the one picture input for which no value is given; "auto" where none or several are left."""
    free = [info.name for info in inputs if info.name not in set(given) and takes_pictures(info)]
    return free[0] if len(free) == 1 else "auto"


def _image(free: Sequence[TensorInfo], some_given: bool) -> TensorInfo:
    """Return the input for the picture among those without a value, or raise an InputError that says what to give."""
    images = _for_pictures(free)
    if not images:
        others = ", ".join(map(described, free)) or "none"
        raise InputError(
            "The model has no input that a picture can be fed to (rank 4, with the channels first or last)"
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
    """Return a sentence or two on what a model without an input for pictures takes, and what can be done."""
    if len(free) != 1:
        return f"Its inputs: {', '.join(map(described, free)) or 'none'}."
    what = contract.input_kind(free[0].shape, free[0].kind if free[0].dtype is None else str(free[0].dtype))
    advice = ""
    if (what and what.startswith("a picture without")) or what == "pictures without the axis of channels":
        advice = " Export it for [N,C,H,W] or [N,H,W,C]."
    return f"It takes {described(free[0])}, {what or 'no numbers that are known here'}.{advice}"


def _how(name: str) -> str:
    """Return, as a part of a sentence, how a value for an input is given; "NAME" stands for several inputs."""
    given = "give each" if name == "NAME" else "give it"
    return f'{given} with --input {name}=FILE or --input {name}=NUMBERS (inputs={{"{name}": array}})'


def _others(
    infos: Sequence[TensorInfo],
    image: TensorInfo | None,
    values: Mapping[str, NDArray[Any]],
    unused: Sequence[TensorInfo] = (),
) -> OtherInputs:
    """Bring the values into the form that their inputs take, and add zeros for the inputs that are unused."""
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
    """Return a row of zeros, or of empty texts, for an unused input; None where numpy has no such values.

    Raises:
        InputError: the input takes more than `_LARGEST` elements.
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
    """Tell whether pictures can be fed to an input."""
    return info.dtype is not None and info.dtype.kind != "b" and contract.image_axes(info.shape) is not None


def _for_pictures(infos: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Return the inputs that take photos; if there are none, those that take pictures of other channels."""
    return [info for info in infos if takes_pictures(info)] or [info for info in infos if takes_bands(info)]


def takes_bands(info: TensorInfo) -> bool:
    """Tell whether an input takes pictures of another number of channels than a photo has, such as satellites'."""
    if info.dtype is None or len(info.shape) != 4 or takes_pictures(info):
        return False
    return contract.channel_count(info.shape) is not None


def _is_per_image(info: TensorInfo, image: TensorInfo) -> bool | None:
    """Tell whether the first axis of an input is that of the images: it has their symbol, or their fixed number.

    None stands for an axis of unknown length of which the file has no symbol that tells.
    """
    if not info.shape:
        return False
    first, images = info.shape[0], image.shape[0]
    if isinstance(first, int) or isinstance(images, int) or (_has_meaning(first) and _has_meaning(images)):
        return first == images
    return None if len(info.shape) > 1 else False


def _has_meaning(symbol: str | None) -> bool:
    """Tell whether a symbol has a meaning; tf2onnx gives every unknown dimension a symbol of its own ("unk__7")."""
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
    """Return the feeds of one run, by name: the image, the given values, and random numbers for other inputs.

    Args:
        inputs: the model's inputs without a default value.
        optional: the model's inputs with a default value.
        given: values by the names of inputs; with an `image`, every used input must have one.
        random: makes the random numbers.
        image: a batch of prepared images, or None for random ones.
        size: height and width of random images where the model leaves them open.
        images: how many random images there are, where the model does not fix the number.
        unused: names of inputs that play no part in the score; without a given value they are fed zeros.

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
    target = next(iter(_for_pictures(free)), None)
    others = _others([*inputs, *optional], target, values, [info for info in missing if info.name in unused])
    count = target.shape[0] if target is not None and isinstance(target.shape[0], int) else images
    others.check_count(count, count)
    feeds = others.rows(0, count, count)
    for info in free:
        per_image = target is not None and _is_per_image(info, target)
        feeds[info.name] = _random_numbers(info, random, size, count if per_image else 1)
    return feeds


def _random_numbers(info: TensorInfo, random: np.random.Generator, size: tuple[int, int], count: int) -> NDArray[Any]:
    """Return random numbers for an input: `count` rows, pictures of `size`, and 3 for any other open dimension."""
    if info.dtype is None:
        raise InputError(f"No value can be fed to {described(info)}: only numbers can.")
    axes = contract.side_axes(info.shape) if takes_bands(info) else contract.image_axes(info.shape)
    sides = dict(zip(axes or (), size, strict=False))
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
    """Describe a given value as a part of a sentence: its one number where all are the same, its dtype and shape."""
    if value.size and (value == value.reshape(-1)[0]).all():
        return f"{value.reshape(-1)[0]} ({value.dtype} {contract.shape_text(value.shape)})"
    return f"the given {value.dtype} {contract.shape_text(value.shape)}"
