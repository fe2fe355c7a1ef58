"""This module reports what can be explained in a model, and where its preprocessing and labels come from.

It joins the surgery's report with what producers state, and runs neither ONNX Runtime nor OpenCV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from onnx_xcam.contract import image_axes
from onnx_xcam.errors import InputError, LabelsError, ModelError, PreprocessError
from onnx_xcam.images.preprocess import by
from onnx_xcam.metadata import Metadata
from onnx_xcam.producers.assume import how_likely, takes_whole
from onnx_xcam.producers.describe import NAMES, told
from onnx_xcam.producers.evidence import evidence
from onnx_xcam.producers.graph import graph_statements
from onnx_xcam.producers.settle import input_spec, settle
from onnx_xcam.producers.settled import Settled
from onnx_xcam.producers.stated import LabelsLike, PreprocessLike
from onnx_xcam.producers.statement import GROUPS
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.inspect import ModelReport, inspect_analysis
from onnx_xcam.surgery.proved import Proved, proved, proved_by_instrumented, proved_of_picture
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse, diagnosed
from onnx_xcam.text import printable

_LABELS_SHOWN = 3


@dataclass(frozen=True)
class PartReport:
    """A PartReport says what a part of the preprocessing is, or the labels are, and where that comes from.

    Attributes:
        name: "size", "resize rule", "interpolation", "values", "channel order", "layout" or "labels".
        value: what it is, in words.
        kind: the kind of the source: "argument", "metadata", "file", "graph", "model" (the input leaves no choice),
            "assumed", or "none" (there are no labels).
        source: the source in words.
        contradictions: whole sentences on sources that state something else.
        likely: of what is assumed, how many published weights of this input size agree, and of how many; else None.
    """

    name: str
    value: str
    kind: str
    source: str
    contradictions: tuple[str, ...] = ()
    likely: tuple[int, int] | None = None

    def who(self) -> str:
        """Return who says so, for people."""
        if self.likely is None:
            return self.source
        return "{}, as {} of {} published weights of this size have it".format(self.source, *self.likely)


@dataclass(frozen=True)
class PicturesReport:
    """A PicturesReport says how pictures become a model's input, and where each part of that comes from.

    Attributes:
        input: the name of the image input.
        parts: the parts, one for each group of settings, and the labels.
        preprocess: all settings, as `--preprocess` takes them; None where `problem` says why there are none.
        remarks: whole sentences on what sources say that is not followed.
        problem: the sentence that `explain` would end with, or None.
    """

    input: str
    parts: tuple[PartReport, ...] = ()
    preprocess: Mapping[str, Any] | None = None
    remarks: tuple[str, ...] = ()
    problem: str | None = None

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        lines = [f"Pictures, as '{self.input}' gets them:"]
        lines += [f"  {self.problem}"] if self.problem else []
        columns = [max((len(text) for text in texts), default=0) for texts in self._cells()]
        for part in self.parts:
            lines.append(f"  {part.name:{columns[0]}}  {part.value:{columns[1]}}  {part.who()}".rstrip())
            lines += (f"    {sentence}" for sentence in part.contradictions)
        return [*lines, *(f"  {remark}" for remark in self.remarks)]

    def _cells(self) -> tuple[list[str], list[str]]:
        """Return the cells of the columns with the names of the parts and with their values."""
        return [part.name for part in self.parts], [part.value for part in self.parts]


@dataclass(frozen=True)
class Inspection(ModelReport):
    """An Inspection is a report on a model together with one on its pictures.

    Attributes:
        pictures: how pictures become the model's input, and who says so; None for a model that takes none.
        other_pictures: the same of each further input that takes pictures.
    """

    pictures: PicturesReport | None = field(default=None)
    other_pictures: tuple[PicturesReport, ...] = ()

    def text(self) -> str:
        """Return the report as lines for people."""
        lines = [super().text()]
        for one in (self.pictures, *self.other_pictures):
            lines += [] if one is None else ["", *map(printable, one.lines())]
        return "\n".join(lines)


def inspect(
    model: ModelLike,
    *,
    picture: str | None = None,
    preprocess: PreprocessLike | None = None,
    labels: LabelsLike | None = None,
    allow_folders: Folders = (),
    score: str = "auto",
    task: str = "auto",
    conf: float | None = None,
    iou: float | None = None,
) -> Inspection:
    """Report what can be explained in a model, and how pictures become its input.

    Args:
        model: path, bytes or ModelProto.
        picture: the image input for which layers are listed. By default the layers of each image input are listed, one
            input after the other, first the one that "auto" explains.
        preprocess: a preprocessing to look at, as for `Explainer`; None looks where `Explainer` looks.
        labels: labels to look at, as for `Explainer`.
        allow_folders, score, task, conf, iou: as for `instrument`.

    Raises:
        ModelError: the model is no ONNX model or damaged, or has external data that must not be read.
        ScoreError: no class score was found.
        LayerError: there is no such picture.
        PreprocessError, LabelsError: the given preprocessing or labels are wrong, or do not fit the model.
    """
    source = Source(model, allow_folders=allow_folders)
    request = Request(picture=picture or "auto", score=score, task=task, conf=conf, iou=iou)
    analysis = analyse(source, request)
    report = inspect_analysis(analysis)
    with diagnosed(analysis.given):
        image = _image(analysis)
        found = None if image is None else _pictures(image, analysis, report, preprocess, labels)
        others = _others(image, analysis, preprocess)
    return Inspection(
        **{one.name: getattr(report, one.name) for one in fields(report)}, pictures=found, other_pictures=others
    )


def _image(analysis: Analysis) -> str | None:
    """Return the name of the input that takes the picture that is explained, or None if the model has no inputs."""
    if analysis.is_instrumented:
        named = Metadata.from_props(analysis.props, analysis.plain_source.name).picture
        return named or next(iter(pictures(analysis.plain_graph)), None)
    return next(iter(analysis.layers.explained.names), None)


def _pictures(
    name: str, analysis: Analysis, report: ModelReport, preprocess: PreprocessLike | None, labels: LabelsLike | None
) -> PicturesReport:
    """Return the report on the pictures that an input takes.

    Raises:
        PreprocessError, LabelsError: the given preprocessing or labels are wrong, or do not fit the model.
    """
    graph = analysis.plain_graph
    is_number = False if analysis.is_instrumented else analysis.target.is_number
    try:
        of_graph = graph_statements(*_proved(name, analysis, report))
        said = evidence(preprocess, labels, analysis.props, analysis.given.path, of_graph)
        spec = input_spec(name, graph.dtype(name), tuple(graph.shape(name) or ()), said)
        settled = settle(said, spec, report.classes, is_number=is_number, whole=takes_whole(_task(analysis)))
    except (PreprocessError, LabelsError, InputError, ModelError) as error:
        given = preprocess if isinstance(error, PreprocessError) else labels
        if given is not None and isinstance(error, PreprocessError | LabelsError):
            raise  # what is wrong with the arguments; what was found is reported
        return PicturesReport(name, problem=str(error))
    parts = tuple(_part(group, settled) for group in (*GROUPS, "labels"))
    return PicturesReport(name, parts, settled.preprocess.to_dict(), (*settled.remarks, *settled.label_remarks))


def _task(analysis: Analysis) -> str:
    """Return what the model is for."""
    if analysis.is_instrumented:
        return Metadata.from_props(analysis.props, analysis.plain_source.name).task
    return analysis.target.task


def _others(image: str | None, analysis: Analysis, preprocess: PreprocessLike | None) -> tuple[PicturesReport, ...]:
    """Return the reports on the further inputs that take pictures, which are prepared by what the sources state of one.

    What does not fit such an input gives way to it, as it is stated for the picture that is explained.
    """
    graph = analysis.plain_graph
    reports = []
    for name in pictures(graph):
        if name == image or image_axes(graph.shape(name) or ()) is None:
            continue
        try:
            of_graph = graph_statements(*proved_of_picture(analysis.plain_skeleton, name))
            said = evidence(preprocess, None, analysis.props, analysis.given.path, of_graph)
            said = [replace(one, binding=False) for one in said]
            settled = settle(said, input_spec(name, graph.dtype(name), tuple(graph.shape(name) or ()), said), None)
        except (PreprocessError, InputError, ModelError) as error:
            reports.append(PicturesReport(name, problem=str(error)))
            continue
        parts = tuple(_part(group, settled) for group in GROUPS)
        reports.append(PicturesReport(name, parts, settled.preprocess.to_dict(), settled.remarks))
    return tuple(reports)


def _proved(name: str, analysis: Analysis, report: ModelReport) -> Proved:
    """Return what the graph itself proves of a picture input and of the classes."""
    if analysis.is_instrumented:
        return proved_by_instrumented(analysis.plain_skeleton, name, report.score)
    return proved(analysis, name)


def _part(group: str, settled: Settled) -> PartReport:
    """Return the report on one group of settings, or on the labels."""
    origin = settled.origins[group]
    source = origin.source or {"assumed": "assumed", "none": "none known"}.get(origin.kind, "")
    likely = _likely(group, settled) if origin.kind == "assumed" else None
    return PartReport(NAMES[group], _value(group, settled), origin.kind, source, origin.contradictions, likely)


def _likely(group: str, settled: Settled) -> tuple[int, int] | None:
    """Return how many published weights agree with what is assumed of a group, and of how many; None if unknown."""
    known = how_likely(settled.spec, settled.size, whole=settled.whole)
    if known is None:
        return None
    agreeing = {"values": known.values, "geometry": known.crop, "interpolation": known.interpolation}.get(group)
    return None if agreeing is None else (agreeing, known.weights)


def _value(group: str, settled: Settled) -> str:
    """Return in words what a group is."""
    if group == "size":
        return by(settled.size)
    if group == "layout":
        return settled.spec.layout
    if group == "labels":
        return _few(settled.labels)
    return told(group, settled.preprocess, settled.spec.channels)


def _few(labels: Sequence[str] | None) -> str:
    """Return the number of labels and the first of them."""
    if labels is None:
        return "none"
    more = ", ..." if len(labels) > _LABELS_SHOWN else ""
    return f"{len(labels)}: {', '.join(labels[:_LABELS_SHOWN])}{more}"
