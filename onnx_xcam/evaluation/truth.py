"""This module tests whether a map finds the object that an annotation marks: pointing game and energy inside.

Both metrics need the heat map at the photo's size and a mask of the objects of the class that the map explains.

- **Pointing game** (Zhang et al., "Top-down Neural Attention by Excitation Backprop", 2016): a map scores a hit if its
  largest value lies on the object, or within 15 pixels of it (the tolerance of the paper).
- **Energy inside** (Wang et al., "Score-CAM", 2020, the energy-based pointing game): the share of the map's sum that
  lies on the object. An object that fills the photo gets the whole sum of any map; `object_share` is therefore given
  too, which is the energy inside of a map that is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError, InputError, TruthError
from onnx_xcam.evaluation.annotations import Annotation, Box, read_annotations
from onnx_xcam.images import read_mask

TOLERANCE = 15
"""The tolerance of the pointing game in pixels of the photo, as in Zhang et al."""

_OVERSHOOT = 1.0
"""The number of pixels that a box may reach beyond the photo, because of rounding or of edges counted from 1."""


@dataclass(frozen=True)
class TruthScore:
    """A TruthScore says how well one map fits the object in the photo.

    Attributes:
        hit: whether the map wins the pointing game.
        centre_hit: whether pointing at the middle of the photo would win it, as is common in photos of one object.
        energy: the share of the map that lies on the object, 0..1.
        object_share: the share of the photo that the object takes, 0..1, which is the energy of a constant map.
    """

    hit: bool
    centre_hit: bool
    energy: float
    object_share: float


def score_against(heatmap: NDArray[np.floating], mask: NDArray[np.bool_], tolerance: float = TOLERANCE) -> TruthScore:
    """Measure one map [H,W] by all metrics against the mask [H,W] of its class.

    Raises:
        InputError: map and mask differ in size, the mask is empty, or a value of the map is not finite.
    """
    height, width = mask.shape
    middle = (height - 1) // 2, (width - 1) // 2
    return TruthScore(
        hit=pointing_game(heatmap, mask, tolerance),
        centre_hit=_within(mask, middle, tolerance),
        energy=energy_inside(heatmap, mask),
        object_share=float(mask.mean()),
    )


def pointing_game(heatmap: NDArray[np.floating], mask: NDArray[np.bool_], tolerance: float = TOLERANCE) -> bool:
    """Tell whether the largest value of the map [H,W] lies within `tolerance` pixels of the object's mask [H,W].

    A resized map is often largest along a line. Of several largest pixels, the one nearest to their mean position
    counts. A map without a positive value points nowhere, which is a miss.

    Raises:
        InputError: map and mask differ in size, the mask is empty, or a value of the map is not finite.
    """
    _check(heatmap, mask)
    largest = heatmap.max()
    if largest <= 0:
        return False
    tied = np.argwhere(heatmap == largest)
    nearest = np.square(tied - tied.mean(0)).sum(1).argmin()
    return _within(mask, (int(tied[nearest, 0]), int(tied[nearest, 1])), tolerance)


def energy_inside(heatmap: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the share of the map's positive values [H,W] that lies on the object's mask [H,W], 0..1.

    A map without a positive value gets 0, so that no method gains by empty maps.

    Raises:
        InputError: map and mask differ in size, the mask is empty, or a value of the map is not finite.
    """
    _check(heatmap, mask)
    positive = np.maximum(heatmap, 0, dtype=np.float64)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else 0.0


def _check(heatmap: NDArray[np.floating], mask: NDArray[np.bool_]) -> None:
    if heatmap.ndim != 2 or heatmap.shape != mask.shape:
        raise InputError(
            f"The map is {list(heatmap.shape)} and the mask {list(mask.shape)}; both must be [H,W] of the photo "
            "(Explanation.heatmap gives the map so)."
        )
    if mask.dtype != np.bool_ or not mask.any():
        raise InputError("The mask must be bool and mark at least one pixel.")
    if not np.isfinite(heatmap).all():
        raise InputError("The map holds values that are not finite.")


def _within(mask: NDArray[np.bool_], point: tuple[int, int], tolerance: float) -> bool:
    """Tell whether a pixel of the mask lies no further than `tolerance` from the point (row, column)."""
    reach = int(tolerance)
    rows, columns = (slice(max(at - reach, 0), at + reach + 1) for at in point)
    near = np.argwhere(mask[rows, columns]) + np.array((rows.start, columns.start)) - point
    return bool((np.square(near).sum(1) <= tolerance**2).any())


class Truth:
    """A Truth gives the mask of the objects in each photo; masks are read or drawn when they are asked for."""

    def __init__(self, annotations: dict[Path, Annotation], *, any_class: bool = False) -> None:
        self._annotations = annotations
        self._any_class = any_class

    @property
    def photos(self) -> list[Path]:
        """Return the photos that have an annotation."""
        return list(self._annotations)

    def of(
        self, photo: str | Path, size: tuple[int, int], *, class_id: int | None = None, label: str | None = None
    ) -> NDArray[np.bool_] | None:
        """Return the pixels that the objects of a class take, bool [H,W], or None where no object is known.

        An object whose class the annotation does not name counts for every class, as a mask does.

        Args:
            photo: the photo, as it was given to `load_truth`.
            size: the upright photo's height and width.
            class_id: the id in the model of the class that the map explains.
            label: the label of that class, which an annotation may state instead of the id.

        Raises:
            TruthError: the annotation of this photo does not fit it, or its mask cannot be read.
        """
        annotation = self.annotation(photo, size)
        if annotation is None:
            return None
        if annotation.mask is not None:
            return _mask(annotation.mask, size)
        boxes = [box for box in annotation.boxes if self.is_of(box, class_id, label)]
        return marked(boxes, size, f"{annotation.source}: {Path(photo).name}") if boxes else None

    @property
    def has_marks(self) -> bool:
        """Tell whether the mark that decides the class of an object is stated of any."""
        return any(box.mark is not None for one in self._annotations.values() for box in one.boxes)

    def annotation(self, photo: str | Path, size: tuple[int, int]) -> Annotation | None:
        """Return the annotation of a photo of this height and width, or None where it has none.

        Raises:
            TruthError: the annotation is of a photo of another size.
        """
        annotation = self._annotations.get(Path(photo))
        if annotation is not None and annotation.size not in (None, size):
            where, there = f"{annotation.source}: {Path(photo).name}", _shown(annotation.size)
            raise TruthError(f"{where}: is {there} there, but the upright photo is {_shown(size)}")
        return annotation

    def is_of(self, box: Box, class_id: int | None, label: str | None) -> bool:
        """Tell whether a box counts as one of a class, which is given by its id or its label."""
        names = {str(class_id), _folded(label or "")} - {"None", ""}
        return self._any_class or box.name is None or _folded(box.name) in names


def load_truth(
    path: str | Path,
    photos: Iterable[str | Path],
    *,
    labels: Sequence[str] | None = None,
    any_class: bool = False,
    class_count: int | None = None,
) -> Truth:
    """Load the objects in these photos from masks or boxes (`annotations.read_annotations` lists the formats).

    An annotation belongs to the photo of the same name; one that has folders in its name belongs to the photo in
    folders of these names. Photos without an annotation are left out.

    Args:
        path: a folder or a file.
        photos: the photos that will be asked for.
        labels: the model's labels, to check at once whether the annotation's classes are the model's.
        any_class: count every object, whatever its class.
        class_count: the number of the model's classes if known, to check classes that are named by their ids.

    Raises:
        TruthError: the annotation cannot be read, fits none of the photos or several of one name, or names only
            classes that the model does not have.
    """
    path = Path(path)
    annotations = read_annotations(path)
    of_photos: dict[Path, Annotation] = {}
    owners: dict[str, Path] = {}
    by_parts = {tuple(PurePosixPath(key.replace("\\", "/")).parts): key for key in annotations}
    for photo in map(Path, photos):
        key = next((by_parts[parts] for parts in _ends(photo) if parts in by_parts), None)
        if key is None:
            continue
        if owners.setdefault(key, photo) != photo:
            raise TruthError(f"{annotations[key].source}: {key!r} could be {owners[key]} or {photo}; name the folder")
        of_photos[photo] = annotations[key]
    if not of_photos:
        known = ", ".join(list(annotations)[:3]) or "nothing"
        raise TruthError(f"{path}: names none of the photos; it knows {known}{', …' if len(annotations) > 3 else ''}")
    if not any_class:
        _check_names(path, of_photos.values(), labels, class_count)
    return Truth(of_photos, any_class=any_class)


def _ends(photo: Path) -> Iterable[tuple[str, ...]]:
    """Yield the names that an annotation may have for the photo: most folders first, with its suffix before without."""
    for count in range(len(photo.parts), 0, -1):
        parts = photo.parts[-count:]
        yield parts
        yield (*parts[:-1], photo.stem)


def _check_names(
    path: Path, annotations: Iterable[Annotation], labels: Sequence[str] | None, class_count: int | None
) -> None:
    names = {box.name for annotation in annotations for box in annotation.boxes}
    known = {_folded(label) for label in labels or ()}

    def is_id(name: str) -> bool:
        return name.isdecimal() and (class_count is None or int(name) < class_count)

    if names and not any(name is None or is_id(name) or _folded(name) in known for name in names):
        shown = ", ".join(sorted(map(str, names))[:5])
        what = "is a label of the model" if labels else "can be compared: the model's labels are not known"
        if class_count is not None and all(name is not None and name.isdecimal() for name in names):
            what = f"is one of the model's {class_count} classes, 0 to {class_count - 1}"
        raise TruthError(
            f"{path}: none of its classes ({shown}) {what}; rename them, state the labels, or count every object "
            "(--any-class, any_class=True)"
        )


def marked(boxes: Sequence[Box], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Return the pixels of objects, bool [H,W]: those of an object's own mask where it has one, else of its box.

    Raises:
        TruthError: a mask cannot be read or does not fit the photo, or a box reaches beyond it.
    """
    pixels = within_boxes([box for box in boxes if box.mask is None], size, where)
    for box in boxes:
        if box.mask is not None:
            pixels |= _mask(box.mask, size)
    return pixels


def within_boxes(boxes: Sequence[Box], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies in a box, bool [H,W]; every box marks at least one pixel.

    Raises:
        TruthError: a box reaches further beyond the photo than rounding explains.
    """
    height, width = size
    mask = np.zeros(size, np.bool_)
    for box in boxes:
        lowest, beyond = min(box.x0, box.y0), max(box.x1 - width, box.y1 - height)
        if lowest < -_OVERSHOOT or beyond > _OVERSHOOT or min(width - box.x0, height - box.y0) <= 0:
            edges = f"[{box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g}]"
            raise TruthError(f"{where}: the box {edges} lies outside of the photo, which is {_shown(size)}")
        mask[_pixels(box.y0, box.y1, height), _pixels(box.x0, box.x1, width)] = True
    return mask


def _pixels(start: float, end: float, length: int) -> slice:
    first, last = (int(np.ceil(edge - 0.5)) for edge in (start, end))
    if last <= first:  # thinner than a pixel, between two centres
        first = int((start + end) / 2)
        last = first + 1
    first = min(max(first, 0), length - 1)
    return slice(first, max(min(last, length), first + 1))


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        mask = read_mask(path)
    except ImageError as error:
        raise TruthError(str(error)) from error
    if mask.shape != size:
        raise TruthError(f"{path}: the mask is {_shown(mask.shape)}, but the upright photo is {_shown(size)}")
    if not mask.any():
        raise TruthError(f"{path}: marks no pixel; leave the mask out if the photo shows nothing of the kind")
    return mask


def _shown(size: Sequence[int] | None) -> str:
    assert size is not None
    return f"{size[1]} x {size[0]}"


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
