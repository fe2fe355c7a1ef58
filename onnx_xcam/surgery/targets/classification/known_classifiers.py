"""Whether scores are known to be a classifier's logits: what says so, and how probabilities are made of them.

A shape says nothing: `[N,10]` may be ten classes, ten ages or an embedding. What counts, in this order: the user; what
the model's metadata or the configuration beside it say of its task; a label for each class; ImageNet's 1000 classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from onnx_xcam.common.arguments import one_of
from onnx_xcam.errors import XcamError

ProbabilityChoice = Literal["auto", "softmax", "sigmoid", "none"]
"""How probabilities are told: as the model tells them, or as its user says that they are made of its scores."""
PROBABILITY_CHOICES: tuple[ProbabilityChoice, ...] = get_args(ProbabilityChoice)
PROBABILITIES_KEY = "onnx_xcam.probabilities"
"""Where a plain model's author may state "softmax", "sigmoid" or "none"."""

_TASK_KEYS = ("problem_type", "task", "pipeline_tag")
_SEVERAL = ("multi label", "multilabel")
_CLASSES = ("classif",)
_OTHERS = (
    "regress", "detect", "segment", "pose estimation", "keypoint", "landmark", "embed", "feature", "depth", "obb",
    "similar", "retriev", "reident", "verif", "counting", "ordinal", "anomaly", "quality", "age estimation",
)  # fmt: skip
_IMAGENET = (1000, 1001)
"""Its classes, and these with a background class in front."""


@dataclass(frozen=True)
class Known:
    """How probabilities are made of a model's scores, "softmax", "sigmoid" or "none", and what says so."""

    how: str
    why: str


def check_choice(choice: str) -> None:
    """Refuse what is no way to tell probabilities.

    Raises:
        XcamError: it is none.
    """
    one_of("probabilities", choice, PROBABILITY_CHOICES)


def known_of_logits(
    usual: str, count: int | None, props: Mapping[str, str], labels: Sequence[str] | None, config: Mapping[str, Any]
) -> Known | None:
    """What is known of scores that come out as they are; None if nothing says that they are a classifier's.

    Args:
        usual: what is taken of a classifier of which nothing more is known, "softmax", or "sigmoid" of one logit.
        count: of classes, where that is known.
        props: the model's metadata.
        labels: of the classes, one for each.
        config: the `config.json` beside the model, or nothing.
    """
    if (stated := props.get(PROBABILITIES_KEY)) is not None:
        if stated not in PROBABILITY_CHOICES[1:]:
            raise XcamError(
                f"The model's metadata {PROBABILITIES_KEY!r} is one of {', '.join(PROBABILITY_CHOICES[1:])}, "
                f"not {stated!r}."
            )
        return Known(stated, "as the model's metadata say")
    for source, words in (
        ("the model's metadata say", _said(props)),
        ("config.json beside the model says", _said(config)),
    ):
        for word in words:
            if (found := _of_task(usual, word, source)) is not None:
                return found
    if labels:
        return Known(usual, "as the model has a label for each class")
    return Known(usual, f"as {count} classes are ImageNet's") if count in _IMAGENET else None


def _of_task(usual: str, word: str, source: str) -> Known | None:
    """What the name of a task says; nothing if it is none that is known here."""
    if any(part in word for part in _SEVERAL):
        return Known("sigmoid", f"as {source} that there may be several labels at once")
    if any(part in word for part in _CLASSES):
        return Known(usual, f"as {source} that the model is a classifier")
    if word == "pose" or any(part in word for part in _OTHERS):
        return Known("none", f"as {source} that the task is another ({word})")
    return None


def _said(stated: Mapping[str, Any]) -> list[str]:
    """What a description says of the task, in small letters."""
    values = [stated.get(key) for key in _TASK_KEYS]
    architectures = stated.get("architectures")
    values += architectures if isinstance(architectures, list) else []
    return [value.lower().replace("_", " ").replace("-", " ") for value in values if isinstance(value, str)]
