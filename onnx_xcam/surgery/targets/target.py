"""What is explained in a model: a table of scores, how a cell of it is chosen, and which layers carry its evidence.

Every vision task is a table `S [N, Q, C]` of N images, Q candidates (one of a classifier, else anchors, queries, time
steps, ...) and C classes. A task answers four questions, in one place of its own:

    how is it recognised?         a function from `Evidence` to a `Target`, listed in `tasks.py`
    where is the table?           `Target.name`, a tensor
    what ranks its cells?         `Target.select`
    which layers carry evidence?  `Target.default_layers`

Nothing else in the surgery knows of any task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.contract import ClassInput, Probabilities
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.default_layer import last_bottleneck, why_last_bottleneck
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers


@dataclass(frozen=True)
class Evidence:
    """What a task is recognised by.

    Attributes:
        graph: the model.
        sample: the graph with numbers for a symbolic height and width, if they are symbolic.
        wanted: the score that was asked for: "auto", or a tensor's name.
        props: the model's metadata.
        labels: what the metadata state as the names of classes, None if they state none.
    """

    graph: Graph
    sample: Graph | None = None
    wanted: str = "auto"
    props: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class Choice:
    """An added graph input by which cells of the table are chosen.

    Attributes:
        value: the input.
        default: what it is where nothing is fed.
    """

    value: Value
    default: np.ndarray


@dataclass(frozen=True)
class Selection:
    """The cells of the table that are explained, K of each image.

    Attributes:
        scores: float32 `[N, K]`.
        seed: the gradient of each of these scores with respect to the table's tensor, `[K, *shape]`.
        outputs: what tells which cells these are, each `[N, K, ...]`, by the contract's names, as they are added to the
            model; the scores among them.
        inputs: what they were chosen by; none where that was settled at surgery.
    """

    scores: Value
    seed: Value
    outputs: Mapping[str, Value]
    inputs: tuple[Choice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """The score table of one model, before any softmax.

    Attributes:
        task: the name of its task.
        name: the tensor.
        shown: what it is called outside.
        unclipped: the quantised tensors that it was rounded to last; their clipping does not count.
        shape: its static shape.
        batch: the axis of the images, None if there is none (N = 1).
        notes: what was assumed, in sentences.
        activation: the final activation that was stepped over, if one was.
        probabilities: the output that tells the model's own probabilities, and how; None if no output does.
        logits: the output that holds the scores, and how probabilities are made of them if they are a classifier's.
        is_number: whether it is one number for each image, of which no output tells a probability.
    """

    task: ClassVar[str]

    name: str
    shown: str
    unclipped: frozenset[str] = frozenset()
    shape: Shape
    batch: int | None
    notes: tuple[str, ...] = ()
    activation: str | None = None
    probabilities: Probabilities | None = None
    logits: Probabilities | None = None
    is_number: bool = False

    @property
    def class_count(self) -> int | None:
        """The number of classes, where it is a number."""
        return None

    @abstractmethod
    def select(
        self, graph: Graph, emitter: Emitter, class_input: ClassInput, classes: Sequence[int] | None
    ) -> Selection:
        """Emit the choice of cells, and tell the emitter where a symbolic K can be read.

        Args:
            graph: the model, or a part of it that ends in the table.
            emitter: what collects the added nodes.
            class_input: how they are chosen at run time; see `instrument`.
            classes: the classes where they are fixed.

        Raises:
            ClassError: classes were given that do not fit the form or the number of classes.
        """

    @abstractmethod
    def table(self, values: NDArray[Any], images: int) -> NDArray[np.float64]:
        """The scores that the tensor's values of a run are, float64 `[N, C]`: those that `select` chooses from.

        Args:
            values: of the tensor, floats `[N, ...]`, or without an axis of images.
            images: N.
        """

    def default_layers(self, layers: Layers) -> list[Layer]:
        """The layers that "auto" means: those that carry the table's evidence.

        Raises:
            LayerError: there is none.
        """
        return [last_bottleneck(layers)]

    def why_default(self, layers: Layers, layer: Layer) -> str:
        """Why a default layer is one, and what it lacks, in words."""
        return why_last_bottleneck(layers, layer)
