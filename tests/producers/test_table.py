"""The table of producers: each row is measured against their own tensors, and docs/producers.md says the same."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest

from helpers.producers import LARGEST_DIFFERENCE, distributions
from helpers.producers_table import ROWS, WITHOUT_TENSORS, Row
from onnx_xcam.producers.dialects.registry import DIALECTS, METADATA_DIALECTS
from tools.release import producers_table

WRITTEN = producers_table.written(producers_table.PATH.read_text(encoding="utf-8"))
PINNED = dict(
    line.split("==")
    for name in ("versions.txt", "without_dependencies.txt")
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


@pytest.mark.filterwarnings("ignore")  # those of the libraries, and remarks on photos that have sizes of their own
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.producer)
def test_the_model_gets_what_the_producer_makes(row: Row):
    distributions(*row.packages)
    found = row.find()
    wrong = {case: one for case, one in found.items() if not isinstance(one, str) and one > LARGEST_DIFFERENCE}
    assert not wrong
    compared, cases, difference, refused = producers_table.cells(row, found)
    assert WRITTEN[row.producer][0] == compared or any(version(name) != PINNED[name] for name in row.packages)
    if WRITTEN[row.producer][0] == compared:  # another version may have other cases
        assert (cases, refused) == (WRITTEN[row.producer][1], WRITTEN[row.producer][3])
        assert number(difference) <= number(WRITTEN[row.producer][2])


def number(text: str) -> Decimal:
    """A figure of the table; "below 0.00001" is just that."""
    return Decimal(text.removeprefix("below "))


def test_the_table_has_the_rows_and_their_figures_are_small():
    assert list(WRITTEN) == [row.producer for row in ROWS]
    for compared, cases, difference, refused in WRITTEN.values():
        assert int(cases) > 0 and 0 < number(difference) <= LARGEST_DIFFERENCE
        assert refused == "none" or re.match(r"\d+: ", refused)
        assert compared


def test_every_dialect_is_compared_or_states_nothing_to_compare():
    known = {dialect.name for dialect in DIALECTS}
    known |= {f"metadata: {function.__module__.rpartition('.')[2]}" for function in METADATA_DIALECTS}
    compared = {name for row in ROWS for name in row.dialects}
    assert compared | WITHOUT_TENSORS.keys() == known
    assert not compared & WITHOUT_TENSORS.keys()


def test_the_table_is_made_with_the_pinned_versions():
    for row in ROWS:
        if row.packages:
            assert WRITTEN[row.producer][0] == ", ".join(f"{name} {PINNED[name]}" for name in row.packages)
        else:
            assert WRITTEN[row.producer][0] == f"{row.source}, written out"
