"""This module finds the outputs that are probabilities, and those with scores that could be made into probabilities.

An output gives probabilities where an activation made it, softmax or sigmoid, or operations that keep probabilities
what they are: 1 - p, p q, the mean of several p, p divided by the sum of all p, parts that are joined or taken out.
Scores that come out as they are give none by themselves: they may be a classifier's logits, to which softmax or
sigmoid is applied, or numbers of any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isclose
from typing import Literal, NamedTuple

import onnx_graphsurgeon as gs

from onnx_xcam.contract import Probabilities
from onnx_xcam.surgery.analysis.ends import ends, image_dependent
from onnx_xcam.surgery.analysis.reachability import walk_backward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import ACTIVATIONS, activation, keeps_images, number
from onnx_xcam.surgery.targets.logits import before_rounding, is_copy, roundings, step_back

Squash = Literal["softmax", "sigmoid"]
"""These functions turn logits into probabilities."""

_EXCLUSIVE = frozenset({"ArgMax", "TopK", "Softmax", "LogSoftmax", "Hardmax"})
"""These operators are applied to scores of classes of which exactly one is right."""
_STEPS = 100
"""At most this many nodes before a tensor are followed."""


class ScoreOutputs(NamedTuple):
    """A ScoreOutputs says which output gives the probabilities of a score, and which the score itself.

    Attributes:
        probabilities: the output that is probabilities, or that holds the scores where the model itself shows how
            probabilities are made of them; None if there is none.
        logits: the output that holds the scores as they are, with the function to apply if the model is a classifier;
            None if there is none, or if the scores cannot be logits by the way they are computed.
    """

    probabilities: Probabilities | None
    logits: Probabilities | None


def score_outputs(graph: Graph, score: str, last: str | None, *, one: bool) -> ScoreOutputs:
    """Return what the outputs give of a score: its probabilities, or the score itself.

    Args:
        graph: the model.
        score: the tensor.
        last: the activation that is known to follow it.
        one: whether the score is one number per image.
    """
    for output in graph.output_names:
        origin = step_back(graph, output)
        same = before_rounding(graph, origin.name) == score or is_copy(graph, origin.name, score)
        if same and origin.how is not None:
            return ScoreOutputs(_stepwise(graph, output, origin.how), None)
    copy = next((name for name in graph.output_names if is_copy(graph, name, score)), "")
    if not copy:
        return ScoreOutputs(None, None)
    if (how := _of_copy(graph, score, last, one=one)) is not None:
        return ScoreOutputs(_stepwise(graph, copy, how), None) if how else ScoreOutputs(None, None)
    usual: Squash = "sigmoid" if one else "softmax"
    return ScoreOutputs(None, _stepwise(graph, copy, usual) if _can_be_logits(graph, score) else None)


def _of_copy(graph: Graph, score: str, last: str | None, *, one: bool) -> str | None:
    """Return how probabilities are made of an output of scores: "" if they are not, None if nothing shows it."""
    own = step_back(graph, score)
    if own.activation:
        return own.how or ""
    total = _largest_sum(graph, score)
    if total is not None:
        return "none" if isclose(total, 1, rel_tol=1e-3) else ""
    if last == "Sigmoid":
        return "sigmoid"
    return "softmax" if not one and _is_chosen_from(graph, score) else None


def _stepwise(graph: Graph, output: str, how: str) -> Probabilities | None:
    """Return how an output gives probabilities; one of integers needs a known scale and zero point, else None."""
    if output not in graph.quantised:
        return Probabilities(output, how)
    quantiser = next(node for node in roundings(graph, output) if traits(node).quantises)
    scale, zero = (graph.constants.get(tensor.name) for tensor in [*quantiser.inputs, quantiser.outputs[0]][1:3])
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        return None
    return Probabilities(output, how, float(scale.reshape(())), 0.0 if zero is None else float(zero.reshape(())))


def _is_chosen_from(graph: Graph, score: str) -> bool:
    """Tell whether an output is made by choosing a single class by this score."""
    origins = [step_back(graph, end) for end in ends(graph)]
    return any(
        before_rounding(graph, one.name) == score and _EXCLUSIVE & {one.choice, one.activation} for one in origins
    )


# --- probabilities ---------------------------------------------------------------------------------------------------


def is_probability(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is made of probabilities by operations that keep them so, and may be as large as 1."""
    total = _largest_sum(graph, name)
    return total is not None and isclose(total, 1, rel_tol=1e-3)


def _largest_sum(graph: Graph, name: str, known: dict[str, float | None] | None = None) -> float | None:
    """Return the upper bound of a tensor made of probabilities by operations that keep them so, else None.

    A mean of two probabilities is their sum, at most 2, divided by 2: a tensor with the bound 1 is a probability.

    Args:
        graph: the model.
        name: the tensor.
        known: the bounds so far, so that no tensor is followed twice.
    """
    known = {} if known is None else known
    if name not in known:
        known[name] = None  # stays so after too many steps
        if len(known) < _STEPS:
            known[name] = _followed(graph, name, known)
    return known[name]


def _followed(graph: Graph, name: str, known: dict[str, float | None]) -> float | None:
    """Return the upper bound of a tensor from the bounds of its node's inputs."""
    node = graph.producer.get(name)
    if node is None or not is_standard(node.domain) or not graph.is_float(name):
        return None
    if (final := activation(graph, node)) is not None:
        return 1.0 if ACTIVATIONS[final[0]] == "none" else None
    names = [str(tensor.name) for tensor in node.inputs]

    def of(name: str) -> float | None:
        return _largest_sum(graph, name, known)

    if _moves(node) or traits(node).between:
        return of(names[0])
    if node.op in ("Concat", "Max", "Min", "Sum", "Mean"):
        return _of_several(str(node.op), [of(one) for one in names])
    if node.op == "Exp":
        maker = graph.producer.get(names[0])
        logged = None if maker is None else activation(graph, maker)
        return 1.0 if logged and logged[0] == "LogSoftmax" else None
    rule = _OF_TWO.get(str(node.op))
    return rule(graph, names, of) if rule and len(names) == 2 else None


def _moves(node: gs.Node) -> bool:
    """Tell whether a node returns values of its first input, if in other places, rounded, or as another type."""
    facts = traits(node)
    return facts.values <= Values.PICKED or facts.casts or facts.quantises_as_told or facts.dequantises


def _of_several(op: str, sums: list[float | None]) -> float | None:
    """Return the upper bound of a Concat, Max, Min, Sum or Mean from the bounds of its inputs."""
    known = [one for one in sums if one is not None]
    if len(known) < len(sums):
        return None
    return sum(known) if op == "Sum" else sum(known) / len(known) if op == "Mean" else max(known)


_Of = Callable[[str], float | None]
"""A function of this type returns the upper bound of a tensor by its name."""


def _of_sum(graph: Graph, names: list[str], of: _Of) -> float | None:
    """Return the upper bound of p + q."""
    first, second = map(of, names)
    return None if first is None or second is None else first + second


def _of_rest(graph: Graph, names: list[str], of: _Of) -> float | None:
    """Return the upper bound of 1 - p."""
    rest = of(names[1]) if number(graph, names[0]) == 1 else None
    return 1.0 if rest is not None and isclose(rest, 1, rel_tol=1e-3) else None


def _of_product(graph: Graph, names: list[str], of: _Of) -> float | None:
    """Return the upper bound of p q, or of p times a positive number."""
    factors = []
    for name in names:
        value = number(graph, name)
        factors.append(of(name) if value is None else value if value > 0 else None)
    return None if factors[0] is None or factors[1] is None else factors[0] * factors[1]


def _of_quotient(graph: Graph, names: list[str], of: _Of) -> float | None:
    """Return the upper bound of p divided by a positive number, or by the sum of all p."""
    value = number(graph, names[1])
    if value is not None:
        above = of(names[0]) if value > 0 else None
        return None if above is None else above / value
    below = graph.producer.get(names[1])
    if below is not None and below.op in ("Add", "Max", "Clip"):  # keeps the sum away from zero
        below = graph.producer.get(below.inputs[0].name)
    if below is None or below.op != "ReduceSum" or below.inputs[0].name != names[0] or not keeps_images(graph, below):
        return None
    return 1.0 if of(names[0]) is not None else None


_OF_TWO: Mapping[str, Callable[[Graph, list[str], _Of], float | None]] = {
    "Add": _of_sum,
    "Sub": _of_rest,
    "Mul": _of_product,
    "Div": _of_quotient,
}
"""This table maps an operator with two inputs to the function that returns the upper bound of its result."""


# --- logits ----------------------------------------------------------------------------------------------------------

_LINEAR = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "GlobalAveragePool", "AveragePool", "Relu", "LeakyRelu"}
    | {"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Neg", "Concat", "BatchNormalization"}
)
"""These operators may stand between a layer with weights and the logits, beside those that move values.

They add, average or scale, or cut off what is below zero, as SqueezeNet does.
"""


def _can_be_logits(graph: Graph, score: str) -> bool:
    """Tell whether a score may be logits: made by weights, and by nothing that bounds it or makes it a distance."""
    pictured = image_dependent(graph)

    def read(node: gs.Node) -> list[str]:
        inputs = node.inputs[: traits(node).differentiable]  # the other inputs may be a shape
        return [str(tensor.name) for tensor in inputs if tensor.name in pictured]

    def enters(node: gs.Node, name: str) -> bool:
        return not traits(node).weighted and name in read(node)

    def is_fit(node: gs.Node) -> bool:
        if not is_standard(node.domain):
            return False
        facts = traits(node)
        if (facts.weighted and facts.affine) or node.op in ("Mul", "Div"):
            return len(read(node)) == 1
        return node.op in _LINEAR or _moves(node)

    met: set[str] = set()
    for count, position in enumerate(walk_backward(graph.uses, [score], enters=enters, met=met), 1):
        if count > _STEPS or not is_fit(graph.nodes[position]):
            return False
    return met <= graph.producer.keys()
