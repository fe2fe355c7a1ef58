"""What stands between the class scores and an output: probabilities, rounding, the choice of the best class.

    y = softmax(x), sigmoid(x), ...     an activation, as one operator or spelled out: the score is x
    y = 100 softmax(x), round(...), ... something on top of that: passed, if an activation is behind it
    y = argmax(x), top k of x, x > 0.5  a choice: the score is what it was taken from

One table per kind, from an operator to the index of the input that carries the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import OpTraits
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import ACTIVATIONS, Told, activation, number

_OTHER_VALUES = frozenset({"Round", "Log", "Mul", "Div", "Add"})
_CHOICES: Mapping[tuple[str, str], int] = {
    ("", "ArgMax"): 0,
    ("", "TopK"): 0,
    ("", "Greater"): 0,
    ("", "GreaterOrEqual"): 0,
}
_FINE = 0.01
"""Probabilities that are rounded or clipped no more coarsely than this are still shown as the model's own."""
_LOOKED_UP: Mapping[tuple[str, str], int] = {
    ("", "Gather"): 1,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): 1,
    ("ai.onnx.ml", "LabelEncoder"): 0,
    ("ai.onnx.ml", "ZipMap"): 0,
}
"""What makes labels of class numbers, or a dictionary of scores."""


class Origin(NamedTuple):
    """What an output was made from.

    Attributes:
        name: the scores.
        activation: the final activation that was stepped over, if one was.
        choice: the operator that took something from them, if one did: ArgMax, TopK, ...
        told: how the output tells the probabilities that belong to the scores; None if it does not.
        threshold: what the scores themselves are compared with, where the choice is a comparison.
    """

    name: str
    activation: str | None = None
    choice: str | None = None
    told: Told | None = None
    threshold: float = 0.0


def step_back(graph: Graph, output: str) -> Origin:
    """The tensor before a final activation or choice; the output itself if there is none."""
    name, taken, told = output, Origin(output), _Reading()
    while (node := graph.producer.get(name)) is not None:
        if (found := activation(graph, node)) is not None:
            last, scores = found
            return Origin(scores, last, taken.choice, told.through(ACTIVATIONS[last]))
        domain = "" if is_standard(node.domain) else str(node.domain)
        index = _CHOICES.get((domain, str(node.op)))
        if index is not None and _is_choice(graph, node):
            name = node.inputs[index].name
            taken = Origin(name, None, taken.choice or str(node.op), None, _compared_with(graph, node))
            told = _Reading(exact=False)
        elif (looked_up := _looked_up(graph, node, domain)) is not None:
            name, told = looked_up, _Reading(exact=False)
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
        if not _only_rounds(graph, node) or not carries or not is_standard(node.domain):
            return False
        output = str(node.inputs[0].name)
    return output == name


def before_reshape(graph: Graph, name: str) -> str | None:
    """The tensor before a final activation or an operator that only moves or rounds values; None if it is made else."""
    node = graph.producer.get(name)
    if node is None or not is_standard(node.domain):
        return None
    if (found := activation(graph, node)) is not None:
        return found[1]
    return str(node.inputs[0].name) if _only_rounds(graph, node) else None


def before_rounding(graph: Graph, name: str) -> str:
    """The float that a quantised tensor stands for; any other tensor as it is."""
    while name in graph.quantised and float_for(graph, name) == name:
        name = str(graph.producer[name].inputs[0].name)
    return float_for(graph, name) if name in graph.quantised else name


def roundings(graph: Graph, name: str) -> list[gs.Node]:
    """The nodes that quantise a score last, with nothing but moving behind them; the last one first.

    Where fewer bits are used than the type has, a Clip of the integers belongs to it.
    """
    found = []
    while (node := graph.producer.get(name)) is not None and _only_rounds(graph, node):
        if traits(node).quantises_as_told or traits(node).clips:
            found.append(node)
        name = node.inputs[0].name
    return found


def _only_rounds(graph: Graph, node: gs.Node) -> bool:
    """Whether a node only moves or rounds values, or clips them as integers."""
    facts = traits(node)
    return _keeps_or_rounds(facts) or (facts.clips and node.outputs[0].name in graph.quantised)


def _keeps_or_rounds(op: OpTraits) -> bool:
    return op.keeps_values or op.quantises_as_told or op.dequantises


class _Reading:
    """How values change from the activation to the output, read backwards.

    Attributes:
        exact: whether nothing was done so far that loses the probabilities.
        factor: what the values are multiplied by from here to the output.
        logs: how many logarithms are taken.
    """

    def __init__(self, exact: bool = True) -> None:
        self.exact = exact
        self.factor = 1.0
        self.logs = 0

    def through(self, told: Told | None) -> Told | None:
        """How the output tells probabilities if the activation's result does so in this way."""
        if not self.exact or told is None or not isclose(self.factor, 1, rel_tol=1e-3):
            return None
        steps = self.logs + (told == "exp")
        return None if steps > 1 else "exp" if steps else "none"


def _passed(graph: Graph, node: gs.Node, told: _Reading) -> str | None:
    """The input that an operator only reshapes, rounds or scales; None if it does more."""
    facts = traits(node)
    if _keeps_or_rounds(facts) or facts.clips:
        if facts.casts and not graph.is_float(node.outputs[0].name):
            told.exact = False
        if facts.clips and (told.factor != 1 or not _holds_0_to_1(graph, node)):
            told.exact = False
        return str(node.inputs[0].name)
    if node.op not in _OTHER_VALUES:
        return None
    if node.op == "Round":
        told.exact = told.exact and told.factor <= _FINE
        return str(node.inputs[0].name)
    if node.op == "Log":
        told.exact = told.exact and told.factor == 1
        told.logs += 1
        return str(node.inputs[0].name)
    first, second = (tensor.name for tensor in node.inputs)
    if node.op != "Div" and number(graph, first) is not None:
        first, second = second, first
    value = number(graph, second)
    if value is None or (node.op != "Add" and value <= 0):
        return None
    if node.op == "Add":
        told.exact = told.exact and value == 0
    else:
        told.factor *= value if node.op == "Mul" else 1 / value
    return str(first)


def _holds_0_to_1(graph: Graph, node: gs.Node) -> bool:
    """Whether a Clip leaves all of 0 to 1 as it is, up to what keeps a logarithm finite."""
    low, high = node.attrs.get("min"), node.attrs.get("max")
    bounds = [tensor.name for tensor in node.inputs[1:]]
    if bounds and bounds[0]:
        low = number(graph, bounds[0], np.inf)
    if len(bounds) > 1 and bounds[1]:
        high = number(graph, bounds[1], -np.inf)
    return (low is None or low <= _FINE) and (high is None or high >= 1 - _FINE)


def _is_choice(graph: Graph, node: gs.Node) -> bool:
    if node.op in ("Greater", "GreaterOrEqual"):
        return number(graph, node.inputs[1].name) is not None
    return True


def _compared_with(graph: Graph, node: gs.Node) -> float:
    """The number that a comparison compares scores with; 0, which decides by the sign, of other choices."""
    return number(graph, node.inputs[1].name, 0.0) or 0.0 if node.op in ("Greater", "GreaterOrEqual") else 0.0


def _looked_up(graph: Graph, node: gs.Node, domain: str) -> str | None:
    """The class numbers for which a node looks something up in a constant table."""
    index = _LOOKED_UP.get((domain, str(node.op)))
    tables = [] if index is None else [tensor.name for tensor in node.inputs[:index]]
    makers = (graph.producer.get(name) for name in tables if not graph.is_constant(name))
    if index is None or any(maker is None or maker.op != "Constant" for maker in makers):
        return None
    return str(node.inputs[index].name)


def _best_of(graph: Graph, node: gs.Node) -> Origin | None:
    """The scores of which a ReduceMax gives the largest probability; the largest of other things is no choice."""
    behind = step_back(graph, node.inputs[0].name)
    if behind.activation not in ("Softmax", "LogSoftmax"):
        return None
    return Origin(behind.name, behind.activation, "ReduceMax")
