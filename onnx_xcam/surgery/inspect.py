"""What can be explained in a model: its score, its candidate layers, and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onnx_xcam import contract
from onnx_xcam.errors import LayerError
from onnx_xcam.metadata import Metadata
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
    """A candidate layer: a tensor that everything the score gets from the image passes through, or a part if none is.

    Attributes:
        name, node, op, path: the tensor, the node that makes it, its operator, its PyTorch module path or "".
        shape: dimensions: numbers, symbols, None for unknown.
        layout: "NCHW", "NHWC", "NTC", "NCT" or "TNC".
        grid: of a layer of tokens: height and width, and how many other tokens stand before and after; else None.
        default: whether "auto" takes it.
        unsupported: operators without a gradient rule between it and the score, each with its nodes' names.
        partly_used: the score uses some of its positions only (a class token), the others have no gradient.
        carries_all: whether everything the score gets from the picture passes through it.
        picture: of a model with several picture inputs, the one that it is listed for.
        holds: the other pictures that it is made of too.
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
    """What `inspect` found.

    Attributes:
        model: the model's name.
        opset: version of the default operator set.
        nodes: number of nodes.
        inputs: name, type and shape of each input.
        outputs: the same of each output.
        instrumented: the model is an instrumented one; score and layers are then those it was made for.
        score: name of the score tensor.
        classes: the number of classes, None if unknown.
        activation: the final activation that was stepped over, or None.
        layers: the candidates, in topological order.
        notes: what was assumed, and why no layer was found if there is none.
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

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def text(self) -> str:
        """The report for people."""
        lines = [f"{self.model}: opset {self.opset}, {self.nodes} nodes"]
        for kind, values in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {kind}  {v['name']}  {v['type']} {_shape_text(v['shape'])}" for v in values]
        lines.append(f"  score   {self.score}" + (f"  ({self.classes} classes)" if self.classes else ""))
        lines += [f"  {note}" for note in self.notes]
        for picture in dict.fromkeys(layer.picture for layer in self.layers):
            of = f" of '{picture}'" if picture else ""
            lines += ["", f"Layers{of}, first to last (* is the default):"]
            lines += _table([layer for layer in self.layers if layer.picture == picture])
        return "\n".join(printable(line) for line in lines)


def inspect(model: ModelLike, *, picture: str | None = None, allow_folders: Folders = ()) -> ModelReport:
    """What can be explained in a model.

    Args:
        model: path, bytes or ModelProto.
        picture: of several image inputs the one whose layers are listed; by default those of each are, one picture
            after the other, the one that "auto" explains first.
        allow_folders: as `instrument`.

    Raises:
        ModelError: not an ONNX model, or damaged, or external data that must not be read.
        ScoreError: no class score was found.
        LayerError: there is no such picture.
    """
    analysis = analyse(Source(model, allow_folders=allow_folders), Request(picture=picture or "auto"))
    with diagnosed(analysis.given):
        if contract.is_instrumented(analysis.graph.output_names):
            return _instrumented(analysis)
        others = [] if picture else analysis.layers.explained.others
        return _plain(analysis, [analysis.layers, *map(analysis.layers_of, others)])


def _plain(analysis: Analysis, pictures: Sequence[Layers]) -> ModelReport:
    """The report on a plain model, with the layers of some of its pictures."""
    target = analysis.target
    found = [_defaults(target, layers) for layers in pictures]
    rows = [_listed_layers(layers, defaults) for layers, (defaults, _) in zip(pictures, found, strict=True)]
    return ModelReport(
        **_outside(analysis),
        instrumented=False,
        score=target.shown,
        classes=target.class_count,
        activation=target.activation,
        layers=[row for each in rows for row in each],
        notes=[
            *analysis.changes,
            *(note for _, notes in found for note in notes),
            *target.notes,
            *_other_inputs(analysis.graph, unused_inputs(analysis.skeleton, [target.shown])),
        ],
    )


def _defaults(target: Target, layers: Layers) -> tuple[list[Layer], list[str]]:
    """The default layers of a picture, and a sentence on each; or why there is none."""
    of = f" of '{layers.explained.name}'" if layers.explained.name else ""
    try:
        found = target.default_layers(layers)
    except LayerError as error:
        return [], [str(error)]
    return found, [f"Default layer{of}: '{layer.shown}', {target.why_default(layers, layer)}." for layer in found]


def _other_inputs(graph: Graph, unused: Collection[str]) -> list[str]:
    """That there are inputs beside the picture, as sentences."""
    idle = [name for name in graph.input_names if name in unused]
    said = [contract.unused_note(idle)] if idle else []
    plain = [name for name in graph.input_names if not graph.is_constant(name) and name not in unused]
    images = [name for name in pictures(graph) if name not in unused]
    if len(plain) < 2:
        return said
    others = ", ".join(f"'{name}'" for name in plain if name not in images[:1])
    which = f"the picture goes to '{images[0]}'" if len(images) == 1 else "the picture goes to one that is not given"
    return [
        *said,
        f"Inputs: {which}; the others are given with --input NAME=VALUE{f' ({others})' if len(images) == 1 else ''}.",
    ]


def _outside(analysis: Analysis) -> dict[str, Any]:
    """What a model is seen to be from outside: the fields of a report that say so."""
    graph = analysis.graph
    inputs = [n for n in graph.input_names if not graph.is_constant(n)]
    return {
        "model": analysis.source.name.strip("'"),
        "opset": graph.opset,
        "nodes": len(analysis.skeleton.graph.node),
        "inputs": [_port(graph, n) for n in inputs],
        "outputs": [_port(graph, n) for n in graph.output_names],
    }


def _port(graph: Graph, name: str) -> dict[str, Any]:
    shape = graph.shape(name)
    return {"name": name, "type": str(graph.dtype(name) or "?"), "shape": None if shape is None else list(shape)}


def _listed_layers(layers: Layers, defaults: Sequence[Layer]) -> list[LayerReport]:
    """The layers that carry all, and the defaults; where none does, those that carry most."""
    reports = []
    shown = [layer for layer in layers.candidates if layer.bottleneck] or layers.carrying_most()
    if hidden := [layer for layer in defaults if layer not in shown]:
        shown = sorted([*shown, *hidden], key=lambda layer: layers.graph.order[layer.name])
    for layer in shown:
        behind: dict[str, list[str]] = {}
        for node in layers.unsupported(layer):
            behind.setdefault(str(node.op), []).append(str(node.name or node.outputs[0].name))
        about = layer.shown, layer.node, layer.op, layer.path, list(layer.shape), layer.layout
        grid = None if layer.grid is None else list(layer.grid)
        report = LayerReport(*about, layer in defaults, behind, grid, not layers.is_wholly_used(layer))
        held = tuple(layers.holds(layer))
        reports.append(replace(report, carries_all=layer.bottleneck, picture=layers.explained.name, holds=held))
    return reports


def _instrumented(analysis: Analysis) -> ModelReport:
    """The report on a model that is instrumented already: what it says of itself."""
    metadata, graph = Metadata.from_props(analysis.props, analysis.source.name), analysis.graph
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
    )


def _shape_text(shape: Sequence[int | str | None] | None) -> str:
    return "[?]" if shape is None else contract.shape_text(shape)


def _table(layers: Sequence[LayerReport]) -> list[str]:
    rows = []
    for layer in layers:
        said = [f"{layer.grid[0] or '?'} x {layer.grid[1] or '?'} tokens"] if layer.grid else []
        said += ["only partly used"] if layer.partly_used else []
        said += [] if layer.carries_all else ["carries a part"]
        said += ["holds " + ", ".join(layer.holds) + " too"] if layer.holds else []
        said += ["no rule for " + ", ".join(layer.unsupported)] if layer.unsupported else []
        mark = "*" if layer.default else " "
        cells = [mark, layer.name, layer.op, layer.path, layer.layout, _shape_text(layer.shape), "; ".join(said)]
        rows.append([printable(cell) for cell in cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
