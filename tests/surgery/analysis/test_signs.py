"""Which tensors are known to hold no negative value, and between which numbers values lie."""

from __future__ import annotations

import pytest

from helpers.models import build
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.signs import is_non_negative
from onnx_xcam.surgery.analysis.value_ranges import bound

TAIL = "f = Flatten(t) logits = Identity(f)"


def graph_of(body: str, imports: str = ""):
    return prepare(build(f"{body} {TAIL}", inputs="float[1,4,4,4] image", outputs="float[1,?] logits", imports=imports))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Relu(image) t = DepthToSpace<blocksize = 2>(a)", True),
        ("a = Sigmoid(image) t = SpaceToDepth<blocksize = 2>(a)", True),
        ("a = Relu(image) b = Abs(image) t = Min(a, b)", True),
        ("a = Relu(image) t = Min(a, image)", False),
        ("a = Relu(image) b = Exp(image) t = Mean(a, b)", True),
        ("t = GlobalLpPool(image)", True),
        ("t = ThresholdedRelu<alpha = -1.0>(image)", False),
        ("t = AveragePool<kernel_shape = [2, 2]>(image)", False),
        ("a = Relu(image) t = AveragePool<kernel_shape = [2, 2]>(a)", True),
    ],
)
def test_a_sign_follows_from_the_operators(body, expected):
    assert is_non_negative(graph_of(body), "t") is expected


def test_an_operator_of_another_domain_tells_no_sign():
    assert not is_non_negative(graph_of("t = com.example.Relu(image)", ', "com.example" : 1'), "t")


def test_a_range_passes_what_only_moves_values():
    graph = graph_of("a = Sigmoid(image) t = DepthToSpace<blocksize = 2>(a)")
    assert (bound(graph, "t", "min"), bound(graph, "t", "max")) == (0, 1)


@pytest.mark.parametrize(("op", "expected"), [("Add", (-1, 3)), ("Sub", (-2, 2))])
def test_a_range_reaches_from_the_smallest_addend_to_the_largest(op, expected):
    """Each channel has an addend of its own; the range is that of the whole tensor, between 0 - 1 and 1 + 2."""
    addends = "k = Constant<value = float[1,4,1,1] {-1.0, 0.5, 0.0, 2.0}>()"
    graph = graph_of(f"a = Sigmoid(image) {addends} t = {op}(a, k)")
    assert (bound(graph, "t", "min"), bound(graph, "t", "max")) == expected
