"""This module says where the model's input lies on the photo, and places maps, boxes and points on the photo.

Preprocessing scales the photo to `Placement.scaled` and cuts the input out of its middle, or pads it; or it cuts a part
out of the photo and scales that to the input. All steps are affine, so the whole input, with the map that covers it, is
one box in the photo's own coordinates. The box is smaller than the photo after a crop and reaches beyond it after a
letterbox.

A map for display passes the ReLU (in the model), `Placement.place` (resize) and `scale_heatmap` (0..1), in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BAND_PIXELS = 2**15
"""About so many pixels are computed at once."""


@dataclass(frozen=True)
class Placement:
    """A Placement says how a photo was laid into the model's input. All sizes are (height, width) in pixels.

    Attributes:
        photo: the size of the upright photo.
        input: the size of the model's input.
        scaled: the size of the whole photo after scaling, before the crop or the padding; not whole where a part was
            cut out first.
        offset: (top, left) of the input within the scaled photo; negative where the input is padded.
        part: (top, left, bottom, right) in the photo of the part that was cut out of it before it was scaled, or None.
    """

    photo: tuple[int, int]
    input: tuple[int, int]
    scaled: tuple[float, float]
    offset: tuple[float, float] = (0, 0)
    part: tuple[int, int, int, int] | None = None

    @classmethod
    def of_part(cls, photo: tuple[int, int], target: tuple[int, int], part: tuple[int, int, int, int]) -> Placement:
        """Return the placement of a part, (top, left, bottom, right), that is cut out of a photo and then scaled.

        Args:
            photo: (height, width) of the photo.
            target: (height, width) of the input, which the part is scaled to.
            part: the part, within the photo.
        """
        top, left, bottom, right = part
        ratios = target[0] / (bottom - top), target[1] / (right - left)
        scaled = photo[0] * ratios[0], photo[1] * ratios[1]
        return cls(photo, target, scaled, (top * ratios[0], left * ratios[1]), part)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Return (top, left, bottom, right) of the input in the photo's pixels, edges not centres; may lie outside."""
        top, left = (o * p / s for o, p, s in zip(self.offset, self.photo, self.scaled, strict=True))
        height, width = (i * p / s for i, p, s in zip(self.input, self.photo, self.scaled, strict=True))
        return top, left, top + height, left + width

    def place(self, map_hw: npt.NDArray[np.floating], size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
        """Place a raw map on the photo and return it as float32 [H,W], without scaling its values.

        The map [h,w] covers the whole input, whatever h and w. It is resized linearly between pixel centres (the
        half-pixel rule of OpenCV's INTER_LINEAR); the part over letterbox borders is cut off, and what the model did
        not see of the photo is 0.

        Args:
            map_hw: float [h,w], never changed.
            size: (H, W) of the result, if not the photo's own.

        Raises:
            ValueError: the map is not two-dimensional or is empty.
        """
        map_hw = np.asarray(map_hw)
        if map_hw.ndim != 2 or 0 in map_hw.shape:
            raise ValueError(f"a map must be [h,w], not {list(map_hw.shape)}")
        rows, columns = self._axis(0, size), self._axis(1, size)
        top, left, bottom, right = self.seen_box(size)
        result = np.zeros((len(rows), len(columns)), np.float32)
        with np.errstate(invalid="ignore"):  # infinities give NaN; the model's `xcam_status` reports them
            tall = _lerp_rows(map_hw.astype(np.float32, copy=False), rows)
            _lerp_columns(tall[top:bottom], columns[left:right], result[top:bottom, left:right])
        return result

    def heatmap(self, map_hw: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Place a raw map on the photo and scale it to 0..1 over the part that the model saw; it is 0 elsewhere.

        The result, float32 [H,W], equals `scale_heatmap(self.place(map_hw), self.seen())`, without that mask's cost.

        Raises:
            ValueError: the map is not two-dimensional or is empty.
        """
        result = self.place(map_hw)
        top, left, bottom, right = self.seen_box()
        result[top:bottom, left:right] = scale_heatmap(result[top:bottom, left:right])
        return result

    def signed_heatmap(
        self, map_hw: npt.NDArray[np.floating], size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Place a raw map with both signs on the photo and divide it by its largest magnitude: float32 [H,W] in -1..1.

        The largest magnitude is taken over what the model saw; the result is 0 elsewhere and where a value is not
        finite.

        Raises:
            ValueError: the map is not two-dimensional or is empty.
        """
        result = np.where(np.isfinite(placed := self.place(map_hw, size)), placed, np.float32(0))
        most = np.abs(result).max(initial=0.0)
        return result / most if most > 0 else result

    def to_photo(self, xy: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return coordinates in the model's input as coordinates in the photo, float32 of the same shape.

        Coordinates are in pixels, x to the right and y down, and count from the upper left *edge* of a picture: the
        first pixel reaches from 0 to 1. They may lie outside, as those of letterbox borders do in the photo;
        `within_photo` cuts them off. A box of zeros that stands for "no object" is no place: leave it out.

        Args:
            xy: [...,2] points x, y; [...,4] boxes x1, y1, x2, y2; or [...,2n] more points in a row.

        Raises:
            ValueError: the last axis does not hold pairs.
        """
        step, start = self._steps()
        return _moved(xy, lambda pairs: (pairs + start) / step)

    def to_model(self, xy: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return coordinates in the photo as coordinates in the model's input: what `to_photo` undoes.

        Args:
            xy: [...,2n] pixels, as in `to_photo`.

        Raises:
            ValueError: the last axis does not hold pairs.
        """
        step, start = self._steps()
        return _moved(xy, lambda pairs: pairs * step - start)

    def within_photo(self, xy: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return coordinates in the photo, [...,2n], with those outside moved to its edge, float32 of the same shape.

        Raises:
            ValueError: the last axis does not hold pairs.
        """
        return _moved(xy, lambda pairs: np.clip(pairs, 0.0, self.photo[::-1]))

    def _steps(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return, for (x, y), how many of the input's pixels a pixel of the photo is, and where the input begins."""
        step = np.divide(self.scaled[::-1], self.photo[::-1])
        return step, np.array(self.offset[::-1], np.float64)

    def seen(self, size: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
        """Return which pixels of the photo the model saw, bool [H,W]."""
        top, left, bottom, right = self.seen_box(size)
        mask = np.zeros(size or self.photo, np.bool_)
        mask[top:bottom, left:right] = True
        return mask

    def seen_box(self, size: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of the pixels that the model saw: those with their centres in the input."""
        (top, bottom), (left, right) = (self._inside(axis, size) for axis in (0, 1))
        return top, left, bottom, right

    @property
    def sees_all(self) -> bool:
        """Tell whether the model saw every pixel of the photo."""
        return self.seen_box() == (0, 0, *self.photo)

    def _axis(self, axis: int, size: tuple[int, int] | None) -> npt.NDArray[np.float64]:
        """Return where each pixel centre of the result lies in the input along an axis, 0..1 from edge to edge."""
        length = (size or self.photo)[axis]
        in_scaled = (np.arange(length) + 0.5) * (self.scaled[axis] / length)
        place: npt.NDArray[np.float64] = (in_scaled - self.offset[axis]) / self.input[axis]
        return place

    def _inside(self, axis: int, size: tuple[int, int] | None) -> tuple[int, int]:
        """Return the first pixel of the result along an axis that lies in the input, and the one after the last."""
        place = self._axis(axis, size)
        inside = np.flatnonzero((place >= 0.0) & (place <= 1.0))
        return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)


def _moved(
    xy: npt.ArrayLike, move: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
) -> npt.NDArray[np.float32]:
    """Return coordinates [...,2n] after a move of their pairs x, y, [...,n,2], as float32."""
    values = np.asarray(xy, np.float64)
    if values.ndim == 0 or values.shape[-1] % 2:
        raise ValueError(f"coordinates must be pairs x, y along the last axis, not {list(values.shape)}")
    pairs = values.reshape(*values.shape[:-1], -1, 2) if values.size else values.reshape(0, 2)
    return move(pairs).reshape(values.shape).astype(np.float32)


def _lerp_rows(rows: npt.NDArray[np.float32], place: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Interpolate linearly along axis 0 at `place` (0..1 from edge to edge); beyond the outer centres, rows hold."""
    low, part = _between(len(rows), place)
    below, above = rows[low], rows[np.minimum(low + 1, len(rows) - 1)]
    return below + part[:, None] * (above - below)


def _lerp_columns(
    rows: npt.NDArray[np.float32], place: npt.NDArray[np.float64], result: npt.NDArray[np.float32]
) -> None:
    """Interpolate linearly along axis 1 at `place` (0..1 from edge to edge), into `result`.

    The rows are taken in bands, so that intermediate results stay in the processor's cache.
    """
    low, part = _between(rows.shape[1], place)
    step = np.diff(rows, axis=1, append=rows[:, -1:])
    for band in bands(*result.shape):
        values = np.take(step[band], low, axis=1)
        values *= part
        values += np.take(rows[band], low, axis=1)
        result[band] = values


def _between(length: int, place: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each place, of `length` samples, the sample before it and how far it is towards the next one, 0..1."""
    at = np.clip(place * length - 0.5, 0.0, length - 1)
    low = np.floor(at).astype(np.intp)
    return low, (at - low).astype(np.float32)


def bands(height: int, width: int) -> list[slice]:
    """Return slices of rows that cut a picture into bands of about 2**15 pixels.

    Intermediate results of a band stay in the processor's cache: 12 megapixels are computed several times as fast as at
    once.
    """
    rows = max(1, _BAND_PIXELS // max(1, width))
    return [slice(top, top + rows) for top in range(0, height, rows)]


PEAKS = 99.0
"""The percentile of a guided map's magnitudes, zeros left out, at which its values are cut off for display."""


def without_peaks(map_hw: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Cut a map off at its limit for peaks and return it as float32 [h,w], for display only.

    Maps of the input's gradient have a few very large values, beside which nothing else could be seen.
    """
    values = np.asarray(map_hw, np.float32)
    limit = peak_limit(values)
    return values if limit is None else np.clip(values, -limit, limit)


def peak_limit(map_hw: npt.NDArray[np.floating]) -> np.float32 | None:
    """Return the magnitude at which `without_peaks` cuts a map off; None if it has no finite value other than 0."""
    magnitudes = np.abs(map_hw[np.isfinite(map_hw) & (map_hw != 0)])
    return np.float32(np.percentile(magnitudes, PEAKS)) if magnitudes.size else None


def scale_heatmap(
    placed: npt.NDArray[np.floating], seen: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float32]:
    """Scale a placed map for display: (x - min) / (max - min), float32 [H,W] in 0..1, never NaN.

    Minimum and maximum are taken over the part that the model saw; the rest is 0. A map that is zero everywhere stays
    zero, one that has the same positive value everywhere becomes 1. Values that are not finite count as absent and
    are drawn as 0; the model's `xcam_status` reports them.

    Args:
        placed: float [H,W], as `Placement.place` returns it; never changed.
        seen: which pixels the model saw, bool [H,W]; None for all.
    """
    if seen is None and placed.size and np.isfinite((placed.min(), placed.max())).all():
        return _stretched(placed)
    values = np.asarray(placed, np.float64)
    usable = np.isfinite(values) if seen is None else np.isfinite(values) & seen
    result = np.zeros(values.shape, np.float32)
    if not usable.any():
        return result
    low, high = float(values[usable].min()), float(values[usable].max())
    if high > low:
        # Both values are halved first, since the difference of two huge values would overflow.
        result[usable] = (values[usable] / 2 - low / 2) / (high / 2 - low / 2)
    elif high > 0.0:
        result[usable] = 1.0
    return result


def _stretched(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scale a placed map as `scale_heatmap` does, where all values are finite and all pixels seen."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full(values.shape, 1.0 if high > 0.0 else 0.0, np.float32)
    result = np.empty(values.shape, np.float32)
    for band in bands(*values.shape):
        part = values[band].astype(np.float64)
        part /= 2
        part -= low / 2
        part /= high / 2 - low / 2
        result[band] = part
    return result
