"""This module says in words why a tensor holds no class scores: as it is a map, time steps, an embedding, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from onnx_xcam.contract import shape_text
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.axis_evidence import Kind
from onnx_xcam.surgery.targets.unit_length import last_maker
from onnx_xcam.text import listed

Unfit: TypeAlias = Kind | Literal["embedding", "named"]
"""What a tensor is instead of a class score; "named" means that only its name says so."""

WHAT: dict[Unfit, str] = {
    "places": "numbers of each place or box, as detectors give",
    "steps": "scores of each time step, as text recognition gives",
    "map": "a map, as segmentation gives",
    "rows": "several rows of numbers, as detectors and text recognition give",
    "embedding": "an embedding: a vector that is divided by its length",
}
"""This table maps each kind of tensor to the words that describe it in messages."""
_TASKS: dict[Unfit, str] = {
    "steps": "text recognition is not supported",
    "map": "segmentation is not supported",
    "rows": "text recognition is not supported",
    "embedding": "embeddings are not supported",
}
"""This table maps kinds of tensors to the task that is missing for them; what detection misses, detection says."""


class UnfitError(ScoreError):
    """An UnfitError says that a tensor is no class score.

    Attributes:
        name: the tensor.
        shape: its shape.
        kind: what it is instead.
        what: that in words.
        advice: what can be done, in a sentence, or "".
    """

    def __init__(self, name: str, shape: Shape, kind: Unfit, what: str = "", advice: str = "") -> None:
        self.name, self.shape, self.kind = name, shape, kind
        self.what, self.advice = what or WHAT[kind], advice
        super().__init__(describe_unfit([self]))


def describe_unfit(unfit: Sequence[UnfitError]) -> str:
    """Return what some tensors are instead of scores, in one sentence that names those of one kind together."""
    groups: dict[str, list[UnfitError]] = {}
    for one in unfit:
        groups.setdefault(one.what, []).append(one)
    parts = []
    for what, members in groups.items():
        shapes = {member.name: shape_text(member.shape) for member in members}
        if len(shapes) == 1:
            parts.append(f"'{members[0].name}' has the shape {shapes[members[0].name]} ({what})")
        else:
            both = listed([f"'{name}' {shape}" for name, shape in shapes.items()], 3)
            parts.append(f"{both} ({what})")
    advice = dict.fromkeys(one.advice for one in unfit if one.advice)
    if all(one.kind == "named" for one in unfit):
        return " ".join([f"{'; '.join(parts)}, and nothing in the model says that these are scores.", *advice])
    tasks = dict.fromkeys(_TASKS[one.kind] for one in unfit if one.kind in _TASKS)
    needed = ", not one score per class: [N,C] is needed"
    return " ".join(["; ".join(["; ".join(parts) + needed, *tasks]) + ".", *advice])


# --- names and endings ------------------------------------------------------------------------------------------------

_SAY_OTHERWISE = {
    "an embedding": ("embedding", "embeddings", "embed", "embeds", "descriptor", "descriptors"),
    "landmarks": ("landmark", "landmarks", "lmk", "lmks", "ldmk", "ldmks", "keypoint", "keypoints", "kpt", "kpts"),
    "boxes": ("bbox", "bboxes", "box", "boxes"),
}
"""This table maps what an output may be instead of scores to the words that its name then contains."""
_SAY_SO = re.compile(r"logit|prob|score|class|cls|label|pred|softmax|sigmoid", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_LAST = frozenset({"BatchNormalization", "LayerNormalization", "Tanh"})
"""Features may end in these operators, and scores do not."""


def named_otherwise(name: str) -> str | None:
    """Return what an output's name says that it is, if that is not scores; None if it says nothing, as a path does."""
    words = {word.lower() for word in _WORDS.findall(name)}
    if "/" in name or _SAY_SO.search("_".join(words - {"pred", "predicted", "prediction", "predictions", "preds"})):
        return None
    return next((what for what, known in _SAY_OTHERWISE.items() if words & set(known)), None)


def says_scores(name: str) -> bool:
    """Tell whether an output's name says that it holds scores."""
    return _SAY_SO.search(name) is not None


def ends_as_features(graph: Graph, name: str) -> str | None:
    """Return the operator that computes a plain output last, if features end in it and scores do not; else None."""
    node = last_maker(graph, name)
    return str(node.op) if node is not None and node.op in _LAST else None
