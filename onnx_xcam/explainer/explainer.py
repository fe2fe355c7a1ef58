"""An Explainer opens an ONNX file, and explains photos with it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from numpy.typing import ArrayLike

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.common.arguments import flag, short_repr, texts
from onnx_xcam.errors import ModelError, XcamError, XcamWarning
from onnx_xcam.explainer.attributes import OfOpenModel
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.choosing import Objects, ObjectsAsked
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.engine import Engine, open_engine
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.model import Image, require_images
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.reopening import Identity, OpenedWith, digests, opened_with, read_once, stamps
from onnx_xcam.explainer.stream import Streamed, stream
from onnx_xcam.feeds import InputValue
from onnx_xcam.images.sources import Named
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, check_choice

T = TypeVar("T")

_WARNINGS_SHOWN = 3


class Explainer(OfOpenModel):
    """An Explainer explains what a classifier or a detector sees, from its ONNX file; any thread may call it.

    An Explainer that is pickled or copied opens its model again from its file; for a model in memory, this is an error.

    Images are cut into runs of the batch size that the model was exported with, if it has one. The last run is padded
    with copies of its last image, and the results of the copies are dropped.

    Attributes:
        model: the open model. An Explainer has its attributes (`layers`, `labels`, `notes`, ...) too. Its warnings are
            also given as `XcamWarning` when the Explainer is made.
        methods: the CAM methods, all of which share the runs of an image.
        method: the first of the methods.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are also fused into one, or None.
    """

    def __init__(  # noqa: PLR0917  - the contract's signature
        self,
        model: ModelLike,
        layers: str | Sequence[str] = "auto",
        score: str = "auto",
        method: str | Sequence[str] = AUTO_METHOD,
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
        task: str = "auto",
        conf: float | None = None,
        iou: float | None = None,
        contrast: bool = False,
    ) -> None:
        """Load a model, and instrument it unless it is instrumented already.

        Args:
            model: path, bytes or ModelProto of a plain or an instrumented model; it is never changed.
            layers: "auto" (the last spatial feature map), a layer's name, or a list of names.
            score: "auto" (the logits), or a tensor's name.
            method: the CAM method, one of `onnx_xcam.cams.methods.METHODS`, or a list of several. "auto" is xgrad-cam
                for a score of the whole picture, and local-xgrad-cam for that of an object.
            preprocess: a preset's name, a JSON or YAML file, or a dict; None looks in the model's metadata and beside
                the model's file, and else assumes one and says so (see `notes`).
            labels: a file, or the C labels; None looks in the model's metadata and beside the model's file.
            providers: "cpu", "cuda", or names that ONNX Runtime lists, in order of preference; None takes CUDA where
                ONNX Runtime has it, else the CPU.
            threads: the number of threads of one operator; None is ONNX Runtime's default, all cores.
            inputs: the values of the inputs beside the picture, by name: numbers, arrays or .npy files. An input
                that takes pictures also accepts a picture's file or an uint8 [H,W,3] RGB array, which is preprocessed
                as the explained picture is. A value may lack the axis of the images, or have one row for all images, or
                a row for each image of a call; a single number fills the input. The picture that is explained goes to
                the image input that is not named here, and layers and maps belong to that picture.
            allow_folders: a folder, or several, in which the model's external data may lie besides the model's own.
            relu: whether to leave out what speaks against the class; False gives signed maps.
            fuse: how to fuse the maps of several layers into one more map: "mean", "max" or "product".
            probabilities: "auto" shows the probabilities that the model gives, or the softmax of a classifier's logits;
                "softmax" and "sigmoid" say that the scores are logits, and of which kind; "none" shows none.
            exact: whether products of 8-bit integers are added up exactly, which ONNX Runtime does not do by itself on
                every processor (see `notes`). On other processors, this changes nothing.
            task: what the model is for, "classification" or "detection"; "auto" is what its file says or shows.
            conf: for a detector, the probability above which a candidate is an object, 0..1; None takes what the file
                states, or else 0.25.
            iou: for a detector, the overlap (intersection over union) above which the worse of two boxes of one class
                is dropped, 0..1; None takes what the file states, or else 0.45. A file that suppresses boxes itself
                has its own.
            contrast: whether classes can be contrasted with others (`against` of `explain`). A model that is opened
                from its file is made ready for it when it is first asked for.

        Raises:
            XcamError: a ModelError, LayerError, ScoreError, InputError, PreprocessError, LabelsError, ProviderError or
                DependencyError.
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
            task=task,
            conf=conf,
            iou=iou,
            contrast=flag("contrast", contrast),
        )
        methods = texts("method", method)
        self._load(model, methods, options, relu, fuse)
        self._opened_with = opened_with(model, options, methods, relu, fuse)
        for message in self.warnings:
            warnings.warn(message, XcamWarning, stacklevel=2)

    _contrasting: Engine | None

    def _load(
        self, model: ModelLike, methods: Sequence[str], options: ModelOptions, relu: bool, fuse: Fusion | None
    ) -> None:
        """Open the model as `__init__` does, but give no warnings."""
        if not methods:
            raise XcamError("No method was named.")
        check_choice(options.probabilities)
        self._engine = open_engine(model, methods, options, relu=flag("relu", relu), fuse=fuse)
        self.model = self._engine.model
        self._opening, self._contrasting = threading.Lock(), None
        self._lasting = [file.absolute() for file in self.files]
        self._stamps = stamps(self._lasting)

    @property
    def method(self) -> str:
        """Return the first of the methods."""
        return self._engine.methods[0]

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the CAM methods, all of which share the runs of an image."""
        return self._engine.methods

    @property
    def relu(self) -> bool:
        """Tell whether the maps leave out what speaks against the class."""
        return self._engine.relu

    @property
    def fuse(self) -> Fusion | None:
        """Return how the maps of all layers are also fused into one, or None if they are not."""
        return self._engine.fuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how pickle and copy open the model again from its file, with the same options.

        Raises:
            ModelError: the model is in memory, or the file has changed since it was opened.
        """
        if self._opened_with is None:
            raise ModelError(
                "An Explainer of a model in memory cannot be pickled or copied, since the model is not kept; write the "
                "model to a file and give its path."
            )
        self._require_unchanged()
        descriptions = self.name, self.notes, self.warnings
        return _opened_again, (type(self), self._opened_with, self._identity(), descriptions)

    def _identity(self) -> Identity:
        """Return what a copy must have in common with this Explainer."""
        settings = {"the labels": self.labels, "the preprocessing": self.preprocess, "the providers": self.providers}
        return Identity(digests(self._lasting), settings, dict(self.inputs))

    def explain(
        self,
        images: Image | Sequence[Image],
        classes: Classes | None = None,
        top: int | None = None,
        *,
        objects: Objects | None = None,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        against: Classes | None = None,
        channels: str | None = None,
    ) -> Explanation:
        """Explain K classes or objects of each of N images, in one run per batch.

        With several methods, the result is the explanation by the first; its `by` returns those by the others.

        Args:
            images: a path, the bytes of a file, an open file, an array or a tensor [H,W,3] in RGB order, an image of
                Pillow; a list of these; or a ready [N,...] tensor as the model's input takes it (already preprocessed;
                float32 and float64 are converted to the input's own float type), also in a .npy file.
            classes: ids or labels, -1 for the model's top class, -2 for the second best: one for all images, a list
                for all images, or N lists of K. None means -1.
                Of an object, -1 is its own class, and others ask why, or why not, it is one of these.
            top: the number K of each image's best classes, to be explained instead of `classes`; of a model of objects,
                the number of the best objects.
            objects: of a model of objects, such as a detector, -1 for the best object that is kept, -2 for the second
                best, and so on; 0 and above is the number of a candidate: an anchor, a query, or a row of an output
                whose rows are picked in the file. Given in the same forms as classes; None means -1. Where an image has
                no such object, `status` is 4.
            boxes: instead of objects, boxes x1, y1, x2, y2 in the photo's pixels: each stands for the object that is
                kept and overlaps it most. One box, a list of K for all images, or N lists of K.
            points: instead of objects, points x, y in the photo's pixels: each stands for the smallest object that is
                kept and holds it.
            against: a class, or one for each of the K, with which the explained class is contrasted: what speaks for
                the one and not for the other. -1 is none.
            channels: "BGR" for arrays [H,W,3] whose colours are in that order, as OpenCV reads them; not for files.

        Raises:
            ClassError: a class or an object is out of range, unknown, or cannot be chosen in this model.
            ImageError: a picture cannot be read or has an impossible size.
            InputError: no object covers a box or a point, a tensor does not fit the model's input, a model of any size
                is given photos of different sizes,
                or another input has rows for another number of images.
            ModelError: ONNX Runtime failed to run the model.
        """
        pictures = self.model.pictures(images, channels)
        cells = self.choose(classes, top, len(pictures), objects=objects, boxes=boxes, points=points, against=against)
        (explanation,) = self._explained([pictures], cells)
        if sentences := explanation.warnings():
            left = len(sentences) - _WARNINGS_SHOWN
            more = f" And {left} more; see status." if left > 0 else ""
            warnings.warn(" ".join(sentences[:_WARNINGS_SHOWN]) + more, XcamWarning, stacklevel=2)
        return explanation

    @overload
    def stream(
        self,
        images: Iterable[Image],
        classes: Classes | Cells | None = None,
        top: int | None = None,
        *,
        channels: str | None = None,
        **asked: Unpack[ObjectsAsked],
    ) -> Iterator[Streamed]: ...

    @overload
    def stream(
        self,
        images: Iterable[Image],
        classes: Classes | Cells | None = None,
        top: int | None = None,
        *,
        each: Callable[[Streamed], T],
        channels: str | None = None,
        **asked: Unpack[ObjectsAsked],
    ) -> Iterator[T]: ...

    def stream(
        self,
        images: Iterable[Image],
        classes: Classes | Cells | None = None,
        top: int | None = None,
        *,
        each: Callable[[Streamed], Any] | None = None,
        channels: str | None = None,
        **asked: Unpack[ObjectsAsked],
    ) -> Iterator[Any]:
        """Explain many images one after the other, in order, while the next images are already being read.

        Only a few images are taken from the iterable ahead of the results, so that a stream may be endless and memory
        stays bounded. An image that cannot be explained does not end the stream; its result holds the error. A loop
        that is left early or interrupted leaves no thread or run behind.

        Args:
            images: images as `explain` takes them, prepared pictures or ready [N,...] tensors; also a generator.
            classes: as for `explain`, the same for all images; or what `choose` returned.
            top: as for `explain`.
            each: a function that is called with each result in the worker thread that made it, for work that takes
                time itself, such as saving pictures. The stream yields what it returns, and an exception ends it.
            channels: as for `explain`.
            asked: objects, boxes, points and against as for `explain`, the same for all images.

        Returns:
            A `Streamed` for each image: the image as it was given, and its explanation or the error. No warnings are
            given about maps that are blank; `Explanation.warnings` returns them.

        Raises:
            ClassError: a class is out of range, unknown, or cannot be chosen in this model; this is raised at once, or
                with the first image where only a run can tell how many classes there are.
        """
        wanted = self.choose(classes, top, **asked)
        if each is not None and not callable(each):
            raise XcamError(f"each is {short_repr(each)}; it must be a function of one argument.")
        images = require_images(images)
        cancellation = Cancellation()

        def explained(pictures: Sequence[Sequence[Picture]]) -> list[Explanation]:
            return self._explained(pictures, wanted, cancellation)

        def prepared(image: Image) -> list[Picture]:
            if isinstance(image, str | Path | Named):
                return [self.prepare(image, channels)]
            return self.model.pictures(image, channels)

        handed_out = (lambda result: result) if each is None else each
        group, cancel = self._engine.images_per_group, cancellation.cancel
        results = stream(images, prepared, explained, Streamed, handed_out, group=group, cancel=cancel)
        return self._with_warnings(results)

    def _with_warnings(self, results: Generator[T]) -> Iterator[T]:
        """Yield the results of a stream, and give each new remark on how a picture was read as an XcamWarning."""
        warned = len(self.remarks.first())
        with closing(results):
            for result in results:
                for sentence in self.remarks.first(warned):
                    warnings.warn(sentence, XcamWarning, stacklevel=2)
                    warned += 1
                yield result

    def _explained(
        self,
        several: Sequence[Sequence[Picture]],
        cells: Cells,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """Return one explanation for each list of pictures; all lists share the runs."""
        self.model.loaded.others.check_count(sum(map(len, several)), self.batch)
        return self._engine_for(cells.against).explain(several, cells, cancellation)

    def choose(
        self,
        classes: Classes | Cells | None = None,
        top: int | None = None,
        images: int = 1,
        **asked: Unpack[ObjectsAsked],
    ) -> Cells:
        """Return what is explained, as int64 [1,K] or [images,K]; without any field if the model has fixed classes.

        Raises:
            ClassError, InputError: as `explain`.
        """
        return self._engine_for(asked.get("against")).model.choose(classes, top, images, **asked)

    def _engine_for(self, against: object) -> Engine:
        """Return the engine that can contrast classes if that is asked for, which the first such call opens.

        Without a contrast, and where the model cannot be opened again, it is the engine of all other explanations.
        """
        plain, opened = self._engine, self._opened_with
        if against is None or plain.model.choosable.contrast or plain.model.loaded.was_instrumented or opened is None:
            return plain
        with self._opening:
            if self._contrasting is None:
                self._require_unchanged()
                options = replace(opened.options, contrast=True)
                self._contrasting = open_engine(
                    opened.model, opened.methods, options, relu=opened.relu, fuse=opened.fuse
                )
            return self._contrasting

    def _require_unchanged(self) -> None:
        """Raise a ModelError if the model's files have changed since they were opened."""
        if stamps(self._lasting) != self._stamps:
            raise ModelError(f"'{self.name}' changed since it was opened; make a new Explainer.")


def _opened_again(
    kind: type[Explainer],
    before: OpenedWith,
    identity: Identity,
    descriptions: tuple[str, tuple[str, ...], tuple[str, ...]],
) -> Explainer:
    """Open the model of a pickled or copied Explainer again, without repeating its warnings.

    Args:
        kind: the class of the Explainer.
        before: how its model was opened.
        identity: what the new Explainer must have in common with it.
        descriptions: its name, notes and warnings.

    Raises:
        ModelError: the files, the labels or other settings have changed since.
        XcamError: as `Explainer`.
    """
    made = kind.__new__(kind)
    made._load(before.model, before.methods, before.options, before.relu, before.fuse)
    made._opened_with = before
    identity.require(made._identity())
    made.model.name, made.model.notes, made.model.warnings = descriptions
    return made
