"""This module tests whether maps depend on what the model has learned: with randomised weights, maps must change.

It is the model parameter randomisation test of Adebayo et al., "Sanity Checks for Saliency Maps" (2018): weights are
randomised layer by layer from the score towards the input, and each time the map of the *same* class is compared with
the original one. A map that stays the same shows the photo's edges or the model's architecture, and not what was
learned. `surgery.randomise` defines what a layer is and how its weights are randomised.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import XcamError, XcamWarning
from onnx_xcam.evaluation.similarity import rank_correlation, ssim
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.classes import ClassName
from onnx_xcam.explainer.options import PreprocessLike
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import Recording
from onnx_xcam.feeds import InputValue
from onnx_xcam.images import scale_heatmap
from onnx_xcam.records.evaluate import SanityFigures
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike
from onnx_xcam.surgery.randomise import Order, Randomised, randomised

DEFAULT_STEPS = 8
UNCHANGED = 0.5
"""Maps do not follow the model if, with all weights random, their rank correlation with the original maps is not below
this number. The threshold is our choice: the paper shows curves and states none."""

_LONGEST_SIDE = 256
"""The longest side of the heat maps that SSIM compares, in pixels."""

MapOf = Callable[[Recording], NDArray[np.floating]]
"""A function that returns the map [h,w] of a recording of one photo, one layer and one class, before any ReLU."""


@dataclass(frozen=True)
class SanityRecord:
    """A SanityRecord compares one photo's map by one method with the original map, after some layers were randomised.

    Attributes:
        photo: the name of the photo.
        method: the CAM method.
        class_id: the class that is explained: the original model's top class, unless another was asked for.
        layer, op: the layer that was randomised last, by its output tensor, and its operator.
        depth, of: the position of that layer, counted from the score, and the number of layers.
        rank_correlation: Spearman's correlation of the map before the ReLU with the original map; None where one of
            them has the same value everywhere or is not finite.
        absolute: the rank correlation of the maps' absolute values. A map that only changes its sign has not changed
            much.
        ssim: the structural similarity of the two heat maps after the ReLU; None where one is not finite.
    """

    photo: str
    method: str
    class_id: int
    layer: str
    op: str
    depth: int
    of: int
    rank_correlation: float | None
    absolute: float | None
    ssim: float | None


@dataclass(frozen=True)
class SanityStep:
    """A SanityStep summarises the records of all photos for one method at one depth.

    Attributes:
        method, layer, op, depth, of: as in `SanityRecord`.
        rank_correlation, absolute, ssim: the means over the photos; None where no photo has a value.
        compared: the number of photos that have a rank correlation.
        photos: the number of photos.
    """

    method: str
    layer: str
    op: str
    depth: int
    of: int
    rank_correlation: float | None
    absolute: float | None
    ssim: float | None
    compared: int
    photos: int

    def figures(self, target: str, *, follows: bool | None) -> SanityFigures:
        """Return the step as a summary holds it.

        Args:
            target: the layer of the maps.
            follows: whether the method's maps change with the weights, from `follows_the_model`.
        """
        return {
            "target": target,
            "method": self.method,
            "layer": self.layer,
            "op": self.op,
            "depth": self.depth,
            "of": self.of,
            "rank_correlation": self.rank_correlation,
            "absolute": self.absolute,
            "ssim": self.ssim,
            "compared": self.compared,
            "photos": self.photos,
            "follows": follows,
        }


def sanity(
    model: ModelLike,
    photos: Sequence[str | Path | NDArray[Any]],
    *,
    methods: Sequence[str] = ("xgrad-cam",),
    layer: str = "auto",
    score: str = "auto",
    class_name: ClassName = -1,
    seed: int = 0,
    steps: int | None = DEFAULT_STEPS,
    order: Order = "cascading",
    preprocess: PreprocessLike | None = None,
    labels: str | Path | Sequence[str] | None = None,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    inputs: Mapping[str, InputValue] | None = None,
    allow_folders: Folders = (),
    exact: bool = False,
    task: str = "auto",
    conf: float | None = None,
    iou: float | None = None,
    others: Mapping[str, MapOf] | None = None,
) -> Iterator[SanityRecord]:
    """Randomise a model's weights step by step, and compare the maps of some photos with the original ones.

    Each step loads one more model, after the one before was released. The photos and their maps stay in memory, so that
    the test suits a few dozen photos, not thousands.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed.
        photos: paths or uint8 [H,W,3] RGB arrays.
        methods: the CAM methods.
        layer: "auto" (the last spatial feature map), or a layer's name.
        score: "auto" (the logits), or a tensor's name.
        class_name: an id or a label, or -1 for the class that the original model sees in each photo.
        seed: the seed of the randomisation.
        steps: the number of randomised models, of which the last has all weights at random; None: one for each layer.
        order: "cascading", or "independent" to randomise one layer at a time.
        preprocess: the preprocessing, as for the `Recorder`, and so are the options that follow up to `iou`.
        labels: the class labels.
        providers: the ONNX Runtime providers to run the models with.
        threads: the number of threads of one operator.
        inputs: the values of the inputs beside the picture.
        allow_folders: folders in which external data may lie.
        exact: add up products of 8-bit integers exactly.
        task: what the model is for.
        conf: the probability that an object exceeds.
        iou: the overlap above which the worse of two boxes of a class is dropped.
        others: further functions of a recording whose maps are tested too, by name.

    Returns:
        A record for each step, photo and method; the steps go from the score towards the input.

    Raises:
        XcamError: there are no photos; also what `randomised` and the `Recorder` raise.
    """
    if not photos:
        raise XcamError("There are no photos to compare the maps of.")
    options: dict[str, Any] = {"methods": methods, "providers": providers, "threads": threads, "inputs": inputs}
    options |= {"exact": exact, "task": task, "conf": conf, "iou": iou}
    original = Recorder(
        model, layer, score, preprocess=preprocess, labels=labels, allow_folders=allow_folders, **options
    )
    steps_of = randomised(
        model, seed=seed, order=order, steps=steps, score=score, task=task, allow_folders=allow_folders
    )
    # A table of candidates and a cut are no tensors of the model that can be named; they are found again.
    found_again = original.model.choosable.objects
    options |= {
        "methods": original.methods,
        "layers": "auto" if original.model.shown_layers != original.layers else original.layers[0],
        "score": score if found_again else original.score,
        "preprocess": original.preprocess,
    }
    maps: dict[str, MapOf] = {name: _method_map(name) for name in original.methods}
    return _records(original, _pictures(original, photos, class_name), steps_of, options, {**maps, **(others or {})})


def _method_map(name: str) -> MapOf:
    return lambda recording: recording.map(name)[0]


@dataclass(frozen=True)
class _Wanted:
    """A _Wanted holds a prepared photo and what is explained in it."""

    picture: Picture
    cells: Cells


@dataclass(frozen=True)
class _Before:
    """A _Before holds a photo, the very cell that is explained, and the original model's maps of it.

    It does not hold the recording, which would keep the original model open.
    """

    picture: Picture
    cells: Cells
    class_id: int
    maps: Mapping[str, NDArray[np.floating]]


def _pictures(original: Recorder, photos: Sequence[str | Path | NDArray[Any]], class_name: ClassName) -> list[_Wanted]:
    chosen = original.choose([class_name])
    wanted = []
    for number, photo in enumerate(photos):
        picture = original.prepare(photo)
        if not isinstance(photo, str | Path):
            picture = dataclasses.replace(picture, name=f"image {number}")
        wanted.append(_Wanted(picture, chosen))
    return wanted


def _records(
    original: Recorder | None,
    photos: Sequence[_Wanted],
    steps: Iterable[Randomised],
    options: Mapping[str, Any],
    maps: Mapping[str, MapOf],
) -> Iterator[SanityRecord]:
    assert original is not None
    before = [_before(original, photo, maps) for photo in photos]
    recorder = original = None  # releases the original model
    for step in steps:
        recorder = None  # releases the model of the step before
        with warnings.catch_warnings():  # the original model has given these warnings already
            warnings.simplefilter("ignore", XcamWarning)
            recorder = Recorder(step.model, **options)
        for one in before:
            now = recorder.record(one.picture, one.cells)
            for name, map_of in maps.items():
                yield _record(one, step, name, map_of(now))


def _before(original: Recorder, photo: _Wanted, maps: Mapping[str, MapOf]) -> _Before:
    recording = original.record(photo.picture, photo.cells)
    originals = {name: np.array(map_of(recording)) for name, map_of in maps.items()}
    return _Before(photo.picture, recording.cells, int(recording.classes[0]), originals)


def _record(before: _Before, step: Randomised, method: str, new: NDArray[np.floating]) -> SanityRecord:
    old = before.maps[method]
    return SanityRecord(
        photo=before.picture.name,
        method=method,
        class_id=before.class_id,
        layer=step.layer.name,
        op=step.layer.op,
        depth=step.depth,
        of=step.of,
        rank_correlation=rank_correlation(old, new),
        absolute=rank_correlation(np.abs(old), np.abs(new)),
        ssim=ssim(_small_heatmap(before.picture, old), _small_heatmap(before.picture, new)),
    )


def _small_heatmap(picture: Picture, raw: NDArray[np.floating]) -> NDArray[np.float32]:
    """Place the map after the ReLU on the photo, scaled to 0..1 and with a longest side of at most 256 pixels."""
    height, width = picture.placement.photo
    shrink = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(round(height * shrink), 7), max(round(width * shrink), 7)
    return scale_heatmap(picture.placement.place(np.maximum(raw, 0), size))


def summarised(records: Iterable[SanityRecord]) -> list[SanityStep]:
    """Return the means over the photos, by method, from the score towards the input."""
    groups: dict[tuple[str, int], list[SanityRecord]] = {}
    for record in records:
        groups.setdefault((record.method, record.depth), []).append(record)
    order = list(dict.fromkeys(method for method, _ in groups))
    return [_step(groups[key]) for key in sorted(groups, key=lambda key: (order.index(key[0]), key[1]))]


def _step(records: Sequence[SanityRecord]) -> SanityStep:
    first = records[0]
    return SanityStep(
        method=first.method,
        layer=first.layer,
        op=first.op,
        depth=first.depth,
        of=first.of,
        rank_correlation=_mean(record.rank_correlation for record in records),
        absolute=_mean(record.absolute for record in records),
        ssim=_mean(record.ssim for record in records),
        compared=sum(record.rank_correlation is not None for record in records),
        photos=len(records),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def follows_the_model(records: Iterable[SanityRecord]) -> dict[str, bool | None]:
    """Tell for each method whether its maps change with the weights.

    They do if at the last step of order "cascading" both mean rank correlations, of the maps and of their absolute
    values, are below `UNCHANGED`. A method gets None if nothing could be compared because the maps were blank.
    """
    last = {step.method: step for step in summarised(records)}
    return {method: _has_changed(step) for method, step in last.items()}


def _has_changed(step: SanityStep) -> bool | None:
    known = [value for value in (step.rank_correlation, step.absolute) if value is not None]
    return all(value < UNCHANGED for value in known) if known else None
