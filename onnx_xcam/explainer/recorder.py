"""A Recorder opens a model so that one run of an image gives all from which several methods make their maps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.ablation import ChannelAblation, ablations_of
from onnx_xcam.cams.methods import AUTO_METHOD, find_method
from onnx_xcam.common.arguments import texts
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.explainer.attributes import OfOpenModel
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.existing import refuse_candidates, refuse_missing
from onnx_xcam.explainer.load import LoadedModel, load_model, surgery_request
from onnx_xcam.explainer.model import Image, OpenModel, require_images
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recording import CutRecord, LayerRecord, Recording
from onnx_xcam.explainer.reopening import anywhere
from onnx_xcam.explainer.scoring import Scorer
from onnx_xcam.explainer.stream import stream
from onnx_xcam.feeds import InputValue, free_picture
from onnx_xcam.producers.stated import PreprocessLike
from onnx_xcam.records.evaluate import Confidence
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.targets.analysis import analyse
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, check_choice

T = TypeVar("T")


@dataclass(frozen=True)
class Recorded:
    """A Recorded is the result of one image of a stream: a recording or an error.

    Attributes:
        image: the image as the stream was given it.
        recording: the recording, or None if the image failed.
        error: why it could not be recorded, or None.
        seconds: the duration of the run; 0.0 if it failed.
    """

    image: Any
    recording: Recording | None
    error: XcamError | None
    seconds: float


class Recorder(OfOpenModel):
    """A Recorder records the activations and gradients of layers, and the scores, when a model is run on an image.

    Each method makes its map from the recording, without another run. Several threads may call a Recorder at once.

    Attributes:
        model: the open model. A Recorder has its attributes (`layers`, `labels`, `notes`, ...) too.
        methods: the methods for which it was opened.
        confidence_kind: what `confidences` returns: "probability", or "score" where the model gives no probabilities.
    """

    def __init__(
        self,
        model: ModelLike,
        layers: str | Sequence[str] = "auto",
        score: str = "auto",
        *,
        methods: Sequence[str],
        ablations: bool = False,
        preprocess: PreprocessLike | None = None,
        labels: str | Path | Sequence[str] | None = None,
        providers: str | Sequence[str] | None = None,
        threads: int | None = None,
        inputs: Mapping[str, InputValue] | None = None,
        allow_folders: Folders = (),
        probabilities: ProbabilityChoice = "auto",
        exact: bool = False,
        task: str = "auto",
        conf: float | None = None,
        iou: float | None = None,
        contrast: bool = False,
    ) -> None:
        """Load a plain model.

        Args:
            model, layers, score, preprocess, labels, providers, threads, inputs: as for `Explainer`.
            allow_folders, probabilities, exact, task, conf, iou, contrast: as for `Explainer`.
            methods: the CAM methods whose maps will be requested.
            ablations: whether the scores without each channel will be requested, which the axioms need.

        Raises:
            ModelError: the model is instrumented already.
            XcamError: as `Explainer`.
        """
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
            exact=exact,
            task=task,
            conf=conf,
            iou=iou,
            contrast=contrast,
        )
        self._load(model, methods, options, ablations=ablations)

    @classmethod
    def of(cls, model: ModelLike, methods: Sequence[str], options: ModelOptions) -> Recorder:
        """Open a Recorder with these options, with ablations only if a method needs them.

        Raises:
            XcamError: as `Recorder`.
        """
        made = cls.__new__(cls)
        made._load(model, methods, options, ablations=False)
        return made

    def _load(self, model: ModelLike, methods: Sequence[str], options: ModelOptions, *, ablations: bool) -> None:
        """Open the model, its channel ablations and its guided form, as far as the methods need them."""
        check_choice(options.probabilities)
        if not (methods := texts("methods", methods)):
            raise XcamError("No method was named.")
        for name in methods:
            if name != AUTO_METHOD:
                find_method(name)  # a name that there is not is told before the model is read
        given = Source(model, allow_folders=options.allow_folders)
        skeleton = given.skeleton()
        _refuse_instrumented(given, skeleton)
        values, descriptions = read_pictures(skeleton, given.path, options.inputs, options.preprocess)
        plain = replace(options, inputs=values, preprocess=None)  # pictures among the inputs are read once
        request = replace(surgery_request(plain), picture=free_picture(model_infos(skeleton), values))
        analysis = analyse(given, request)
        suiting = [analysis.target.default_method if name == AUTO_METHOD else name for name in methods]
        self.methods = tuple(dict.fromkeys(find_method(name).name for name in suiting))
        needs = {find_method(name).needs for name in self.methods}
        self._ablations: list[ChannelAblation] = []
        self._ablates = ablations
        if ablations or "ablations" in needs:
            self._ablations = ablations_of(
                analysis, providers=plain.providers, threads=plain.threads, exact=plain.exact
            )
        loaded = load_model(
            model,
            plain,
            emit=("activations", "gradients") if needs & {"gradients", "guided gradients"} else ("activations",),
            more_outputs=tuple(dict.fromkeys(name for one in self._ablations for name in one.needed)),
            analysis=analysis,
        )
        self.model = OpenModel(replace(loaded, others=replace(loaded.others, pictures=descriptions)), options)
        chosen = replace(plain, layers=list(self.layers))
        self._guided = None
        if "guided gradients" in needs:
            guided = "guided-xgrad-cam"
            self._guided = load_model(model, plain, method=guided, relu=False, emit=("map",), analysis=analysis)
        self._scorer = Scorer(self._scoring(*anywhere(model, chosen)), self.model.photos.spec)

    def _scoring(self, model: ModelLike, options: ModelOptions) -> Callable[[], LoadedModel]:
        """Return a function that opens the model without gradients, for the scores of changed pictures."""

        def load() -> LoadedModel:
            known = self.model.loaded
            return replace(load_model(model, options, emit=()), probabilities=known.probabilities, rows=known.rows)

        return load

    @property
    def ablates(self) -> bool:
        """Tell whether recordings have what the axioms need: the scores without each channel."""
        return self._ablates or bool(self._ablations)

    @property
    def confidence_kind(self) -> Confidence:
        """Return what `confidences` are: "probability", or "score" where the model gives no probabilities."""
        loaded = self.model.loaded
        return "probability" if loaded.probabilities or contract.PROBABILITIES in loaded.of_objects else "score"

    def confidences(
        self, batch: NDArray[Any], cells: Cells, cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities of K cells, or their scores where the model gives no probabilities, float32 [B,K].

        Args:
            batch: B preprocessed images, `[B,...]`, of any B.
            cells: the same for all images, such as the `cells` of a recording.
            cancellation: can end the run from another thread.

        Raises:
            XcamError: as `Session.run`.
        """
        return self._scorer.confidences(batch, cells, cancellation)

    def record(
        self,
        picture: Picture,
        cells: Cells | None = None,
        cancellation: Cancellation | None = None,
        *,
        nth: int = 0,
        images: int = 1,
    ) -> Recording:
        """Run the model once on an image, and return the recording.

        Args:
            picture: the image, as `prepare` returns it.
            cells: what is explained, as `choose` returns it for one image; None is the model's top class.
            cancellation: can end the run from another thread.
            nth: the index of the image among those of a call, for inputs that have a row for each image.
            images: the number of images of the call.

        Raises:
            XcamError: as `Session.run`.
        """
        model = self.model.loaded
        feeds = model.feeds(picture.item[None], nth, images)
        cells = self.choose() if cells is None else cells
        cells = self.model.locator.located(cells, [picture], cancellation, nth=nth, images=images)
        source = model.probabilities
        outputs = [output.name for output in model.session.outputs if output.name in self._wanted]

        def run(chosen: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
            return model.session.run({**feeds, **chosen}, names, cancellation)

        refuse_missing(model, cells.classes, 1, run)
        try:
            results = run(cells.feeds(), outputs)
        except ModelError as error:
            refuse_candidates(model, cells, error)
            raise
        ids = results[contract.CLASSES][:1]
        resolved = cells.resolved(results).rows(0, 1)
        guided = self._guided_maps({**feeds, **resolved.feeds()}, cancellation)
        flat = self._flat(ids[0], _first(results, contract.OBJECTS))
        layers = [
            self._layer(
                index, picture, results, resolved, guided[index] if len(guided) > 1 or len(self.layers) == 1 else None
            )
            | self._ablation_fields(index, {**feeds, **results}, flat, cancellation)
            for index in range(len(self.layers))
        ]
        table = results[source.output].reshape(len(results[source.output]), -1)[:1] if source else None
        own = source.of(table, ids)[0] if source and table is not None else None
        of_objects = contract.PROBABILITIES in results
        return Recording(
            cells=resolved,
            classes=ids[0],
            scores=results[contract.SCORES][0],
            probabilities=_first(results, contract.PROBABILITIES) if of_objects else own,
            layers=self._maps([LayerRecord(**fields) for fields in layers], guided),
            picture=picture,
            labels=self.labels,
            notes=self.notes,
            is_number=model.is_number,
            task=model.metadata.task,
            objects=_first(results, contract.OBJECTS),
            boxes=_first(results, contract.BOXES),
        )

    def stream(
        self,
        images: Iterable[Image],
        cells: Cells,
        *,
        each: Callable[[Recorded], T],
        cancellation: Cancellation | None = None,
        channels: str | None = None,
    ) -> Iterator[T]:
        """Record many images one after the other, in order, while the next images are already being read.

        Memory stays bounded, however many images there are.

        Args:
            images: images as `Explainer.explain` takes them, or prepared pictures; also a generator.
            cells: what is explained in each image, as `choose` returns it.
            each: a function that is called with each result in the worker thread that made it, so that maps are
                computed there too. The stream yields what it returns, and an exception ends it.
            cancellation: ends all runs when the stream ends early; to be given where `each` makes runs of its own.
            channels: as for `Explainer.explain`.
        """
        cancellation = cancellation or Cancellation()
        images = require_images(images)

        def prepared(image: Image) -> list[Picture]:
            return [image if isinstance(image, Picture) else self.prepare(image, channels)]

        def recorded(several: Sequence[Sequence[Picture]]) -> list[Recording]:
            return [self.record(pictures[0], cells, cancellation) for pictures in several]

        # One more worker than cores, since `evaluate` computes between its runs: on two cores this was 5 % faster, with
        # 88 instead of 76 % of the time in ONNX Runtime (EfficientNet-Lite0, all metrics; docs/figures.md).
        cancel = cancellation.cancel
        return stream(images, prepared, recorded, Recorded, each, group=1, cancel=cancel, more_workers=1)

    @functools.cached_property
    def _wanted(self) -> set[str]:
        """Return the names of the outputs from which a recording is made."""
        source = self.model.loaded.probabilities
        kinds: tuple[contract.Emit, ...] = ("activations", "gradients")
        return {
            contract.CLASSES,
            contract.SCORES,
            *self.model.loaded.of_objects,
            *(name for kind in kinds for name in self.model.loaded.outputs(kind)),
            *(name for one in self._ablations for name in one.needed),
            *([source.output] if source else []),
        }

    def _maps(
        self, layers: Sequence[LayerRecord], guided: Sequence[NDArray[np.float32] | None]
    ) -> Sequence[LayerRecord | CutRecord]:
        """Return a record for each map: of each layer, or one of the cut whose layers' maps are added up."""
        loaded = self.model.loaded
        if loaded.shown_layers == loaded.layers:
            return layers
        return [CutRecord(loaded.shown_layers[0], layers, loaded.shown_names[0], guided[0], loaded.metadata.window)]

    def _layer(
        self,
        index: int,
        picture: Picture,
        results: Mapping[str, NDArray[Any]],
        cells: Cells,
        guided: NDArray[np.float32] | None,
    ) -> dict[str, Any]:
        """Return the fields of a layer's record by name, except `ablate` and `split`."""
        gradients = results.get(contract.output_name("gradients", index))
        return {
            "name": self.layers[index],
            "names": self.model.loaded.names[index],
            "layout": self.model.loaded.metadata.layout(index),
            "grid": self.model.loaded.metadata.grid(index),
            "activations": results[contract.output_name("activations", index)][:1],
            "gradients": None if gradients is None else gradients[:1],
            "scores": results[contract.SCORES][0],
            "guided": guided,
            "mask": functools.partial(self._scorer.masked_scores, picture.item, cells=cells),
            "input_size": picture.placement.input,
            "window": self.model.loaded.metadata.window if len(self.layers) == 1 else None,
        }

    def _flat(self, classes: NDArray[np.int64], objects: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return where K cells stand in the score table of one image, [Q,C], once it is flattened."""
        if objects is None:
            return classes
        assert self.class_count is not None  # a table of candidates has a number of classes
        flat: NDArray[np.int64] = np.maximum(objects * self.class_count + classes, 0)
        return flat

    def _guided_maps(
        self, feeds: Mapping[str, NDArray[Any]], cancellation: Cancellation | None
    ) -> list[NDArray[np.float32] | None]:
        """Return the Guided XGrad-CAM of each map before the ReLU, `[1,K,H,W]`, or None each if no method needs it."""
        if self._guided is None:
            return [None] * len(self.model.shown_layers)
        names = self._guided.outputs("map")
        maps = self._guided.session.run(feeds, names, cancellation)
        return [maps[name][:1] for name in names]

    def _ablation_fields(
        self,
        index: int,
        values: Mapping[str, NDArray[Any]],
        ids: NDArray[np.int64],
        cancellation: Cancellation | None,
    ) -> dict[str, Any]:
        """Return the fields `ablate` and `split` of a layer's record by name, both None without ablations."""
        if not self._ablations:
            return {"ablate": None, "split": None}
        ablation = self._ablations[index]
        arguments = {name: values[name] for name in ablation.needed}, ids.tolist(), cancellation
        return {
            "ablate": functools.partial(ablation.ablated, *arguments),
            "split": functools.partial(ablation.decomposition, *arguments),
        }


def _first(results: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any] | None:
    """Return an output of the first image, or None if the model has no such output."""
    return results[name][0] if name in results else None


def _refuse_instrumented(given: Source, skeleton: onnx.ModelProto) -> None:
    """Raise a ModelError if the model is instrumented already."""
    if contract.is_instrumented(output.name for output in skeleton.graph.output):
        raise ModelError(
            f"{given.name} is instrumented already, and gives one method's map in one run; other methods, and those "
            "that take many runs, need the original model."
        )
