"""The table of what is known of operators: complete, safe where nothing is known, and true wherever it can be tried."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from helpers.gradients.checker import DEFAULT_DOMAIN, EVALUATORS, spaced, with_float_type
from helpers.gradients.table import ROWS
from onnx_xcam.surgery.ir import op_traits
from onnx_xcam.surgery.ir.op_facts import ALL, UNKNOWN, Affine, OpTraits, Values
from onnx_xcam.surgery.ir.op_traits import named, proto_traits, traits
from onnx_xcam.surgery.ir.protos import MICROSOFT
from onnx_xcam.surgery.lowering import LOWERINGS
from onnx_xcam.surgery.rules import RULES
from onnx_xcam.surgery.rules.registry import vjp

STANDARD = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
NOT_ONNX = {"SimplifiedLayerNormalization"}
"""What ONNX Runtime writes into the standard's domain."""


# --- complete, and safe -----------------------------------------------------------------------------------------------


def test_every_operator_of_the_standard_has_a_row():
    missing = sorted(op for op in STANDARD if named(op) is UNKNOWN)
    assert not missing, f"{', '.join(missing)}: say what is known of them, one row each, in surgery/ir/op_traits.py"
    assert set(op_traits._STANDARD) - STANDARD == NOT_ONNX, "a row of an operator that does not exist"


def test_every_lowered_operator_has_a_row():
    missing = sorted(f"{domain}.{op}" for domain, op in LOWERINGS if named(op, domain) is UNKNOWN)
    assert not missing, f"{', '.join(missing)}: say what is known of them, one row each, in surgery/ir/op_traits.py"


def test_nothing_is_taken_for_granted_of_an_unknown_operator():
    """A default is the answer that makes nobody believe more than is so; whoever adds a field adds it here."""
    safe = {
        "axes": "ended", "elementwise": None, "same_place": False, "along_axis": False, "default_axis": None,
        "reads_images": False,
        "values": Values.COMPUTED, "casts": False, "bounds": (float("-inf"), float("inf")), "between": False,
        "non_negative_of_such": False, "has_pole": True, "clips": False, "steps": False, "zero_derivative": False,
        "without_gradient": None,
        "differentiable": ALL, "passive": (), "held": (), "detached": (), "coordinates": (), "affine": Affine.NONE,
        "linear": False,
        "weighted": False, "weights_at": None, "recurrent": False, "control_flow": False, "picks_boxes": False,
        "quantises": False, "dequantises": False, "requantises": False, "on_integers": False,
        "scaled_by_run": False, "factors": None,
        "runs_on_integers": False, "passes_quantisers": False, "left_to_quantiser": False, "stores_any_type": False,
        "typed_by": None, "foldable": False, "grows": False, "repeatable": False,
    }  # fmt: skip
    assert {field.name: getattr(UNKNOWN, field.name) for field in fields(OpTraits)} == safe


@pytest.mark.parametrize("domain", [None, "", "ai.onnx"])
def test_the_standard_has_several_names(domain):
    assert named("Relu", domain).bounds == (0, float("inf"))
    assert traits(gs.Node("Relu", domain=domain)) is named("Relu")
    assert proto_traits(onnx.helper.make_node("Relu", ["x"], ["y"], domain=domain)) is named("Relu")


def test_an_operator_of_another_domain_is_another_operator():
    assert named("Relu", "com.example") is UNKNOWN
    assert named("Attention", MICROSOFT) is not named("Attention")
    assert named("EfficientNMS_TRT", "TRT").picks_boxes
    assert named("EfficientNMS_TRT", "").picks_boxes


# --- gradients --------------------------------------------------------------------------------------------------------


def test_a_rule_needs_a_row():
    with pytest.raises(ValueError, match=r"a rule for Relu7, which has no row in ir/op_traits\.py"):
        vjp("Relu7")(RULES["Relu"].function)


@pytest.mark.parametrize("op", ["Relu", "Floor"])
def test_an_operator_has_one_rule_or_a_derivative_of_zero(op):
    with pytest.raises(ValueError, match=f"second rule for {op}"):
        vjp(op)(RULES["Relu"].function)


def test_what_is_said_of_gradients_is_of_operators_with_a_rule():
    """A number of differentiable inputs is a promise of the rule; without a rule nobody keeps it."""
    said = {
        op
        for op, row in op_traits._STANDARD.items()
        if row.differentiable != ALL or row.without_derivative or row.detached
    }
    assert said - set(RULES) == set()


# --- numbers ----------------------------------------------------------------------------------------------------------

LINEAR = [case for case in ROWS if named(case.op).linear]


def test_every_linear_operator_with_a_rule_is_tried():
    untried = {op for op in RULES if named(op).linear} - {case.op for case in LINEAR}
    assert untried == set()


@pytest.mark.parametrize("case", LINEAR, ids=[f"{case.op}-{i}" for i, case in enumerate(LINEAR)])
def test_a_linear_operator_adds_up(case):
    """f(a + b) - f(a) - f(b) + f(0) = 0, and that of a number of times as well: what a bias adds drops out."""
    problem = case.problem("static", case.opsets[-1])
    exact = problem.oracle != "linear"  # ONNX Runtime, in float32
    model = with_float_type(problem.model, onnx.TensorProto.DOUBLE) if exact else problem.model
    rng = np.random.default_rng(0)
    feeds = {n: spaced(rng, s, *problem.domains.get(n, DEFAULT_DOMAIN)) for n, s in problem.shapes.items()}
    first = model.graph.node[-1].input[0] if model.graph.node[-1].op_type == case.op else None
    first = first or next(node for node in model.graph.node if node.op_type == case.op).input[0]
    if first not in feeds:
        pytest.skip("the first input of this row is a weight")
    a, b = feeds[first], rng.normal(size=feeds[first].shape)

    def f(x):
        return EVALUATORS[problem.oracle](model, {**feeds, **problem.given, first: x})[0]

    np.testing.assert_allclose(f(3 * a + b) - 3 * f(a) - f(b) + 3 * f(0 * a), 0, atol=1e-9 if exact else 1e-4)
