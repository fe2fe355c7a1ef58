"""This module applies a preprocessing to a picture: geometry, channels and values of a model's input.

A photo of 8 bits, grey or RGB, is resized in 8 bits, as training pipelines do, and its values are looked up in a table.
Every other picture, deeper ones and those of other bands, is resized in float32, channel by channel, and then computed
in float64; nothing is rounded before the result takes the dtype of the input.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.channels import GRAY_WEIGHTS, Chosen, check_channels, chosen_channels
from onnx_xcam.images.display import type_white
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.pixels import ImageRGB, Scalar, to_rgb
from onnx_xcam.images.place import Placement
from onnx_xcam.images.preprocess import Channels, Preprocess, by
from onnx_xcam.images.resize import resize_window
from onnx_xcam.images.values import Levels

_LEAST_LEVELS = 32
"""An integer input must keep at least so many levels of the 256 of a picture."""
_MAX_INPUT_PIXELS = 2**26
"""The largest input in pixels: 8192 x 8192, which takes 800 MB as float32 with three channels."""


def preprocess_image(
    photo: Photo | ImageRGB, preprocess: Preprocess, spec: InputSpec, name: str = "the picture"
) -> tuple[npt.NDArray[Any], Placement]:
    """Prepare one picture for a model, and return it with the way it was laid into the model's input.

    Args:
        photo: the picture, or its pixels [h,w,3] as uint8 RGB; never changed.
        preprocess: what to do.
        spec: the model's input, which gives the result its layout, its dtype and, where they are fixed, its sizes.
        name: what messages call the picture.

    Returns:
        [C,H,W] or [H,W,C] (no batch dimension) in the input's dtype, C-contiguous, and the placement.

    Raises:
        PreprocessError: size, layout or channels contradict the model or the picture, the input's integer dtype cannot
            hold the values, the input has more than 2**26 pixels, or a very long photo would become gigantic before it
            is cropped (`resize_window` says when).
    """
    photo = photo if isinstance(photo, Photo) else Photo(photo)
    height, width = target = preprocess.input_size(spec)
    if height * width > _MAX_INPUT_PIXELS:
        raise PreprocessError(f"an input of {by(target)} pixels is beyond the limit of {_MAX_INPUT_PIXELS}")
    if preprocess.layout not in (None, spec.layout):
        raise PreprocessError(
            f"preprocessing says layout {preprocess.layout}, but the model's input {spec.name!r} is {spec.layout}"
        )
    check_channels(preprocess, spec)
    chosen = chosen_channels(photo, preprocess, spec, name)
    placement = preprocess.placement(photo.size, target)
    job = _Job(photo, preprocess, spec, chosen, Levels.of(photo, preprocess), _Fit.of(placement))
    shape = (spec.channels, height, width) if spec.layout == "NCHW" else (height, width, spec.channels)
    item = np.empty(shape, spec.dtype)
    planes = list(item if spec.layout == "NCHW" else np.moveaxis(item, -1, 0))
    if not job.fit.covers(target):
        borders = _borders(preprocess, spec)
        for plane, border in zip(planes, borders, strict=True):
            plane[...] = border
    inside = [plane[job.fit.inside] for plane in planes]
    if job.is_of_8_bits:
        _look_up(job, inside)
    else:
        _compute(job, inside)
    return item, placement


def carries(preprocess: Preprocess, dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype can hold what the pixels 0 to 255 become, and keeps them apart."""
    count = max(len(preprocess.mean), len(preprocess.std))
    try:
        _value_table(preprocess, InputSpec("", dtype, "NCHW", count))
    except PreprocessError:
        return False
    return True


class _Fit(NamedTuple):
    """A _Fit says which part of a photo is scaled, and where the result lies in the input.

    Attributes:
        part: the rows and columns of the photo that are scaled.
        scaled: (height, width) that they are scaled to; see `resize_window` for sides that are not whole.
        window: (top, left, bottom, right) of the scaled part that lies in the input.
        inside: the rows and columns of the input that it fills.
    """

    part: tuple[slice, slice]
    scaled: tuple[float, float]
    window: tuple[float, float, float, float]
    inside: tuple[slice, slice]

    @classmethod
    def of(cls, placement: Placement) -> _Fit:
        """Return the fit of a placement."""
        if placement.part is not None:
            part = (slice(*placement.part[::2]), slice(*placement.part[1::2]))
            return cls(part, placement.input, (0, 0, *placement.input), (slice(None), slice(None)))
        spans, inside = [], []
        for offset, scaled, side in zip(placement.offset, placement.scaled, placement.input, strict=True):
            first, end = max(0.0, offset), offset + side
            last = end if end <= scaled else round(scaled)
            spans.append((first, last))
            inside.append(slice(round(first - offset), round(last - offset)))
        (top, bottom), (left, right) = spans
        window = (top, left, bottom, right)
        return cls((slice(None), slice(None)), placement.scaled, window, (inside[0], inside[1]))

    def covers(self, target: tuple[int, int]) -> bool:
        """Tell whether no border is left of the input."""
        top, left, bottom, right = self.window
        return (round(bottom - top), round(right - left)) == target


class _Job(NamedTuple):
    """A _Job says which picture is prepared for which input, and how."""

    photo: Photo
    preprocess: Preprocess
    spec: InputSpec
    chosen: Chosen
    levels: Levels
    fit: _Fit

    @property
    def is_of_8_bits(self) -> bool:
        """Tell whether the picture is a photo of 8 bits, whose values are looked up in a table."""
        is_photo = self.spec.takes_photos and (self.preprocess.bands is not None or self.photo.is_of_colours)
        return is_photo and self.levels.keep(self.photo.pixels.dtype)

    def scaled(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Return the part of [h,w] or [h,w,3] that lies in the input, scaled."""
        how = self.preprocess
        return resize_window(values, self.fit.scaled, self.fit.window, how.interpolation, antialias=how.antialias)


def _look_up(job: _Job, inside: list[npt.NDArray[Any]]) -> None:
    """Fill the channels of an input, [h,w] each, from a photo of 8 bits by the table of its values."""
    pixels, channels = job.photo.pixels, job.preprocess.channels
    if job.preprocess.bands is not None:
        pixels, channels = job.photo.bands(job.preprocess.bands), "RGB" if job.spec.channels == 3 else "GRAY"
    table = _value_table(job.preprocess, job.spec)
    scaled = _in_channels(job.scaled(to_rgb(pixels)[job.fit.part]), channels)
    for channel, plane in enumerate(inside):
        np.take(table[channel], scaled[..., channel], out=plane, mode="clip")  # twice as fast as an index


def _compute(job: _Job, inside: list[npt.NDArray[Any]]) -> None:
    """Fill the channels of an input, [h,w] each, from a picture of any depth by the formula itself."""
    spec, preprocess = job.spec, job.preprocess
    pixels = {band: job.levels.pixels(_scaled_band(job, band)) for band in dict.fromkeys(job.chosen.bands)}
    sources = [pixels[band] for band in job.chosen.bands]
    if job.chosen.is_mix:
        sources = [np.tensordot(GRAY_WEIGHTS, sources, 1)]
    _check_levels(_largest_pixel(job, sources), preprocess, spec)
    mean, std = (_per_channel(values, spec.channels) for values in (preprocess.mean, preprocess.std))
    for channel, plane in enumerate(inside):
        with np.errstate(over="ignore"):  # `_check_range` refuses what becomes infinite
            exact = (sources[channel] * preprocess.scale - mean[channel]) / std[channel]
        _check_range(exact, spec)
        plane[...] = _in_dtype(exact, spec.dtype)


def _scaled_band(job: _Job, band: int) -> npt.NDArray[Any]:
    """Return a channel of the picture, laid over white, as it lies in the input: [h,w] in the values of the file.

    What is not finite is 0. Values that are not resized keep their type, others become float32.
    """
    values: npt.NDArray[Any] = job.photo.pixels[..., band][job.fit.part]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if job.levels.cut:
        values = np.clip(values.astype(np.float64), job.levels.low, job.levels.high)
    if job.chosen.alpha is not None:
        alpha = job.photo.pixels[..., job.chosen.alpha][job.fit.part]
        opaque = alpha.astype(np.float64) / (job.photo.white or type_white(alpha.dtype))
        values = values * opaque + job.levels.high * (1.0 - opaque)
    return job.scaled(values if values.shape == job.fit.scaled else np.ascontiguousarray(values, np.float32))


def _in_channels(image_rgb: ImageRGB, channels: Channels) -> ImageRGB:
    """Return an RGB picture with the channels of the input: [H,W,3], or [H,W,1] for grey."""
    if channels == "RGB":
        return image_rgb
    if channels == "BGR":
        return image_rgb[..., ::-1]
    grey: ImageRGB = np.rint(image_rgb @ np.array(GRAY_WEIGHTS)).astype(np.uint8)[..., None]
    return grey


def _per_channel(values: float | tuple[float, ...], count: int) -> npt.NDArray[np.float64]:
    """Return one number for each channel: float64 [count]."""
    return np.broadcast_to(np.array(values, np.float64), (count,))


def _exact(pixels: npt.NDArray[np.float64], preprocess: Preprocess, count: int) -> npt.NDArray[np.float64]:
    """Return what pixels become, in float64: [count, n] of pixels [count, n] or [n]."""
    mean, std = (_per_channel(values, count)[:, None] for values in (preprocess.mean, preprocess.std))
    with np.errstate(over="ignore"):  # `_check_range` refuses what becomes infinite
        result: npt.NDArray[np.float64] = (pixels * preprocess.scale - mean) / std
    return result


def _in_dtype(exact: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return exact values in the dtype of the input, rounded once."""
    return (np.rint(exact) if dtype.kind in "iu" else exact).astype(dtype)


def _borders(preprocess: Preprocess, spec: InputSpec) -> npt.NDArray[Any]:
    """Return the value of the borders of each channel, in the dtype of the input."""
    exact = _exact(_per_channel(preprocess.pad_value, spec.channels)[:, None], preprocess, spec.channels)[:, 0]
    _check_range(exact, spec)
    return _in_dtype(exact, spec.dtype)


@functools.lru_cache(maxsize=16)
def _value_table(preprocess: Preprocess, spec: InputSpec) -> npt.NDArray[Any]:
    """Return what each pixel value 0..255 becomes, in the input's dtype: [channels, 256], read-only.

    The values are computed in float64 and rounded once, so that they follow the formula to the last bit of the dtype.
    """
    _check_levels(255.0, preprocess, spec)
    exact = _exact(np.arange(256.0), preprocess, spec.channels)
    _check_range(exact, spec)
    table = _in_dtype(exact, spec.dtype)
    table.flags.writeable = False  # the cache returns the same array to every caller
    return table


def _largest_pixel(job: _Job, pixels: list[npt.NDArray[np.float64]]) -> float:
    """Return the largest pixel that a file of this type can have; of floats, which have no limit, the photo's own."""
    if job.levels.cut:
        return 255.0
    if job.photo.pixels.dtype.kind == "f":
        return max(255.0, *(float(np.abs(one).max(initial=0.0)) for one in pixels))
    return 255.0 * max(1.0, type_white(job.photo.pixels.dtype) / job.levels.high)


def _check_levels(largest: float, preprocess: Preprocess, spec: InputSpec) -> None:
    """Make sure that an integer input keeps pixels from 0 to `largest` apart.

    Raises:
        PreprocessError: hardly any levels are left.
    """
    if spec.dtype.kind not in "iu":
        return
    exact = _exact(np.linspace(0.0, largest, 256), preprocess, spec.channels)
    if min(len(np.unique(channel)) for channel in np.rint(exact)) < _LEAST_LEVELS:
        raise _unfit(exact, spec)


def _check_range(exact: npt.NDArray[np.float64], spec: InputSpec) -> None:
    """Make sure that the dtype of the input can hold values.

    Raises:
        PreprocessError: they are beyond its range.
    """
    if spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        fits = bool(np.rint(exact.min()) >= limits.min and np.rint(exact.max()) <= limits.max)
    elif spec.dtype.kind in "fV":  # V: bfloat16, of ml_dtypes
        with np.errstate(over="ignore"):
            ends = np.array([exact.min(), exact.max()]).astype(spec.dtype).astype(np.float64)
        fits = bool(np.isfinite(ends).all())
    else:
        fits = False
    if not fits:
        raise _unfit(exact, spec)


def _unfit(exact: npt.NDArray[np.float64], spec: InputSpec) -> PreprocessError:
    """Return the error that the input's dtype cannot carry values."""
    return PreprocessError(
        f"the model's input {spec.name!r} holds {spec.dtype}, which cannot carry the values {exact.min():.4g} to "
        f"{exact.max():.4g} that the preprocessing makes; for pixels as they are, {_as_they_are(spec.dtype)}"
    )


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
        "file of more than 8 bits white 255"
    )
