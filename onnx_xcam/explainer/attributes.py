"""The attributes of an open model, as an Explainer and a Recorder have them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ModelError
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.remarks import Remarks
from onnx_xcam.images.preprocess import Preprocess


class OfOpenModel:
    """Gives an Explainer or a Recorder the attributes of the model that it holds open.

    Attributes:
        model: the open model.
    """

    model: OpenModel

    @property
    def name(self) -> str:
        """The model's path, or "the model"."""
        return self.model.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider."""
        return self.model.notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the notes that deserve a look."""
        return self.model.warnings

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's file and those that it keeps weights in; none for a model in memory."""
        return self.model.files

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the target layers' tensors."""
        return self.model.layers

    @property
    def score(self) -> str:
        """Name of the score's tensor."""
        return self.model.score

    @property
    def preprocess(self) -> Preprocess:
        """What is done to a photo."""
        return self.model.preprocess

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """What the inputs beside the picture are fed, by name."""
        return self.model.inputs

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The C class labels, or None."""
        return self.model.labels

    @property
    def class_count(self) -> int | None:
        """C, or None where only a run tells it."""
        return self.model.class_count

    @property
    def providers(self) -> Sequence[str]:
        """ONNX Runtime's full names, the one in use first."""
        return self.model.providers

    @property
    def batch(self) -> int | None:
        """The batch size that the model was exported with, or None for any."""
        return self.model.batch

    @property
    def exact(self) -> bool:
        """Whether it was asked for that products of 8-bit integers are added up exactly."""
        return self.model.exact

    @property
    def remarks(self) -> Remarks:
        """What was to be known of how the pictures were read that were prepared so far."""
        return self.model.remarks

    @property
    def is_number(self) -> bool:
        """Whether the score is shown as a number that goes up or down; see `Explanation`."""
        return self.model.is_number

    @property
    def told_probabilities(self) -> str:
        """What the probabilities are read off, in words: an output and what is done to it, or "none"."""
        return self.model.told_probabilities

    @property
    def channels_last(self) -> bool:
        """Whether a picture as the model takes it is [H,W,C], and not [C,H,W]."""
        return self.model.channels_last

    def prepare(self, image: str | Path | NDArray[Any]) -> Picture:
        """Read one image and bring it into the form that the model takes; the result is accepted as an image.

        Raises:
            ImageError: it cannot be read or has an impossible size.
        """
        return self.model.prepare(image)

    def choose(
        self, classes: Classes | None = None, top: int | None = None, images: int = 1
    ) -> NDArray[np.int64] | None:
        """The classes as int64 [1,K] or [images,K]; None where the model itself has settled them.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model.
        """
        return self.model.choose(classes, top, images)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which cannot copy a session.

        Raises:
            ModelError: always; an `Explainer` is opened again instead.
        """
        raise ModelError(f"A {type(self).__name__} cannot be pickled or copied; make one in each process.")
