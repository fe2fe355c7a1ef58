"""Write the table of docs/producers.md: what models are fed, against the tensors of their producers' own libraries.

python -m tools.release.producers_table               # measure all rows, and write them
python -m tools.release.producers_table timm Lobe     # measure the rows whose names begin so, and keep the others

It needs the libraries: pip install -e ".[cpu,test-producers]" -c tests/producers/versions.txt, and
pip install --no-deps -r tests/producers/without_dependencies.txt.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from decimal import ROUND_UP, Context, Decimal
from importlib.metadata import version

from tools.common import command_line
from tools.common.folders import ROOT

sys.path.insert(0, str(ROOT / "tests"))  # the cases belong to the tests, which compare this table with them

from helpers.producers import Found
from helpers.producers_table import ROWS, WITHOUT_TENSORS, Row

PATH = ROOT / "docs" / "producers.md"
BEGIN, END = "<!-- compared with the producers' own tensors -->\n", "<!-- end of what is compared -->\n"
HEAD = "| producer | compared with | cases | difference | refused |\n|---|---|---|---|---|\n"
SMALLEST = Decimal("0.00001")


def compared_with(row: Row) -> str:
    """The packages of a row with the installed versions, or the source that is written out."""
    return (
        ", ".join(f"{name} {version(name).partition('+')[0]}" for name in row.packages) or f"{row.source}, written out"
    )


def figure(found: Found) -> str:
    """The largest difference, rounded up to one digit, so that another processor's last bits do not change it."""
    worst = Decimal(max(one for one in found.values() if not isinstance(one, str)))
    rounded = Context(prec=1, rounding=ROUND_UP).plus(max(worst, SMALLEST))
    return f"{rounded:f}" if worst >= SMALLEST else f"below {SMALLEST:f}"


def refusals(found: Found) -> str:
    """The number of refusals, and how many there are for each reason."""
    reasons = Counter(_reason(one) for one in found.values() if isinstance(one, str))
    listed = "; ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    return f"{reasons.total()}: {listed}" if reasons else "none"


def _reason(sentence: str) -> str:
    """What a sentence of a refusal says of the step, without the file, the class, and what to do."""
    step = re.split(r", which (?:is|are) not supported|; ", sentence)[0].rpartition(": ")[2]
    first, _, rest = step.partition(" ")
    return rest if first.endswith("ImageProcessor") else step.partition(", so ")[2] or step


def cells(row: Row, found: Found) -> tuple[str, str, str, str]:
    """What the table says of a row: compared with, cases, difference, refused."""
    return compared_with(row), str(len(found)), figure(found), refusals(found)


def written(text: str) -> dict[str, tuple[str, ...]]:
    """The cells that a document has of each producer."""
    table = text.partition(BEGIN)[2].partition(END)[0].partition(HEAD)[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {producer: tuple(rest) for producer, *rest in rows}


def with_table(text: str, rows: dict[str, tuple[str, ...]]) -> str:
    """The document with these cells of each producer."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{PATH} has no marks for the table"
    lines = "".join(f"| {' | '.join((row.producer, *rows[row.producer]))} |\n" for row in ROWS if row.producer in rows)
    others = "; ".join(f"{dialect}: {states}" for dialect, states in WITHOUT_TENSORS.items())
    return f"{before}{BEGIN}\n{HEAD}{lines}\nNothing to compare: {others}.\n\n{END}{after}"


def main() -> int:
    """Measure, and write."""
    parser = command_line.parser("tools.release.producers_table", __doc__)
    parser.add_argument("rows", nargs="*", help="how the names of the rows begin that are measured; all without any")
    options = parser.parse_args()
    for row in ROWS:
        if not options.rows or row.producer.startswith(tuple(options.rows)):
            measured = cells(row, row.find())
            print(row.producer, *measured, sep=" | ", flush=True)
            text = PATH.read_text(encoding="utf-8")
            PATH.write_text(with_table(text, {**written(text), row.producer: measured}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
