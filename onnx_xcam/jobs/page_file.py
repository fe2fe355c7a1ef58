"""This module checks the path of the HTML page before a model is run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from onnx_xcam.common.files import resolved
from onnx_xcam.errors import OutputError
from onnx_xcam.report.assemble import check_writable
from onnx_xcam.text import printable

RESULTS = ("results.jsonl", "results.csv", "summary.json")
"""The files of results that a page must not replace."""


def check_page(file: Path, photos: Collection[Path], model_files: Iterable[Path], folder: Path) -> None:
    """Make sure that a page can be written, and replaces no photo, model or file of results.

    Args:
        file: the path of the page.
        photos: the resolved paths of the photos.
        model_files: the files of the model.
        folder: the folder of the results.

    Raises:
        OutputError: the path is a photo, a file of the model or of the results, or cannot be written.
    """
    taken = {*photos, *(path.resolve() for path in model_files), *((folder / name).resolve() for name in RESULTS)}
    if resolved(file) in taken:
        raise OutputError(f"'{file}' is one of the photos, the model or a file of results; name another for --html.")
    check_writable(file)


def page_line(file: Path) -> str:
    """Return the line to print for a page that was written: its path and its size."""
    return printable(f"page  -> {file} ({file.stat().st_size / 1e6:.1f} MB)")
