"""What a node reads and makes is the same whether it is a file's message or a node of the analysed graph."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx.parser import parse_model

from onnx_xcam.surgery.ir.uses import Uses, captured, names_made, names_read

OUTSIDE = "float[N,3] x, float[N,3] y, float[N,3] z, bool c"
BRANCHES = {
    "reads what is outside": ("p = Add(x, y)", "q = Relu(z)", ["x", "y", "z"]),
    "reads what it made": ("t = Relu(x)  p = Relu(t)", "q = Relu(y)", ["x", "y"]),
    "has a name of the outside for another tensor": ("y = Relu(x)  p = Relu(y)", "q = Relu(x)", ["x", "x"]),
    "hands out what is outside": ("t = Relu(x)", "q = Relu(x)", ["x", "y", "x"]),
    "nested": (
        "p = If(c) <then_branch = i () => (float[N,3] s) { s = Add(x, y) }, "
        "else_branch = j () => (float[N,3] r) { y = Relu(z)  r = Relu(y) }>",
        "q = Relu(x)",
        ["c", "x", "y", "z", "x"],
    ),
    "stores": ("k = Constant<value_float=1.0>()  p = Mul(x, k)", "q = Relu(x)", ["x", "x"]),
}


def both(text: str) -> tuple[onnx.NodeProto, gs.Node]:
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({OUTSIDE}) => (float[N,3] o) {{ {text} }}')
    return model.graph.node[0], gs.import_onnx(model).nodes[0]


@pytest.mark.parametrize("kind", BRANCHES)
def test_what_branches_capture_is_read(kind):
    then, other, expected = BRANCHES[kind]
    out = "y" if kind == "hands out what is outside" else "p"
    text = (
        f"o = If(c) <then_branch = t () => (float[N,3] {out}) {{ {then} }}, "
        f"else_branch = e () => (float[N,3] q) {{ {other} }}>"
    )
    for node in both(text):
        assert sorted(names_read(node)) == sorted(["c", *expected])
        assert sorted(captured(node)) == sorted(expected)
        assert names_made(node) == ["o"]


def test_one_branch_can_be_left_out():
    then, other = "t () => (float[N,3] p) { p = Relu(x) }", "e () => (float[N,3] q) { q = Relu(y) }"
    text = f"o = If(c) <then_branch = {then}, else_branch = {other}>"
    for node in both(text):
        assert list(captured(node, without="else_branch")) == ["x"]
        assert list(captured(node, without="then_branch")) == ["y"]


def test_a_body_has_its_own_inputs():
    text = (
        "o, s = Loop(n, c, x) <body = b (int64 i, bool g, float[N,3] y) => (bool h, float[N,3] w, float[N,3] s) "
        "{ h = Identity(g)  w = Add(y, z)  s = Identity(w) }>"
    )
    for node in both(text.replace("(n,", "(,")):
        assert list(names_read(node)) == ["c", "x", "z"]


def test_what_is_left_out_is_no_tensor():
    for node in both("o, , s = LSTM(x, y, z, , , , )"):
        assert list(names_read(node)) == ["x", "y", "z"]
        assert names_made(node) == ["o", "s"]


def test_readers_are_counted_and_makers_found():
    model = parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({OUTSIDE}) => (float[N,3] o) {{ m = Mul(x, x)  o = Add(m, x) }}'
    )
    for nodes in (model.graph.node, gs.import_onnx(model).nodes):
        uses = Uses(nodes)
        assert uses.readers == {"x": [0, 0, 1], "m": [1]}
        assert uses.maker == {"m": 0, "o": 1}
