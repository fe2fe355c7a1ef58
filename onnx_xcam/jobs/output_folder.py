"""This module reserves the output folder for one run, and makes sure that it can be written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from onnx_xcam.common.files import remove_abandoned, writing_to
from onnx_xcam.common.locks import NAME as LOCK
from onnx_xcam.common.locks import held
from onnx_xcam.errors import OutputError
from onnx_xcam.jobs.reporter import Reporter


@contextmanager
def output_folder(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Make the folder, and reserve it for this run until the context ends.

    A file is written to it and removed on trial, so that a wrong folder is an error before a model is run.

    Raises:
        OutputError: the folder cannot be made or written to, or another run is using it.
    """
    with ExitStack() as stack:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            locked = stack.enter_context(held(folder / LOCK, f"the folder '{folder}'"))
            probe = folder / ".onnx-xcam-probe"
            probe.write_bytes(b"")
            probe.unlink()
            remove_abandoned(folder)
        if not locked:
            reporter.warning(f"the file system of '{folder}' has no locks; make sure that no other run writes there.")
        yield


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn an OSError into the OutputError that says that the folder cannot be written to."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written to: {error.strerror or error}. Name another with -o."
        ) from error


def check_plain(path: Path) -> None:
    """Make sure that a path at which a file is to be written is free or a plain file.

    Raises:
        OutputError: the path is a folder, a link or a device.
    """
    with writing_to(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(
                f"'{path}' is a folder, a link or a device, and no file; remove it, or name another folder with -o."
            )
