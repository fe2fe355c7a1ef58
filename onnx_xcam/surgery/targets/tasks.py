"""This module lists the vision tasks that are explained, in the order in which a model is tried for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.targets import classification
from onnx_xcam.surgery.targets.target import Evidence, Target

Recognise: TypeAlias = Callable[[Evidence], Target]
"""A function of this type returns the score table of a task, or raises a ScoreError that says why there is none."""

TASKS: Mapping[str, Recognise] = {
    "classification": classification.recognise,
}
"""The first task that recognises a model is taken; so a task refuses what is not surely its own."""


def recognised(evidence: Evidence) -> Target:
    """Return the score table of a model.

    Raises:
        ScoreError: no task recognises the model; the message says what each of them misses.
    """
    refusals: dict[str, ScoreError] = {}
    for recognise in TASKS.values():
        try:
            return recognise(evidence)
        except ScoreError as refusal:
            refusals.setdefault(str(refusal), refusal)
    first, *others = refusals.values()
    raise first if not others else ScoreError(" ".join(refusals))
