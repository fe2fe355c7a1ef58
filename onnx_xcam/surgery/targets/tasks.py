"""This module lists the vision tasks that are explained, in the order in which a model is tried for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from onnx_xcam.common.arguments import one_of
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.targets import classification, detection
from onnx_xcam.surgery.targets.target import Evidence, Target

Recognise: TypeAlias = Callable[[Evidence], Target]
"""A function of this type returns the score table of a task, or raises a ScoreError that says why there is none."""

TASKS: Mapping[str, Recognise] = {
    "detection": detection.recognise,
    "classification": classification.recognise,
}
"""The first task that recognises a model is taken; so a task refuses what is not surely its own."""
_USUAL = "classification"
"""What this task misses is told first, as most models are classifiers."""


def recognised(evidence: Evidence, task: str = "auto") -> Target:
    """Return the score table of a model.

    Args:
        evidence: what it is recognised by.
        task: the task that it is for, or "auto" for the first that recognises it.

    Raises:
        ScoreError: no task recognises the model, or the one that is named does not; the message says what each of them
            misses.
    """
    one_of("task", task, ("auto", *TASKS))
    refusals: dict[str, ScoreError] = {}
    for name, recognise in TASKS.items():
        if task not in ("auto", name):
            continue
        try:
            return recognise(evidence)
        except ScoreError as refusal:
            refusals[name] = refusal
    ordered = [refusals[name] for name in sorted(refusals, key=lambda name: name != _USUAL)]
    messages = dict.fromkeys(text for refusal in ordered if (text := str(refusal)))
    raise ordered[0] if len(messages) < 2 else ScoreError(" ".join(messages))
