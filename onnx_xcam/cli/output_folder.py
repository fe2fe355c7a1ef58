"""The folder that a run writes to: its own while it lasts, and every file in it whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from onnx_xcam.cli.options import say
from onnx_xcam.errors import OutputError
from onnx_xcam.locks import NAME as LOCK
from onnx_xcam.locks import held

_UNFINISHED = ".onnx-xcam."
"""How the names of files begin that are not whole yet."""
_LONGEST_NAME = 240


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the folder, make sure that no other run writes to it, and try to write to it.

    Before any time goes into running a model, and until the context ends.

    Raises:
        OutputError: it cannot be made or written to, or another run is at work in it.
    """
    with ExitStack() as stack:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            locked = stack.enter_context(held(folder / LOCK, f"the folder '{folder}'"))
            probe = folder / ".onnx-xcam-probe"
            probe.write_bytes(b"")
            probe.unlink()
            _remove_unfinished(folder)
        if not locked:
            say(f"warning: the file system of '{folder}' has no locks; make sure that no other run writes there.")
        yield


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written to: {error.strerror or error}. Name another with -o."
        ) from error


def _remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed left half written."""
    for path in folder.iterdir():
        if path.name.startswith(_UNFINISHED):
            path.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an OutputError; a closed stdout (`| head`) is not about the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from error


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A path to write to; what was written there then takes the place of `path`, at once and as a whole, or is gone."""
    draft = path.with_name(_UNFINISHED + path.name)
    if len(os.fsencode(draft.name)) > _LONGEST_NAME:
        draft = path.with_name(_UNFINISHED + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])
    try:
        yield draft
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


def check_plain(path: Path) -> None:
    """Make sure that what lies where a file is to be written or continued is a file, and no link to one.

    Raises:
        OutputError: a folder, a link or a device lies there.
    """
    with written(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(
                f"'{path}' is a folder, a link or a device, and no file; remove it, or name another folder with -o."
            )
