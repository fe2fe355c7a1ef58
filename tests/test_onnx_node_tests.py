"""The ONNX project's own node tests: the gradient is right in every case whose operator has a rule."""

from __future__ import annotations

from collections import Counter

import pytest
from gradients.checker import check
from gradients.node_tests import exemption, node_tests, problem

from onnx_xcam.surgery.rules import RULES

NO_KERNEL = {
    "test_pow_types_float32_uint32",
    "test_pow_types_float32_uint64",
    *(f"test_swiglu{form}_expanded" for form in ("", "_alpha", "_float16")),
}
"""Cases that ONNX Runtime has no kernel for; the reference evaluator alone checks them."""


@pytest.mark.parametrize("op", sorted(RULES))
def test_gradient(op):
    check_all(op, node_tests().get(op, []))


def test_functions_without_a_rule_of_their_own():
    for op, cases in node_tests().items():
        if op not in RULES:
            check_all(op, cases)


def check_all(op, cases):
    wrong = {}
    for case in cases:
        if exemption(op, case) is None:
            posed = problem(op, case)
            assert posed.runtime != (case.name in NO_KERNEL), case.name
            try:
                check(posed)
            except AssertionError as error:
                wrong[case.name] = str(error)
    assert not wrong


def test_exemptions_are_counted():
    """No case slips away: of the operators with a rule, and of functions without one that are written out in nodes."""
    with_rule = [(op, case) for op in RULES for case in node_tests().get(op, [])]
    others = [(op, case) for op, cases in node_tests().items() if op not in RULES for case in cases]
    counts = Counter(exemption(op, case) for op, case in with_rule)
    assert counts == {None: 590, "type": 158, "no float": 78, "random": 6}
    counts = Counter(exemption(op, case) for op, case in others)
    assert counts == {None: 36, "no rule": 164, "no float": 25, "no rank": 19, "type": 12}
