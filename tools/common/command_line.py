"""Every program has its command line from here."""

from __future__ import annotations

import argparse


def parser(program: str, text: str | None) -> argparse.ArgumentParser:
    """A parser for the module `program`, whose docstring `text` is shown as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m {program}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
