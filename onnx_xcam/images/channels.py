"""This module chooses the channels of a picture that a model's input gets."""

from __future__ import annotations

from typing import NamedTuple

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.preprocess import Preprocess

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV and Pillow have it


class Chosen(NamedTuple):
    """A Chosen says which channels of a picture make the channels of the input.

    Attributes:
        bands: for each channel of the input, the channel of the picture; for a mix, the three that are mixed.
        is_mix: whether red, green and blue are mixed to one grey channel.
        alpha: the channel that is alpha and laid over white, or None.
    """

    bands: tuple[int, ...]
    is_mix: bool = False
    alpha: int | None = None


def check_channels(preprocess: Preprocess, spec: InputSpec) -> None:
    """Make sure that a preprocessing makes as many channels as the input has.

    Raises:
        PreprocessError: it does not, or has a mean, a standard deviation or a border for another number.
    """
    named, count = preprocess.channels, spec.channels
    if preprocess.bands is not None:
        if len(preprocess.bands) != count:
            raise PreprocessError(
                f"bands lists {len(preprocess.bands)} channel(s) of the file, but the model's input {spec.name!r} "
                f"takes {count}"
            )
    elif spec.takes_photos or named != "RGB":
        made = 1 if named == "GRAY" else 3
        if made != count:
            advice = {1: "say channels GRAY (preset gray)", 3: "say channels RGB or BGR"}
            raise PreprocessError(
                f"preprocessing makes {made} channel(s) ({named}), but the model's input {spec.name!r} has {count}; "
                + advice.get(count, "say bands: [...], the channels of the file in the order that the model takes")
            )
    pad = preprocess.pad_value if isinstance(preprocess.pad_value, tuple) else (preprocess.pad_value,)
    for name, values in (("mean", preprocess.mean), ("std", preprocess.std), ("pad_value", pad)):
        if len(values) not in (1, count):
            order = "bands" if preprocess.bands is not None or not spec.takes_photos else named
            raise PreprocessError(f"{name} has {len(values)} values for {count} channel(s) ({order})")


def chosen_channels(photo: Photo, preprocess: Preprocess, spec: InputSpec, name: str) -> Chosen:
    """Return which channels of a picture the input gets; `check_channels` has passed; messages call it by `name`.

    Raises:
        PreprocessError: the picture has another number of channels than the input takes, or not those of `bands`.
    """
    if preprocess.bands is not None:
        photo.check_bands("bands", preprocess.bands, name)
        return Chosen(preprocess.bands)
    if spec.takes_photos and photo.is_of_colours:
        alpha = photo.channels - 1 if photo.has_alpha else None
        if preprocess.channels == "GRAY":
            return Chosen((0, 1, 2), True, alpha) if photo.colours == 3 else Chosen((0,), False, alpha)
        colours = (0, 1, 2) if photo.colours == 3 else (0, 0, 0)
        return Chosen(colours[::-1] if preprocess.channels == "BGR" else colours, False, alpha)
    if spec.channels in (photo.channels, photo.colours):
        return Chosen(tuple(range(spec.channels)))
    if not photo.is_of_colours and spec.channels == photo.size[0]:
        raise PreprocessError(
            f"{name} is {list(photo.pixels.shape)}, of which the last axis counts the channels, but the model's input "
            f"{spec.name!r} takes {spec.channels}; move the channels last: x.transpose(1, 2, 0)"
        )
    example = [min(channel, photo.channels - 1) for channel in range(min(spec.channels, 4))]
    listed = ", ".join(map(str, example)) + (", ..." if spec.channels > 4 else "")
    if spec.channels > photo.channels:
        advice = (
            "take a file that has them all, or say which of its channels the model gets, counted from 0 and perhaps"
        )
        advice = f"{advice} repeated, as bands: [{listed}] in the preprocessing"
    else:
        advice = f"choose {spec.channels} of them, counted from 0, as bands: [{listed}] in the preprocessing"
    raise PreprocessError(
        f"{name} has {_described(photo)}, but the model's input {spec.name!r} takes {spec.channels}; {advice}"
    )


def _described(photo: Photo) -> str:
    """Return the number of a picture's channels and what they are, as a part of a sentence."""
    kinds = {1: "grey", 3: "RGB"}
    if not photo.is_of_colours:
        return f"{photo.channels} channels"
    kind = kinds[photo.colours] + (" and alpha" if photo.has_alpha else "")
    return f"{photo.channels} channel{'s' if photo.channels > 1 else ''} ({kind})"
