"""This module cuts images and classes into as few runs as the model's batch size and the memory allow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.existing import refuse_candidates, refuse_fixed, refuse_missing
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.memory import bytes_of_a_class
from onnx_xcam.feeds import padded
from onnx_xcam.runtime import Cancellation, Feed, batching
from onnx_xcam.surgery.axes.batch_independence import tell_apart

Results = dict[str, NDArray[Any]]
"""Outputs of a model by name."""


def run_all(
    model: LoadedModel,
    batch: NDArray[Any],
    cells: Cells,
    cancellation: Cancellation | None = None,
) -> Results:
    """Run any number of images, and return the outputs by name: [N,K,...], and [N,C] for the probabilities.

    All cells share one run, unless their gradients together take more than about 2 GiB: at the default layer of a CNN
    a thousand classes take next to nothing, at a layer in the middle 1 to 10 MB each. Where classes are cut into
    several runs, each repeats the forward pass, which costs little against the gradients of so many classes.

    Images that influence each other are run one by one; a model with a batch size of its own then gets copies of the
    image. Where the operators do not rule out such an influence, the first run of several images is compared with runs
    of single ones.

    Args:
        model: the instrumented model.
        batch: preprocessed images [N,...], of any N.
        cells: what is explained in each image.
        cancellation: can end the runs from another thread.

    Raises:
        InputError: as `Session.run`.
        ClassError: a class does not exist, which only a run could tell.
        ModelError: the outputs are not those of an instrumented model, or as `Session.run`.
    """
    run = functools.partial(model.session.run, cancellation=cancellation) if cancellation else model.session.run

    size = model.images_per_run(batching.IMAGES_PER_RUN)

    def part_from(start: int) -> Results:
        """Run the images of one batch together."""
        part = batch[start : start + size]
        others = model.others.rows(start, model.batch or len(part), len(batch))
        return _run_images(model, run, part, cells.rows(start, start + size), others)

    def alone(n: int, own: Cells) -> Results:
        """Run one image by itself, at its own place of a batch if other inputs have a value for each place."""
        place = n % size if model.others.are_of_places(len(batch)) else 0
        others = model.others.rows(n, model.batch or 1, len(batch))
        copies = _run_images(model, run, np.repeat(batch[n : n + 1], place + 1, axis=0), own, others)
        return {name: value[place : place + 1] for name, value in copies.items()}

    def one_by_one() -> Results:
        """Run each image by itself."""
        return _joined([alone(n, cells.rows(n, n + 1)) for n in range(len(batch))], axis=0)

    if model.rows.mixed:
        return one_by_one()
    parts = [part_from(start) for start in range(0, len(batch), size)]
    results = parts[0] if len(parts) == 1 else _joined(parts, axis=0)
    if model.rows.mixed is None and len(batch) == 1 and (beside := _with_another(batch, model.batch or 1)) is not None:
        others = model.others.rows(0, len(beside), 1)
        among = _run_images(model, run, beside, cells.resolved(results), others)
        model.rows.compare((among[name][0], results[name][0]) for name in results if name in _compared(model))
    if model.rows.mixed is None and (apart := tell_apart(batch[:size])):
        chosen = cells.resolved(results)
        runs = {n: alone(n, chosen.rows(n, n + 1)) for n in apart}
        compared = [name for name in results if name in _compared(model)]
        if model.rows.compare((results[name][n], one[name][0]) for n, one in runs.items() for name in compared):
            return one_by_one()
    return results


def _compared(model: LoadedModel) -> list[str]:
    """Return the names of the outputs that are compared to see whether images influence each other."""
    return [contract.SCORES, *model.outputs("map")]


def _with_another(image: NDArray[Any], size: int) -> NDArray[Any] | None:
    """Return a batch of this image and, beside it, copies with its values in reverse order; None if these are equal.

    A single photo fills a batch of fixed size with copies of itself, which cannot show whether other images would
    influence it.

    Args:
        image: the image, `[1,...]`.
        size: the number of images of the batch.
    """
    another = np.flip(image, axis=tuple(range(1, image.ndim)))
    return np.concatenate([image, *[another] * (size - 1)]) if size > 1 and (another != image).any() else None


def _run_images(
    model: LoadedModel,
    run: Callable[[Mapping[str, Feed], Sequence[str]], Results],
    batch: NDArray[Any],
    cells: Cells,
    others: Mapping[str, NDArray[Any]],
) -> Results:
    """Run some images once, or once per chunk of cells where all of them at once would take too much memory."""
    count = len(batch)
    if model.batch and (size := model.batch * batch[0].nbytes) > batching.BYTES_OF_OWN_BATCH:
        raise InputError(
            f"{model.name} takes {model.batch} images at once, {size >> 20} MiB, which is more than is fed "
            "here; export it with a smaller batch."
        )
    if model.batch and count < model.batch:
        batch = padded(batch, model.batch)
        cells = cells.padded(model.batch)
    session, source = model.session, model.probabilities
    of_maps = [*model.outputs("map"), *model.outputs("status"), *model.fused]
    per_class = [*of_maps, contract.CLASSES, contract.SCORES, *model.of_objects]
    held = {name: session.hold(array) for name, array in others.items()}
    held[model.image_input.name] = session.hold(batch)
    refuse_missing(model, cells.classes, len(batch), lambda feed, names: run({**held, **feed}, names))
    parts: list[Results] = []
    for part in _parts(model, cells, batch):
        whole = [source.output] if source and not parts else []
        try:
            parts.append(run({**held, **part.feeds()}, [*per_class, *whole]))
        except ModelError as error:
            refuse_fixed(model, error)
            refuse_candidates(model, part, error)
            raise
        _check_outputs(parts[-1], per_class, len(batch), model.name)
        if model.metadata.relu and any((parts[-1][name] < 0).any() for name in model.outputs("map")):
            raise ModelError(
                f"{model.name} gives signed maps, but its metadata say that it does not; instrument the original again."
            )
    probabilities = {source.output: parts[0].pop(source.output).reshape(len(batch), -1)} if source else {}
    results = {**(parts[0] if len(parts) == 1 else _joined(parts, axis=1)), **probabilities}
    return results if count == len(batch) else {name: value[:count] for name, value in results.items()}


def _joined(parts: Sequence[Results], axis: int) -> Results:
    """Return the results of several runs, joined along an axis."""
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}


def _parts(model: LoadedModel, cells: Cells, batch: NDArray[Any]) -> Iterator[Cells]:
    """Yield the cells of each run: as many as the memory allows, or those that are fixed."""
    count = cells.count
    if count is None or len(batch) * count <= batching.CLASSES_NOT_WORTH_CUTTING:
        yield cells
        return
    step = batching.classes_per_run(_bytes_per_class(model, batch))
    for start in range(0, count, step):
        yield cells.columns(start, start + step)


def _check_outputs(results: dict[str, NDArray[Any]], names: Sequence[str], count: int, name: str) -> None:
    """Make sure that the outputs of a run have the shapes of an instrumented model's: [N,K] and [N,K,h,w].

    Args:
        results: the outputs by name.
        names: the names of the outputs to check.
        count: the number N of images.
        name: the model's name in messages.

    Raises:
        ModelError: an output has another shape or no numbers.
    """
    classes = results[contract.CLASSES]
    answers, k = len(classes) if classes.ndim else 0, classes.shape[1:2]
    if answers not in (0, count) and results[contract.SCORES].shape == classes.shape:
        raise ModelError(
            f"{name} gives {answers} answer{'' if answers == 1 else 's'} for {count} images of a run, as models of "
            "several crops, frames or tiles do; explain one image at a time."
        )
    for output in names:
        spatial = output.startswith((contract.output_name("map"), contract.FUSED))
        shape, dtype = results[output].shape, results[output].dtype
        rank = 4 if spatial else 3 if output == contract.BOXES else 2
        if len(shape) != rank or shape[:2] != (count, *k) or dtype.kind not in "fi":
            raise ModelError(
                f"The output '{output}' of {name} is {dtype} {contract.shape_text(shape)}, which is not "
                "what an instrumented model gives; instrument the original model again."
            )


def _bytes_per_class(model: LoadedModel, batch: NDArray[Any]) -> int:
    """Return about how many bytes one class of all images of a batch takes; each shape is estimated once."""
    if batch.shape not in model.class_memory:
        image, maps = model.image_input.name, model.outputs("map")
        others = model.others.rows(0, len(batch), len(batch))
        fed = {name: array.shape for name, array in others.items() if array is not None}
        shapes = {image: batch.shape, **fed}
        infos = [output for output in model.session.outputs if output.name in maps]
        model.class_memory[batch.shape] = bytes_of_a_class(model.skeleton, shapes, image, infos)
    return model.class_memory[batch.shape]
