"""This module reads and writes what a model states in `metadata_props["onnx_xcam"]`, with one type for both.

The JSON of an instrumented model is version 1 of the contract: fields never change their meaning, new ones may come.
Defaults for what a file of another version or from another tool leaves out are here, and nowhere else. This module
checks the form of what a file states, but not whether it is true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

from onnx_xcam.contract import LAYOUTS, METADATA_KEY, VERSION, Grid, Layout, Probabilities, Window
from onnx_xcam.errors import ModelError
from onnx_xcam.text import json_text, load_json

_METHOD = "xgrad-cam"
_LAYOUT: Layout = "NCHW"
_TASK = "classification"

PREPROCESS_KEY = "onnx_xcam.preprocess"
LABELS_KEY = "onnx_xcam.labels"
"""The keys under which a plain model's author may state preprocessing and labels, each as JSON; an entry `METADATA_KEY`
with only these fields serves too."""


class Misstated(NamedTuple):
    """A Misstated holds a value that a file states in an unknown form, an error only where the value is needed."""

    stated: Any


class CandidatesJson(TypedDict):
    """This record says what the candidates of a task with objects are.

    Attributes:
        tensor: The tensor of the scores, [N,Q,C].
        axis: The axis of the Q candidates in it.
        form: How the model's outputs are read, in words.
        boxes: Whether the boxes of the candidates are known.
        conf: Candidates whose probability is not above this are no objects.
        iou: Of two boxes of one class that overlap by more than this the worse one is dropped; null where the model
            itself picks the objects.
    """

    tensor: str
    axis: int
    form: str
    boxes: bool
    conf: float
    iou: float | None


class CutMemberJson(TypedDict):
    """This record is a member of a cut: one of several layers that carry all evidence together.

    Attributes:
        layer: The name of the layer's tensor.
        stride: How many pixels of the input one position of the layer stands for, [vertical, horizontal]; null where
            that depends on the picture.
    """

    layer: str
    stride: list[float] | None


class MetadataJson(TypedDict):
    """This record is the metadata that the surgery writes into an instrumented model.

    Attributes:
        version: The version of the contract.
        layers: The names of the target layers' tensors.
        layouts: The layout of each layer, which states the meaning of its axes.
        grids: For each layer of tokens [h, w, before, after], where the picture's tokens stand; null for other layers.
        method: The CAM method.
        score: The name of the score's tensor.
        relu: False for maps that keep what speaks against the class.
        fuse: How the maps of all layers are combined into one more map; only where they are.
        notes: Sentences on what was assumed.
        class_count: The number of classes, or null where only a run tells it.
        activation: The final softmax or sigmoid, before which the score lies, or null.
        probabilities: The original output that gives probabilities, the function to apply to it ("none", "exp",
            "softmax" or "sigmoid"), and scale and zero point if it holds quantised integers; or null.
        logits: The output that holds the scores, in the form of `probabilities`; they are logits if the model is a
            classifier.
        is_number: True if the score is one number for each image; only then.
        names: For each layer, its other names: the name by which it was asked for, its node, its module path.
        picture: The picture input that is explained; only for a model with several of them.
        task: What the model is for; files that do not say it are classifiers.
        candidates: What the objects are chosen among; only for a task with objects.
        cut: The layers whose maps are added up to the one map of each object, each with its stride; only where the map
            is such a sum.
        window: Which part of the input the layers of the cut cover, [top, left, bottom, right] as fractions of its
            height and width; only where the model pads or crops its picture. The map is of the input alone all the
            same.
        preprocess: The preprocessing, where known.
        labels: The labels of the classes, where known.
    """

    version: int
    layers: list[str]
    layouts: list[Layout]
    grids: list[list[int | None] | None]
    method: str
    score: str
    relu: bool
    fuse: NotRequired[str]
    notes: list[str]
    class_count: int | None
    activation: str | None
    probabilities: list[str | float] | None
    logits: list[str | float] | None
    is_number: NotRequired[bool]
    names: NotRequired[list[list[str]]]
    picture: NotRequired[str]
    task: NotRequired[str]
    candidates: NotRequired[CandidatesJson]
    cut: NotRequired[list[CutMemberJson]]
    window: NotRequired[list[float]]
    preprocess: NotRequired[dict[str, Any]]
    labels: NotRequired[list[str]]


class Candidates(NamedTuple):
    """A Candidates says what the objects of a model are chosen among; see `CandidatesJson`.

    Attributes:
        tensor: the tensor of the scores, [N,Q,C].
        axis: the axis of the Q candidates in it.
        form: how the model's outputs are read, in words.
        boxes: whether the boxes of the candidates are known.
        conf: the probability that an object exceeds.
        iou: the overlap above which the worse of two boxes of one class is dropped; None where the model itself picks.
    """

    tensor: str
    axis: int
    form: str
    boxes: bool
    conf: float
    iou: float | None

    def in_json(self) -> CandidatesJson:
        """Return it as plain data."""
        tensor, axis, form, boxes, conf, iou = self
        return {"tensor": tensor, "axis": axis, "form": form, "boxes": boxes, "conf": conf, "iou": iou}


class CutMember(NamedTuple):
    """A CutMember is one of the layers whose maps are added up to one map.

    Attributes:
        layer: the name of the layer's tensor.
        stride: pixels of the input for one position of the layer, vertical and horizontal; None where that depends on
            the picture.
    """

    layer: str
    stride: tuple[float, float] | None

    def in_json(self) -> CutMemberJson:
        """Return it as plain data."""
        return {"layer": self.layer, "stride": None if self.stride is None else list(self.stride)}


@dataclass(frozen=True)
class Metadata:
    """A Metadata holds what an instrumented model states about itself.

    Attributes:
        layers: the names of the target layers' tensors; none where a file does not state them.
        layouts: the layout of each layer, which states the meaning of its axes; `layout` knows the default.
        score: the name of the score's tensor; "" where a file does not state it.
        method: the CAM method.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are combined into one more map, or None.
        version: the version of the contract; any value in a file from another tool.
        preprocess, labels: the preprocessing and the labels, where known. `read_hints` reads them from any model, and
            refuses those of the wrong kind.
        notes: sentences on what was assumed.
        class_count: the number of classes, or None where only a run tells it.
        activation: the final softmax or sigmoid, before which the score lies, or None.
        grids: the positions of the tokens of each layer, None for layers without tokens; `grid` knows the default.
        probabilities: the output that is known to give probabilities, and the function to apply to it.
        picture: the picture input that is explained, for a model with several of them.
        logits: the output that gives probabilities if the model is a classifier, and the function to apply to it.
        is_number: whether the score is one number for each image, for which no output gives a probability.
        names: for each layer, its names besides that of its tensor.
        task: what the model is for.
        candidates: what the objects are chosen among, for a task with objects.
        cut: the layers whose maps are added up to one map, where the map is such a sum.
        window: which part of the input the layers of the cut cover, where the model pads or crops its picture.
        unstated: the fields that the surgery always writes and that the file does not have.
    """

    layers: tuple[str, ...]
    layouts: tuple[Layout, ...]
    score: str
    method: str = _METHOD
    relu: bool = True
    fuse: str | None = None
    version: Any = VERSION
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    class_count: int | None = None
    activation: str | None = None
    grids: tuple[Grid | None, ...] = ()
    probabilities: Probabilities | Misstated | None = None
    picture: str | None = None
    logits: Probabilities | Misstated | None = None
    is_number: bool = False
    names: tuple[tuple[str, ...], ...] = ()
    task: str = _TASK
    candidates: Candidates | None = None
    cut: tuple[CutMember, ...] = ()
    window: Window | None = None
    unstated: frozenset[str] = field(default=frozenset(), compare=False)

    def layout(self, index: int) -> Layout:
        """Return the layout of the layer with this index."""
        return self.layouts[index] if index < len(self.layouts) else _LAYOUT

    def grid(self, index: int) -> Grid | None:
        """Return the positions of the tokens of the layer with this index; None if it has no tokens."""
        return self.grids[index] if index < len(self.grids) else None

    def names_of(self, index: int) -> tuple[str, ...]:
        """Return the names of the layer with this index besides that of its tensor."""
        return self.names[index] if index < len(self.names) else ()

    def to_json(self) -> str:
        """Return the metadata as the JSON text that is stored in the model, a `MetadataJson`."""
        data: dict[str, object] = {
            "version": self.version,
            "layers": list(self.layers),
            "layouts": list(self.layouts),
            "grids": [None if grid is None else list(grid) for grid in self.grids],
            "method": self.method,
            "score": self.score,
            "relu": self.relu,
            **({"fuse": self.fuse} if self.fuse else {}),
            "notes": list(self.notes),
            "class_count": self.class_count,
            "activation": self.activation,
            "probabilities": _stated(self.probabilities),
            "logits": _stated(self.logits),
            **({"is_number": True} if self.is_number else {}),
        }
        if any(self.names):
            data["names"] = [list(names) for names in self.names]
        if self.picture is not None:
            data["picture"] = self.picture
        data["task"] = self.task
        if self.candidates is not None:
            data["candidates"] = self.candidates.in_json()
        if self.cut:
            data["cut"] = [member.in_json() for member in self.cut]
        if self.window is not None:
            data["window"] = list(self.window)
        if self.preprocess is not None:
            data["preprocess"] = dict(self.preprocess)
        if self.labels is not None:
            data["labels"] = list(self.labels)
        return json_text(data)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Read the metadata from a JSON text, with defaults for missing fields; unknown fields are ignored.

        Raises:
            ValueError: the text is not a JSON object, or a field is not of the right kind.
        """
        data = _parsed(text)
        preprocess = data.get("preprocess")
        return cls(
            layers=tuple(data.get("layers") or ()),
            layouts=tuple(data.get("layouts") or ()),
            score=data.get("score") or "",
            method=data.get("method") or _METHOD,
            relu=data.get("relu") is not False,
            fuse=data.get("fuse"),
            version=data.get("version", VERSION),
            preprocess=preprocess if isinstance(preprocess, dict) else None,
            labels=_labels(data.get("labels")),
            notes=tuple(data.get("notes") or ()),
            class_count=data.get("class_count"),
            activation=data.get("activation"),
            grids=tuple(None if grid is None else Grid(*grid) for grid in data.get("grids") or ()),
            probabilities=_probabilities(data.get("probabilities")),
            picture=data.get("picture"),
            logits=_probabilities(data.get("logits")),
            is_number=bool(data.get("is_number")),
            names=tuple(map(tuple, data.get("names") or ())),
            task=data.get("task") or _TASK,
            candidates=None if data.get("candidates") is None else _candidates(data["candidates"]),
            cut=tuple(_member(one) for one in data.get("cut") or ()),
            window=None if data.get("window") is None else Window(*map(float, data["window"])),
            unstated=_unstated(data),
        )

    @classmethod
    def from_props(cls, props: Mapping[str, str], name: str) -> Metadata:
        """Read the metadata from a model's `metadata_props`; a model without metadata gets all defaults.

        Args:
            props: the `metadata_props` of the model.
            name: the name of the model for messages.

        Raises:
            ModelError: the metadata is not a JSON object, or a field is not of the right kind.
        """
        try:
            return cls.from_json(props.get(METADATA_KEY, "{}"))
        except ValueError as error:
            raise ModelError(f"The metadata {METADATA_KEY!r} of {name} cannot be read: {error}.") from error


class Hints(NamedTuple):
    """A Hints holds the preprocessing and the labels from the metadata of a plain or instrumented model.

    Attributes:
        preprocess: a description of the preprocessing, or None.
        labels: the C labels, "" for a class that has none; or None.
    """

    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None


def read_hints(props: Mapping[str, str]) -> Hints:
    """Read the preprocessing and the labels that a model's `metadata_props` state under our keys.

    Raises:
        ModelError: preprocessing or labels are stated, but are not JSON of the right kind.
    """
    try:
        stated = _parsed(props.get(METADATA_KEY, "{}"))
        preprocess, labels = (
            load_json(props[key]) if key in props else stated.get(name)
            for name, key in (("preprocess", PREPROCESS_KEY), ("labels", LABELS_KEY))
        )
    except ValueError as error:
        raise ModelError(f"The model's metadata on preprocessing or labels is not valid JSON: {error}.") from error
    if not isinstance(preprocess, dict | None) or not isinstance(labels, list | None):
        raise ModelError("The model's metadata states preprocessing or labels in a wrong form: an object, and a list.")
    if labels is not None and _labels(labels) is None:
        raise ModelError("The model's metadata states labels that are no texts; a list of texts is needed.")
    return Hints(preprocess, _labels(labels))


def _parsed(text: str) -> dict[str, Any]:
    data = load_json(text)
    if not isinstance(data, dict):
        raise ValueError(f"metadata {METADATA_KEY!r} is not a JSON object")
    for key, (fits, wanted) in _KINDS.items():
        if data.get(key) is not None and not fits(data[key]):
            raise ValueError(f"{key!r} is not {wanted}")
    return data


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _grids(value: Any) -> bool:
    def is_grid(item: Any) -> bool:
        return isinstance(item, list) and len(item) == len(Grid._fields) and all(n is None or _whole(n) for n in item)

    return isinstance(value, list) and all(item is None or is_grid(item) for item in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < math.inf


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _cut(value: Any) -> bool:
    def is_member(item: Any) -> bool:
        stride = item.get("stride") if isinstance(item, dict) else 0
        fits = stride is None or (isinstance(stride, list) and len(stride) == 2 and all(map(_is_positive, stride)))
        return fits and isinstance(item.get("layer"), str)

    return isinstance(value, list) and all(map(is_member, value))


def _window(value: Any) -> bool:
    fits = isinstance(value, list) and len(value) == len(Window._fields) and all(map(_is_number, value))
    return fits and value[0] < value[2] and value[1] < value[3] and all(map(math.isfinite, value))


def _member(stated: Mapping[str, Any]) -> CutMember:
    stride = stated["stride"]
    return CutMember(stated["layer"], None if stride is None else (float(stride[0]), float(stride[1])))


def _candidates(value: Any) -> Candidates | None:
    """Read what the candidates are; None if it is stated in another form."""
    stated = value if isinstance(value, dict) else {}
    tensor, axis, form, boxes, conf, iou = (stated.get(name) for name in Candidates._fields)
    if not isinstance(tensor, str) or not _is_count(axis) or not isinstance(form, str) or not isinstance(boxes, bool):
        return None
    if not _is_share(conf) or not (iou is None or _is_share(iou)):
        return None
    return Candidates(tensor, stated["axis"], form, boxes, stated["conf"], iou)


_CANDIDATES = "an object of tensor, axis, form, boxes, conf, iou, the last two from 0 to 1"
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "layers": (_texts, "a list of names"),
    "layouts": (lambda value: _texts(value) and set(value) <= set(LAYOUTS), f"a list of {', '.join(LAYOUTS)}"),
    "grids": (_grids, "a list of grids, each null or four whole numbers"),
    "score": (lambda value: isinstance(value, str), "a name"),
    "method": (lambda value: isinstance(value, str), "a name"),
    "relu": (lambda value: isinstance(value, bool), "true or false"),
    "fuse": (lambda value: isinstance(value, str), "a name"),
    "notes": (_texts, "a list of sentences"),
    "activation": (lambda value: isinstance(value, str), "a name"),
    "names": (lambda value: isinstance(value, list) and all(map(_texts, value)), "a list of lists of names"),
    "picture": (lambda value: isinstance(value, str), "a name"),
    "is_number": (lambda value: isinstance(value, bool), "true or false"),
    "task": (lambda value: isinstance(value, str), "a name"),
    "candidates": (lambda value: _candidates(value) is not None, _CANDIDATES),
    "cut": (_cut, "a list of objects of layer and stride, which is null or two positive numbers"),
    "window": (_window, "four numbers: top, left, bottom and right"),
    "class_count": (_is_count, "a number of classes"),
}


def _unstated(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the fields that are missing, or null where null is no value; `probabilities` and `logits` may be null."""
    missing = {name for name in ("layouts", "grids", "task") if data.get(name) is None}
    return frozenset({*missing, *({"probabilities", "logits"} - data.keys())})


def _labels(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or any(isinstance(label, dict | list) for label in value):
        return None
    return tuple("" if label is None else str(label) for label in value)


def _probabilities(value: Any) -> Probabilities | Misstated | None:
    """Read the name of an output, the function to apply to it, and scale and zero point if it is quantised."""
    if value is None:
        return None
    fits = isinstance(value, list) and len(value) in (2, 4) and _texts(value[:2])
    if fits and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value[2:]):
        return Probabilities(*value)
    return Misstated(value)


def _stated(source: Probabilities | Misstated | None) -> Any:
    if source is None:
        return None
    return source.stated() if isinstance(source, Probabilities) else source.stated
