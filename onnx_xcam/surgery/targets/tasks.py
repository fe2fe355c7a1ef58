"""This module lists the vision tasks that are explained, in the order in which a model is tried for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from onnx_xcam.common.arguments import one_of
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.targets import classification, detection
from onnx_xcam.surgery.targets.target import Evidence, Target, Thresholds

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
            misses. Or a threshold is asked for that decides nothing in it.
    """
    one_of("task", task, ("auto", *TASKS))
    refusals: dict[str, ScoreError] = {}
    for name, recognise in TASKS.items():
        if task not in ("auto", name):
            continue
        try:
            target = recognise(evidence)
        except ScoreError as refusal:
            refusals[name] = refusal
        else:
            _require_use(evidence.thresholds, target)
            return target
    ordered = [refusals[name] for name in sorted(refusals, key=lambda name: name != _USUAL)]
    messages = dict.fromkeys(text for refusal in ordered if (text := str(refusal)))
    if task != "auto":
        messages[
            f"It was tried as {task} only, since the task was stated (--task, task=); leave it out to try all."
        ] = None
    raise ordered[0] if len(messages) < 2 else ScoreError(" ".join(messages))


def _require_use(thresholds: Thresholds, target: Target) -> None:
    """Raise a ScoreError if a threshold was asked for that decides nothing in this model."""
    told = target.candidates
    if told is None:
        unused = [name for name in ("conf", "iou") if getattr(thresholds, name) is not None]
        if unused:
            raise ScoreError(
                f"{unused[0]} (--{unused[0]}) decides which objects are kept, and a model whose task is {target.task} "
                "has none; leave it out, or state the right task with --task (task=)."
            )
    elif thresholds.iou is not None and told.iou is None:
        why = "the model itself picks the objects" if told.boxes else "the boxes are not known"
        raise ScoreError(f"iou (--iou) drops boxes that overlap, which is not done here, since {why}; leave it out.")
