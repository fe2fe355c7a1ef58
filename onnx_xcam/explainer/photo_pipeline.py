"""This module settles a model's preprocessing and labels, and turns photos into the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import several, short_repr
from onnx_xcam.common.descriptions import read_text
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import InputError, LabelsError, PreprocessError
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.preprocessing import PreprocessLike, assumed_preprocess, stated_preprocess, takes_whole_numbers
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.place import Placement
from onnx_xcam.images.preprocess import InputSpec, Preprocess, preprocess_image
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.images.read import ReadPicture, as_image, read_picture, remarks_for
from onnx_xcam.labels import labels_from_metadata, load_labels
from onnx_xcam.text import load_json


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
    """

    spec: InputSpec
    shape: tuple[int | str | None, ...]
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def prepare(self, image: str | Path | NDArray[Any], name: str = "the image") -> Picture:
        """Read a photo, or check an array, and preprocess it; messages call an array by `name`.

        Raises:
            ImageError: the photo cannot be read or has an impossible size.
            PreprocessError: the preprocessing contradicts the model's input.
        """
        if self.spec.takes_bands:
            raise PreprocessError(self.spec.only_tensors())
        with memory_for(image if isinstance(image, str | Path) else name):
            read = read_picture(image) if isinstance(image, str | Path) else ReadPicture(as_image(image), None, ())
            item, placement = preprocess_image(read.image_rgb, self.preprocess, self.spec)
        name = str(image) if isinstance(image, str | Path) else name
        return Picture(name, read.image_rgb, item, placement, remarks_for(read, self.spec.dtype))

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


def model_inputs(
    model: LoadedModel, preprocess: PreprocessLike | None, labels: str | Path | Sequence[str] | None
) -> ModelInputs:
    """Settle preprocessing and labels by the argument, the metadata, a file beside the model, or a stated assumption.

    Raises:
        PreprocessError: a preprocessing description is wrong or contradicts the input.
        LabelsError: a labels file is wrong, or the number of labels is not the number of classes.
        InputError: the input cannot take pictures.
    """
    info = model.image_input
    assert info.dtype is not None  # since it was chosen as the image input
    stated, source = stated_preprocess(preprocess, model.session.metadata, model.path)
    spec = InputSpec.of_bands(info.name, info.dtype, info.shape) or InputSpec.from_shape(
        info.name, info.dtype, info.shape, stated.layout if stated else None
    )
    notes: list[str] = []
    warnings: list[str] = []
    if spec.takes_bands:  # `prepare` refuses photos
        stated = stated or PRESETS["raw"]
    elif stated is None:
        stated, assumption = assumed_preprocess(spec)
        (notes if takes_whole_numbers(spec) else warnings).append(assumption)
    else:
        notes.append(f"Preprocessing: {stated.summary(spec)}, from {source}.")
    notes.append(f"Input: {spec.name!r}, {spec.layout}, {spec.dtype}.")
    if stated.size_is_assumed(spec) and not spec.takes_bands:
        height, width = stated.input_size(spec)
        warnings.append(
            f"Size: the model takes any size and no preprocessing states one; {height}x{width} is assumed. "
            "State it as size in the preprocessing."
        )
    names, origin = _labels(model, labels)
    notes.append(f"Labels: {origin}.")
    return ModelInputs(spec, info.shape, stated, names, (*notes, *warnings), tuple(warnings))


def _labels(model: LoadedModel, labels: str | Path | Sequence[str] | None) -> tuple[tuple[str, ...] | None, str]:
    """Return the labels, or None, and a phrase that says where they come from.

    Raises:
        LabelsError: as `model_inputs`.
    """
    if labels is not None and not isinstance(labels, str | Path):
        names, origin = _given_labels(labels), "given as an argument"
    elif labels is not None:
        names, origin = tuple(load_labels(labels)), f"from '{labels}'"
    else:
        nearby, origin = _labels_nearby(model)
        if nearby is not None and len(nearby) == 1 and model.probability_outputs.is_number:
            return None, f"one {origin}, which names a number and no class"
        if nearby is None:
            return None, origin
        names = tuple(nearby)
    if model.class_count is not None and len(names) != model.class_count:
        raise LabelsError(
            f"The labels {origin} are {len(names)}, but {model.name} has {model.class_count} classes; "
            "give the labels of this model with --labels (labels=)."
        )
    return names, origin


def _given_labels(labels: Any) -> tuple[str, ...]:
    """Return labels that were given as a sequence, or raise a LabelsError if they are something else."""
    names = several("labels", labels, "labels by class id, or a labels file", LabelsError)
    if wrong := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int | float)]:
        raise LabelsError(f"A label is a text, not {short_repr(wrong[0])}.")
    return tuple(map(str, names))


def _labels_nearby(model: LoadedModel) -> tuple[Sequence[str] | None, str]:
    """Return the labels in the model's metadata or in a file beside it, or None, and where they come from."""
    props = model.session.metadata
    if (labels := labels_from_metadata(props)) is not None:
        return labels, "from the model's metadata"
    if model.path and (sidecar := _labels_sidecar(model.path)):
        return load_labels(sidecar), f"from '{sidecar.name}' beside the model"
    return None, "none known, classes are shown as numbers; give a file with --labels (labels=)"


def _labels_sidecar(model: Path) -> Path | None:
    """Return the file with labels beside `NAME.onnx`: `NAME.labels.txt`, `NAME.labels.json`, or a `config.json`.

    A `config.json`, as Hugging Face writes it, counts only if it has labels. Without any such file, None is returned.
    """
    named = (model.with_name(f"{model.stem}.labels{suffix}") for suffix in (".txt", ".json"))
    if (found := next((path for path in named if is_file(path)), None)) is not None:
        return found
    return model.with_name("config.json") if "id2label" in config_beside(model) else None


def config_beside(model: Path) -> dict[str, Any]:
    """Return the content of a `config.json` beside the model, as Hugging Face writes it; {} where there is none."""
    try:
        data = load_json(read_text(model.with_name("config.json")))
    except (OSError, ValueError):
        return {}  # not there, or the config of something else
    return data if isinstance(data, dict) else {}
