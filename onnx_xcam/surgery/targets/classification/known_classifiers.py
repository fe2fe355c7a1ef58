"""This module finds out whether scores are known to be a classifier's logits, and how probabilities are made of them.

A shape proves nothing: `[N,10]` may be ten classes, ten ages or an embedding. The evidence that counts is, in this
order: the user; the task that the model's metadata or the configuration beside it state; a label for each class;
ImageNet's 1000 classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from onnx_xcam.common.arguments import one_of
from onnx_xcam.errors import XcamError

ProbabilityChoice = Literal["auto", "softmax", "sigmoid", "none"]
"""The user's choice of how probabilities are made: as the model shows, or by this function of its scores."""
PROBABILITY_CHOICES: tuple[ProbabilityChoice, ...] = get_args(ProbabilityChoice)
"""These are the values that `ProbabilityChoice` takes."""
PROBABILITIES_KEY = "onnx_xcam.probabilities"
"""The author of a plain model may state "softmax", "sigmoid" or "none" under this key of the metadata."""

_TASK_KEYS = ("problem_type", "task", "pipeline_tag")
_SEVERAL = ("multi label", "multilabel")
_CLASSES = ("classif",)
_OTHERS = (
    "regress", "detect", "segment", "pose estimation", "keypoint", "landmark", "embed", "feature", "depth", "obb",
    "similar", "retriev", "reident", "verif", "counting", "ordinal", "anomaly", "quality", "age estimation",
)  # fmt: skip
_IMAGENET = (1000, 1001)
"""ImageNet has 1000 classes, and 1001 with a background class in front."""


@dataclass(frozen=True)
class Known:
    """A Known says how probabilities are made of a model's scores.

    Attributes:
        how: "softmax", "sigmoid" or "none".
        why: the evidence for it, as the end of a sentence.
    """

    how: str
    why: str


def check_choice(choice: str) -> None:
    """Raise XcamError if a text is not one of the choices of how probabilities are made."""
    one_of("probabilities", choice, PROBABILITY_CHOICES)


def known_of_logits(
    usual: str, count: int | None, props: Mapping[str, str], labels: Sequence[str] | None, config: Mapping[str, Any]
) -> Known | None:
    """Return what is known of scores that come out as they are; None if nothing says that they are a classifier's.

    Args:
        usual: what is assumed of a classifier if nothing more is known: "softmax", or "sigmoid" for one logit.
        count: the number of classes, where it is known.
        props: the model's metadata.
        labels: the labels of the classes, one for each.
        config: the `config.json` beside the model, or nothing.

    Raises:
        XcamError: the model's metadata state a choice that does not exist.
    """
    if (stated := props.get(PROBABILITIES_KEY)) is not None:
        if stated not in PROBABILITY_CHOICES[1:]:
            raise XcamError(
                f"The model's metadata {PROBABILITIES_KEY!r} is one of {', '.join(PROBABILITY_CHOICES[1:])}, "
                f"not {stated!r}."
            )
        return Known(stated, "as the model's metadata say")
    for source, words in (
        ("the model's metadata say", _task_words(props)),
        ("the model's config.json says", _task_words(config)),
    ):
        for word in words:
            if (known := _of_task(usual, word, source)) is not None:
                return known
    if labels:
        return Known(usual, "as the model has a label for each class")
    return Known(usual, f"as {count} classes are ImageNet's") if count in _IMAGENET else None


def _of_task(usual: str, word: str, source: str) -> Known | None:
    """Return how probabilities are made in a task, by the task's name; None if the name is not known here."""
    if any(part in word for part in _SEVERAL):
        return Known("sigmoid", f"as {source} that there may be several labels at once")
    if any(part in word for part in _CLASSES):
        return Known(usual, f"as {source} that the model is a classifier")
    if word == "pose" or any(part in word for part in _OTHERS):
        return Known("none", f"as {source} that the task is another ({word})")
    return None


def _task_words(stated: Mapping[str, Any]) -> list[str]:
    """Return the words with which a description names the task, in lower case."""
    values = [stated.get(key) for key in _TASK_KEYS]
    architectures = stated.get("architectures")
    values += architectures if isinstance(architectures, list) else []
    return [value.lower().replace("_", " ").replace("-", " ") for value in values if isinstance(value, str)]
