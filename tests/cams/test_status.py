"""The status of maps as numpy tells it, and that its words and numbers are told in one place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import onnx_xcam
from onnx_xcam import contract
from onnx_xcam.cams.status import fused_status, map_status, status_words

PACKAGE = Path(onnx_xcam.__file__).parent
HOMES = {"contract.py", "cams/status.py", "surgery/tail/cam.py"}
"""The numbers and words of the contract, their numpy form, and what a file computes them by."""
GOOD, EMPTY, FLAT, BAD, _ = contract.STATUS_TEXT


def maps(*rows: float) -> np.ndarray:
    """One map of 1 x 2 pixels for each class, `[1, K, 1, 2]`, whose first pixel is the number."""
    return np.array([[[[row, 0]] for row in rows]], np.float32)


def test_each_status():
    found = map_status(maps(1, 0, np.nan, np.inf, -2))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [[GOOD, EMPTY, BAD, BAD, GOOD]])


def test_what_only_the_caller_knows():
    """A zero gradient goes before a zero map, and what is not finite before both, though it was set to 0."""
    flat, finite = np.array([[True, False, True]]), np.array([[True, True, False]])
    np.testing.assert_array_equal(map_status(maps(0, 0, 0), flat=flat), [[FLAT, EMPTY, FLAT]])
    np.testing.assert_array_equal(map_status(maps(0, 1, 0), flat=flat, finite=finite), [[FLAT, GOOD, BAD]])


def test_the_map_of_all_layers():
    """It is bad where that of a layer is, and else only its own emptiness counts."""
    of_layers = [np.array([[GOOD, BAD, FLAT, FLAT]]), np.array([[EMPTY, GOOD, GOOD, FLAT]])]
    np.testing.assert_array_equal(fused_status(maps(1, 1, 1, 0), of_layers), [[GOOD, BAD, GOOD, EMPTY]])


def test_words():
    assert [status_words(status) for status in contract.STATUS_TEXT] == [*contract.STATUS_TEXT.values()]
    assert status_words(17) == "status 17", "a later version of the contract may add some"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_computes_a_status(path):
    if path.relative_to(PACKAGE).as_posix() not in HOMES:
        wrong = re.search(
            r"(MAP_ZERO|GRADIENT_ZERO|NOT_FINITE|STATUS_TEXT(\.get|\[))", path.read_text(encoding="utf-8")
        )
        assert not wrong, f"{path}: {wrong[0]}; status and its words are told by onnx_xcam/cams/status.py"
