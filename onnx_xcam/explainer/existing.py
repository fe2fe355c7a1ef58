"""This module refuses classes that do not exist, where only a run of the model can tell how many there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ClassError, ModelError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.labels import resolve_class

Run = Callable[[Mapping[str, NDArray[np.int64]], Sequence[str]], Mapping[str, NDArray[Any]]]
"""A function that runs the model on its images with further feeds, and returns the named outputs."""


def refuse_missing(model: LoadedModel, classes: NDArray[np.int64] | None, images: int, run: Run) -> None:
    """Raise a ClassError for a class that does not exist, where the model's graph does not say how many there are.

    One run without any gradient shows the number by the output with the scores or their probabilities. If the model has
    neither output, the score of each class is tried by itself.

    Args:
        model: the instrumented model.
        classes: int64 [1,K] or [N,K]; None where they were fixed when the model was instrumented.
        images: the number N of images.
        run: runs the model on these images.

    Raises:
        ClassError: a class does not exist.
        XcamError: as `Session.run`.
    """
    if model.class_count is not None or classes is None or bool((classes == -1).all()):
        return
    names = {output.name for output in model.session.outputs}
    sources = [model.metadata.score, *([model.probabilities.output] if model.probabilities else [])]
    table = next((name for name in sources if name in names), None)
    if table is None:
        _try_each(model, classes, run)
        return
    count = run(_feed(-1), [table])[table].size // images
    for number in np.unique(classes).tolist():
        resolve_class(number, None, count)


def _try_each(model: LoadedModel, classes: NDArray[np.int64], run: Run) -> None:
    """Run the score of each class by itself, and raise a ClassError where ONNX Runtime refuses to pick it."""
    run(_feed(-1), [contract.SCORES])  # a failure here has another cause than the classes
    for number in np.unique(classes).tolist():
        try:
            run(_feed(number), [contract.SCORES])
        except ModelError as error:
            raise ClassError(f"class {number} is out of range: {model.name} has fewer classes") from error


def refuse_candidates(model: LoadedModel, cells: Cells, error: ModelError) -> None:
    """Raise a ClassError if a run failed because a candidate does not exist, where the model may have any number.

    Raises:
        ClassError: a node that picks candidates has failed.
    """
    if cells.objects is not None and (cells.objects >= 0).any() and _PICKS.search(str(error)):
        raise ClassError(
            f"object {cells.objects.max()} is out of range: {model.name} has fewer candidates in a picture of "
            "this size; -1 is the best object that is kept"
        ) from error


def refuse_fixed(model: LoadedModel, error: ModelError) -> None:
    """Raise a ClassError if a run failed because a class that was fixed at surgery is beyond the last one.

    This can be told only afterwards: ONNX Runtime computes every output whichever are requested, so that a run which
    counts the classes would fail in the same way.

    Raises:
        ClassError: a node that picks classes out of the scores has failed.
    """
    if model.fixed_classes and model.class_count is None and _PICKS.search(str(error)):
        raise ClassError(
            f"a class that was fixed when {model.name} was instrumented is out of range: the model has fewer classes "
            "with these inputs; instrument the original again with classes that it has"
        ) from error


_PICKS = re.compile(r"running (?:Gather|GatherElements|TopK|ScatterElements) node\. Name:'xcam/")
"""Matches ONNX Runtime's message that one of the added nodes which pick classes failed."""


def _feed(number: int) -> dict[str, NDArray[np.int64]]:
    """Return the feed of the class input for a single class."""
    return {contract.CLASS_INPUT: np.array([[number]], np.int64)}
