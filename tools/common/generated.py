"""Files that a program makes from the code are written, or held against it, here."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path


def write_or_check(parser: ArgumentParser, files: Callable[[], Iterable[tuple[Path, str]]]) -> int:
    """Write files, or with --check only compare them, and return the exit status.

    Args:
        parser: the program's command line, to which --check is added.
        files: yields each file with its content; one is made after the one before was written.
    """
    parser.add_argument("--check", action="store_true", help="write nothing, only tell whether all is up to date")
    check = parser.parse_args().check
    stale = []
    for path, content in files():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != content:
            stale.append(path.name)
    for name in stale:
        print(f"{name} is not up to date: run {parser.prog}", file=sys.stderr)
    return 1 if stale else 0
