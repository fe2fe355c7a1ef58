"""This module finds the class scores behind an output: behind probabilities, rounding, or the choice of the best class.

    y = softmax(x), sigmoid(x), ...     an activation, as one operator or a pattern: the score is x
    y = 100 softmax(x), round(...), ... operators on top of that: passed, if there is an activation behind them
    y = argmax(x), top k of x, x > 0.5  a choice: the score is what it was taken from

One table per kind maps an operator to the index of the input that carries the score.
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
from onnx_xcam.surgery.targets.activation_patterns import ACTIVATIONS, ToProbabilities, activation, number

_OTHER_VALUES = frozenset({"Round", "Log", "Mul", "Div", "Add"})
"""These operators may stand between an activation and an output: they round, scale or take the logarithm."""
_CHOICES: Mapping[tuple[str, str], int] = {
    ("", "ArgMax"): 0,
    ("", "TopK"): 0,
    ("", "Greater"): 0,
    ("", "GreaterOrEqual"): 0,
}
"""This table maps an operator that chooses classes to the index of its input that holds the scores."""
_FINE = 0.01
"""Probabilities that are rounded or clipped no more coarsely than this are still reported as the model's own."""
_LOOKED_UP: Mapping[tuple[str, str], int] = {
    ("", "Gather"): 1,
    ("ai.onnx.ml", "ArrayFeatureExtractor"): 1,
    ("ai.onnx.ml", "CategoryMapper"): 0,
    ("ai.onnx.ml", "LabelEncoder"): 0,
    ("ai.onnx.ml", "ZipMap"): 0,
}
"""This table maps an operator that looks up labels, or makes a dictionary, to its input of class numbers or scores."""


class Origin(NamedTuple):
    """An Origin says what an output was made from.

    Attributes:
        name: the tensor of the scores.
        activation: the final activation between the scores and the output, if there is one.
        choice: the operator that chooses among the scores, if there is one: ArgMax, TopK, ...
        how: what turns the output into the probabilities of the scores, "none" or "exp"; None if nothing does.
        threshold: what the scores themselves are compared with, where the choice is a comparison.
    """

    name: str
    activation: str | None = None
    choice: str | None = None
    how: ToProbabilities | None = None
    threshold: float = 0.0


def step_back(graph: Graph, output: str) -> Origin:
    """Return the tensor before a final activation or choice, or the output itself, and what was passed."""
    name, taken, reading = output, Origin(output), _Reading()
    while (node := graph.producer.get(name)) is not None:
        if (final := activation(graph, node)) is not None:
            last, scores = final
            return Origin(scores, last, taken.choice, reading.through(ACTIVATIONS[last]))
        domain = "" if is_standard(node.domain) else str(node.domain)
        index = _CHOICES.get((domain, str(node.op)))
        if index is not None and _is_choice(graph, node):
            name = node.inputs[index].name
            taken = Origin(name, None, taken.choice or str(node.op), None, _compared_with(graph, node))
            reading = _Reading(exact=False)
        elif (labelled := looked_up(graph, node, domain)) is not None:
            name, reading = labelled, _Reading(exact=False)
        elif domain == "" and node.op == "ReduceMax" and (best := _best_of(graph, node)) is not None:
            return best
        else:
            source = _passed(graph, node, reading) if domain == "" else None
            if source is None:
                break
            name = source
    return taken


def is_copy(graph: Graph, output: str, name: str) -> bool:
    """Tell whether an output holds the same values as another tensor, at most in another shape or type."""
    while output != name and (node := graph.producer.get(output)) is not None:
        carries = graph.is_float(output) or output in graph.quantised
        if not _only_rounds(graph, node) or not carries or not is_standard(node.domain):
            return False
        output = str(node.inputs[0].name)
    return output == name


def before_reshape(graph: Graph, name: str) -> str | None:
    """Return the input of a node that is a final activation or only moves or rounds values, else None."""
    node = graph.producer.get(name)
    if node is None or not is_standard(node.domain):
        return None
    if (final := activation(graph, node)) is not None:
        return final[1]
    return str(node.inputs[0].name) if _only_rounds(graph, node) else None


def before_rounding(graph: Graph, name: str) -> str:
    """Return the float that a quantised tensor stands for; the name of any other tensor as it is."""
    while name in graph.quantised and float_for(graph, name) == name:
        name = str(graph.producer[name].inputs[0].name)
    return float_for(graph, name) if name in graph.quantised else name


def roundings(graph: Graph, name: str) -> list[gs.Node]:
    """Return the nodes that quantise a score, behind which values are only moved; the last one first.

    A quantiser that uses fewer bits than its type has includes a Clip of the integers.
    """
    quantisers = []
    while (node := graph.producer.get(name)) is not None and _only_rounds(graph, node):
        if traits(node).quantises_as_told or traits(node).clips:
            quantisers.append(node)
        name = node.inputs[0].name
    return quantisers


def _only_rounds(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a node only moves or rounds values, or clips them as integers."""
    facts = traits(node)
    return _keeps_or_rounds(facts) or (facts.clips and node.outputs[0].name in graph.quantised)


def _keeps_or_rounds(op: OpTraits) -> bool:
    """Tell whether an operator keeps values, or quantises or dequantises them."""
    return op.keeps_values or op.quantises_as_told or op.dequantises


class _Reading:
    """A _Reading describes how values change from the activation to the output, while the graph is read backwards.

    Attributes:
        exact: whether everything so far keeps the probabilities.
        factor: what the values are multiplied by from here to the output.
        logs: how many logarithms are taken.
    """

    def __init__(self, exact: bool = True) -> None:
        self.exact = exact
        self.factor = 1.0
        self.logs = 0

    def through(self, how: ToProbabilities | None) -> ToProbabilities | None:
        """Return what turns the output into probabilities, given what would turn the activation's result into them."""
        if not self.exact or how is None or not isclose(self.factor, 1, rel_tol=1e-3):
            return None
        steps = self.logs + (how == "exp")
        return None if steps > 1 else "exp" if steps else "none"


def _passed(graph: Graph, node: gs.Node, reading: _Reading) -> str | None:
    """Return the input of a node that only reshapes, rounds or scales, and note its effect; None for any other node."""
    facts = traits(node)
    if _keeps_or_rounds(facts) or facts.clips:
        if facts.casts and not graph.is_float(node.outputs[0].name):
            reading.exact = False
        if facts.clips and (reading.factor != 1 or not _holds_0_to_1(graph, node)):
            reading.exact = False
        return str(node.inputs[0].name)
    if node.op not in _OTHER_VALUES:
        return None
    if node.op == "Round":
        reading.exact = reading.exact and reading.factor <= _FINE
        return str(node.inputs[0].name)
    if node.op == "Log":
        reading.exact = reading.exact and reading.factor == 1
        reading.logs += 1
        return str(node.inputs[0].name)
    first, second = (tensor.name for tensor in node.inputs)
    if node.op != "Div" and number(graph, first) is not None:
        first, second = second, first
    value = number(graph, second)
    if value is None or (node.op != "Add" and value <= 0):
        return None
    if node.op == "Add":
        reading.exact = reading.exact and value == 0
    else:
        reading.factor *= value if node.op == "Mul" else 1 / value
    return str(first)


def _holds_0_to_1(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a Clip keeps all values from 0 to 1, apart from the bound that keeps a logarithm finite."""
    low, high = node.attrs.get("min"), node.attrs.get("max")
    bounds = [tensor.name for tensor in node.inputs[1:]]
    if bounds and bounds[0]:
        low = number(graph, bounds[0], np.inf)
    if len(bounds) > 1 and bounds[1]:
        high = number(graph, bounds[1], -np.inf)
    return (low is None or low <= _FINE) and (high is None or high >= 1 - _FINE)


def _is_choice(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a node chooses classes; a comparison does if its threshold is a constant."""
    if node.op in ("Greater", "GreaterOrEqual"):
        return number(graph, node.inputs[1].name) is not None
    return True


def _compared_with(graph: Graph, node: gs.Node) -> float:
    """Return the constant that a comparison compares scores with; 0 for any other choice, which goes by the sign."""
    return number(graph, node.inputs[1].name, 0.0) or 0.0 if node.op in ("Greater", "GreaterOrEqual") else 0.0


def looked_up(graph: Graph, node: gs.Node, domain: str) -> str | None:
    """Return the input of class numbers or scores of a node that looks up labels in constants, else None."""
    index = _LOOKED_UP.get((domain, str(node.op)))
    tables = [] if index is None else [tensor.name for tensor in node.inputs[:index]]
    makers = (graph.producer.get(name) for name in tables if not graph.is_constant(name))
    if index is None or any(maker is None or maker.op != "Constant" for maker in makers):
        return None
    return str(node.inputs[index].name)


def _best_of(graph: Graph, node: gs.Node) -> Origin | None:
    """Return the scores with the probabilities that a ReduceMax takes the largest of; None for other values."""
    behind = step_back(graph, node.inputs[0].name)
    if behind.activation not in ("Softmax", "LogSoftmax"):
        return None
    return Origin(behind.name, behind.activation, "ReduceMax")
