"""A Settled holds what all sources together say of pictures and classes, and an Origin where a part comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.statement import Evidence


@dataclass(frozen=True)
class Origin:
    """An Origin says where a group of settings, or the labels, come from.

    Attributes:
        kind: the kind of the source; "model" where the model's input leaves no choice, "assumed" where nobody states
            the group, "none" where there are no labels.
        source: the source in words, as a part of a sentence; empty for what is assumed.
        contradictions: whole sentences on the sources that state something else.
        doubts: those of them that the user should know of unasked. What the user says goes before files and metadata
            without a word, and so do our own settings before what producers state; nothing does so before the graph.
    """

    kind: Evidence | Literal["model", "assumed", "none"]
    source: str = ""
    contradictions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settled:
    """A Settled holds a model's preprocessing and labels, with the origin of each part.

    Attributes:
        spec: layout, channels, size and dtype of the image input.
        size: (height, width) of a prepared picture.
        preprocess: the preprocessing.
        labels: the labels by class id, or None where there are none.
        origins: the origin of each group of `GROUPS`, and of "labels".
        remarks: whole sentences on what sources say of pictures that is not followed.
        label_remarks: whole sentences on labels that were found and are not used.
        whole: whether the model looks at the whole picture, as detectors do.
    """

    spec: InputSpec
    size: tuple[int, int]
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    origins: Mapping[str, Origin]
    remarks: tuple[str, ...] = ()
    label_remarks: tuple[str, ...] = ()
    whole: bool = False

    @property
    def assumed(self) -> tuple[str, ...]:
        """Return the groups that nobody states."""
        return tuple(group for group, origin in self.origins.items() if origin.kind == "assumed")
