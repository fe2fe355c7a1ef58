"""This module reports what can be explained in a model: its score, its candidate layers, and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onnx_xcam import contract
from onnx_xcam.errors import LayerError
from onnx_xcam.metadata import CandidatesJson, CutMemberJson, Metadata
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse, diagnosed
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers
from onnx_xcam.surgery.targets.target import Target
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs
from onnx_xcam.text import printable


@dataclass(frozen=True)
class LayerReport:
    """A LayerReport describes a candidate layer, through which everything the score gets from the image passes.

    Where no layer carries everything, those are listed that carry most.

    Attributes:
        name: the tensor.
        node: the name of the node that computes it.
        op: that node's operator.
        path: its PyTorch module path, or "".
        shape: its dimensions: numbers, symbols, None for unknown.
        layout: "NCHW", "NHWC", "NTC", "NCT" or "TNC".
        grid: for a layer of tokens, height and width, and how many other tokens stand before and after; else None.
        default: whether "auto" takes it.
        unsupported: operators without a gradient rule between it and the score, each with its nodes' names.
        partly_used: whether the score uses only some of its positions (a class token), so that the others have no
            gradient.
        carries_all: whether everything the score gets from the picture passes through it.
        picture: in a model with several picture inputs, the one that it is listed for.
        holds: the other pictures that it depends on too.
    """

    name: str
    node: str
    op: str
    path: str
    shape: list[int | str | None]
    layout: str
    default: bool
    unsupported: dict[str, list[str]]
    grid: list[int | None] | None = None
    partly_used: bool = False
    carries_all: bool = True
    picture: str | None = None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelReport:
    """A ModelReport holds what `inspect` found in a model.

    Attributes:
        model: the model's name.
        opset: version of the default operator set.
        nodes: number of nodes.
        inputs: name, type and shape of each input.
        outputs: name, type and shape of each output.
        instrumented: whether the model is an instrumented one; score and layers are then those it was made for.
        score: name of the score tensor.
        classes: the number of classes, None if unknown.
        activation: the final activation between the score and the output, or None.
        layers: the candidates, in topological order.
        notes: what was assumed, and why no layer was found if there is none.
        task: what the model is for.
        candidates: what the objects are chosen among, as the metadata of an instrumented model have it; None for a
            model without objects.
        table: the shape `[N, Q, C]` of the scores of the candidates, as far as it is known; None without objects.
        cut: the layers whose maps are added up, each with its stride; none where a layer has a map of its own.
    """

    model: str
    opset: int
    nodes: int
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    instrumented: bool
    score: str
    classes: int | None
    activation: str | None
    layers: list[LayerReport]
    notes: list[str]
    task: str = "classification"
    candidates: CandidatesJson | None = None
    table: list[int | str | None] | None = None
    cut: tuple[CutMemberJson, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)

    def text(self) -> str:
        """Return the report as lines for people."""
        lines = [f"{self.model}: opset {self.opset}, {self.nodes} nodes"]
        for kind, values in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {kind}  {v['name']}  {v['type']} {_shape_text(v['shape'])}" for v in values]
        lines.append(f"  score   {self.score}" + (f"  ({self.classes} classes)" if self.classes else ""))
        lines += self._of_objects()
        lines += [f"  {note}" for note in self.notes]
        for picture in dict.fromkeys(layer.picture for layer in self.layers):
            of = f" of '{picture}'" if picture else ""
            lines += ["", f"Layers{of}, first to last (* is the default):"]
            lines += _table([layer for layer in self.layers if layer.picture == picture])
        return "\n".join(printable(line) for line in lines)

    def _of_objects(self) -> list[str]:
        """Return the lines on the table and the cut of a model of objects; the notes say why, and the thresholds."""
        if self.candidates is None:
            return []
        boxes = "" if self.candidates["boxes"] else "  boxes unknown"
        shape = "" if self.table is None else f"  {_shape_text(self.table)} (images, candidates, classes)"
        lines = [f"  table {shape}{boxes}"] if shape or boxes else []
        for member in self.cut:
            stride = "" if member["stride"] is None else "  stride {:g} x {:g}".format(*member["stride"])
            lines.append(f"  cut     {member['layer']}{stride}")
        return lines


def inspect(
    model: ModelLike,
    *,
    picture: str | None = None,
    allow_folders: Folders = (),
    score: str = "auto",
    task: str = "auto",
    conf: float | None = None,
    iou: float | None = None,
) -> ModelReport:
    """Report what can be explained in a model.

    Args:
        model: path, bytes or ModelProto.
        picture: the image input for which layers are listed. By default the layers of each image input are listed, one
            input after the other, first the one that "auto" explains.
        allow_folders, score, task, conf, iou: as for `instrument`.

    Raises:
        ModelError: the model is no ONNX model or damaged, or has external data that must not be read.
        ScoreError: no class score was found.
        LayerError: there is no such picture.
    """
    request = Request(picture=picture or "auto", score=score, task=task, conf=conf, iou=iou)
    return inspect_analysis(analyse(Source(model, allow_folders=allow_folders), request))


def inspect_analysis(analysis: Analysis) -> ModelReport:
    """Report what can be explained in a model that is analysed, for the picture of its request, or for each.

    Raises:
        ModelError, ScoreError, LayerError: as `inspect`.
    """
    with diagnosed(analysis.given):
        if analysis.is_instrumented:
            return _instrumented(analysis)
        others = [] if analysis.request.picture != "auto" else analysis.layers.explained.others
        return _plain(analysis, [analysis.layers, *map(analysis.layers_of, others)])


def _plain(analysis: Analysis, pictures: Sequence[Layers]) -> ModelReport:
    """Return the report on a plain model, with the layers of some of its pictures."""
    target = analysis.target
    defaults = [_defaults(target, layers) for layers in pictures]
    rows = [_listed_layers(layers, chosen) for layers, (chosen, _) in zip(pictures, defaults, strict=True)]
    return ModelReport(
        **_outside(analysis),
        instrumented=False,
        score=target.public_name,
        classes=target.class_count,
        activation=target.activation,
        layers=[row for each in rows for row in each],
        notes=[
            *analysis.changes,
            *(note for _, notes in defaults for note in notes),
            *target.notes,
            *_other_inputs(analysis.plain_graph, unused_inputs(analysis.plain_skeleton, [target.public_name])),
        ],
        task=target.task,
        candidates=None if target.candidates is None else target.candidates.in_json(),
        table=None if target.candidates is None else list(target.shape),
        cut=tuple(analysis.member(layer).in_json() for layer in defaults[0][0]) if analysis.is_cut else (),
    )


def _defaults(target: Target, layers: Layers) -> tuple[list[Layer], list[str]]:
    """Return the default layers of a picture with a note on each, or none with a note that says why."""
    of = f" of '{layers.explained.name}'" if layers.explained.name else ""
    try:
        defaults = target.default_layers(layers)
    except LayerError as error:
        return [], [str(error)]
    by_reason: dict[str, list[str]] = {}
    for layer in defaults:
        names = by_reason.setdefault(target.why_default(layers, layer), [])
        names += [name] if (name := f"'{layer.public_name}'") not in names else []
    return defaults, [
        f"Default layers{of}: {', '.join(names)}, each {why}."
        if len(names) > 1
        else f"Default layer{of}: {names[0]}, {why}."
        for why, names in by_reason.items()
    ]


def _other_inputs(graph: Graph, unused: Collection[str]) -> list[str]:
    """Return the notes on inputs beside the picture."""
    idle = [name for name in graph.input_names if name in unused]
    notes = [contract.unused_note(idle)] if idle else []
    plain = [name for name in graph.input_names if not graph.is_constant(name) and name not in unused]
    images = [name for name in pictures(graph) if name not in unused]
    if len(plain) < 2:
        return notes
    others = ", ".join(f"'{name}'" for name in plain if name not in images[:1])
    which = f"the picture goes to '{images[0]}'" if len(images) == 1 else "the picture goes to one that is not given"
    return [
        *notes,
        f"Inputs: {which}; the others are given with --input NAME=VALUE{f' ({others})' if len(images) == 1 else ''}.",
    ]


def _outside(analysis: Analysis) -> dict[str, Any]:
    """Return the fields of a report that describe a model from outside: name, opset, nodes, inputs and outputs."""
    graph = analysis.plain_graph
    inputs = [n for n in graph.input_names if not graph.is_constant(n)]
    return {
        "model": analysis.plain_source.name.strip("'"),
        "opset": graph.opset,
        "nodes": len(analysis.plain_skeleton.graph.node),
        "inputs": [_port(graph, n) for n in inputs],
        "outputs": [_port(graph, n) for n in graph.output_names],
    }


def _port(graph: Graph, name: str) -> dict[str, Any]:
    """Return name, type and shape of an input or output."""
    shape = graph.shape(name)
    return {"name": name, "type": str(graph.dtype(name) or "?"), "shape": None if shape is None else list(shape)}


def _listed_layers(layers: Layers, defaults: Sequence[Layer]) -> list[LayerReport]:
    """Return the reports on the layers that carry everything, else on those that carry most, and on the defaults."""
    reports = []
    shown = [layer for layer in layers.candidates if layer.bottleneck] or layers.carrying_most()
    members = {(layer.name, layer.grid): layer for layer in defaults}
    others = [layer for layer in shown if (layer.name, layer.grid) not in members]
    shown = sorted([*others, *defaults], key=lambda layer: layers.graph.order[layer.name])
    for layer in shown:
        behind: dict[str, list[str]] = {}
        for node in layers.unsupported(layer):
            behind.setdefault(str(node.op), []).append(str(node.name or node.outputs[0].name))
        about = layer.public_name, layer.node, layer.op, layer.path, list(layer.shape), layer.layout
        grid = None if layer.grid is None else list(layer.grid)
        report = LayerReport(*about, layer in defaults, behind, grid, not layers.is_wholly_used(layer))
        held = tuple(layers.holds(layer))
        reports.append(replace(report, carries_all=layer.bottleneck, picture=layers.explained.name, holds=held))
    return reports


def _instrumented(analysis: Analysis) -> ModelReport:
    """Return the report on a model that is instrumented already, from its own metadata."""
    metadata, graph = Metadata.from_props(analysis.props, analysis.plain_source.name), analysis.plain_graph
    reports = []
    for index, layer in enumerate(metadata.layers):
        shape, grid = list(graph.shape(layer) or []), metadata.grid(index)
        stated = None if grid is None else list(grid)
        reports.append(LayerReport(layer, "", "", "", shape, metadata.layout(index), True, {}, stated))
    return ModelReport(
        **_outside(analysis),
        instrumented=True,
        score=metadata.score,
        classes=metadata.class_count,
        activation=metadata.activation,
        layers=reports,
        notes=["Instrumented already; explain uses it as it is.", *metadata.notes],
        task=metadata.task,
        candidates=None if metadata.candidates is None else metadata.candidates.in_json(),
        cut=tuple(member.in_json() for member in metadata.cut),
    )


def _shape_text(shape: Sequence[int | str | None] | None) -> str:
    """Return a shape as text, "[?]" if it is unknown."""
    return "[?]" if shape is None else contract.shape_text(shape)


def _table(layers: Sequence[LayerReport]) -> list[str]:
    """Return the lines of a table of layers, one for each layer."""
    rows = []
    for layer in layers:
        remarks = [f"{layer.grid[0] or '?'} x {layer.grid[1] or '?'} tokens"] if layer.grid else []
        remarks += ["only partly used"] if layer.partly_used else []
        remarks += [] if layer.carries_all else ["carries a part"]
        remarks += ["holds " + ", ".join(layer.holds) + " too"] if layer.holds else []
        remarks += ["no rule for " + ", ".join(layer.unsupported)] if layer.unsupported else []
        mark = "*" if layer.default else " "
        cells = [mark, layer.name, layer.op, layer.path, layer.layout, _shape_text(layer.shape), "; ".join(remarks)]
        rows.append([printable(cell) for cell in cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
