"""The vision tasks that are explained, in the order in which a model is taken for one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.targets import classification
from onnx_xcam.surgery.targets.target import Evidence, Target

Recognise: TypeAlias = Callable[[Evidence], Target]
"""What finds the score table of a task in a model; a ScoreError says why it has none."""

TASKS: Mapping[str, Recognise] = {
    "classification": classification.recognise,
}
"""A task refuses what is not surely its own: the first one that recognises a model is taken."""


def recognised(evidence: Evidence) -> Target:
    """The score table of a model.

    Raises:
        ScoreError: it has none of any task; what each of them misses is told.
    """
    refusals: dict[str, ScoreError] = {}
    for recognise in TASKS.values():
        try:
            return recognise(evidence)
        except ScoreError as refusal:
            refusals.setdefault(str(refusal), refusal)
    first, *others = refusals.values()
    raise first if not others else ScoreError(" ".join(refusals))
