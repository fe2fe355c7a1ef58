"""The Explainer: photos in, XGrad-CAM out, from the ONNX file alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ClassError, InputError, XcamWarning
from onnx_xcam.explainer.classes import Classes, choose_classes
from onnx_xcam.explainer.explanation import Explanation, Picture
from onnx_xcam.explainer.inputs import model_inputs
from onnx_xcam.explainer.loading import LoadedModel, load_model
from onnx_xcam.explainer.running import run_all
from onnx_xcam.explainer.stream import IMAGES_PER_GROUP, Streamed, stream
from onnx_xcam.feeds import InputValue
from onnx_xcam.runtime import Cancellation, short_name
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike

T = TypeVar("T")
Image: TypeAlias = str | Path | NDArray[Any] | Picture
"""A path, an uint8 [H,W,3] RGB array, or a picture that `Explainer.prepare` made."""

_WARNINGS_SHOWN = 3


class Explainer:
    """Explains what a classifier sees, from its ONNX file. Calls may come from several threads at once.

    Attributes:
        notes: sentences on all that was assumed: layer, score, layout, preprocessing, labels, provider.
        warnings: those that deserve a look: they were also given as `XcamWarning` when the Explainer was made.
        files: the model's file and those that it keeps weights in; none for a model in memory.
        layers: names of the target layers' tensors.
        score: name of the score's tensor.
        method: the CAM method.
        preprocess: what is done to a photo, a `Preprocess`.
        inputs: what the inputs beside the picture are fed, by name.
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
        self.files = self._model.files
        self.layers = tuple(self._model.layers)
        self.score = str(self._model.metadata["score"])
        self.method = str(self._model.metadata.get("method", method))
        self.providers = self._model.session.providers
        self.batch = self._model.batch
        self._inputs = model_inputs(self._model, preprocess, labels)
        self.labels = self._inputs.labels
        self.preprocess = self._inputs.preprocess
        self.inputs = dict(self._model.others.values)
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
        (explanation,) = self._explained([pictures], self.choose(classes, top, len(pictures)))
        if found := explanation.warnings():
            more = f" And {len(found) - _WARNINGS_SHOWN} more; see status." if len(found) > _WARNINGS_SHOWN else ""
            warnings.warn(" ".join(found[:_WARNINGS_SHOWN]) + more, XcamWarning, stacklevel=2)
        return explanation

    @overload
    def stream(
        self, images: Iterable[Image], classes: Classes | None = None, top: int | None = None
    ) -> Iterator[Streamed]: ...

    @overload
    def stream(
        self,
        images: Iterable[Image],
        classes: Classes | None = None,
        top: int | None = None,
        *,
        each: Callable[[Streamed], T],
    ) -> Iterator[T]: ...

    def stream(
        self,
        images: Iterable[Image],
        classes: Classes | None = None,
        top: int | None = None,
        *,
        each: Callable[[Streamed], Any] | None = None,
    ) -> Iterator[Any]:
        """Explain many images one after the other, in order, while the next ones are read already.

        Images are taken from the iterable only a few ahead of what has been handed out, so a stream without end is
        fine, and memory stays flat. An image that cannot be explained does not end the stream; what is wrong with it
        comes in its place. A loop that is left early, or interrupted, leaves nothing behind.

        Args:
            images: paths, uint8 [H,W,3] arrays, prepared pictures or ready [N,...] tensors; also a generator.
            classes: as for `explain`, the same for all images.
            top: as for `explain`.
            each: called with each result where it was made, in a thread of its own; what it returns is handed out
                instead. For work that takes time itself, such as saving pictures. What it raises ends the stream.

        Returns:
            a `Streamed` for each image: the image as it came, and its explanation or the error. Maps that are blank
            are no warning here; `Explanation.warnings` tells.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model; at once.
        """
        wanted = self.choose(classes, top)
        group = self.batch or (1 if self.providers[0] == "CPUExecutionProvider" else IMAGES_PER_GROUP)

        cancellation = Cancellation()

        def explained(pictures: Sequence[Sequence[Picture]]) -> list[Explanation]:
            return self._explained(pictures, wanted, cancellation)

        def prepared(image: Image) -> list[Picture]:
            return [self.prepare(image)] if isinstance(image, str | Path) else self._pictures(image)

        handed_out = each or (lambda result: result)
        return stream(images, prepared, explained, handed_out, group=group, cancel=cancellation.cancel)

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

    def _explained(
        self,
        several: Sequence[Sequence[Picture]],
        classes: NDArray[np.int64] | None,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """One explanation for each list of pictures, from the same runs."""
        pictures = [picture for one in several for picture in one]
        self._model.others.check_count(len(pictures), self.batch)
        batch = np.stack([picture.item for picture in pictures]) if len(pictures) > 1 else pictures[0].item[None]
        results = run_all(self._model, batch, classes, cancellation)
        if len(several) == 1:
            return [self._explanation(pictures, results)]
        ends = np.cumsum([len(one) for one in several]).tolist()
        return [
            self._explanation(one, {name: value[end - len(one) : end] for name, value in results.items()})
            for one, end in zip(several, ends, strict=True)
        ]

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
