"""An OpenModel is a model that is ready for photos, with its session, preprocessing, labels and notes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, Unpack, cast

from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import is_listed, short_repr
from onnx_xcam.errors import ImageError, InputError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.choosing import Choosable, ObjectsAsked
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.locating import Locator
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.photo_pipeline import ModelInputs, model_inputs
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.probabilities import chosen_source
from onnx_xcam.explainer.remarks import Remarks
from onnx_xcam.images.arrays import is_array
from onnx_xcam.images.sources import PictureSource, is_source
from onnx_xcam.producers.beside import config_beside
from onnx_xcam.runtime import short_name
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, known_of_logits

Image: TypeAlias = PictureSource | Picture
"""An image to explain: a path, the bytes of a file, an open file, an array or a tensor [H,W,3] in RGB order, an image
of Pillow, or a picture that `prepare` returned."""


class OpenModel:
    """An OpenModel holds a loaded model with its preprocessing and labels, for any number of photos and threads.

    Attributes:
        loaded: the model in its session.
        photos: how photos become the model's input.
        name: the model's path, or "the model".
        notes: sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider.
        warnings: sentences on what deserves a look, such as assumptions that may well be wrong.
        files: the model's file and the files of its external weights; none for a model in memory.
        task: what the model is for, such as "classification" or "detection".
        layers: names of the target layers' tensors.
        shown_layers: the name of the layer of each map: as `layers`, but one for a cut, whose maps are added up.
        score: name of the score's tensor.
        preprocess: the preprocessing of photos.
        inputs: the values of the inputs beside the picture, by name.
        labels: the C class labels, or None if they are unknown.
        class_count: the number of classes C, or None where only a run can tell it.
        providers: ONNX Runtime's full names, the one in use first.
        batch: the batch size that the model was exported with, or None if it takes any.
        exact: whether the option was set that products of 8-bit integers are added up exactly.
        remarks: the remarks on how pictures were read, of all pictures that were prepared so far.
        choosable: what can be chosen.
        locator: finds the objects at places in photos.
    """

    def __init__(self, loaded: LoadedModel, options: ModelOptions) -> None:
        """Settle preprocessing, labels and probabilities.

        Args:
            loaded: the model in its session.
            options: the options with which it was loaded.

        Raises:
            PreprocessError, LabelsError, InputError, ScoreError: one of them does not fit the model.
        """
        self.remarks = Remarks()
        self.name = str(loaded.path or "the model")
        self.files = loaded.files
        self.task = loaded.metadata.task
        self.layers = tuple(loaded.layers)
        self.shown_layers = tuple(loaded.shown_layers)
        self.score = loaded.metadata.score
        self.providers = loaded.session.providers
        self.batch = loaded.batch
        self.exact = loaded.exact
        photos = model_inputs(loaded, options.preprocess, options.labels)
        self.loaded, self.photos, probability_notes = with_probabilities(loaded, photos, options.probabilities)
        self.labels = self.photos.labels
        self.class_count = loaded.class_count
        self.preprocess = self.photos.preprocess
        self.locator = Locator(loaded.open_selection, loaded, self.labels)
        self.choosable = _choosable(loaded, self.labels)
        self.inputs: Mapping[str, NDArray[Any]] = dict(loaded.others.values)
        self.notes: tuple[str, ...] = (
            *_surgery_notes(loaded),
            *self.photos.notes,
            *probability_notes,
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
        """Tell whether the score is shown as a number that goes up or down; see `Explanation`."""
        return self.loaded.is_number

    @property
    def told_probabilities(self) -> str:
        """Return in words where the probabilities come from, such as "softmax of logits", or "none"."""
        source = self.loaded.probabilities
        return "none" if source is None else f"{source.squash} of {source.output}"

    @property
    def channels_last(self) -> bool:
        """Tell whether the model takes a picture as [H,W,C], and not as [C,H,W]."""
        return self.photos.spec.layout == "NHWC"

    def prepare(self, image: PictureSource, name: str = "the image", channels: str | None = None) -> Picture:
        """Read and preprocess one image, and return it as a picture; messages call one without a name by `name`.

        Args:
            image: a path, the bytes of a file, an open file, an array or a tensor [H,W,3], or an image of Pillow.
            name: what messages call the image if it has no name of its own.
            channels: "BGR" for an array whose colours are in that order; "RGB" and None are the same.

        Raises:
            ImageError: the image cannot be read or has an impossible size.
        """
        picture = self.photos.prepare(image, name, channels)
        self.remarks.add(picture)
        return picture

    def choose(
        self,
        classes: Classes | Cells | None = None,
        top: int | None = None,
        images: int = 1,
        **asked: Unpack[ObjectsAsked],
    ) -> Cells:
        """Return what is explained, as int64 [1,K] or [images,K]; without any field if the model has fixed classes.

        Args:
            classes, top: as for `Explainer.explain`; cells are returned as they are.
            images: N.
            asked: objects, boxes, points and against, as for `Explainer.explain`.

        Raises:
            ClassError: a class or an object is out of range, unknown, or cannot be chosen in this model.
            InputError: a box or a point is none.
        """
        return classes if isinstance(classes, Cells) else self.choosable.choose(classes, top, images, asked)

    def pictures(self, images: Image | Sequence[Image], channels: str | None = None) -> list[Picture]:
        """Return one image, several, or the items of a ready tensor as pictures, all of one shape.

        Args:
            images: an image, a list of images, or a ready tensor.
            channels: as for `prepare`, of all arrays among them.

        Raises:
            ImageError: an image cannot be read, or is no picture.
            InputError: there are no images, their shapes differ once they are prepared, or the tensor does not fit the
                model's input.
        """
        if isinstance(images, Picture):
            return [images]
        if is_source(images):
            pictures = self.photos.pictures(cast("PictureSource", images), "image 0", channels)
            for picture in pictures:
                self.remarks.add(picture)
            return pictures
        if not is_listed(images):
            raise ImageError(
                f"images is {short_repr(images)}; it must be a picture (a path, the bytes of a file, an open file, an "
                "array [H,W,3] of uint8, an image of Pillow), or a list of pictures."
            )
        several = list(cast("Sequence[Image]", images))
        if not several:
            raise InputError("There are no images to explain: the list is empty.")
        pictures = [
            image if isinstance(image, Picture) else self.prepare(image, f"image {n}", channels)
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
    """Return the images of a stream, after checking that they are a list, a generator or a stacked array.

    Raises:
        ImageError: they are a single image, or something else.
    """
    is_stacked = is_array(images) and is_listed(images)
    if not is_listed(images) or isinstance(images, Picture) or (is_source(images) and not is_stacked):
        raise ImageError(f"images is {short_repr(images)}; it must be a list or a generator of pictures.")
    return images


def _choosable(loaded: LoadedModel, labels: Sequence[str] | None) -> Choosable:
    """Return what can be chosen in a model."""
    return Choosable(
        name=loaded.name,
        task=loaded.metadata.task,
        class_count=loaded.class_count,
        labels=labels,
        fixed=loaded.fixed_classes,
        objects=loaded.has(contract.OBJECTS),
        boxes=loaded.has(contract.BOXES),
        contrast=loaded.has(contract.AGAINST_INPUT),
        candidate_count=loaded.candidate_count,
    )


UP_AND_DOWN = ("down", "up")
"""The labels of the two classes of a number: class 0 is what lowers it, class 1 what raises it."""


def with_probabilities(
    loaded: LoadedModel, inputs: ModelInputs, choice: ProbabilityChoice
) -> tuple[LoadedModel, ModelInputs, list[str]]:
    """Return the model with its source of probabilities, its inputs, and notes on what was assumed.

    Args:
        loaded: the model.
        inputs: how photos become its input, with its labels. If the score is a number and there are no labels, the
            returned inputs have the labels up and down.
        choice: as for `Explainer`.

    Raises:
        ScoreError: the choice contradicts the model.
    """
    config = config_beside(loaded.path) if loaded.path else {}
    known = functools.partial(
        known_of_logits, count=loaded.class_count, props=loaded.session.metadata, labels=inputs.labels, config=config
    )
    source, note = chosen_source(choice, loaded.probability_outputs, known)
    is_number = source is None and loaded.probability_outputs.is_number and inputs.labels is None
    if is_number:
        others = [one for one in inputs.notes if not one.startswith("Labels:")]
        named = "Labels: none known; class 1, up, is what raises the number, and class 0, down, what lowers it."
        inputs = replace(inputs, labels=UP_AND_DOWN, notes=(*others, named))
    return replace(loaded, probabilities=source, is_number=is_number), inputs, [note] if note else []


def _surgery_notes(model: LoadedModel) -> list[str]:
    """Return the notes on what the surgery assumed, which it wrote into the metadata."""
    notes = ["Model: instrumented already, used as it is."] if model.was_instrumented else []
    assumed = model.metadata.notes or (f"Layer: {', '.join(model.layers)}.", f"Score: {model.metadata.score}.")
    return [*notes, *assumed, *([model.compared] if model.compared else [])]
