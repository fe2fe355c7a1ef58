"""This module checks that a rewritten model gives the outputs of its original, by running both on the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.feeds import InputValue, example_feeds
from onnx_xcam.runtime import Session, open_session
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.normalise.normalise import OLDEST_OPSET, needs_raising, normalised
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs

OUTPUT_TOLERANCE = {"float16": 1e-3, "float32": 1e-6, "float64": 1e-6}
"""How far an original output of each type may differ, relative to its largest value."""


def output_difference(before: Any, after: Any) -> float:
    """Return the largest difference of an output relative to its largest value; 0 means bit-equal.

    Args:
        before, after: arrays, or the lists and dictionaries of them that ONNX Runtime gives for sequences and maps.
    """
    if isinstance(before, Mapping):
        return output_difference(list(before.items()), list(after.items()))
    if isinstance(before, list | tuple):
        if len(before) != len(after):
            return math.inf
        return max((output_difference(b, a) for b, a in zip(before, after, strict=True)), default=0.0)
    return _array_difference(np.asarray(before), np.asarray(after))


def _array_difference(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Return the largest difference of two arrays relative to the largest value of the first.

    Arrays of different shapes or types differ by infinity, unequal texts or truth values by 1.
    """
    if before.shape != after.shape or before.dtype != after.dtype:
        return math.inf
    if np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
        return 0.0
    if before.dtype.kind not in "fiu":
        return 1.0
    first, second = before.astype(np.float64), after.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities elsewhere or of another sign: nan, which is no small number
        return float(np.abs(first - second).max()) / (float(np.abs(first).max()) or 1.0)


def tolerance(output: Any) -> float:
    """Return how far an output may differ: `OUTPUT_TOLERANCE` of its type, 0 where it holds no floats."""
    if isinstance(output, Mapping):
        return tolerance(list(output.values()))
    if isinstance(output, list | tuple):
        return max((tolerance(part) for part in output), default=0.0)
    return OUTPUT_TOLERANCE.get(str(np.asarray(output).dtype), 0.0)


def compare_raised(
    original: Source, inputs: Mapping[str, InputValue] | None = None, raised: bytes | None = None
) -> str | None:
    """Compare a model whose opset had to be raised with its original, on random numbers, by ONNX Runtime on the CPU.

    Args:
        original: the model as it was given.
        inputs: the values of inputs beside the picture; the others are fed random numbers.
        raised: the raised model, instrumented or not; None raises the original's opset here.

    Returns:
        A sentence on how far the outputs differ, or on why they could not be compared; None for a model that is new
        enough.

    Raises:
        ModelError: the outputs differ by more than `tolerance`.
        InputError: a value that is given does not fit.
    """
    if not needs_raising(original.skeleton()):
        return None
    content = raised if raised is not None else normalised(original)[0].with_tail(b"")
    try:
        before = _opened(original, original.with_tail(b""))
    except ModelError as error:
        return f"Model: its outputs before and after it was raised could not be compared: {error}"
    after = _opened(original, content)
    unused = unused_inputs(original.skeleton())
    feeds = example_feeds(before.inputs, before.optional_inputs, inputs, np.random.default_rng(0), unused=unused)
    names = [out.name for out in before.outputs]
    try:
        expected = before.run(feeds, names)
    except (ModelError, InputError) as error:
        return f"Model: its outputs before and after it was raised could not be compared on random numbers: {error}"
    actual = after.run(feeds, names)
    differences = {name: output_difference(expected[name], actual[name]) for name in names}
    for name, difference in differences.items():
        if not difference <= tolerance(expected[name]):
            raise ModelError(
                f"The output '{name}' of {original.name} changes by {difference:.1e} of its largest value when the "
                f"opset is raised to {OLDEST_OPSET}, so an explanation would be of another model; export it again with "
                f"opset {OLDEST_OPSET} or newer."
            )
    worst = max(differences.values(), default=0.0)
    result = "bit-equal" if worst == 0 else f"{worst:.1e} of the largest value apart at most"
    outputs = "its output" if len(names) == 1 else f"its {len(names)} outputs"
    return f"Model: {outputs} before and after it was raised, compared on random numbers: {result}."


def _opened(source: Source, content: bytes) -> Session:
    """Open a session on the CPU for a model that is made of `source`, beside which its external weights lie."""
    runnable, folder = source.runnable(content)
    return open_session(runnable, providers="cpu", folder=folder)
