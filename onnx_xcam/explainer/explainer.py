"""The Explainer: photos in, XGrad-CAM out, from the ONNX file alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD
from onnx_xcam.common.arguments import flag, short_repr, texts
from onnx_xcam.errors import ModelError, XcamError, XcamWarning
from onnx_xcam.explainer.attributes import OfOpenModel
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.engine import open_engine
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.model import Image, require_images
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.reopening import Identity, OpenedWith, digests, opened_with, read_once, stamps
from onnx_xcam.explainer.stream import Streamed, stream
from onnx_xcam.feeds import InputValue
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, check_choice

T = TypeVar("T")

_WARNINGS_SHOWN = 3


class Explainer(OfOpenModel):
    """Explains what a classifier sees, from its ONNX file. Calls may come from several threads at once.

    Pickling or copying one opens its model again, from its file; of a model in memory, that is an error.

    Images are cut into runs of the batch size that the model was exported with, if it has one, the last run padded by
    repeating its last image, and what the padding gave is dropped.

    Attributes:
        model: the open model, whose attributes (`layers`, `labels`, `notes`, ...) an Explainer has too; its warnings
            were also given as `XcamWarning` when the Explainer was made.
        methods: the CAM methods, all of which share the runs of an image.
        method: the first one.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are put together as well, or None.
    """

    def __init__(  # noqa: PLR0917  - the contract's signature
        self,
        model: ModelLike,
        layers: str | Sequence[str] = "auto",
        score: str = "auto",
        method: str | Sequence[str] = DEFAULT_METHOD,
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
            method: the CAM method, one of `onnx_xcam.cams.methods.METHODS`, or a list of several.
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
        options = ModelOptions(
            layers=layers,
            score=score,
            preprocess=preprocess,
            labels=labels,
            providers=providers,
            threads=threads,
            inputs=inputs,
            allow_folders=allow_folders,
            probabilities=probabilities,
            exact=flag("exact", exact),
        )
        methods = texts("method", method)
        self._load(model, methods, options, relu, fuse)
        self._opened_with = opened_with(model, options, methods, relu, fuse)
        for message in self.warnings:
            warnings.warn(message, XcamWarning, stacklevel=2)

    def _load(
        self, model: ModelLike, methods: Sequence[str], options: ModelOptions, relu: bool, fuse: Fusion | None
    ) -> None:
        """Open the model as `__init__` does, but without warnings."""
        if not methods:
            raise XcamError("No method was named.")
        check_choice(options.probabilities)
        self._engine = open_engine(model, methods, options, relu=flag("relu", relu), fuse=fuse)
        self.model = self._engine.model
        self._lasting = [file.absolute() for file in self.files]
        self._stamps = stamps(self._lasting)

    @property
    def method(self) -> str:
        """The first of the methods."""
        return self._engine.methods[0]

    @property
    def methods(self) -> tuple[str, ...]:
        """The CAM methods, all of which share the runs of an image."""
        return self._engine.methods

    @property
    def relu(self) -> bool:
        """Whether the maps leave out what speaks against the class."""
        return self._engine.relu

    @property
    def fuse(self) -> Fusion | None:
        """How the maps of all layers are put together as well, or None."""
        return self._engine.fuse

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
        said = self.name, self.notes, self.warnings
        return _opened_again, (type(self), self._opened_with, self._identity(), said)

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

        With several methods, the explanation is that of the first; its `by` gives those of the others.

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
        pictures = self.model.pictures(images)
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
            raise XcamError(f"each is {short_repr(each)}; it must be a function of one argument.")
        images = require_images(images)
        cancellation = Cancellation()

        def explained(pictures: Sequence[Sequence[Picture]]) -> list[Explanation]:
            return self._explained(pictures, wanted, cancellation)

        def prepared(image: Image) -> list[Picture]:
            return [self.prepare(image)] if isinstance(image, str | Path) else self.model.pictures(image)

        handed_out = (lambda result: result) if each is None else each
        group, cancel = self._engine.images_per_group, cancellation.cancel
        found = stream(images, prepared, explained, Streamed, handed_out, group=group, cancel=cancel)
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
        self.model.loaded.others.check_count(sum(map(len, several)), self.batch)
        return self._engine.explain(several, classes, cancellation)


def _opened_again(
    kind: type[Explainer], before: OpenedWith, identity: Identity, said: tuple[str, tuple[str, ...], tuple[str, ...]]
) -> Explainer:
    """An Explainer as another one was; what that has warned of is not said again.

    Raises:
        ModelError: it cannot be as it was.
        and what `Explainer` raises.
    """
    made = kind.__new__(kind)
    made._load(before.model, before.methods, before.options, before.relu, before.fuse)
    made._opened_with = before
    identity.require(made._identity())
    made.model.name, made.model.notes, made.model.warnings = said
    return made
