"""This module opens a model in a session, after instrumenting it if it is plain, and reads off what runs need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.common.arguments import flag, text, texts
from onnx_xcam.errors import InputError, LayerError, ProviderError, ScoreError
from onnx_xcam.explainer.instrumented import (
    Wanted,
    class_count_of,
    metadata_of,
    refuse_other_picture,
    refuse_other_targets,
)
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.explainer.probabilities import ProbabilityOutputs, ProbabilitySource, probability_outputs
from onnx_xcam.feeds import OtherInputs, free_picture, image_and_others, padded
from onnx_xcam.metadata import Metadata
from onnx_xcam.producers.graph import graph_statements
from onnx_xcam.producers.statement import Statement
from onnx_xcam.runtime import Session, TensorInfo, open_session
from onnx_xcam.surgery.axes.batch_independence import Rows, cannot_mix, rounds, scaled_by_run
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.instrumented import instrumented
from onnx_xcam.surgery.proved import proved, proved_by_instrumented
from onnx_xcam.surgery.submodels.more_outputs import with_outputs
from onnx_xcam.surgery.submodels.part import part_making
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs
from onnx_xcam.trials.comparison import compare_raised
from onnx_xcam.trials.exactness import arithmetic_for

CUT_LAYER = "cut"
"""The name under which the map of a cut is shown, in place of a layer's name."""


@dataclass(frozen=True)
class LoadedModel:
    """A LoadedModel is an instrumented model in a session, with what is known of its inputs and outputs.

    Attributes:
        session: the session.
        name: the file's path in quotes, or "the model", for messages.
        path: the file's path; None for a model that was given as bytes or as a ModelProto.
        files: the model's file and the files of its external weights; none for a model without a path.
        metadata: the metadata of the instrumented model.
        image_input: the input that receives the pictures.
        others: the values of the other inputs.
        class_count: the number C of classes, or None where neither metadata nor shapes show it.
        probability_outputs: the outputs of the model that hold probabilities or logits.
        probabilities: where the probabilities that are shown come from, or None.
        fixed_classes: whether the model has no class input, since its classes were fixed when it was instrumented.
        batch: the batch size that the model was exported with, or None if it takes any.
        folds: whether the model makes one answer of all images of a run, so that each image must be run alone.
        was_instrumented: whether the file was instrumented already when it was opened.
        is_number: whether the score is shown as a number, with the classes up and down.
        exact: whether the option was set that products of 8-bit integers are added up exactly.
        inexact: a sentence that says that 8-bit products saturate on this processor; None where they do not.
        compared: a sentence that says how the outputs of a model changed when its opset was raised, or None.
        skeleton: the instrumented graph without its weights, for estimates of memory; None for a file that was
            instrumented already.
        rows: whether the images of a run influence each other.
        proved: what the graph itself proves of its pictures and classes.
        class_memory: the bytes that one class takes, as far as they were estimated, by the shape of the batch.
        candidate_count: the number of candidates Q of a model of objects, where the graph states it.
        open_selection: opens the part of the model that chooses objects, without any gradient, in a session.
    """

    session: Session
    name: str
    path: Path | None
    files: tuple[Path, ...]
    metadata: Metadata
    image_input: TensorInfo
    others: OtherInputs
    class_count: int | None
    probability_outputs: ProbabilityOutputs
    probabilities: ProbabilitySource | None
    fixed_classes: bool
    batch: int | None
    folds: bool
    was_instrumented: bool
    is_number: bool = False
    exact: bool = False
    inexact: str | None = None
    compared: str | None = None
    skeleton: bytes | None = None
    rows: Rows = field(default_factory=lambda: Rows(mixed=None, is_exact=True))
    proved: tuple[Statement, ...] = ()
    class_memory: dict[tuple[int, ...], int] = field(default_factory=dict)
    candidate_count: int | None = None
    open_selection: Callable[[], Session] | None = None

    @property
    def layers(self) -> list[str]:
        """Return the names of the target layers' tensors."""
        return list(self.metadata.layers)

    @property
    def names(self) -> list[tuple[str, ...]]:
        """Return for each layer its names beside that of its tensor."""
        return [self.metadata.names_of(index) for index in range(len(self.layers))]

    def has(self, name: str) -> bool:
        """Tell whether the model has an input or an output of this name."""
        session = self.session
        return any(name == one.name for one in (*session.outputs, *session.optional_inputs, *session.inputs))

    @property
    def of_objects(self) -> list[str]:
        """Return the names of the outputs that say which objects were explained; none in a model without objects."""
        return [name for name in (contract.OBJECTS, contract.BOXES, contract.PROBABILITIES) if self.has(name)]

    @property
    def shown_layers(self) -> list[str]:
        """Return the name of the layer of each map: one for a cut, whose layers' maps are added up."""
        return [CUT_LAYER] if len(self.metadata.cut) > 1 else self.layers

    @property
    def shown_names(self) -> list[tuple[str, ...]]:
        """Return for each map the other names of its layer; for a cut, those of all its layers."""
        if len(self.metadata.cut) < 2:
            return self.names
        every = (name for layer, names in zip(self.layers, self.names, strict=True) for name in (layer, *names))
        return [tuple(every)]

    def outputs(self, kind: contract.Emit) -> list[str]:
        """Return the names of the outputs of this kind, one per layer, or none if the model has no such outputs."""
        there = {output.name for output in self.session.outputs}
        names = [contract.output_name(kind, index) for index in range(len(self.layers))]
        return [name for name in names if name in there]

    def images_per_run(self, most: int) -> int:
        """Return how many images one run takes: the model's own batch size, 1 if it folds images, else `most`."""
        return self.batch or (1 if self.folds else most)

    def feeds(self, batch: NDArray[Any], start: int = 0, images: int | None = None) -> dict[str, NDArray[Any]]:
        """Return the feeds of one run, by the names of inputs; the last image is repeated up to the model's batch size.

        Args:
            batch: the images of the run, at most as many as the model's own batch size.
            start: the index of the first of them among the images of the call.
            images: the number of images of the call, if there are more than these.
        """
        count = len(batch)
        batch = padded(batch, self.batch or count)
        return {self.image_input.name: batch, **self.others.rows(start, len(batch), images or count)}

    @property
    def fused(self) -> list[str]:
        """Return the names of the outputs with the fused map of all layers: one, or none if layers are not fused."""
        return [output.name for output in self.session.outputs if output.name == contract.FUSED]


def load_model(
    model: ModelLike,
    options: ModelOptions,
    *,
    method: str = AUTO_METHOD,
    relu: bool = True,
    fuse: Fusion | None = None,
    emit: Sequence[contract.Emit] = ("map", "status"),
    more_outputs: Sequence[str] = (),
    analysis: Analysis | None = None,
) -> LoadedModel:
    """Open a plain or an instrumented model for explaining.

    Args:
        model, method, relu, fuse: as `Explainer`.
        options: how the model is opened; `OpenModel` settles labels and probabilities.
        emit: the outputs that are needed; a model that is instrumented already need not have the status.
        more_outputs: names of further tensors of a plain model that become outputs.
        analysis: the analysis of the plain model for the same layers, score and picture; None to make it here.

    Raises:
        ModelError: the file is no ONNX model, or an instrumented one without an output that is needed.
        LayerError: layers, a score or a method are requested of a model that was instrumented for others.
        InputError: no input takes images, or a value of another input is missing or wrong.
        XcamError: as `analyse`, `instrumented` and `open_session`.
    """
    check_fusion(fuse, layers=None, relu=relu)
    wanted: Wanted = {"method": method, "relu": relu, "fuse": fuse}
    request = surgery_request(options)
    exact, providers = flag("exact", options.exact), options.providers
    providers = None if providers is None else texts("providers", providers, ProviderError)
    given = Source(model, allow_folders=options.allow_folders)
    proto = given.skeleton()
    inputs, pictures = read_pictures(proto, given.path, options.inputs, options.preprocess)
    made = compared = None
    if contract.is_instrumented(output.name for output in proto.graph.output):
        refuse_other_targets(proto, given.name, request, wanted)
    else:
        request = replace(request, picture=free_picture(model_infos(proto), inputs))
        analysis = analysis or analyse(given, request)
        made = instrumented(
            analysis, TailOptions(emit=emit, contrast=flag("contrast", options.contrast), **wanted)
        ).content()
        compared = compare_raised(given, inputs, made)
    explained = proto if made is None else given.changed(made).skeleton()
    arithmetic, inexact = arithmetic_for(given, proto, providers, exact=exact)
    in_session = {"providers": providers, "threads": options.threads, "arithmetic": arithmetic}
    session = _session_of(given, None if made is None else _with_more(made, proto, more_outputs), in_session)
    metadata = metadata_of(session, given.name, proto.graph if made is None else None, emit)
    of_probabilities = probability_outputs(metadata, proto.graph)
    unused = unused_inputs(explained, _needed_outputs(session, more_outputs, of_probabilities))
    image_input, others = image_and_others(session.inputs, session.optional_inputs, inputs, unused)
    refuse_other_picture(metadata.picture, image_input.name, given.name)
    if analysis is None:
        facts = proved_by_instrumented(proto, image_input.name, metadata.score)
    else:
        facts = proved(analysis, image_input.name)
    return LoadedModel(
        session=session,
        name=given.name,
        path=given.path,
        files=_files(given),
        metadata=metadata,
        image_input=image_input,
        others=replace(others, pictures=pictures),
        class_count=class_count_of(metadata, session),
        probability_outputs=of_probabilities,
        probabilities=of_probabilities.own,
        fixed_classes=contract.CLASS_INPUT not in {info.name for info in (*session.inputs, *session.optional_inputs)},
        batch=image_input.shape[0] if isinstance(image_input.shape[0], int) else None,
        folds=_folds(session, image_input, given.name),
        was_instrumented=made is None,
        exact=exact,
        inexact=inexact,
        compared=compared,
        skeleton=None if made is None else explained.SerializeToString(),
        rows=_rows(proto, image_input, metadata),
        proved=graph_statements(*facts),
        candidate_count=_candidate_count(analysis),
        open_selection=functools.partial(_selection, given, request, in_session, is_plain=made is not None),
    )


def surgery_request(options: ModelOptions) -> Request:
    """Return what some options say of what is explained as a `Request`, after checking their types.

    Raises:
        XcamError: an option has a wrong type, or a threshold is out of range.
    """
    layers = options.layers if isinstance(options.layers, str) else texts("layers", options.layers, LayerError)
    score, task = text("score", options.score, ScoreError), text("task", options.task)
    return Request(layers=layers, score=score, task=task, conf=options.conf, iou=options.iou)


def _needed_outputs(session: Session, more: Sequence[str], outputs: ProbabilityOutputs) -> list[str]:
    """Return the names of the outputs that runs need: the added ones, `more`, and the source of probabilities."""
    added = [output.name for output in session.outputs if output.name.startswith(contract.ADDED)]
    return [*added, *more, *(source.output for source in (outputs.own, outputs.logits) if source)]


def _folds(session: Session, image: TensorInfo, name: str) -> bool:
    """Tell whether a model makes one answer of all images of a run.

    Raises:
        InputError: the model does so, and takes a fixed number of images.
    """
    classes = next((output.shape for output in session.outputs if output.name == contract.CLASSES), ())
    if not classes or classes[0] != 1 or image.shape[0] == 1:
        return False
    if isinstance(image.shape[0], int):
        raise InputError(
            f"{name} takes {image.shape[0]} images at once and makes one answer of them, as models of several crops, "
            "frames or tiles do, which are not supported; export it for one image, or with an open number of images."
        )
    return True


def _rows(model: onnx.ModelProto, image: TensorInfo, metadata: Metadata) -> Rows:
    """Return whether images of a run influence each other, with `mixed` None if the operators do not show it.

    What the operators do not show is found out when several images are run for the first time.
    """
    # The table of a model of objects is made of its outputs; a model that was plain does not have it.
    is_made = any(metadata.score in node.output for node in model.graph.node)
    scores = [metadata.score] if is_made else [output.name for output in model.graph.output]
    wanted = [*scores, *metadata.layers]
    if image.shape[0] == 1 or cannot_mix(model, image.name, wanted):
        return Rows(mixed=False, is_exact=True)
    return Rows(mixed=scaled_by_run(model.graph) or None, is_exact=not rounds(model.graph))


def _files(source: Source) -> tuple[Path, ...]:
    """Return the model's file and the files of its external weights; none for a model in memory."""
    if source.path is None:
        return ()
    return (source.path, *sorted({reference.part.path for reference in source.references()}))


def _with_more(made: bytes, original: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """Return an instrumented model with these tensors as further outputs, unless they are inputs or outputs already."""
    there = {value.name for value in (*original.graph.input, *original.graph.output)}
    return with_outputs(made, [name for name in names if name not in there])


def _candidate_count(analysis: Analysis | None) -> int | None:
    """Return the number of candidates of a plain model of objects, where its shapes state it, or None."""
    if analysis is None or analysis.target.candidates is None:
        return None
    count = analysis.target.shape[analysis.target.candidates.axis]
    return count if isinstance(count, int) else None


def _selection(given: Source, request: Request, options: Mapping[str, Any], *, is_plain: bool) -> Session:
    """Open the part of a model that chooses objects, without any gradient, in a session."""
    if is_plain:
        part = instrumented(analyse(given, request), TailOptions(emit=())).content()
    else:
        wanted = [contract.CLASSES, contract.OBJECTS, contract.BOXES, contract.PROBABILITIES]
        part = part_making(given.load(lambda _: False), wanted).SerializeToString()
    return _session_of(given, part, options)


def _session_of(source: Source, made: bytes | None, options: Mapping[str, Any]) -> Session:
    """Open a session of an instrumented model, or of the given model if `made` is None.

    The given model is opened from its file, unless its external data lie in a folder where ONNX Runtime refuses them.
    """
    if made is None and source.path and all(reference.inside for reference in source.references()):
        return open_session(source.path, **options)
    content, folder = source.runnable(source.with_tail(b"") if made is None else made)
    return open_session(content, folder=folder, **options)
