"""What stands between the class scores and an output: probabilities, rounding, the choice of the best class.

    y = softmax(x), sigmoid(x), ...     an activation, as one operator or spelled out: the score is x
    y = 100 softmax(x), round(...), ... something on top of that: passed, if an activation is behind it
    y = argmax(x), top k of x, x > 0.5  a choice: the score is what it was taken from

One table per kind, from an operator to the index of the input that carries the score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.graph import Graph
from onnx_xcam.surgery.stored import float_for

Told: TypeAlias = Literal["none", "exp"]
"""What turns an output into probabilities: nothing, or exp."""

ACTIVATIONS: Mapping[str, Told | None] = {
    "Softmax": "none",
    "LogSoftmax": "exp",
    "Sigmoid": "none",
    "HardSigmoid": "none",
    "Hardmax": None,
}
"""Final activations, and how their result tells probabilities; None if it does not."""

_RESHAPED = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Cast"})
_ROUNDED = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SAME_VALUES = _RESHAPED | _ROUNDED | {"Clip"}
_OTHER_VALUES = frozenset({"Round", "Log", "Mul", "Div", "Add"})
_CHOICES: Mapping[tuple[str, str], int] = {
    ("", "ArgMax"): 0,
    ("", "TopK"): 0,
    ("", "Greater"): 0,
    ("", "GreaterOrEqual"): 0,
}
_LOOKED_UP: Mapping[tuple[str, str], int] = {
    ("", "Gather"): 1,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): 1,
    ("ai.onnx.ml", "LabelEncoder"): 0,
    ("ai.onnx.ml", "ZipMap"): 0,
}
"""What makes labels of class numbers, or a dictionary of scores; the table that a Gather looks up is constant."""


class Origin(NamedTuple):
    """What an output was made from.

    Attributes:
        name: the scores.
        activation: the final activation that was stepped over, if one was.
        choice: the operator that took something from them, if one did: ArgMax, TopK, ...
        told: how the output tells the probabilities that belong to the scores; None if it does not.
    """

    name: str
    activation: str | None = None
    choice: str | None = None
    told: Told | None = None


def step_back(graph: Graph, output: str) -> Origin:
    """The tensor before a final activation or choice; the output itself if there is none."""
    name, taken, told = output, Origin(output), _Reading()
    while (node := graph.producer.get(name)) is not None:
        if (found := _activation(graph, node)) is not None:
            activation, scores = found
            return Origin(scores, activation, taken.choice, told.through(ACTIVATIONS[activation]))
        domain = "" if node.domain in (None, "ai.onnx") else str(node.domain)
        index = _CHOICES.get((domain, str(node.op)))
        if index is not None and _is_choice(graph, node):
            name = node.inputs[index].name
            taken, told = Origin(name, None, taken.choice or str(node.op)), _Reading(exact=False)
        elif (domain, node.op) in _LOOKED_UP and not graph.is_constant(_looked_up(node, domain)):
            name, told = _looked_up(node, domain), _Reading(exact=False)
        elif domain == "" and node.op == "ReduceMax" and (best := _best_of(graph, node)) is not None:
            return best
        else:
            source = _passed(graph, node, told) if domain == "" else None
            if source is None:
                break
            name = source
    return taken


def is_copy(graph: Graph, output: str, name: str) -> bool:
    """Whether an output holds what another tensor holds, at most in another shape or type."""
    while output != name and (node := graph.producer.get(output)) is not None:
        carries = graph.is_float(output) or output in graph.quantised
        if node.op not in _RESHAPED | _ROUNDED or not carries or node.domain not in ("", "ai.onnx", None):
            return False
        output = str(node.inputs[0].name)
    return output == name


def before_rounding(graph: Graph, name: str) -> str:
    """The float that a quantised tensor stands for; any other tensor as it is."""
    while name in graph.quantised and float_for(graph, name) == name:
        name = str(graph.producer[name].inputs[0].name)
    return float_for(graph, name) if name in graph.quantised else name


def roundings(graph: Graph, name: str) -> list[gs.Node]:
    """The nodes that quantise a score last, with nothing but moving behind them; the last one first."""
    found = []
    while (node := graph.producer.get(name)) is not None and node.op in _RESHAPED | _ROUNDED:
        if node.op == "QuantizeLinear":
            found.append(node)
        name = node.inputs[0].name
    return found


class _Reading:
    """How values change from the activation to the output, read backwards."""

    def __init__(self, exact: bool = True) -> None:
        self.exact = exact
        self.logs = 0

    def through(self, told: Told | None) -> Told | None:
        """How the output tells probabilities if the activation's result does so in this way."""
        if not self.exact or told is None:
            return None
        steps = self.logs + (told == "exp")
        return None if steps > 1 else "exp" if steps else "none"


def _passed(graph: Graph, node: gs.Node, told: _Reading) -> str | None:
    """The input that an operator only reshapes, rounds or scales; None if it does more."""
    if node.op in _SAME_VALUES:
        if node.op == "Cast" and not graph.is_float(node.outputs[0].name):
            told.exact = False
        if node.op == "Clip" and not _holds_0_to_1(graph, node):
            told.exact = False
        return str(node.inputs[0].name)
    if node.op not in _OTHER_VALUES:
        return None
    if node.op in ("Round", "Log"):
        told.exact = told.exact and node.op == "Log"
        told.logs += node.op == "Log"
        return str(node.inputs[0].name)
    first, second = (tensor.name for tensor in node.inputs)
    if node.op != "Div" and _number(graph, first) is not None:
        first, second = second, first
    number = _number(graph, second)
    if number is None or (node.op != "Add" and number <= 0):
        return None
    told.exact = told.exact and number == (0 if node.op == "Add" else 1)
    return str(first)


def _holds_0_to_1(graph: Graph, node: gs.Node) -> bool:
    """Whether a Clip leaves all of 0 to 1 as it is."""
    low, high = node.attrs.get("min"), node.attrs.get("max")
    bounds = [tensor.name for tensor in node.inputs[1:]]
    if bounds and bounds[0]:
        low = _number(graph, bounds[0], np.inf)
    if len(bounds) > 1 and bounds[1]:
        high = _number(graph, bounds[1], -np.inf)
    return (low is None or low <= 0) and (high is None or high >= 1)


def _is_choice(graph: Graph, node: gs.Node) -> bool:
    if node.op in ("Greater", "GreaterOrEqual"):
        return _number(graph, node.inputs[1].name) is not None
    return True


def _looked_up(node: gs.Node, domain: str) -> str:
    return str(node.inputs[_LOOKED_UP[domain, str(node.op)]].name)


def _best_of(graph: Graph, node: gs.Node) -> Origin | None:
    """The scores of which a ReduceMax gives the largest probability; the largest of other things is no choice."""
    behind = step_back(graph, node.inputs[0].name)
    if behind.activation not in ("Softmax", "LogSoftmax"):
        return None
    return Origin(behind.name, behind.activation, "ReduceMax")


# --- activations ------------------------------------------------------------------------------------------------------


def _activation(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """The activation that a node computes, alone or as the last of several, and the tensor it is computed from."""
    if node.domain not in ("", "ai.onnx", None):
        return None
    if node.op in ACTIVATIONS:
        return str(node.op), str(node.inputs[0].name)
    spelled = _SPELLED_OUT.get(str(node.op))
    return spelled(graph, node) if spelled else None


def _of_quotient(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """exp(x) / sum(exp(x)), 1 / (1 + exp(-x)) and exp(x) / (1 + exp(x))."""
    above, below = (tensor.name for tensor in node.inputs[:2])
    if _number(graph, above) == 1:
        return _one_over(graph, below)
    powers = _made_by(graph, above, "Exp")
    if powers is None:
        return None
    total = _made_by(graph, below, "ReduceSum")
    if total is not None and _same(graph, total.inputs[0].name, above) and _keeps_images(graph, total):
        return "Softmax", _without_its_largest(graph, powers.inputs[0].name)
    addend = _plus_one(graph, below)
    return ("Sigmoid", str(powers.inputs[0].name)) if addend and _same(graph, addend, above) else None


def _of_reciprocal(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """1 / (1 + exp(-x))."""
    return _one_over(graph, node.inputs[0].name)


def _of_difference(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """x - log(sum(exp(x)))."""
    x, below = (tensor.name for tensor in node.inputs[:2])
    total = _made_by(graph, below, "ReduceLogSumExp")
    if total is None and (log := _made_by(graph, below, "Log")) is not None:
        total = _made_by(graph, log.inputs[0].name, "ReduceSum")
        powers = None if total is None else _made_by(graph, total.inputs[0].name, "Exp")
        source = None if powers is None else powers.inputs[0].name
    else:
        source = None if total is None else total.inputs[0].name
    if total is None or source is None or not _same(graph, source, x) or not _keeps_images(graph, total):
        return None
    return "LogSoftmax", _without_its_largest(graph, x)


def _of_pair(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """[1 - p, p], the two classes made from p = sigmoid(x)."""
    if len(node.inputs) != 2 or node.attrs.get("axis") == 0:
        return None
    rest, p = (tensor.name for tensor in node.inputs)
    difference = _made_by(graph, rest, "Sub")
    if difference is None or _number(graph, difference.inputs[0].name) != 1:
        return None
    maker = graph.producer.get(_source(graph, p))
    if maker is None or not _same(graph, difference.inputs[1].name, p):
        return None
    found = _activation(graph, maker)
    return found if found and found[0] == "Sigmoid" else None


_SPELLED_OUT: Mapping[str, Callable[[Graph, gs.Node], tuple[str, str] | None]] = {
    "Div": _of_quotient,
    "Reciprocal": _of_reciprocal,
    "Sub": _of_difference,
    "Concat": _of_pair,
}


def _one_over(graph: Graph, below: str) -> tuple[str, str] | None:
    powers = _made_by(graph, _plus_one(graph, below) or "", "Exp")
    negative = None if powers is None else _negated(graph, powers.inputs[0].name)
    return ("Sigmoid", negative) if negative else None


def _plus_one(graph: Graph, name: str) -> str | None:
    """t, where the tensor is 1 + t."""
    total = _made_by(graph, name, "Add")
    if total is None:
        return None
    first, second = (tensor.name for tensor in total.inputs)
    if _number(graph, first) == 1:
        return str(second)
    return str(first) if _number(graph, second) == 1 else None


def _negated(graph: Graph, name: str) -> str | None:
    """x, where the tensor is -x."""
    node = graph.producer.get(_source(graph, name))
    if node is None:
        return None
    if node.op == "Neg":
        return str(node.inputs[0].name)
    if node.op == "Mul":
        for number, x in (node.inputs, node.inputs[::-1]):
            if _number(graph, number.name) == -1:
                return str(x.name)
    return str(node.inputs[1].name) if node.op == "Sub" and _number(graph, node.inputs[0].name) == 0 else None


def _without_its_largest(graph: Graph, name: str) -> str:
    """x, where the tensor is x - max(x), else the tensor."""
    node = _made_by(graph, name, "Sub")
    if node is None:
        return name
    x, below = (tensor.name for tensor in node.inputs)
    largest = _made_by(graph, below, "ReduceMax")
    return str(x) if largest is not None and _same(graph, largest.inputs[0].name, x) else name


def _keeps_images(graph: Graph, node: gs.Node) -> bool:
    """Whether a reduction goes over other axes than the first, that of the images."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1:
        known = graph.constants.get(node.inputs[1].name)
        axes = None if known is None else known.reshape(-1).tolist()
    shape = graph.shape(node.inputs[0].name)
    return bool(axes) and shape is not None and all(axis % len(shape) for axis in axes)


def _made_by(graph: Graph, name: str, op: str) -> gs.Node | None:
    node = graph.producer.get(_source(graph, name))
    return node if node is not None and node.op == op and node.domain in ("", "ai.onnx", None) else None


def _same(graph: Graph, first: str, second: str) -> bool:
    return _source(graph, first) == _source(graph, second)


def _source(graph: Graph, name: str) -> str:
    """The tensor of which this one is a mere copy."""
    while (node := graph.producer.get(name)) is not None and node.op == "Identity":
        name = str(node.inputs[0].name)
    return name


def _number(graph: Graph, name: str, other: float | None = None) -> float | None:
    """The value of a constant that is one number."""
    value = graph.constants.get(name)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype.kind in "fiu" else other
