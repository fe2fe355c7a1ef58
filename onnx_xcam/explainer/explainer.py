"""The Explainer: photos in, XGrad-CAM out, from the ONNX file alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ClassError, InputError, ModelError, XcamWarning
from onnx_xcam.explainer.classes import Classes, choose_classes
from onnx_xcam.explainer.explanation import Explanation, Picture
from onnx_xcam.explainer.inputs import model_inputs
from onnx_xcam.explainer.loading import LoadedModel, load_model
from onnx_xcam.feeds import InputValue
from onnx_xcam.runtime import BYTES_PER_RUN, classes_per_run, short_name
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike

Image: TypeAlias = str | Path | NDArray[Any] | Picture
"""A path, an uint8 [H,W,3] RGB array, or a picture that `Explainer.prepare` made."""

_IMAGES_PER_RUN = 32
"""A model of any batch size is fed at most this many images at once."""
_WARNINGS_SHOWN = 3


class Explainer:
    """Explains what a classifier sees, from its ONNX file. Calls may come from several threads at once.

    Attributes:
        notes: sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider.
        warnings: those that deserve a look: they were also given as `XcamWarning` when the Explainer was made.
        layers: names of the target layers' tensors.
        labels: the C class labels, or None.
        providers: ONNX Runtime's full names, the one in use first.
        batch: the batch size that the model was exported with, or None for any. Images are cut into runs of that
            size, the last one padded by repeating its last image, and what the padding gave is dropped.
    """

    def __init__(  # noqa: PLR0917  - the contract's signature
        self,
        model: ModelLike,
        layers: str | Sequence[str] = "auto",
        score: str = "auto",
        method: str = "xgrad-cam",
        preprocess: Any = None,
        labels: str | Path | Sequence[str] | None = None,
        providers: str | Sequence[str] | None = None,
        threads: int | None = None,
        inputs: Mapping[str, InputValue] | None = None,
        allow_folders: Folders = (),
    ) -> None:
        """Load a model, and instrument it unless it is instrumented already.

        Args:
            model: path, bytes or ModelProto of a plain or an instrumented model; never changed.
            layers: "auto" (the last spatial feature map), a layer's name, or a list of names.
            score: "auto" (the logits), or a tensor's name.
            method: the CAM method.
            preprocess: a preset's name, a JSON or YAML file, or a dict; None looks in the model's metadata and beside
                the model, and falls back to a stated assumption (see `notes`).
            labels: a file, or the C labels; None looks in the model's metadata and beside the model.
            providers: "cpu", "cuda", or names that ONNX Runtime lists, in order of preference; None takes CUDA where
                ONNX Runtime has it, else the CPU.
            threads: of one operator; None takes what ONNX Runtime takes, all cores.
            inputs: the values of the inputs beside the picture, by name: numbers, arrays or .npy files. One that has
                the axis of the images may lack it, have one row for all, or a row for each image of a call; a single
                number fills the input. The picture goes to the image input that is not among them.
            allow_folders: a folder, or several, in which the model's external data may lie besides the model's own.

        Raises:
            XcamError: ModelError, LayerError, ScoreError, InputError, PreprocessError, LabelsError, ProviderError or
                DependencyError, as the case may be.
        """
        self._model = load_model(
            model,
            layers=layers,
            score=score,
            method=method,
            providers=providers,
            threads=threads,
            inputs=inputs,
            allow_folders=allow_folders,
        )
        self.name = str(self._model.path or "the model")
        self.layers = tuple(self._model.layers)
        self.method = str(self._model.metadata.get("method", method))
        self.providers = self._model.session.providers
        self.batch = self._model.batch
        self._inputs = model_inputs(self._model, preprocess, labels)
        self.labels = self._inputs.labels
        fed = self._model.others.notes()
        self.notes = (
            *_surgery_notes(self._model),
            *self._inputs.notes,
            *fed,
            f"Provider: {short_name(self.providers[0])}.",
        )
        lost = self._model.session.provider_warning
        self.warnings = (*self._inputs.warnings, *([lost] if lost else []))
        for message in self.warnings:
            warnings.warn(message, XcamWarning, stacklevel=2)

    def explain(
        self,
        images: Image | Sequence[Image],
        classes: Classes | None = None,
        top: int | None = None,
    ) -> Explanation:
        """Explain N images, K classes each, in one run per batch.

        Args:
            images: a path; an uint8 [H,W,3] RGB array; a list of these; or a ready [N,...] tensor as the model's input
                takes it (already preprocessed; float32 and float64 are converted to the input's own float type).
            classes: ids or labels, -1 for the model's top class, -2 for the second best; one for all images, a list
                for all images, or N lists of K. None means -1.
            top: instead of classes: the K best of each image.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model. Found before the run.
            ImageError: a picture cannot be read or has an impossible size.
            InputError: a tensor does not fit the model's input, photos of different sizes meet a model of any size, or
                another input has rows for another number of images.
            ModelError: ONNX Runtime failed while it ran the model.
        """
        pictures = self._pictures(images)
        wanted = self.choose(classes, top, len(pictures))
        self._model.others.check_count(len(pictures), self.batch)
        results = self._run(np.stack([picture.item for picture in pictures]), wanted)
        explanation = self._explanation(pictures, results)
        if found := explanation.warnings():
            more = f" And {len(found) - _WARNINGS_SHOWN} more; see status." if len(found) > _WARNINGS_SHOWN else ""
            warnings.warn(" ".join(found[:_WARNINGS_SHOWN]) + more, XcamWarning, stacklevel=2)
        return explanation

    def prepare(self, image: str | Path | NDArray[Any]) -> Picture:
        """Read one image and bring it into the form that the model takes; `explain` accepts the result as an image.

        Raises:
            ImageError: it cannot be read or has an impossible size.
        """
        return self._inputs.prepare(image)

    def choose(
        self, classes: Classes | None = None, top: int | None = None, images: int = 1
    ) -> NDArray[np.int64] | None:
        """The classes as int64 [1,K] or [images,K]; None where the model itself has settled them.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model.
        """
        if self._model.fixed_classes:
            if classes is not None or top is not None:
                raise ClassError(
                    f"{self._model.name} explains only the classes that it was instrumented for; to choose others, "
                    "instrument the original model with --class-input optional."
                )
            return None
        return choose_classes(
            classes, top, images=images, class_count=self._model.class_count, labels=self._inputs.labels
        )

    def _pictures(self, images: Image | Sequence[Image]) -> list[Picture]:
        if isinstance(images, np.ndarray) and images.ndim == len(self._model.image_input.shape):
            return self._inputs.ready(images)
        several = [images] if isinstance(images, str | Path | np.ndarray | Picture) else list(images)
        if not several:
            raise InputError("There are no images to explain: the list is empty.")
        pictures = [
            image if isinstance(image, Picture) else self._inputs.prepare(image, f"image {n}")
            for n, image in enumerate(several)
        ]
        shapes = {picture.item.shape for picture in pictures}
        if len(shapes) > 1:
            raise InputError(
                f"The model takes images of any size, so these photos differ once they are prepared: "
                f"{', '.join(map(str, sorted(shapes)))}. Explain them one by one, or state a size in the preprocessing."
            )
        return pictures

    def _run(self, batch: NDArray[Any], classes: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
        """The outputs for any number of images, by name: [N,K,...], and [N,C] for the probabilities."""
        size = self.batch or _IMAGES_PER_RUN
        parts = []
        for start in range(0, len(batch), size):
            rows = classes if classes is None or len(classes) == 1 else classes[start : start + size]
            part = batch[start : start + size]
            others = self._model.others.rows(start, self.batch or len(part), len(batch))
            parts.append(self._run_images(part, rows, others))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_images(
        self, batch: NDArray[Any], classes: NDArray[np.int64] | None, others: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """One run, or one per chunk of classes where all at once would take too much memory."""
        count = len(batch)
        if self.batch and (size := self.batch * batch[0].nbytes) > BYTES_PER_RUN:
            raise InputError(
                f"{self._model.name} takes {self.batch} images at once, {size >> 20} MiB, which is more than is fed "
                "here; export it with a smaller batch."
            )
        if self.batch and count < self.batch:
            batch = _padded(batch, self.batch)
            classes = _padded(classes, self.batch) if classes is not None and len(classes) > 1 else classes
        session, source = self._model.session, self._model.probabilities
        per_class = [*self._model.outputs("map"), *self._model.outputs("status"), contract.CLASSES, contract.SCORES]
        held = {name: session.hold(array) for name, array in others.items()}
        held[self._model.image_input.name] = session.hold(batch)
        parts: list[dict[str, NDArray[Any]]] = []
        for feed in self._class_feeds(classes, batch):
            whole = [source.output] if source and not parts else []
            parts.append(session.run({**held, **feed}, [*per_class, *whole]))
            _check_outputs(parts[-1], per_class, len(batch), self._model.name)
        results = {name: np.concatenate([part[name] for part in parts], axis=1)[:count] for name in per_class}
        if source:
            results[source.output] = parts[0][source.output].reshape(len(batch), -1)[:count]
        return results

    def _class_feeds(
        self, classes: NDArray[np.int64] | None, batch: NDArray[Any]
    ) -> Iterator[dict[str, NDArray[np.int64]]]:
        if classes is None:
            yield {}
            return
        step = classes_per_run(self._model.session, self._model.outputs("map"), batch)
        for start in range(0, classes.shape[1], step):
            yield {contract.CLASS_INPUT: classes[:, start : start + step]}

    def _explanation(self, pictures: Sequence[Picture], results: dict[str, NDArray[Any]]) -> Explanation:
        classes, source = results[contract.CLASSES], self._model.probabilities
        maps = [results[name] for name in self._model.outputs("map")]
        states = self._model.outputs("status")
        return Explanation(
            classes=classes,
            scores=results[contract.SCORES],
            probabilities=source.of(results[source.output], classes) if source else None,
            maps=maps,
            status=[results[name] for name in states] if len(states) == len(maps) else [_status(m) for m in maps],
            labels=self.labels,
            layers=self.layers,
            pictures=pictures,
            notes=self.notes,
        )


def _check_outputs(found: dict[str, NDArray[Any]], names: Sequence[str], count: int, name: str) -> None:
    """Make sure that a model that says it is instrumented gives what that means: [N,K] and [N,K,h,w].

    Raises:
        ModelError: it does not.
    """
    k = found[contract.CLASSES].shape[1:2]
    for output in names:
        shape, rank = found[output].shape, 4 if output.startswith(contract.output_name("map")) else 2
        if len(shape) != rank or shape[:2] != (count, *k) or found[output].dtype.kind not in "fi":
            raise ModelError(
                f"The output '{output}' of {name} is {found[output].dtype} {contract.shape_text(shape)}, which is not "
                "what an instrumented model gives; instrument the original model again."
            )


def _padded(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """The rows, the last one repeated up to the length."""
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])


def _status(maps: NDArray[np.float32]) -> NDArray[np.int64]:
    """The status of a model that was instrumented without it: int64 [N,K] from float32 [N,K,h,w]."""
    zero = np.where((maps == 0).all(axis=(2, 3)), contract.MAP_ZERO, contract.GOOD)
    return np.where(np.isfinite(maps).all(axis=(2, 3)), zero, contract.NOT_FINITE).astype(np.int64)


def _surgery_notes(model: LoadedModel) -> list[str]:
    """What the surgery assumed, as it wrote it into the model."""
    notes = ["Model: instrumented already, used as it is."] if model.was_instrumented else []
    said = [str(note) for note in model.metadata.get("notes", ())]
    said = said or [f"Layer: {', '.join(model.layers)}.", f"Score: {model.metadata['score']}."]
    return [*notes, *said, *([model.compared] if model.compared else [])]
