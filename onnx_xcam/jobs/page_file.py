"""The file of `--html`: made sure of before any time goes into running a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from onnx_xcam.common.files import resolved
from onnx_xcam.errors import OutputError
from onnx_xcam.report.assemble import check_writable
from onnx_xcam.text import printable

RESULTS = ("results.jsonl", "results.csv", "summary.json")


def check_page(file: Path, photos: Collection[Path], model_files: Iterable[Path], folder: Path) -> None:
    """Make sure that a page may take a file's place, and that it can be written.

    Args:
        file: of the page.
        photos: where they lie (resolved).
        model_files: the model's.
        folder: of the results.

    Raises:
        OutputError: it is a photo, the model, or a file of results, or cannot be written.
    """
    taken = {*photos, *(path.resolve() for path in model_files), *((folder / name).resolve() for name in RESULTS)}
    if resolved(file) in taken:
        raise OutputError(f"'{file}' is one of the photos, the model or a file of results; name another for --html.")
    check_writable(file)


def page_line(file: Path) -> str:
    """What is printed of a page that was written: where it is, and how large."""
    return printable(f"page  -> {file} ({file.stat().st_size / 1e6:.1f} MB)")
