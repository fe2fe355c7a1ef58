"""This module has the options with which a model is opened for photos, as one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnx_xcam.feeds import InputValue
from onnx_xcam.producers.stated import PreprocessLike
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice

__all__ = ["ModelOptions", "PreprocessLike"]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """ModelOptions state how a model is opened for photos; `Explainer` documents what each option means.

    Attributes:
        layers: "auto", a layer's name, or a list of names.
        score: "auto", or a tensor's name.
        preprocess: the preprocessing of photos; None looks in the model and beside its file.
        labels: a file, or the C labels; None looks in the model and beside its file.
        providers: providers of ONNX Runtime, in order of preference; None takes CUDA where it is available.
        threads: the number of threads of one operator; None takes all cores.
        inputs: the values of the inputs beside the picture, by name.
        allow_folders: folders in which external data may lie besides the model's own folder.
        probabilities: which probabilities are shown.
        exact: whether products of 8-bit integers are added up exactly.
        task: what the model is for; "auto" is what the file says or shows.
        conf: the probability that an object exceeds; None is what the file states, or else the usual number.
        iou: the overlap above which the worse of two boxes of a class is dropped; None as for `conf`.
        contrast: whether classes can be contrasted with others.
    """

    layers: str | Sequence[str] = "auto"
    score: str = "auto"
    preprocess: PreprocessLike | None = None
    labels: str | Path | Sequence[str] | None = None
    providers: str | Sequence[str] | None = None
    threads: int | None = None
    inputs: Mapping[str, InputValue] | None = None
    allow_folders: Folders = ()
    probabilities: ProbabilityChoice = "auto"
    exact: bool = False
    task: str = "auto"
    conf: float | None = None
    iou: float | None = None
    contrast: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the options as keyword arguments of `Explainer` or `Recorder`."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
