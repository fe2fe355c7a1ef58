"""This module defines what is explained in a model: a table of scores, how cells are chosen, and the layers behind it.

Every vision task is a table `S [N, Q, C]` of N images, Q candidates (one of a classifier, else anchors, queries, time
steps, ...) and C classes. A task answers four questions, in one place of its own:

    how is it recognised?         a function from `Evidence` to a `Target`, listed in `tasks.py`
    where is the table?           `Target.name`, a tensor of the model, or one that `Target.added` computes
    what ranks its cells?         `Target.select`
    which layers carry evidence?  `Target.default_layers`

Nothing else in the surgery depends on the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.methods import DEFAULT_METHOD
from onnx_xcam.contract import ClassInput, Probabilities, Task
from onnx_xcam.metadata import Candidates
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.default_layer import last_bottleneck, why_last_bottleneck
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers


@dataclass(frozen=True)
class Thresholds:
    """Thresholds say which candidates are objects; None is what the model states, or else the usual number.

    Attributes:
        conf: the probability that an object exceeds, 0..1.
        iou: the overlap (intersection over union) above which the worse of two boxes of one class is dropped, 0..1.
    """

    conf: float | None = None
    iou: float | None = None


@dataclass(frozen=True)
class Evidence:
    """An Evidence holds what a task is recognised by.

    Attributes:
        graph: the model.
        sample: the graph with numbers for a symbolic height and width, if they are symbolic.
        wanted: the score that was asked for: "auto", or a tensor's name.
        props: the model's metadata.
        labels: the names of classes that the metadata state, None if they state none.
        thresholds: what a candidate must exceed to be an object, as it was asked for.
        stored: returns the values of stored tensors by name, as of large ones that the graph leaves out.
    """

    graph: Graph
    sample: Graph | None = None
    wanted: str = "auto"
    props: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    thresholds: Thresholds = Thresholds()
    stored: Callable[[Collection[str]], Mapping[str, NDArray[Any]]] = field(default=lambda _: {}, repr=False)


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """A Choosing says how the cells of the table are chosen at run time, or which ones are fixed; see `instrument`.

    Attributes:
        class_input: whether the inputs that choose cells are optional, required, or not there.
        classes: the classes where they are fixed.
        objects: the objects where they are fixed.
        contrast: whether there is an input of classes that the explained ones are contrasted with.
    """

    class_input: ClassInput = "optional"
    classes: Sequence[int] | None = None
    objects: Sequence[int] | None = None
    contrast: bool = False


@dataclass(frozen=True)
class Choice:
    """A Choice is an added graph input that chooses cells of the table.

    Attributes:
        value: the input.
        default: the input's value where nothing is fed.
    """

    value: Value
    default: np.ndarray


@dataclass(frozen=True)
class Selection:
    """A Selection holds the cells of the table that are explained, K of each image.

    Attributes:
        scores: float32 `[N, K]`.
        seed: the gradient of each of these scores with respect to the table's tensor, `[K, *shape]`.
        outputs: the outputs that say which cells these are, each `[N, K, ...]`, by their names in the contract; the
            scores are among them.
        inputs: the inputs that choose the cells; none where the choice is fixed at surgery.
        exists: whether there is such a cell, bool `[N, K]`; None where every cell exists.
        candidates: of a table `[N, Q, C]`, the candidates of the cells, int64 `[N, K]`; None where Q is 1.
        weights: the weight of each class in each of the scores, `[N, K, C]`; None where Q is 1.
    """

    scores: Value
    seed: Value
    outputs: Mapping[str, Value]
    inputs: tuple[Choice, ...] = ()
    exists: Value | None = None
    candidates: Value | None = None
    weights: Value | None = None


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """A Target describes the score table of one model, before any softmax.

    Attributes:
        task: the name of the vision task.
        only: the sentence that says what is explained, for a model of the task that takes no picture.
        doubt: the question whether a model without layers is one of the task.
        name: the table's tensor.
        public_name: the tensor's name that users see.
        unclipped: the quantised tensors that the table was rounded to last; their clipping does not count.
        shape: the table's static shape.
        batch: the axis of the images, None if there is none (N = 1).
        notes: what was assumed, in sentences.
        activation: the final activation between the table and the output, if there is one.
        probabilities: the output that gives the model's own probabilities, and how; None if no output does.
        logits: the output that holds the scores, and how probabilities are made of them if they are a classifier's.
        is_number: whether the table is one number for each image, and no output gives a probability of it.
        added: a serialised model of the nodes that compute the table of the model's own tensors; b"" where the table is
            one of these.
        candidates: what the cells are chosen among, for a task with objects.
        default_method: the CAM method that suits the table's scores.
        adds_up: whether the default layers are a cut: they carry the evidence together, each a part of it.
    """

    task: ClassVar[Task]
    only: ClassVar[str]
    doubt: ClassVar[str]

    name: str
    public_name: str
    unclipped: frozenset[str] = frozenset()
    shape: Shape
    batch: int | None
    notes: tuple[str, ...] = ()
    activation: str | None = None
    probabilities: Probabilities | None = None
    logits: Probabilities | None = None
    is_number: bool = False
    added: bytes = b""
    candidates: Candidates | None = None
    default_method: ClassVar[str] = DEFAULT_METHOD
    adds_up: ClassVar[bool] = False

    @property
    def class_count(self) -> int | None:
        """Return the number of classes, None if it is not a number."""
        return None

    @abstractmethod
    def select(self, graph: Graph, emitter: Emitter, choosing: Choosing) -> Selection:
        """Emit the choice of cells, and define in the emitter where a symbolic K can be read.

        Args:
            graph: the model, or a part of it that ends in the table.
            emitter: collects the added nodes.
            choosing: how the cells are chosen.

        Raises:
            ClassError: the given classes or objects do not fit the form or the number of classes, or the task has none.
        """

    @abstractmethod
    def table(self, values: NDArray[Any], images: int) -> NDArray[np.float64]:
        """Return the scores that `select` chooses from, float64 `[N, C]`, given the tensor's values in a run.

        Args:
            values: the tensor's values, floats `[N, ...]`, or without an axis of images.
            images: N.
        """

    def cell(self, found: Mapping[str, NDArray[Any]]) -> int:
        """Return which column of `table` holds the first answer of the first image.

        Args:
            found: the values of the outputs of the contract in a run, by name.
        """
        return int(found[contract.CLASSES][0, 0])

    def default_layers(self, layers: Layers) -> list[Layer]:
        """Return the layers that "auto" means: those that carry the table's evidence.

        Raises:
            LayerError: there is none.
        """
        return [last_bottleneck(layers)]

    def why_default(self, layers: Layers, layer: Layer) -> str:
        """Return why a default layer is the default, and what it lacks, as a phrase for users."""
        return why_last_bottleneck(layers, layer)
