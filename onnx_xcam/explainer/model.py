"""A model that is open for photos: its session, its preprocessing, its labels, and what was assumed on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.arguments import is_listed, short_repr
from onnx_xcam.errors import ClassError, ImageError, InputError
from onnx_xcam.explainer.classes import Classes, choose_classes
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.photo_pipeline import ModelInputs, config_beside, model_inputs
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.probabilities import chosen_source
from onnx_xcam.explainer.remarks import Remarks
from onnx_xcam.runtime import short_name
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, known_of_logits

Image: TypeAlias = str | Path | NDArray[Any] | Picture
"""A path, an uint8 [H,W,3] RGB array, or a picture that `prepare` made."""


class OpenModel:
    """Holds a loaded model with its preprocessing and its labels, for any number of photos, from any thread.

    Attributes:
        loaded: the model in its session.
        photos: how photos become its input.
        name: the model's path, or "the model".
        notes: sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider.
        warnings: those that deserve a look.
        files: the model's file and those that it keeps weights in; none for a model in memory.
        layers: names of the target layers' tensors.
        score: name of the score's tensor.
        preprocess: what is done to a photo.
        inputs: what the inputs beside the picture are fed, by name.
        labels: the C class labels, or None.
        class_count: C, or None where only a run tells it.
        providers: ONNX Runtime's full names, the one in use first.
        batch: the batch size that the model was exported with, or None for any.
        exact: whether it was asked for that products of 8-bit integers are added up exactly.
        remarks: what was to be known of how the pictures were read that were prepared so far.
    """

    def __init__(self, loaded: LoadedModel, options: ModelOptions) -> None:
        """Settle preprocessing, labels and probabilities.

        Args:
            loaded: the model in its session.
            options: those that it was loaded with.

        Raises:
            PreprocessError, LabelsError, InputError, ScoreError: one of them does not fit the model.
        """
        self.remarks = Remarks()
        self.name = str(loaded.path or "the model")
        self.files = loaded.files
        self.layers = tuple(loaded.layers)
        self.score = loaded.metadata.score
        self.providers = loaded.session.providers
        self.batch = loaded.batch
        self.exact = loaded.exact
        photos = model_inputs(loaded, options.preprocess, options.labels)
        self.loaded, self.photos, said = with_probabilities(loaded, photos, options.probabilities)
        self.labels = self.photos.labels
        self.class_count = loaded.class_count
        self.preprocess = self.photos.preprocess
        self.inputs: Mapping[str, NDArray[Any]] = dict(loaded.others.values)
        self.notes: tuple[str, ...] = (
            *_surgery_notes(loaded),
            *self.photos.notes,
            *said,
            *loaded.others.notes(),
            f"Provider: {short_name(self.providers[0])}.",
            *([loaded.inexact] if loaded.inexact else []),
        )
        lost = loaded.session.provider_warning
        self.warnings: tuple[str, ...] = (
            *self.photos.warnings,
            *loaded.others.warnings(),
            *([lost] if lost else []),
        )

    @property
    def is_number(self) -> bool:
        """Whether the score is shown as a number that goes up or down; see `Explanation`."""
        return self.loaded.is_number

    @property
    def told_probabilities(self) -> str:
        """What the probabilities are read off, in words: an output and what is done to it, or "none"."""
        source = self.loaded.probabilities
        return "none" if source is None else f"{source.squash} of {source.output}"

    @property
    def channels_last(self) -> bool:
        """Whether a picture as the model takes it is [H,W,C], and not [C,H,W]."""
        return self.photos.spec.layout == "NHWC"

    def prepare(self, image: str | Path | NDArray[Any], name: str = "the image") -> Picture:
        """Read one image and bring it into the form that the model takes; the name is what messages call an array.

        Raises:
            ImageError: it cannot be read or has an impossible size.
        """
        picture = self.photos.prepare(image, name)
        self.remarks.add(picture)
        return picture

    def choose(
        self, classes: Classes | None = None, top: int | None = None, images: int = 1
    ) -> NDArray[np.int64] | None:
        """The classes as int64 [1,K] or [images,K]; None where the model itself has settled them.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model.
        """
        if self.loaded.fixed_classes:
            if classes is not None or top is not None:
                raise ClassError(
                    f"{self.loaded.name} explains only the classes that it was instrumented for; to choose others, "
                    "instrument the original model with --class-input optional."
                )
            return None
        return choose_classes(classes, top, images=images, class_count=self.loaded.class_count, labels=self.labels)

    def pictures(self, images: Image | Sequence[Image]) -> list[Picture]:
        """One image, several, or a ready tensor, as pictures of one shape.

        Raises:
            ImageError: one cannot be read, or is no picture.
            InputError: there are none, their shapes differ, or the tensor does not fit the model's input.
        """
        if isinstance(images, np.ndarray) and images.ndim == len(self.loaded.image_input.shape):
            return self.photos.ready(images)
        if isinstance(images, str | Path | np.ndarray | Picture):
            several: list[Any] = [images]
        elif is_listed(images):
            several = list(images)
        else:
            raise ImageError(
                f"images is {short_repr(images)}; it must be a picture (a path, or an array [H,W,3] of uint8), or a "
                "list of pictures."
            )
        if not several:
            raise InputError("There are no images to explain: the list is empty.")
        pictures = [
            image if isinstance(image, Picture) else self.prepare(image, f"image {n}")
            for n, image in enumerate(several)
        ]
        shapes = {picture.item.shape for picture in pictures}
        if len(shapes) > 1:
            raise InputError(
                f"The model takes images of any size, so these photos differ once they are prepared: "
                f"{', '.join(map(str, sorted(shapes)))}. Explain them one by one, or state a size in the preprocessing."
            )
        return pictures


def require_images(images: Iterable[Image]) -> Iterable[Image]:
    """Several pictures, as a stream takes them: in a list, from a generator, or stacked in an array.

    Raises:
        ImageError: it is a single one, or something else.
    """
    if not is_listed(images) or isinstance(images, Picture):
        raise ImageError(f"images is {short_repr(images)}; it must be a list or a generator of pictures.")
    return images


UP_AND_DOWN = ("down", "up")
"""What the two classes of a number are called: what speaks against it, and what speaks for it."""


def with_probabilities(
    loaded: LoadedModel, inputs: ModelInputs, choice: ProbabilityChoice
) -> tuple[LoadedModel, ModelInputs, list[str]]:
    """A model that knows what its probabilities are read off, its inputs, and what is to be said of it.

    Args:
        loaded: the model.
        inputs: with its labels; a number that is nothing else gets those of its two classes.
        choice: as `Explainer`.

    Raises:
        ScoreError: the choice contradicts the model.
    """
    config = config_beside(loaded.path) if loaded.path else {}
    known = functools.partial(
        known_of_logits, count=loaded.class_count, props=loaded.session.metadata, labels=inputs.labels, config=config
    )
    source, said = chosen_source(choice, loaded.told, known)
    is_number = source is None and loaded.told.is_number and inputs.labels is None
    if is_number:
        others = [note for note in inputs.notes if not note.startswith("Labels:")]
        named = "Labels: none known; class 1, up, is what raises the number, and class 0, down, what lowers it."
        inputs = replace(inputs, labels=UP_AND_DOWN, notes=(*others, named))
    return replace(loaded, probabilities=source, is_number=is_number), inputs, [said] if said else []


def _surgery_notes(model: LoadedModel) -> list[str]:
    """What the surgery assumed, as it wrote it into the model."""
    notes = ["Model: instrumented already, used as it is."] if model.was_instrumented else []
    said = model.metadata.notes or (f"Layer: {', '.join(model.layers)}.", f"Score: {model.metadata.score}.")
    return [*notes, *said, *([model.compared] if model.compared else [])]
