"""The options with which a model is opened for photos, in one class that whoever opens one hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnx_xcam.explainer.preprocessing import PreprocessLike
from onnx_xcam.feeds import InputValue
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """States how a model is opened for photos; `Explainer` tells what each option means and which values it takes.

    Attributes:
        layers: "auto", a layer's name, or a list of names.
        score: "auto", or a tensor's name.
        preprocess: what is done to a photo; None looks in the model and beside it.
        labels: a file, or the C labels; None looks in the model and beside it.
        providers: of ONNX Runtime, in order of preference; None takes CUDA where there is one.
        threads: of one operator; None takes all cores.
        inputs: the values of the inputs beside the picture, by name.
        allow_folders: where external data may lie besides the model's own folder.
        probabilities: what the model's probabilities are read off.
        exact: have products of 8-bit integers added up exactly.
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

    def arguments(self) -> dict[str, Any]:
        """The options as arguments of `Explainer` or `Recorder`, by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
