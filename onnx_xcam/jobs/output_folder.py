"""The folder that a run writes to, which is its own while it lasts."""

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
            remove_abandoned(folder)
        if not locked:
            reporter.warning(f"the file system of '{folder}' has no locks; make sure that no other run writes there.")
        yield


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written to: {error.strerror or error}. Name another with -o."
        ) from error


def check_plain(path: Path) -> None:
    """Make sure that what lies where a file is to be written or continued is a file, and no link to one.

    Raises:
        OutputError: a folder, a link or a device lies there.
    """
    with writing_to(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(
                f"'{path}' is a folder, a link or a device, and no file; remove it, or name another folder with -o."
            )
