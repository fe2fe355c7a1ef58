"""What the rows of operators say is so: tried on ONNX's own cases and on those of the gradient rules."""

from __future__ import annotations

import warnings
from functools import cache
from math import prod

import numpy as np
import onnx
import pytest

from helpers.gradients.checker import DEFAULT_DOMAIN, EVALUATORS, spaced, with_float_type
from helpers.gradients.table import ROWS
from onnx_xcam.surgery.ir import op_traits
from onnx_xcam.surgery.ir.op_facts import Affine, Values
from onnx_xcam.surgery.ir.op_traits import named

# --- what goes in and comes out of ONNX's own cases -------------------------------------------------------------------


@cache
def examples() -> dict[str, list[tuple[list[np.ndarray], np.ndarray]]]:
    """By operator the inputs and the first output of every case of one node, as far as they are numbers."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found: dict[str, list[tuple[list[np.ndarray], np.ndarray]]] = {}
    for case in cases:
        (node, *others) = case.model.graph.node
        for inputs, outputs in case.data_sets or []:
            trains = node.op_type == "Dropout" and len(inputs) > 2 and inputs[2]
            numbers = all(_is_numbers(array) for array in [*inputs, outputs[0]])
            if not others and not node.domain and inputs and numbers and not trains:
                found.setdefault(node.op_type, []).append(([np.asarray(x) for x in inputs], np.asarray(outputs[0])))
    return found


def _is_numbers(array: object) -> bool:
    return isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "fiub"


def closeness(x: np.ndarray, y: np.ndarray) -> Values:
    """The closest that y can be to x."""
    same_count = y.size == x.size
    if y.shape == x.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
        return Values.COPIED
    if same_count and np.array_equal(x.ravel(), y.ravel()):
        return Values.RESHAPED
    if same_count and np.array_equal(np.sort(x, None), np.sort(y, None)):
        return Values.REARRANGED
    if np.array_equal(np.unique(x), np.unique(y)):
        return Values.REPEATED
    return Values.PICKED if np.isin(y, x).all() else Values.COMPUTED


CHOOSES = {
    *("GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin", "TopK", "Unique", "Upsample"),
    *("Sign", "TensorScatter", "Trilu"),
}
"""Operators that give, in these cases, elements of their first input alone, but which ones depends on the values or on
attributes; or numbers that the input happens to hold as well."""


@pytest.mark.parametrize("op", sorted(op_traits._STANDARD))
def test_an_operator_moves_values_as_its_row_says(op):
    told = [closeness(inputs[0], y) for inputs, y in examples().get(op, []) if _tell(inputs[0], y)]
    if not told:
        assert named(op).values in (Values.COMPUTED, Values.COPIED), "a row that moves values needs a case"
        return
    assert max(told) <= named(op).values, f"the row of {op} says {named(op).values.name}, and that is not so"
    if op not in CHOOSES:
        assert max(told) == named(op).values, f"{op} leaves values closer to the input than its row says"


def _tell(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether arrays have different numbers enough for a comparison that means something."""
    return x.dtype == y.dtype and x.dtype.kind != "b" and len(np.unique(x)) > 2 and y.size > 1


@pytest.mark.parametrize("op", sorted(op for op, row in op_traits._STANDARD.items() if np.isfinite(row.bounds).any()))
def test_values_lie_within_the_bounds(op):
    low, high = named(op).bounds
    cases = [case for case in ROWS if case.op == op]
    assert cases or op in examples(), f"the bounds of {op} are tried nowhere"
    for y in [*(y for _, y in examples().get(op, [])), *(_forward(case)(lambda x: x)[0] for case in cases)]:
        assert not y.size or (y.min() >= low - 1e-6 and y.max() <= high + 1e-6)


@pytest.mark.parametrize("op", sorted(op for op, row in op_traits._STANDARD.items() if row.between))
def test_values_lie_between_those_of_the_input(op):
    for inputs, y in examples()[op]:
        x = inputs[0]
        if x.size and x.dtype == y.dtype and x.dtype.kind == "f":
            assert y.min() >= min(x.min(), 0) - 1e-6 and y.max() <= max(x.max(), 0) + 1e-6


@pytest.mark.parametrize("op", sorted(op for op, row in op_traits._STANDARD.items() if row.foldable and not row.grows))
def test_what_is_evaluated_cannot_be_large_where_its_inputs_are_small(op):
    """Broadcasting makes a product of sizes at most, NonZero an index for each axis."""
    for inputs, y in examples().get(op, []):
        sizes = [array.size for array in inputs]
        if 0 not in sizes:
            assert y.size <= prod(sizes) * max(1, inputs[0].ndim), f"{op} grows: say so in its row"


# --- how outputs follow inputs ----------------------------------------------------------------------------------------


def _forward(case):
    """A function that evaluates a case with its first input changed: the result and that input; None if it has none."""
    problem = case.problem("static", case.opsets[-1])
    exact = problem.oracle != "linear"  # ONNX Runtime, in float32
    model = with_float_type(problem.model, onnx.TensorProto.DOUBLE) if exact else problem.model
    node = next(node for node in model.graph.node if node.op_type == case.op)
    rng = np.random.default_rng(0)
    feeds = {n: spaced(rng, s, *problem.domains.get(n, DEFAULT_DOMAIN)) for n, s in problem.shapes.items()}
    first = node.input[0]

    def run(change, others=lambda x: x):
        fed = {n: change(x) if n == first else others(x) for n, x in feeds.items()}
        with np.errstate(all="ignore"):
            return np.asarray(EVALUATORS[problem.oracle](model, {**fed, **problem.given})[0]), feeds.get(first)

    alone = all(other is node or other.op_type == "Constant" for other in model.graph.node)
    plain = alone and first in feeds and node.output[0] == model.graph.output[0].name
    run.is_plain = plain
    return run


def cases(fact) -> list:
    """The cases of operators of which a fact is so, as parameters."""
    return [pytest.param(case, id=f"{case.op}-{i}") for i, case in enumerate(ROWS) if fact(named(case.op))]


def _changed(run) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """The positions of the output that one element of the first input has changed, its own position, and its shape."""
    before, x = run(lambda x: x)
    at = tuple(size // 2 for size in x.shape)

    def one(array):
        array = np.array(array)
        array[at] = array[at] * 1.01 + 1e-3
        return array

    after, _ = run(one)
    return np.argwhere(before != after), at, x.shape


@pytest.mark.parametrize("case", cases(lambda row: row.same_place))
def test_an_element_is_made_of_those_in_its_place(case):
    run = _forward(case)
    if not run.is_plain or "training_mode" in case.body:
        return
    changed, at, shape = _changed(run)
    for place in changed:
        tail = place[len(place) - len(at) :]
        assert all(size == 1 or here == there for here, there, size in zip(tail, at, shape, strict=True))


@pytest.mark.parametrize("case", cases(lambda row: row.along_axis))
def test_positions_of_other_axes_are_kept_apart(case):
    run = _forward(case)
    if not run.is_plain:
        return
    problem = case.problem("static", case.opsets[-1])
    node = next(node for node in problem.model.graph.node if node.op_type == case.op)
    stated = {a.name: a.i for a in node.attribute}
    changed, at, shape = _changed(run)
    axis = stated.get("axis", named(case.op).default_axis) % len(shape)
    kept = range(axis) if named(case.op).axes == "first kept" else [a for a in range(len(shape)) if a != axis]
    assert all(place[a] == at[a] for place in changed for a in kept)


@pytest.mark.parametrize("case", cases(lambda row: row.non_negative_of_such))
def test_what_is_made_of_non_negative_values_is_non_negative(case):
    y, _ = _forward(case)(np.abs, np.abs)
    assert y.size == 0 or y.min() >= 0


@pytest.mark.parametrize("case", cases(lambda row: row.affine == Affine.HOMOGENEOUS and row.differentiable))
def test_a_homogeneous_operator_passes_a_factor(case):
    run = _forward(case)
    if not run.is_plain or case.op == "ThresholdedRelu":  # beyond its threshold
        return
    (once, _), (twice, _) = run(lambda x: x), run(lambda x: 2 * x)
    if once.dtype.kind == "f" and "extrapolation" not in case.body:
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", sorted(op for op, row in op_traits._STANDARD.items() if row.steps))
def test_a_step_stays_where_its_input_hardly_changes(op):
    kind = "int64" if named(op).axes == "dropped" else "double"
    text = f'<ir_version: 8, opset_import: ["": 17]> g (double[3,5] x) => ({kind}[3,5] y) {{ y = {op}(x) }}'
    model = onnx.parser.parse_model(text)
    x = np.random.default_rng(0).uniform(-3, 3, (3, 5))
    before, after = (EVALUATORS["reference"](model, {"x": values})[0] for values in (x, x * (1 + 1e-9)))
    np.testing.assert_array_equal(before, after)
    assert named(op).zero_derivative
