"""If nodes with a known condition, and sequences: straightened where they lie on the way, refused where they cannot be."""

# ruff: noqa: E501  a branch reads best as one line
from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images, run
from onnx_xcam import check, inspect, instrument, instrument_file
from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.normalise.inline_if import inline_branches


def numbers(name: str, *values: int, scalar: bool = False) -> str:
    """An integer constant in text form."""
    kind = "int64" if scalar else f"int64[{len(values)}]"
    return f"{name} = Constant<value = {kind} {{{', '.join(map(str, values))}}}>() "


def chosen(condition: str, then: str, otherwise: str, out: str = "a") -> str:
    """An If whose branches are written in nodes that make `t` and `e`."""
    return (
        f"{out} = If<then_branch = g1 () => (float[N,4,6,6] t) {{ {then} }}, "
        f"else_branch = g2 () => (float[N,4,6,6] e) {{ {otherwise} }}>({condition}) "
    )


ASKED = numbers("one", 1, scalar=True) + numbers("axis", 1, scalar=True)
"""Is the second dimension of c2 (which is 4) a 1?"""
STATIC = ASKED + "s = Shape(c2) n = Gather(s, axis) is = Equal(n, one) "


def same(made: onnx.ModelProto, plain: onnx.ModelProto, before: onnx.ModelProto) -> None:
    """The instrumented model does what its original did, and its map is that of the same model without the detour."""
    batch = images(2)
    found, wanted, original = run(made, batch, [[1, 3]]), run(plain, batch, [[1, 3]]), run(before, batch)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_array_equal(found["logits"], original["logits"])
    for name in ("xcam_map", "xcam_gradients", "xcam_activations"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)
    assert found["xcam_gradients"].any()


@pytest.mark.parametrize(
    "detour",
    [
        STATIC + chosen("is", "t = Neg(c2)", "e = Relu(c2)"),
        # A rank, computed; and the other branch.
        numbers("four", 4, scalar=True) + "s = Shape(c2) r = Size(s) is = Equal(r, four) " + chosen("is", "t = Relu(c2)", "e = Neg(c2)"),
        # A branch that hands on a tensor from outside, and one that makes its output of inner names.
        "r = Relu(c2) " + STATIC + chosen("is", "t = Neg(c2)", "e = Identity(r)"),
        STATIC + chosen("is", "t = Neg(c2)", "u = Neg(c2) v = Neg(u) e = Relu(v)"),
        # Inner names that are used elsewhere too: in the graph before, behind, and in the other branch.
        "u = Sigmoid(c2) " + STATIC + chosen("is", "u = Neg(c2) t = Neg(u)", "u = Neg(c2) v = Neg(u) e = Relu(v)") + "v = Neg(u) ",
        # One in the other.
        STATIC + "is_not = Not(is) " + chosen("is_not", chosen("is", "t = Neg(c2)", "x = Neg(c2) y = Neg(x) e = Relu(y)", "z") + "t = Identity(z)", "e = Neg(c2)"),
        # One behind the other: what the first gives decides the second.
        STATIC + chosen("is", "t = Neg(c2)", "e = Relu(c2)", "b") + numbers("zero", 0, scalar=True)
        + "s2 = Shape(b) n2 = Gather(s2, axis) four = Mul(n2, one) has = Greater(four, zero) " + chosen("has", "t = Identity(b)", "e = Neg(b)"),
    ],
)  # fmt: skip
def test_the_branch_that_is_taken(detour):
    model = cnn(detour + GAP, act="", weights=GAP_WEIGHTS)
    made = instrument(model, layers="c2")
    assert "If" not in {node.op_type for node in made.graph.node}
    same(made, instrument(cnn("gap"), layers="c2"), model)
    assert any("put in place of If" in note for note in inspect(model).notes)


def test_a_squeeze_as_exporters_leave_it():
    """Ranks that differ between the branches: what lies behind has a shape only once the branch is chosen."""
    text = (
        "pooled = GlobalAveragePool(a) " + numbers("two", 2, scalar=True) + numbers("one", 1, scalar=True) + numbers("axes", 2, 3)
        + "s = Shape(pooled) n = Gather(s, two) is = Equal(n, one) flat = If<then_branch = g1 () => (float[N,4] t) { t = Squeeze(pooled, axes) }, "
        "else_branch = g2 () => (float[N,4,P,Q] e) { e = Identity(pooled) }>(is) logits = Gemm<transB=1>(flat, fc, fb)"
    )  # fmt: skip
    model = cnn(text, weights=GAP_WEIGHTS)
    assert inspect(model).layers[-1].name == "a"
    same(instrument(model), instrument(cnn("gap")), model)
    assert check(model).passed


def test_weights_in_a_branch(tmp_path):
    """They move to the graph, under names of their own, also from a file and when they are large."""
    text = STATIC + chosen("is", "t = Neg(c2)", "m = Conv<pads=[1,1,1,1]>(c2, w3) e = Relu(m)") + GAP
    model = cnn(text, act="", weights=GAP_WEIGHTS)
    branch = next(
        attribute.g for node in model.graph.node for attribute in node.attribute if attribute.name == "else_branch"
    )
    weight = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
    big = np.random.default_rng(0).normal(size=(100, 400)).astype(np.float32)
    for name, array in (("w1", weight), ("big", big)):
        branch.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in branch.node:
        node.input[:] = ["w1" if name == "w3" else name for name in node.input]  # shadows the graph's w1
    plain = cnn("m = Conv<pads=[1,1,1,1]>(c2, w3) a = Relu(m) " + GAP, act="", weights={**GAP_WEIGHTS, "w3": weight})
    same(instrument(model, layers="c2"), instrument(plain, layers="c2"), model)
    onnx.save(model, tmp_path / "model.onnx")
    instrument_file(tmp_path / "model.onnx", tmp_path / "out.onnx", layers="c2")
    made = onnx.load(tmp_path / "out.onnx")
    same(made, instrument(plain, layers="c2"), model)
    kept = [tensor for tensor in made.graph.initializer if list(tensor.dims) == [100, 400]]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept[0]), big)


def test_types_that_a_branch_states_go_with_its_names():
    """The graph has another `u`, of another shape; `t` is the name of the result within the branch alone."""
    text = (
        "c = Constant<value = float[2] {1.0, 2.0}>() u = Neg(c) no = Constant<value = bool {0}>() "
        "a = If<then_branch = g1 () => (float[K] t) { t = Neg(c) }, "
        "else_branch = g2 () => (float[K] t) <float[2,1] u, float[2] t> { u = Unsqueeze(c, last) t = Squeeze(u, last) }>(no) "
        "logits = Add(a, u)"
    )
    graph = build(text, {"last": np.array([1])}, inputs="", outputs="float[2] logits").graph
    inline_branches(graph, {"a": False})
    stated = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in graph.value_info}
    made = {node.op_type: node.output[0] for node in graph.node if node.op_type in ("Unsqueeze", "Squeeze")}
    assert made["Unsqueeze"] != "u" and made["Squeeze"] == "a"
    assert stated == {made["Unsqueeze"]: [2, 1], "a": [2]}


def test_a_branch_that_hands_out_what_it_has_not_made_and_one_tensor_twice():
    """Outputs that are a tensor from outside, a weight of the branch, and an inner tensor under two names."""
    text = (
        STATIC
        + "r = Relu(c2) a, b, w, v = If<then_branch = g1 () => (float[N,4,6,6] t, float[N,4,6,6] u, float[1] o, float[N,4,6,6] p) "
        "{ t = Neg(c2) u = Neg(t) p = Neg(c2) o = Constant<value = float[1] {2.0}>() }, else_branch = g2 () => "
        "(float[N,4,6,6] r, float[N,4,6,6] n, float[1] k, float[N,4,6,6] n) { n = Neg(c2) }>(is) d = Sub(b, v) e = Mul(d, w) f = Add(a, e) "
    )
    model = cnn(text + GAP.replace("(a)", "(f)"), act="", weights=GAP_WEIGHTS)
    branch = next(a.g for node in model.graph.node for a in node.attribute if a.name == "else_branch")
    branch.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "k"))
    made, plain = instrument(model, layers="c2"), instrument(cnn("gap"), layers="c2")
    onnx.checker.check_model(made, full_check=True)
    assert "If" not in {node.op_type for node in made.graph.node}
    found, wanted = (run(m, images(2), [[1, 3]]) for m in (made, plain))
    for name in ("logits", "xcam_map", "xcam_gradients"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_an_if_that_is_not_on_the_way_stays_where_it_is():
    """The forward part stays byte for byte what it was."""
    text = (
        STATIC
        + "a = Relu(c2) i = If<then_branch = g1 () => (int64 t) { t = Identity(n) }, else_branch = g2 () => (int64 e) { e = Neg(n) }>(is) "
    )
    model = cnn(text + GAP, act="", weights=GAP_WEIGHTS, output=f"float[N,{C}] logits, int64 i")
    before = model.SerializeToString()
    made = instrument(model, layers="c2")
    assert list(made.graph.node[: len(model.graph.node)]) == list(model.graph.node)
    assert model.SerializeToString() == before
    assert not any("Model:" in note for note in inspect(model).notes)


# --- sequences ----------------------------------------------------------------------------------------------------------

AT = numbers("zero", 0, scalar=True) + numbers("one", 1, scalar=True) + numbers("last", -1, scalar=True)
JOINED = "a = Relu(j) "
SEQUENCES = [
    # c2 is [N,4,6,6]: cut into four channels, taken apart and put together again.
    AT + "q = SplitToSequence<axis=1>(c2) u = SequenceAt(q, zero) v = SequenceAt(q, last) b = Sub(u, v) c = Sub(c2, b) j = Add(c, b) " + JOINED,
    AT + "q = SplitToSequence<axis=1, keepdims=0>(c2) j = ConcatFromSequence<axis=1, new_axis=1>(q) " + JOINED,
    AT + numbers("two", 2, scalar=True) + "q = SplitToSequence<axis=-3>(c2, two) j = ConcatFromSequence<axis=1>(q) " + JOINED,
    AT + numbers("three", 3, scalar=True) + "q = SplitToSequence<axis=1>(c2, three) u = SequenceAt(q, zero) v = SequenceAt(q, one) j = Concat<axis=1>(u, v) " + JOINED,
    AT + numbers("sizes", 1, 3) + "q = SplitToSequence<axis=1>(c2, sizes) i = Identity(q) u = SequenceAt(i, zero) v = SequenceAt(q, one) "
    "r = SequenceConstruct(u, v) j = ConcatFromSequence<axis=1>(r) " + JOINED,
    AT + "n = Neg(c2) q = SequenceConstruct(n, c2, n) j = SequenceAt(q, one) " + JOINED,
    AT + "n = Neg(c2) e = SequenceEmpty() q = SequenceInsert(e, c2) r = SequenceInsert(q, n, zero) s = SequenceErase(r, zero) t = SequenceInsert(s, n) "
    "u = SequenceErase(t) j = SequenceAt(u, last) " + JOINED,
    AT + "n = Neg(c2) q = SequenceConstruct(n, c2) o = Optional(q) g = OptionalGetElement(o) j = SequenceAt(g, one) " + JOINED,
    "o = Optional(c2) h = OptionalHasElement(o) j = OptionalGetElement(o) " + JOINED,
    "j = OptionalGetElement(c2) " + JOINED,
]  # fmt: skip


@pytest.mark.parametrize("detour", SEQUENCES)
def test_sequences_whose_elements_are_known(detour):
    opset = 18 if "OptionalGetElement(c2)" in detour else 17
    model = cnn(detour + GAP, act="", weights=GAP_WEIGHTS, opset=opset)
    made = instrument(model, layers="c2")
    left = {node.op_type for node in made.graph.node}
    assert not {op for op in left if "Sequence" in op}
    same(made, instrument(cnn("gap"), layers="c2"), model)
    assert any("elements of sequences" in note for note in inspect(model).notes)


@pytest.mark.parametrize("opset", [11, 12])
def test_sequences_of_old_opsets(opset):
    model = cnn(SEQUENCES[1] + GAP, act="", weights=GAP_WEIGHTS, opset=opset)
    same(instrument(model, layers="c2"), instrument(cnn("gap", opset=opset), layers="c2"), model)


@pytest.mark.parametrize(
    ("split", "taken"),
    [
        ("SplitToSequence<axis=2, keepdims=0>(c2)", "Gather<axis=2>(c2, two)"),
        ("SplitToSequence<axis=2>(c2)", "Gather<axis=2>(c2, listed)"),
        ("SplitToSequence<axis=2>(c2, two)", "Slice(c2, from, to, two_at)"),
    ],
)
def test_parts_of_a_tensor_of_unknown_length(split, taken):
    given = (
        numbers("two", 2, scalar=True)
        + numbers("listed", 2)
        + numbers("from", 4)
        + numbers("to", 6)
        + numbers("two_at", 2)
    )
    head = " r = ReduceMax<axes=[2, 3], keepdims=0>(x) logits = Gemm<transB=1>(r, fc, fb)".replace(
        "[2, 3]", "[2]" if "keepdims=0" in split else "[2, 3]"
    )
    model = cnn(given + f"q = {split} x = SequenceAt(q, two)" + head, act="", weights=GAP_WEIGHTS, size="S")
    plain = cnn(given + f"x = {taken}" + head, act="", weights=GAP_WEIGHTS, size="S")
    same(instrument(model, layers="c2"), instrument(plain, layers="c2"), model)


def test_a_sequence_that_something_else_needs_too_stays():
    text = AT + "q = SequenceConstruct(c2, c1) length = SequenceLength(q) j = SequenceAt(q, zero) a = Relu(j) " + GAP
    model = cnn(text, act="", weights=GAP_WEIGHTS, output=f"float[N,{C}] logits, int64 length")
    made = instrument(model, layers="c2")
    same(made, instrument(cnn("gap"), layers="c2"), model)
    assert run(made, images(1))["length"] == 2


# --- what cannot be straightened ------------------------------------------------------------------------------------------

LINES = "x = ReduceMean<axes=[3], keepdims=0>(c2) l = Transpose<perm=[2,0,1]>(x) "
BACK = "h = Squeeze(y, one_axis) d = Transpose<perm=[1,2,0]>(h) u = Unsqueeze(d, last_axis) a = Mul(c2, u) "
AXES = numbers("one_axis", 1) + numbers("last_axis", 3)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
COUNTED = "(int64 i, bool go, float[P,4,6,6] before) => (bool on, float[Q,4,6,6] after) { on = Identity(go) after = Sigmoid(before) }"
IN_THE_WAY = {
    "If": "m = ReduceMean<keepdims=0>(c2) z = Constant<value_float=0.0>() big = Greater(m, z) " + chosen("big", "t = Sigmoid(c2)", "e = Relu(c2)", "x") + "a = Add(c2, x) ",
    "Loop": numbers("n", 2, scalar=True) + f"x = Loop<body = b {COUNTED}>(n, , c2) p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) a = Add(c2, p) ",
    "Scan": "t = Unsqueeze(c2, first) y = Scan<num_scan_inputs = 1, body = b (float[N,4,6,6] u) => (float[N,4,6,6] v) { v = Sigmoid(u) }>(t) x = Squeeze(y, first) a = Add(c2, x) ".replace("t =", numbers("first", 0) + "t =", 1),
    **{op: AXES + LINES + f"y = {op}<hidden_size = 4>(l, w, r) " + BACK for op in GATES},
    "SequenceAt": "q = SplitToSequence<axis=1>(c2) m = ReduceMax<keepdims=0>(c2) f = Floor(m) g = Sub(f, f) k = Cast<to=7>(g) x = SequenceAt(q, k) a = Add(c2, x) ",
}  # fmt: skip


@pytest.mark.parametrize("op", IN_THE_WAY)
def test_what_lies_in_the_way_is_named_with_the_nearest_layer_that_works(op):
    """One sentence that names the nodes and a later layer, from `instrument` and in `inspect`; the later layer works."""
    gates = GATES.get(op, 1)
    weights = {**TRUNK_WEIGHTS, **GAP_WEIGHTS, "w": (1, 4 * gates, 4), "r": (1, 4 * gates, 4)}
    model = build(TRUNK + IN_THE_WAY[op] + GAP, weights)
    if op == "Loop":  # whose output's rank onnx does not infer
        model.graph.value_info.append(onnx.helper.make_tensor_value_info("x", 1, ["N", 4, 6, 6]))
    with pytest.raises(UnsupportedOpError) as error:
        instrument(model, layers="c2")
    name = next(out for node in model.graph.node if node.op_type == op for out in node.output)
    assert f"{op}: '{name}'" in str(error.value)
    assert str(error.value).startswith("No gradient rule for operators between the layer and the score: ")
    near = str(error.value).split("The nearest layer that works is '")[1].split("'")[0]
    behind = {layer.name: layer.unsupported for layer in inspect(model).layers}
    assert behind["c2"][op] == [name]
    assert behind[near] == {}
    before, after = run(model, images(1)), run(instrument(model, layers=near), images(1))
    np.testing.assert_array_equal(after["logits"], before["logits"])
    assert after["xcam_map"].shape[2:] == (6, 6)
