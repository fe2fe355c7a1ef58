"""Parts of graphs, against paths that are counted one by one, in any order of the nodes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_xcam.surgery.analysis.reachability import backward, between, forward, walk_backward, walk_forward
from onnx_xcam.surgery.ir.uses import Uses

SEEDS = range(20)


def drawn(seed: int) -> list[onnx.NodeProto]:
    """A random graph over the tensors 0 to 19, of which the first three are inputs, its nodes in no order."""
    random = np.random.default_rng(seed)
    nodes, known = [], [str(n) for n in range(3)]
    while len(known) < 20:
        inputs = random.choice(known, random.integers(0, 3)).tolist()
        outputs = [str(len(known) + n) for n in range(random.integers(1, 3))]
        nodes.append(helper.make_node("Op", inputs, outputs))
        known += outputs
    return [nodes[n] for n in random.permutation(len(nodes))]


def closed(nodes: list[onnx.NodeProto]) -> set[tuple[str, str]]:
    """All pairs of tensors of which the second depends on the first, each on itself too, found by brute force."""
    pairs = {(a, b) for node in nodes for a, b in itertools.product(node.input, node.output)}
    pairs |= {(str(n), str(n)) for n in range(25)}
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= more
    return pairs


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_of_random_graphs(seed):
    nodes = drawn(seed)
    pairs, uses = closed(nodes), Uses(nodes)
    for start, end in [("0", "15"), ("1", "18"), ("4", "12")]:
        ahead = {b for a, b in pairs if a == start}
        before = {a for a, b in pairs if b == end}
        assert forward(uses, [start]).nodes == [n for n in nodes if ahead & set(n.input)]
        assert backward(uses, [end]).nodes == [n for n in nodes if before & set(n.output)]
        through = [n for n in nodes if ahead & set(n.input) and before & set(n.output)]
        part = between(uses, [start], [end])
        assert part.nodes == through
        passed = {name for n in through for name in (*n.input, *n.output)} & ahead & before
        assert part.tensors == passed | ({start} & {end})
    made = {name for n in nodes for name in n.output}
    assert forward(uses, ["0"]).tensors >= {b for a, b in pairs if a == "0"}
    assert backward(uses, ["19"]).tensors - made == {a for a, b in pairs if b == "19"} - made


def edge_graph() -> Uses[onnx.NodeProto]:
    nodes = [
        helper.make_node("Where", ["c", "a", "b"], ["w"]),
        helper.make_node("Drop", ["w"], ["d", "mask"]),
        helper.make_node("Use", ["mask"], ["m"]),
        helper.make_node("Use", ["d"], ["e"]),
    ]
    return Uses(nodes)


def test_an_edge_into_a_node_can_be_left_out():
    uses = edge_graph()

    def enters(node, name):
        return not (node.op_type == "Where" and name == "c")

    assert forward(uses, ["c"], enters=enters).positions == ()
    assert forward(uses, ["c", "a"], enters=enters).positions == (0, 1, 2, 3)
    assert backward(uses, ["e"], enters=enters).tensors == {"e", "d", "w", "a", "b"}
    assert between(uses, ["c"], ["e"], enters=enters).positions == ()


def test_an_edge_out_of_a_node_can_be_left_out():
    uses = edge_graph()

    def leaves(node, name):
        return name != "mask"

    assert forward(uses, ["a"], leaves=leaves).tensors == {"a", "w", "d", "e"}
    assert backward(uses, ["mask"], leaves=leaves).positions == ()
    assert between(uses, ["a"], ["m", "e"], leaves=leaves).positions == (0, 1, 3)


def test_what_is_left_out_joins_nothing():
    """A missing input of one node and a missing output of another are not the same tensor."""
    nodes = [helper.make_node("LSTM", ["u"], ["", "h"]), helper.make_node("Resize", ["x", "", "s"], ["y"])]
    assert backward(Uses(nodes), ["y"]).positions == (1,)
    assert forward(Uses(nodes[::-1]), ["u"]).positions == (1,)


def test_walks_stop_where_the_caller_does():
    """Only what was asked for is looked at: a walk along a long chain costs nothing beyond."""
    asked = []
    uses = Uses([helper.make_node("Op", [str(n)], [str(n + 1)]) for n in range(50)])

    def enters(node, name):
        asked.append(name)
        return True

    assert list(itertools.islice(walk_forward(uses, ["0"], enters=enters), 3)) == [0, 1, 2]
    assert list(itertools.islice(walk_backward(uses, ["50"], enters=enters), 3)) == [49, 48, 47]
    assert len(asked) < 8
