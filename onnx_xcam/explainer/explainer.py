"""The Explainer: photos in, XGrad-CAM out, from the ONNX file alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD, find_method
from onnx_xcam.common.arguments import flag, shown
from onnx_xcam.errors import ModelError, XcamError, XcamWarning
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.explanation import Explanation, Picture, joined
from onnx_xcam.explainer.load import load_model
from onnx_xcam.explainer.model import Image, OpenedModel, require_images
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.reopening import Identity, digests, opened_with, read_once, stamps
from onnx_xcam.explainer.running import run_all
from onnx_xcam.explainer.stream import IMAGES_PER_GROUP, Streamed, stream
from onnx_xcam.feeds import InputValue
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike
from onnx_xcam.surgery.targets.known_classifiers import ProbabilityChoice, check_choice

T = TypeVar("T")

_WARNINGS_SHOWN = 3


class Explainer(OpenedModel):
    """Explains what a classifier sees, from its ONNX file. Calls may come from several threads at once.

    Pickling or copying one opens its model again, from its file; of a model in memory, that is an error.

    Images are cut into runs of the batch size that the model was exported with, if it has one, the last run padded by
    repeating its last image, and what the padding gave is dropped.

    Attributes:
        method: the CAM method.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are put together as well, or None.
        and those of `OpenedModel`; its warnings were also given as `XcamWarning` when the Explainer was made.
    """

    def __init__(  # noqa: PLR0917  - the contract's signature
        self,
        model: ModelLike,
        layers: str | Sequence[str] = "auto",
        score: str = "auto",
        method: str = DEFAULT_METHOD,
        preprocess: Any = None,
        labels: str | Path | Sequence[str] | None = None,
        providers: str | Sequence[str] | None = None,
        threads: int | None = None,
        inputs: Mapping[str, InputValue] | None = None,
        allow_folders: Folders = (),
        relu: bool = True,
        fuse: Fusion | None = None,
        probabilities: ProbabilityChoice = "auto",
        exact: bool = False,
    ) -> None:
        """Load a model, and instrument it unless it is instrumented already.

        Args:
            model: path, bytes or ModelProto of a plain or an instrumented model; never changed.
            layers: "auto" (the last spatial feature map), a layer's name, or a list of names.
            score: "auto" (the logits), or a tensor's name.
            method: the CAM method, one of `onnx_xcam.cams.methods.METHODS`.
            preprocess: a preset's name, a JSON or YAML file, or a dict; None looks in the model's metadata and beside
                the model, and falls back to a stated assumption (see `notes`).
            labels: a file, or the C labels; None looks in the model's metadata and beside the model.
            providers: "cpu", "cuda", or names that ONNX Runtime lists, in order of preference; None takes CUDA where
                ONNX Runtime has it, else the CPU.
            threads: of one operator; None takes what ONNX Runtime takes, all cores.
            inputs: the values of the inputs beside the picture, by name: numbers, arrays or .npy files; for an input
                that takes pictures also a picture's file or an uint8 [H,W,3] RGB array, preprocessed as the explained
                picture is. One that has the axis of the images may lack it, have one row for all, or a row for each
                image of a call; a single number fills the input. The picture that is explained goes to the image input
                that is not among them; layers and maps are that picture's.
            allow_folders: a folder, or several, in which the model's external data may lie besides the model's own.
            relu: leave out what speaks against the class; False gives signed maps.
            fuse: of several layers, also make one map of all: their "mean", "max" or "product".
            probabilities: "auto" shows those that the model tells, or that the softmax makes of a classifier's logits;
                "softmax" and "sigmoid" say that the scores are logits, and of which kind; "none" shows none.
            exact: have products of 8-bit integers added up exactly, which ONNX Runtime by itself does not do on every
                processor (see `notes`). Where it does, this changes nothing.

        Raises:
            XcamError: ModelError, LayerError, ScoreError, InputError, PreprocessError, LabelsError, ProviderError or
                DependencyError, as the case may be.
        """
        layers, labels, providers, allow_folders = map(read_once, (layers, labels, providers, allow_folders))
        options: dict[str, Any] = {"providers": providers, "threads": threads, "inputs": inputs}
        options |= {
            "allow_folders": allow_folders,
            "layers": layers,
            "score": score,
            "preprocess": preprocess,
            "exact": flag("exact", exact),
        }
        more: dict[str, Any] = {
            "method": method,
            "labels": labels,
            "relu": relu,
            "fuse": fuse,
            "probabilities": probabilities,
        }
        self._open(model, **more, **options)
        self._opened_with = opened_with(model, {**options, **more})
        self._lasting = [file.absolute() for file in self.files]
        self._stamps = stamps(self._lasting)
        for message in self.warnings:
            warnings.warn(message, XcamWarning, stacklevel=2)

    def _open(
        self,
        model: ModelLike,
        *,
        method: str,
        labels: str | Path | Sequence[str] | None,
        relu: bool,
        fuse: Fusion | None,
        probabilities: ProbabilityChoice,
        **options: Any,
    ) -> None:
        """Load the model as `__init__` does, but without warnings.

        Args:
            model, method, labels, relu, fuse, probabilities: as above.
            options: further ones, that `load_model` and `Recorder` know.
        """
        chosen, relu = find_method(method), flag("relu", relu)
        check_choice(probabilities)
        self._recorder = None
        if chosen.is_emitted:
            loaded = load_model(model, method=method, relu=relu, fuse=fuse, **options)
            self.method, self.relu = loaded.metadata.method, loaded.metadata.relu
        else:
            check_fusion(fuse, layers=None, relu=relu)
            self._recorder = Recorder(model, methods=[method], labels=labels, probabilities=probabilities, **options)
            loaded = self._recorder.loaded
            check_fusion(fuse, layers=len(loaded.layers), relu=relu)
            self.method, self.relu = chosen.name, relu
        super().__init__(loaded, options["preprocess"], labels, probabilities)
        self.fuse = cast("Fusion | None", loaded.metadata.fuse) if chosen.is_emitted else fuse

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: opened again from its file, as it was.

        Raises:
            ModelError: the model is in no file, or the file has changed since it was opened.
        """
        if self._opened_with is None:
            raise ModelError(
                "An Explainer of a model in memory cannot be pickled or copied, since the model is not kept; write the "
                "model to a file and give its path."
            )
        if stamps(self._lasting) != self._stamps:
            raise ModelError(f"'{self.name}' changed since it was opened; make a new Explainer.")
        return _opened_again, (type(self), self._opened_with, self._identity(), (self.name, self.notes, self.warnings))

    def _identity(self) -> Identity:
        settings = {"the labels": self.labels, "the preprocessing": self.preprocess, "the providers": self.providers}
        return Identity(digests(self._lasting), settings, dict(self.inputs))

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
            ClassError: a class is out of range, unknown, or cannot be chosen in this model; at once, or with the first
                image where only a run tells how many classes there are.
        """
        wanted = self.choose(classes, top)
        if each is not None and not callable(each):
            raise XcamError(f"each is {shown(each)}; it must be a function of one argument.")
        images = require_images(images)
        group = self.batch or (1 if self.providers[0] == "CPUExecutionProvider" else IMAGES_PER_GROUP)

        cancellation = Cancellation()

        def explained(pictures: Sequence[Sequence[Picture]]) -> list[Explanation]:
            return self._explained(pictures, wanted, cancellation)

        def prepared(image: Image) -> list[Picture]:
            return [self.prepare(image)] if isinstance(image, str | Path) else self._pictures(image)

        handed_out = (lambda result: result) if each is None else each
        found = stream(images, prepared, explained, Streamed, handed_out, group=group, cancel=cancellation.cancel)
        return self._telling(found)

    def _telling(self, results: Generator[T]) -> Iterator[T]:
        """The results of a stream, with an XcamWarning for what is to be known of how pictures were read, once each."""
        told = len(self.remarks.first())
        with closing(results):
            for result in results:
                for sentence in self.remarks.first(told):
                    warnings.warn(sentence, XcamWarning, stacklevel=2)
                    told += 1
                yield result

    def _explained(
        self,
        several: Sequence[Sequence[Picture]],
        classes: NDArray[np.int64] | None,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """One explanation for each list of pictures, from the same runs."""
        pictures = [picture for one in several for picture in one]
        self._model.others.check_count(len(pictures), self.batch)
        if self._recorder is not None:
            return self._recorded(self._recorder, several, classes, cancellation)
        batch = np.stack([picture.item for picture in pictures]) if len(pictures) > 1 else pictures[0].item[None]
        results = run_all(self._model, batch, classes, cancellation)
        if len(several) == 1:
            return [self._explanation(pictures, results)]
        ends = np.cumsum([len(one) for one in several]).tolist()
        return [
            self._explanation(one, {name: value[end - len(one) : end] for name, value in results.items()})
            for one, end in zip(several, ends, strict=True)
        ]

    def _recorded(
        self,
        recorder: Recorder,
        several: Sequence[Sequence[Picture]],
        classes: NDArray[np.int64] | None,
        cancellation: Cancellation | None,
    ) -> list[Explanation]:
        """The same by a method that takes more than one run: image by image."""
        total, nth = sum(len(pictures) for pictures in several), 0
        found = []
        for pictures in several:
            alone = []
            for picture in pictures:
                rows = classes if classes is None or len(classes) == 1 else classes[nth : nth + 1]
                recording = recorder.record(picture, rows, cancellation, nth=nth, images=total)
                alone.append(recording.explanation(self.method, relu=self.relu, fuse=self.fuse))
                nth += 1
            found.append(joined(alone))
        return found

    def _of_rows(self, images: int) -> tuple[list[str], list[str]]:
        """What is to be said of images that influence each other in a run: notes, and warnings, which come once."""
        rows = self._model.rows
        if not rows.mixed or (images == 1 and not self.batch):
            return [], []
        said = "Batch: the images of a run influence each other in this model"
        if not self.batch:
            return [f"{said}, so each is run by itself."], []
        said = f"{said}, which takes {self.batch}, so each is run with copies of itself; among others it would differ."
        return [], [said] if rows.first_word() else []

    def _explanation(self, pictures: Sequence[Picture], results: dict[str, NDArray[Any]]) -> Explanation:
        classes, source = results[contract.CLASSES], self._model.probabilities
        maps = [results[name] for name in self._model.outputs("map")]
        states = self._model.outputs("status")
        notes, warned = self._of_rows(len(pictures))
        return Explanation(
            classes=classes,
            scores=results[contract.SCORES],
            probabilities=source.of(results[source.output], classes) if source else None,
            maps=maps,
            status=[results[name] for name in states] if len(states) == len(maps) else [_status(m) for m in maps],
            labels=self.labels,
            layers=self.layers,
            names=self._model.names,
            pictures=pictures,
            notes=(*self.notes, *notes),
            more_warnings=warned,
            method=self.method,
            signed=not self.relu,
            is_number=self._model.is_number,
            fused=results[contract.FUSED] if self._model.fused else None,
        )


def _opened_again(
    kind: type[Explainer], arguments: dict[str, Any], identity: Identity, said: tuple[Any, ...]
) -> Explainer:
    """An Explainer as another one was; what that has warned of is not said again.

    Raises:
        ModelError: it cannot be as it was.
        and what `Explainer` raises.
    """
    made = kind.__new__(kind)
    made._open(**arguments)
    made._opened_with, made._lasting = arguments, [file.absolute() for file in made.files]
    made._stamps = stamps(made._lasting)
    identity.require(made._identity())
    made.name, made.notes, made.warnings = said
    return made


def _status(maps: NDArray[np.float32]) -> NDArray[np.int64]:
    """The status of a model that was instrumented without it: int64 [N,K] from float32 [N,K,h,w]."""
    zero = np.where((maps == 0).all(axis=(2, 3)), contract.MAP_ZERO, contract.GOOD)
    return np.where(np.isfinite(maps).all(axis=(2, 3)), zero, contract.NOT_FINITE).astype(np.int64)
