"""This module gives an Explainer and a Recorder the attributes of the model that they hold open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from numpy.typing import NDArray

from onnx_xcam.errors import ModelError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.choosing import ObjectsAsked
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.remarks import Remarks
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.sources import PictureSource


class OfOpenModel:
    """OfOpenModel is the base class of what holds a model open; it has the attributes of that model.

    Attributes:
        model: the open model.
    """

    model: OpenModel

    @property
    def name(self) -> str:
        """Return the model's path, or "the model" for a model in memory."""
        return self.model.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider."""
        return self.model.notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return sentences on what deserves a look, such as assumptions that may well be wrong."""
        return self.model.warnings

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the model's file and the files of its external weights; none for a model in memory."""
        return self.model.files

    @property
    def task(self) -> str:
        """Return what the model is for, such as "classification" or "detection"."""
        return self.model.task

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the target layers' tensors."""
        return self.model.layers

    @property
    def score(self) -> str:
        """Return the name of the score's tensor."""
        return self.model.score

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing of photos."""
        return self.model.preprocess

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """Return the values of the inputs beside the picture, by name."""
        return self.model.inputs

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Return the C class labels, or None if they are unknown."""
        return self.model.labels

    @property
    def class_count(self) -> int | None:
        """Return the number of classes C, or None where only a run can tell it."""
        return self.model.class_count

    @property
    def providers(self) -> Sequence[str]:
        """Return ONNX Runtime's full names of the session's providers, the one in use first."""
        return self.model.providers

    @property
    def batch(self) -> int | None:
        """Return the batch size that the model was exported with, or None if it takes any."""
        return self.model.batch

    @property
    def exact(self) -> bool:
        """Tell whether the option was set that products of 8-bit integers are added up exactly."""
        return self.model.exact

    @property
    def remarks(self) -> Remarks:
        """Return the remarks on how pictures were read, of all pictures that were prepared so far."""
        return self.model.remarks

    @property
    def is_number(self) -> bool:
        """Tell whether the score is shown as a number that goes up or down; see `Explanation`."""
        return self.model.is_number

    @property
    def told_probabilities(self) -> str:
        """Return in words where the probabilities come from, such as "softmax of logits", or "none"."""
        return self.model.told_probabilities

    @property
    def channels_last(self) -> bool:
        """Tell whether the model takes a picture as [H,W,C], and not as [C,H,W]."""
        return self.model.channels_last

    def prepare(self, image: PictureSource, channels: str | None = None) -> Picture:
        """Read and preprocess one image, and return it as a picture, which is accepted wherever an image is.

        Args:
            image: a path, the bytes of a file, an open file, an array or a tensor [H,W,3], or an image of Pillow.
            channels: "BGR" for an array whose colours are in that order; "RGB" and None are the same.

        Raises:
            ImageError: the image cannot be read or has an impossible size.
        """
        return self.model.prepare(image, channels=channels)

    def choose(
        self,
        classes: Classes | Cells | None = None,
        top: int | None = None,
        images: int = 1,
        **asked: Unpack[ObjectsAsked],
    ) -> Cells:
        """Return what is explained, as int64 [1,K] or [images,K]; without any field if the model has fixed classes.

        Args:
            classes, top: as for `Explainer.explain`.
            images: N.
            asked: objects, boxes, points and against, as for `Explainer.explain`.

        Raises:
            ClassError: a class or an object is out of range, unknown, or cannot be chosen in this model.
            InputError: a box or a point is none.
        """
        return self.model.choose(classes, top, images, **asked)

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be pickled or copied, since ONNX Runtime's sessions cannot be.

        Raises:
            ModelError: always; `Explainer` overrides this and opens its model again.
        """
        raise ModelError(f"A {type(self).__name__} cannot be pickled or copied; make one in each process.")
