"""Every rule against finite differences, and the check itself against planted faults."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from dataclasses import replace
from string import ascii_letters

import onnx
import pytest

from helpers.gradients.checker import WrongGradientError, check
from helpers.gradients.rows import NEWEST, ints, row, scalar
from helpers.gradients.table import FUNCTION_ROWS, ROWS
from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.autodiff.function_bodies import has_body
from onnx_xcam.surgery.autodiff.vjp_model import vjp_model
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.op_traits import named
from onnx_xcam.surgery.lowering import LOWERINGS
from onnx_xcam.surgery.rules import RULES
from onnx_xcam.surgery.rules.registry import vjp

CASES = [
    pytest.param(
        row, variant, opset, id=f"{row.op}-{index}-{opset}-{variant}", marks=() if default else pytest.mark.slow
    )
    for index, row in enumerate([*ROWS, *FUNCTION_ROWS])
    for variant, opset, default in row.cases()
]


@pytest.mark.parametrize(("row", "variant", "opset"), CASES)
def test_gradient(row, variant, opset):
    check(row.problem(variant, opset))


def test_every_rule_has_a_row():
    assert set(RULES) == {row.op for row in ROWS}


def test_every_operator_has_a_rule_or_a_reason():
    """None is forgotten: a rule, a derivative of zero, a function body, a lowering, or a reason in its row."""
    left = {name for name, takes, gives in _operators(NEWEST) if takes and gives}
    left = {n for n in left if n not in RULES and not named(n).zero_derivative and not has_body(n, NEWEST)}
    left = {name for name in left if ("", name) not in LOWERINGS}
    silent = sorted(name for name in left if named(name).without_gradient is None)
    assert not silent, f"{', '.join(silent)}: write a rule, or say in ir/op_traits.py why there is none"
    wrong = sorted(name for name in RULES if named(name).without_gradient is not None)
    assert not wrong, f"{', '.join(wrong)}: there is a rule, and ir/op_traits.py says why there is none"


def _operators(opset):
    """The standard's operators: name, and whether floats can go in and come out."""
    for name in {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}:
        if onnx.defs.has(name, opset):
            schema = onnx.defs.get_schema(name, opset)
            if schema.deprecated:
                continue
            kinds = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
            sides = [
                set().union(*(kinds.get(p.type_str, {p.type_str}) for p in ps))
                for ps in (schema.inputs, schema.outputs)
            ]
            yield name, *(any("float" in kind for kind in side) for side in sides)


@pytest.mark.parametrize("op", sorted(RULES))
def test_a_rule_that_is_off_by_a_thousandth_fails(op, monkeypatch):
    """For each input that the rows differentiate: its gradient alone scaled by 1.001 is found out by one of them."""
    rows = [row for row in ROWS if row.op == op]
    places = set().union(*(_places(row) for row in rows))
    rule = RULES[op]
    for place in sorted(places):
        monkeypatch.setitem(RULES, op, replace(rule, function=_scaled(rule.function, place)))
        found = any(_fails(row) for row in rows if place in _places(row))
        assert found, f"input {place}"


@pytest.mark.parametrize(
    ("op", "inside"), [("Attention", "MatMul"), ("RotaryEmbedding", "Mul"), ("CenterCropPad", "Slice")]
)
def test_a_rule_in_a_function_body_that_is_off_by_a_thousandth_fails(op, inside, monkeypatch):
    assert op not in RULES
    monkeypatch.setitem(RULES, inside, replace(RULES[inside], function=_scaled(RULES[inside].function, 0)))
    assert all(_fails(row) for row in FUNCTION_ROWS if row.op == op)


def test_going_through_a_function_body_leaves_the_model_as_it_was():
    model = FUNCTION_ROWS[0].problem("symbolic", 23).model
    before = model.SerializeToString()
    made = vjp_model(model, ["q"])
    assert model.SerializeToString() == before
    assert made.graph.node[0] == model.graph.node[0]
    assert all(name.startswith("xcam") for node in made.graph.node[1:] for name in node.output)
    assert "Attention" not in {node.op_type for node in made.graph.node[1:]}


def test_a_function_body_that_cannot_be_gone_through_is_said():
    steps = row("", "float q, float l, float d", "y = Range(q, l, d)")
    with pytest.raises(UnsupportedOpError, match=r"No gradient rule for .*Range"):
        vjp_model(steps.problem("static", 17).model, ["q"])


def _places(row):
    """The positions of the differentiated inputs at the node under test."""
    problem = row.problem(row.variants[0], row.opsets[-1])
    nodes = [node for node in problem.model.graph.node if node.op_type == row.op]
    return {list(node.input).index(name) for node in nodes for name in problem.wrt if name in node.input}


def _scaled(function, place):
    def wrong(node, gy):
        result = function(node, gy)
        gradients = [result] if isinstance(result, Value) else list(result)
        if place < len(gradients) and gradients[place] is not None:
            gradients[place] = gradients[place] * 1.001
        return gradients

    return wrong


def _fails(row):
    try:
        check(row.problem(row.variants[0], row.opsets[-1]))
    except WrongGradientError:
        return True
    return False


X = "float[N,2,H,W] x"
REFUSED = [
    ("Dropout", row("", X, scalar("r", 0.5) + "t = Constant<value = bool {1}>() y = Dropout(x, r, t)"), "training"),
    ("CumSum", row("", f"{X}, int64 a", "y = CumSum(x, a)"), "axis"),
    ("Conv", row("", f"{X}, float[3,2,P,Q] w", "y = Conv(x, w)"), "kernel's size"),
    ("ReduceSum", row("", f"{X}, int64[1] a", "y = ReduceSum(x, a)"), "axes"),
    ("Pad", row("", f"{X}, float v, int64[1] a", ints("p", 1, 1) + "y = Pad(x, p, v, a)", opsets=(18,)), "axes"),
    ("Slice", row("", f"{X}, int64[M] a, int64[M] b", "y = Slice(x, a, b)"), "number of its axes"),
    ("ConvTranspose", row("", f"{X}, float[2,3,2,2] w", "y = ConvTranspose<strides = [2, 2], output_shape = [9, 9]>(x, w)"), "output_shape"),
    ("Resize", row("", X, ints("s", 7, 8) + 'y = Resize<axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(x, , , s)', opsets=(18,)), "policy"),
    ("Resize", row("", "float[1,2,4,5] x", ints("s", 7, 8) + 'y = Resize<axes = [2, 3], mode = "linear", antialias = 1, '
                   'keep_aspect_ratio_policy = "not_larger">(x, , , s)', opsets=(18,)), "policy"),
    ("GatherND", row("", f"{X}, int64[2,M] i", "y = GatherND(x, i)"), "length of its indices"),
    ("ScatterElements", row("", f"{X}, int64[2,2,2,2] i, float[2,2,2,2] u", 'y = ScatterElements<reduction = "mul">(x, i, u)', opsets=(18,)), "'mul'"),
    ("ScatterND", row("", f"{X}, int64[2,1] i, float[2,2,H,W] u", 'y = ScatterND<reduction = "max">(x, i, u)', opsets=(18,)), "'max'"),
    ("MaxUnpool", row("", f"{X}, int64[N,2,H,W] i", ints("s", 2, 2, 9, 9) + "y = MaxUnpool<kernel_shape = [2, 2]>(x, i, s)"), "output_shape"),
    ("GroupNormalization", row("", f"{X}, float[1] s, float[1] b", "y = GroupNormalization<num_groups = 1>(x, s, b)", opsets=(18,)), "opset 21"),
    ("Einsum", row("", f"{X}, float[{','.join('1' * 48)}] a", f'y = Einsum<equation = "wxyz,{ascii_letters[:22] + ascii_letters[26:]}->wxyz">(x, a)'), "no letter"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "refused", "why"), REFUSED)
def test_what_cannot_be_differentiated_is_said(op, refused, why):
    model = refused.problem("symbolic", refused.opsets[0]).model
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["A", "B", "C", "D"])
    )
    with pytest.raises(UnsupportedOpError, match=rf"\({op}\) cannot be differentiated: .*{why}"):
        vjp_model(model, ["x"])


def test_a_weight_gradient_with_dynamic_padding_is_refused():
    refused = row("", f"{X}, float[3,2,3,3] w", 'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)')
    with pytest.raises(UnsupportedOpError, match="gradient of its weight"):
        vjp_model(refused.problem("symbolic", 17).model, ["w"])


def test_an_operator_has_one_rule():
    with pytest.raises(ValueError, match="second rule for Relu"):
        vjp("Relu")(RULES["Relu"].function)
