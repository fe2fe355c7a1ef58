"""Whether maps depend on what the model has learned: its weights are randomised, and the maps must change.

The model parameter randomisation test of Adebayo et al., "Sanity Checks for Saliency Maps" (2018): weights are
randomised layer by layer from the score towards the input, and each time the map of the *same* class is compared with
the original one. A map that stays what it was is a picture of the photo's edges or of the model's architecture.
`surgery.randomise` says what a layer is and how its weights are made random.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import XcamError, XcamWarning
from onnx_xcam.evaluation.similarity import rank_correlation, ssim
from onnx_xcam.explainer import Explainer, Explanation
from onnx_xcam.explainer.classes import ClassName
from onnx_xcam.explainer.explanation import Picture
from onnx_xcam.feeds import InputValue
from onnx_xcam.images import scale_heatmap
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike
from onnx_xcam.surgery.randomise import Order, Randomised, randomised

DEFAULT_STEPS = 8
UNCHANGED = 0.5
"""A map whose rank correlation with the original stays above this, with all weights random, does not follow the model.
Ours: the paper shows curves and draws no line."""

_LONGEST_SIDE = 256
"""Of the heat maps that SSIM compares, in pixels."""

MapOf = Callable[[Explanation], NDArray[np.floating]]
"""The map [h,w] of an explanation of one photo and one class."""


@dataclass(frozen=True)
class SanityRecord:
    """One photo, one more layer at random.

    Attributes:
        photo: its name.
        class_id: the class that is explained: the one that the original model sees, unless one was asked for.
        layer, op: the layer randomised last, by the tensor that it makes, and its operator.
        depth, of: how many layers that is, counted from the score, of how many.
        rank_correlation: Spearman's, of the map with the original one; None where a map is blank or not finite.
        ssim: of the two heat maps; None where one is not finite.
        status: of the map, as `contract.STATUS_TEXT` says.
    """

    photo: str
    class_id: int
    layer: str
    op: str
    depth: int
    of: int
    rank_correlation: float | None
    ssim: float | None
    status: int


@dataclass(frozen=True)
class SanityStep:
    """The records of all photos at one depth.

    Attributes:
        layer, op, depth, of: as in the records.
        rank_correlation, ssim: their means; None where no photo has one.
        compared: of how many photos the rank correlation is.
        photos: how many there are.
    """

    layer: str
    op: str
    depth: int
    of: int
    rank_correlation: float | None
    ssim: float | None
    compared: int
    photos: int


def raw_map(explanation: Explanation) -> NDArray[np.floating]:
    """The raw map of the first image and class."""
    return explanation.maps[0, 0]


def sanity(
    model: ModelLike,
    photos: Sequence[str | Path | NDArray[Any]],
    *,
    method: str = "xgrad-cam",
    layer: str = "auto",
    score: str = "auto",
    class_name: ClassName = -1,
    seed: int = 0,
    steps: int | None = DEFAULT_STEPS,
    order: Order = "cascading",
    preprocess: Any = None,
    labels: str | Path | Sequence[str] | None = None,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    inputs: Mapping[str, InputValue] | None = None,
    allow_folders: Folders = (),
    map_of: MapOf = raw_map,
) -> Iterator[SanityRecord]:
    """Randomise a model's weights step by step, and compare the maps of some photos with the original ones.

    Each step loads one more model; the one before is gone then. The photos and their maps stay in memory: a few dozen
    photos are meant, not thousands.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed.
        photos: paths or uint8 [H,W,3] RGB arrays.
        method: the CAM method.
        layer: "auto" (the last spatial feature map), or a layer's name.
        score: "auto" (the logits), or a tensor's name.
        class_name: an id or a label, or -1 for the class that the original model sees in each photo.
        seed: of the randomisation.
        steps: how many models on the way to one with all weights at random; None: one for each layer.
        order: "cascading", or "independent": one layer at random at a time.
        preprocess: as for the `Explainer`, and so are the options that follow but one.
        labels: the class labels.
        providers: where to run it.
        threads: of one operator.
        inputs: the values of the inputs beside the picture.
        allow_folders: where external data may lie.
        map_of: what is compared. By default the raw map; another function of an explanation is tried in its place.

    Returns:
        A record for each step and photo, the steps from the score towards the input.

    Raises:
        XcamError: what `randomised` and the `Explainer` raise.
    """
    if not photos:
        raise XcamError("There are no photos to compare the maps of.")
    options: dict[str, Any] = {"method": method, "providers": providers, "threads": threads, "inputs": inputs}
    original = Explainer(
        model, layers=layer, score=score, preprocess=preprocess, labels=labels, allow_folders=allow_folders, **options
    )
    steps_of = randomised(model, seed=seed, order=order, steps=steps, score=score, allow_folders=allow_folders)
    options |= {"layers": original.layers[0], "score": original.score, "preprocess": original.preprocess}
    return _records(original, photos, class_name, steps_of, options, map_of)


@dataclass(frozen=True)
class _Before:
    """A photo, prepared, and its map from the original model."""

    picture: Picture
    class_id: int
    map: NDArray[np.floating]


def _records(
    original: Explainer,
    photos: Sequence[str | Path | NDArray[Any]],
    class_name: ClassName,
    steps: Iterable[Randomised],
    options: Mapping[str, Any],
    map_of: MapOf,
) -> Iterator[SanityRecord]:
    before = []
    for number, photo in enumerate(photos):
        picture = original.prepare(photo) if isinstance(photo, str | Path) else _named(original, photo, number)
        explanation = original.explain(picture, classes=[class_name])
        before.append(_Before(picture, int(explanation.classes[0, 0]), map_of(explanation)))
    for step in steps:
        # What is to be said of the model was said of the original; random weights often leave a map blank.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", XcamWarning)
            explainer = Explainer(step.model, **options)
            for one in before:
                yield _record(one, explainer.explain(one.picture, classes=[one.class_id]), step, map_of)


def _named(explainer: Explainer, photo: NDArray[Any], number: int) -> Picture:
    picture = explainer.prepare(photo)
    return Picture(f"image {number}", picture.image_rgb, picture.item, picture.placement)


def _record(before: _Before, explanation: Explanation, step: Randomised, map_of: MapOf) -> SanityRecord:
    now = map_of(explanation)
    first, second = (_small_heatmap(before.picture, values) for values in (before.map, now))
    return SanityRecord(
        photo=before.picture.name,
        class_id=before.class_id,
        layer=step.layer.name,
        op=step.layer.op,
        depth=step.depth,
        of=step.of,
        rank_correlation=rank_correlation(before.map, now),
        ssim=ssim(first, second),
        status=int(explanation.status[0, 0]),
    )


def _small_heatmap(picture: Picture, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The map laid over the photo and scaled to 0..1, at no more than 256 pixels."""
    height, width = picture.placement.photo
    shrink = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(round(height * shrink), 7), max(round(width * shrink), 7)
    return scale_heatmap(picture.placement.place(values, size))


def summarised(records: Iterable[SanityRecord]) -> list[SanityStep]:
    """The means over the photos, from the score towards the input."""
    depths: dict[int, list[SanityRecord]] = {}
    for record in records:
        depths.setdefault(record.depth, []).append(record)
    return [_step(found) for _, found in sorted(depths.items())]


def _step(records: Sequence[SanityRecord]) -> SanityStep:
    first = records[0]
    ranks = [record.rank_correlation for record in records if record.rank_correlation is not None]
    alike = [record.ssim for record in records if record.ssim is not None]
    return SanityStep(
        layer=first.layer,
        op=first.op,
        depth=first.depth,
        of=first.of,
        rank_correlation=float(np.mean(ranks)) if ranks else None,
        ssim=float(np.mean(alike)) if alike else None,
        compared=len(ranks),
        photos=len(records),
    )


def follows_the_model(records: Iterable[SanityRecord]) -> bool | None:
    """Whether the maps change with the weights: at the last step the mean rank correlation is below `UNCHANGED`.

    Returns:
        None where nothing could be compared: all maps of a model at random were blank, or the original ones were.
    """
    steps = summarised(records)
    last = steps[-1].rank_correlation if steps else None
    return None if last is None else last < UNCHANGED


def status_counts(records: Iterable[SanityRecord]) -> Mapping[str, int]:
    """How many maps of models at random were not good, by what `contract.STATUS_TEXT` says of them."""
    found: dict[str, int] = {}
    for record in records:
        if record.status != contract.GOOD:
            text = contract.STATUS_TEXT[record.status]
            found[text] = found.get(text, 0) + 1
    return found
