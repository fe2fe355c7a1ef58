"""Whether the classes that are asked for exist, in a model of which only a run tells how many there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ClassError, ModelError
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.labels import resolve_class

Run = Callable[[Mapping[str, NDArray[np.int64]], Sequence[str]], Mapping[str, NDArray[Any]]]
"""Runs the model on the images with further feeds, and gives the named outputs."""


def refuse_missing(model: LoadedModel, classes: NDArray[np.int64] | None, images: int, run: Run) -> None:
    """Refuse classes that do not exist, where the model's graph does not tell how many there are.

    One run without any gradient tells it by the output that holds the scores or their probabilities; of a model that
    gives neither, each class is tried without its map.

    Args:
        model: the instrumented model.
        classes: int64 [1,K] or [N,K]; None where the model itself has settled them.
        images: N.
        run: runs it on these images.

    Raises:
        ClassError: a class does not exist.
        XcamError: as `Session.run`.
    """
    if model.class_count is not None or classes is None or bool((classes == -1).all()):
        return
    names = {output.name for output in model.session.outputs}
    sources = [model.metadata.score, *([model.probabilities.output] if model.probabilities else [])]
    told = next((name for name in sources if name in names), None)
    if told is None:
        _try_each(model, classes, run)
        return
    count = run(_feed(-1), [told])[told].size // images
    for number in np.unique(classes).tolist():
        resolve_class(number, None, count)


def _try_each(model: LoadedModel, classes: NDArray[np.int64], run: Run) -> None:
    """Ask for the score of each class: ONNX Runtime refuses to pick one that is not there."""
    run(_feed(-1), [contract.SCORES])  # what fails here is no matter of classes
    for number in np.unique(classes).tolist():
        try:
            run(_feed(number), [contract.SCORES])
        except ModelError as error:
            raise ClassError(f"class {number} is out of range: {model.name} has fewer classes") from error


def refuse_fixed(model: LoadedModel, error: ModelError) -> None:
    """Name the cause of a failed run where it is a class that was fixed at surgery and is beyond the last one.

    ONNX Runtime computes every output of a model whichever are asked for, so no run tells it beforehand.

    Raises:
        ClassError: what picks a class out of the scores is what failed.
    """
    if model.fixed_classes and model.class_count is None and _PICKS.search(str(error)):
        raise ClassError(
            f"a class that was fixed when {model.name} was instrumented is out of range: the model has fewer classes "
            "with these inputs; instrument the original again with classes that it has"
        ) from error


_PICKS = re.compile(r"running (?:Gather|GatherElements|TopK|ScatterElements) node\. Name:'xcam/")
"""How ONNX Runtime says that one of our nodes which pick classes failed."""


def _feed(number: int) -> dict[str, NDArray[np.int64]]:
    return {contract.CLASS_INPUT: np.array([[number]], np.int64)}
