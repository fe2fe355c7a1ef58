"""Write the table of files that are found beside a model into docs/preprocessing.md, from the dialects themselves.

python -m tools.release.dialects_table           # write it
python -m tools.release.dialects_table --check   # exit status 1 if it is not up to date
"""

from __future__ import annotations

import sys

from onnx_xcam.producers.dialects.registry import DIALECTS
from onnx_xcam.producers.own import LABELS_FILES, PREPROCESS_FILES
from tools.common import command_line
from tools.common.folders import ROOT
from tools.common.generated import write_or_check

PATH = ROOT / "docs" / "preprocessing.md"
BEGIN, END = "<!-- files beside a model -->\n", "<!-- end of files beside a model -->\n"


def table() -> str:
    """The table in Markdown, the strongest file first."""
    rows = [("onnx_xcam: preprocessing", PREPROCESS_FILES), ("onnx_xcam: labels", LABELS_FILES)]
    rows += [(dialect.name, dialect.files) for dialect in DIALECTS]
    lines = ["| who | files |", "|---|---|"]
    for who, files in rows:
        lines.append(f"| {who} | {', '.join(f'`{name}`' for name in files)} |")
    return "\n".join(lines).replace("{stem}", "NAME") + "\n"


def with_table(text: str) -> str:
    """The document with the table of today between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{PATH} has no marks for the table"
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write the table, or only compare it."""
    parser = command_line.parser("tools.release.dialects_table", __doc__)
    return write_or_check(parser, lambda: [(PATH, with_table(PATH.read_text(encoding="utf-8")))])


if __name__ == "__main__":
    sys.exit(main())
