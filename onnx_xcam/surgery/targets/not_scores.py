"""What a tensor is that is no class score: places, time steps, maps, embeddings, landmarks.

Three kinds of evidence are read off the graph, and one off names:

    an axis is made of the picture's rows and columns    anchors, a map, time steps: neither images nor classes
    x / sqrt(sum(x^2)) comes last                        a vector whose length was taken away: an embedding
    boxes were picked                                    rows of a detector
    the output is called embedding, landmarks, bbox      weak: what nothing else says is asked, not taken
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.contract import shape_text
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.analysis.ends import makers, pictures
from onnx_xcam.surgery.axes.axes import Axes, Axis, is_place
from onnx_xcam.surgery.axes.layouts import axis_roles
from onnx_xcam.surgery.ir.dims import Dim, Shape, known_size
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import number

Kind: TypeAlias = Literal["places", "steps", "map", "rows", "embedding", "named"]

WHAT: dict[Kind, str] = {
    "places": "numbers of each place or box, as detectors give",
    "steps": "scores of each time step, as text recognition gives",
    "map": "a map, as segmentation gives",
    "rows": "several rows of numbers, as detectors and text recognition give",
    "embedding": "an embedding: a vector that is divided by its length",
}
_LATER = "detection and segmentation are not supported"
_TASKS: dict[Kind, str] = {
    "steps": "text recognition is not supported",
    "rows": "detection and text recognition are not supported",
    "embedding": "embeddings are not supported",
}

_FEW = 8
"""As many places may be left of a picture of a size that was only tried: a pooling window too small for it."""
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
_BOXES = frozenset({"NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT"})
_RESHAPED = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout", "Cast", "Expand"}
)
_BOUNDED = frozenset({"Clip", "Max", "Add", *_RESHAPED})
"""What is done to a length before something is divided by it."""


class UnfitError(ScoreError):
    """A tensor is no class score.

    Attributes:
        subject: its name and shape.
        kind: what it is instead.
        advice: what can be done, in a sentence, or "".
    """

    def __init__(self, name: str, shape: Shape, kind: Kind, what: str = "", advice: str = "") -> None:
        self.name, self.shape, self.kind = name, shape, kind
        self.what, self.advice = what or WHAT[kind], advice
        super().__init__(told([self]))


def told(unfit: Sequence[UnfitError]) -> str:
    """What some tensors are, in one sentence; those of one kind together."""
    groups: dict[str, list[UnfitError]] = {}
    for one in unfit:
        groups.setdefault(one.what, []).append(one)
    parts = []
    for what, members in groups.items():
        shapes = {member.name: shape_text(member.shape) for member in members}
        if len(shapes) == 1:
            parts.append(f"'{members[0].name}' has the shape {shapes[members[0].name]} ({what})")
        else:
            both = listed([f"'{name}' {shape}" for name, shape in shapes.items()])
            parts.append(f"{both} ({what})")
    advice = dict.fromkeys(one.advice for one in unfit if one.advice)
    if all(one.kind == "named" for one in unfit):
        return " ".join([f"{'; '.join(parts)}, and nothing in the model says that these are scores.", *advice])
    tasks = dict.fromkeys(_TASKS.get(one.kind, _LATER) for one in unfit if one.kind != "named")
    needed = ", not one score per class: [N,C] is needed"
    return " ".join(["; ".join(["; ".join(parts) + needed, *tasks]) + ".", *advice])


def listed(items: Sequence[str], most: int = 3) -> str:
    """Some items, and how many there are besides."""
    shown = list(items[:most])
    if len(items) > most:
        shown.append(f"{len(items) - most} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


class AxisEvidence:
    """What the axes of a graph's tensors are made of, as far as a score is concerned.

    Args:
        graph: the graph.
        sample: the same with numbers for a symbolic height and width, if they are symbolic.
    """

    def __init__(self, graph: Graph, sample: Graph | None = None) -> None:
        self._graph, self._sample = graph, sample or graph
        self._few = 1 if sample is None else _FEW

    @cached_property
    def _axes(self) -> dict[str, Axes]:
        return axis_roles(self._sample)

    @cached_property
    def _batches(self) -> list[Dim]:
        """The number of images, as the picture inputs state it."""
        return [shape[0] for name in pictures(self._graph) if len(shape := self._graph.shape(name) or ()) == 4]

    def not_images(self, name: str, axis: int = 0) -> Kind | None:
        """What the positions of an axis are that are known not to be the images, None if nothing is known."""
        if (kind := self.places(name, axis)) is not None:
            return kind
        shapes = [graph.shape(name) or () for graph in (self._graph, self._sample)]
        dims = [shape[axis] for shape in shapes if len(shape) == len(shapes[0])]
        length = next((dim for dim in dims if isinstance(dim, int)), None)
        fixed = bool(self._batches) and all(isinstance(batch, int) for batch in self._batches)
        if length is None:
            return "steps" if fixed and is_recurrent(self._graph, name) else None
        several = any(atom.role == "C" and atom.size not in (1, None) for atom in self._axis(name, axis))
        if length == 1 or length in self._batches or not (several or fixed):
            return None
        return "steps" if is_recurrent(self._graph, name) else "rows"

    def places(self, name: str, axis: int) -> Kind | None:
        """Whether the positions of an axis are places of the picture, or steps along its width."""
        atoms = [atom for atom in self._axis(name, axis) if is_place(atom) and atom.size != 1]
        count = known_size(atom.size for atom in atoms)
        if not atoms or count is None or count <= self._few:
            return None
        return "steps" if all(atom.role == "W" for atom in atoms) else "places"

    def _axis(self, name: str, axis: int) -> Axis:
        axes = self._axes.get(name, ())
        return axes[axis] if axis < len(axes) else ()


def is_picked(graph: Graph, name: str) -> bool:
    """Whether boxes were picked to make a tensor."""
    return any(node.op in _BOXES for node in makers(graph, name))


def is_recurrent(graph: Graph, name: str) -> bool:
    """Whether a tensor is made step by step, by a recurrent layer."""
    return any(node.op in _RECURRENT for node in makers(graph, name))


def of_rank_three_or_more(graph: Graph, evidence: AxisEvidence, name: str, shape: Shape) -> Kind:
    """What a tensor is that has two axes or more beside that of the images."""
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    if len(shape) > 3:
        return "map"
    kinds = [evidence.places(name, axis) for axis in wide]
    if is_recurrent(graph, name) or "steps" in kinds:
        return "map" if "places" in kinds or kinds.count("steps") > 1 else "steps"
    return "places" if "places" in kinds else "rows"


# --- vectors of length 1 ----------------------------------------------------------------------------------------------


def is_normalised(graph: Graph, name: str) -> bool:
    """Whether a tensor was divided by its own length last, in any of the ways that exporters write it."""
    node = _maker(graph, name)
    if node is None:
        return False
    if node.op == "LpNormalization":
        return int(node.attrs.get("p", 2)) == 2
    if node.op == "Div":
        return _is_length_of(graph, node.inputs[1].name, node.inputs[0].name)
    if node.op != "Mul":
        return False
    pairs = ((node.inputs[0].name, node.inputs[1].name), (node.inputs[1].name, node.inputs[0].name))
    if any(number(graph, factor) is not None and is_normalised(graph, x) for x, factor in pairs):
        return True
    return any(_is_inverse_length_of(graph, factor, x) for x, factor in pairs)


def _is_inverse_length_of(graph: Graph, name: str, x: str) -> bool:
    """1 / |x|: a reciprocal, a quotient, or the power -1/2 of the sum of squares."""
    node = _maker(graph, name, _BOUNDED)
    if node is None:
        return False
    if node.op == "Reciprocal":
        return _is_length_of(graph, node.inputs[0].name, x)
    if node.op == "Div" and number(graph, node.inputs[0].name) is not None:
        return _is_length_of(graph, node.inputs[1].name, x)
    return node.op == "Pow" and number(graph, node.inputs[1].name) == -0.5 and _is_square(graph, node.inputs[0].name, x)


def _is_length_of(graph: Graph, name: str, x: str) -> bool:
    """|x|, up to what keeps it from being zero."""
    node = _maker(graph, name, _BOUNDED)
    if node is None:
        return False
    if node.op == "ReduceL2":
        return _source(graph, node.inputs[0].name) == _source(graph, x)
    if node.op == "Pow" and number(graph, node.inputs[1].name) == -0.5:
        return False
    roots = node.op == "Sqrt" or (node.op == "Pow" and number(graph, node.inputs[1].name) == 0.5)
    return roots and _is_square(graph, node.inputs[0].name, x)


def _is_square(graph: Graph, name: str, x: str) -> bool:
    """sum(x^2), up to what keeps it from being zero."""
    node, own = _maker(graph, name, _BOUNDED), _source(graph, x)
    if node is None:
        return False
    if node.op == "ReduceSumSquare":
        return _source(graph, node.inputs[0].name) == own
    if node.op != "ReduceSum":
        return False
    squares = _maker(graph, node.inputs[0].name)
    if squares is None or _source(graph, squares.inputs[0].name) != own:
        return False
    if squares.op == "Mul":
        return _source(graph, squares.inputs[1].name) == own
    return squares.op == "Pow" and number(graph, squares.inputs[1].name) == 2


def _maker(graph: Graph, name: str, passed: frozenset[str] = _RESHAPED) -> gs.Node | None:
    """The node that makes a tensor, behind those that only move its values or hold them away from zero."""
    while (node := graph.producer.get(name)) is not None and node.op in passed and is_standard(node.domain):
        names = [tensor.name for tensor in node.inputs]
        if node.op in ("Add", "Max"):
            names = [other for other in names if number(graph, other) is None]
            if len(names) != 1:
                return node
        name = str(names[0])
    return node if node is not None and is_standard(node.domain) else None


def _source(graph: Graph, name: str) -> str:
    """The tensor that holds the same values before they were moved."""
    while (node := graph.producer.get(name)) is not None and node.op in _RESHAPED - {"Expand"}:
        name = str(node.inputs[0].name)
    return name


# --- plain vectors ----------------------------------------------------------------------------------------------------

_SAY_OTHERWISE = {
    "an embedding": ("embedding", "embeddings", "embed", "embeds", "descriptor", "descriptors"),
    "landmarks": ("landmark", "landmarks", "lmk", "lmks", "ldmk", "ldmks", "keypoint", "keypoints", "kpt", "kpts"),
    "boxes": ("bbox", "bboxes", "box", "boxes"),
}
_SAY_SO = re.compile(r"logit|prob|score|class|cls|label|pred|softmax|sigmoid", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_LAST = frozenset({"BatchNormalization", "LayerNormalization", "Tanh"})
"""What features may end in and scores don't."""


def named_otherwise(name: str) -> str | None:
    """What an output's name says that it is, if that is something else than scores; a path says nothing."""
    words = {word.lower() for word in _WORDS.findall(name)}
    if "/" in name or _SAY_SO.search("_".join(words - {"pred", "predicted", "prediction", "predictions", "preds"})):
        return None
    return next((what for what, known in _SAY_OTHERWISE.items() if words & set(known)), None)


def says_scores(name: str) -> bool:
    """Whether an output's name says that it holds scores."""
    return _SAY_SO.search(name) is not None


def ends_as_features(graph: Graph, name: str) -> str | None:
    """The operator that makes a plain output last, if it is one that features end in and scores don't."""
    node = _maker(graph, name)
    return str(node.op) if node is not None and node.op in _LAST else None
