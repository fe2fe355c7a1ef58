"""This module settles a model's preprocessing and labels, and turns photos into the model's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ImageError, InputError
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.picture_notes import notes_on_labels, notes_on_pictures
from onnx_xcam.images.arrays import is_array
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.place import Placement
from onnx_xcam.images.prepare import preprocess_image
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.sources import PictureSource, name_of, opened
from onnx_xcam.images.values import remarks_for, shown
from onnx_xcam.producers.assume import takes_whole
from onnx_xcam.producers.evidence import evidence
from onnx_xcam.producers.settle import input_spec, settle
from onnx_xcam.producers.settled import Settled
from onnx_xcam.producers.stated import LabelsLike, PreprocessLike


@dataclass(frozen=True)
class ModelInputs:
    """ModelInputs state how photos become a model's input, and hold the labels of its classes.

    Attributes:
        spec: layout, channels, size and dtype of the image input.
        shape: the image input's shape.
        preprocess: the preprocessing of photos.
        labels: the C class labels, or None if they are unknown.
        notes: sentences on where preprocessing and labels come from.
        warnings: those of the notes that name an assumption which may well be wrong.
        settled: where each part of the preprocessing and the labels come from.
    """

    spec: InputSpec
    shape: tuple[int | str | None, ...]
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    settled: Settled

    def prepare(self, image: PictureSource, name: str = "the image", channels: str | None = None) -> Picture:
        """Read a photo, or check an array, and preprocess it; messages call one without a name by `name`.

        Raises:
            ImageError: the photo cannot be read or has an impossible size.
            InputError: a .npy file holds a tensor that does not fit the model's input, or a batch.
            PreprocessError: the preprocessing contradicts the model's input.
        """
        several = self.pictures(image, name, channels)
        if len(several) > 1:
            raise InputError(
                f"{name_of(image, name)}: holds a batch of {len(several)} pictures; give them one by one, or load the "
                "array in Python (explain(array))."
            )
        return several[0]

    def pictures(self, image: PictureSource, name: str = "the image", channels: str | None = None) -> list[Picture]:
        """Return the picture in a source as `prepare` does, or the items of a ready tensor, an array or a .npy file.

        Raises:
            ImageError, InputError, PreprocessError: as `prepare`, except that a batch is taken.
        """
        name = name_of(image, name)
        with memory_for(name):
            photo = opened(image, name, channels)
            if isinstance(photo, Photo):
                return [self._of_photo(photo, name)]
            if photo.ndim != len(self.shape):
                raise ImageError(f"{name}: a picture array must be [H,W,3] in RGB order, not {list(photo.shape)}")
            ready = self.ready(photo)
            return ready if is_array(image) else [self._shown(one, name) for one in ready]

    def _of_photo(self, photo: Photo, name: str) -> Picture:
        """Preprocess a photo."""
        item, placement = preprocess_image(photo, self.preprocess, self.spec, name)
        image_rgb = shown(photo, self.preprocess, self.spec, name)
        return Picture(name, image_rgb, item, placement, remarks_for(photo, self.preprocess, self.spec))

    def _shown(self, picture: Picture, name: str) -> Picture:
        """Return an item of a ready tensor from a file, with its own values as the photo that maps are drawn on."""
        item = picture.item if self.spec.layout == "NHWC" else np.moveaxis(picture.item, 0, -1)
        photo = Photo(np.ascontiguousarray(item))
        return replace(picture, name=name, image_rgb=shown(photo, self.preprocess, self.spec, name))

    def ready(self, tensor: NDArray[Any]) -> list[Picture]:
        """Return the items of a tensor that is preprocessed already as pictures.

        Raises:
            InputError: the tensor's shape or dtype does not fit the model's input.
        """
        dtype = self.spec.dtype
        wanted = f"the model's input {self.spec.name!r} takes {dtype} {contract.shape_text(self.shape)}"
        if tensor.dtype != dtype and not (tensor.dtype.kind == "f" and dtype.kind == "f"):
            hint = "; give photos as a list of [H,W,3] arrays" if tensor.dtype == np.uint8 else ""
            raise InputError(f"The tensor holds {tensor.dtype}, but {wanted}{hint}.")
        pairs = zip(tensor.shape[1:], self.shape[1:], strict=True)
        if any(isinstance(length, int) and length != given for given, length in pairs) or 0 in tensor.shape:
            raise InputError(f"The tensor has the shape {contract.shape_text(tensor.shape)}, but {wanted}.")
        height, width = tensor.shape[2:] if self.spec.layout == "NCHW" else tensor.shape[1:3]
        size = (int(height), int(width))
        whole = Placement(photo=size, input=size, scaled=size)
        with np.errstate(over="ignore"):  # the status of a map shows infinite values
            items = tensor.astype(dtype, copy=False)
        return [Picture(f"image {n}", None, item, whole) for n, item in enumerate(items)]


def model_inputs(model: LoadedModel, preprocess: PreprocessLike | None, labels: LabelsLike | None) -> ModelInputs:
    """Settle preprocessing and labels by the arguments, the metadata, files beside the model, or an assumption.

    Raises:
        PreprocessError: a preprocessing description is wrong or contradicts the input.
        LabelsError: labels that were given are wrong, or their number is not that of the classes.
        InputError: the input cannot take pictures.
    """
    info = model.image_input
    assert info.dtype is not None  # since it was chosen as the image input
    said = evidence(preprocess, labels, model.session.metadata, model.path, model.proved)
    spec = input_spec(info.name, info.dtype, info.shape, said)
    is_number = model.probability_outputs.is_number
    whole = takes_whole(model.metadata.task)
    settled = settle(said, spec, model.class_count, is_number=is_number, whole=whole)
    notes, warnings = notes_on_pictures(settled)
    notes.append(f"Input: {spec.name!r}, {spec.layout}, {spec.dtype}.")
    of_labels, doubts = notes_on_labels(settled)
    notes += of_labels
    warnings += doubts
    return ModelInputs(
        spec, info.shape, settled.preprocess, settled.labels, (*notes, *warnings), tuple(warnings), settled
    )
