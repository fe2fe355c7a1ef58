"""Opening what is named by others, and writing files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from onnx_xcam.errors import OutputError

CHUNK = 1 << 20
"""Bytes that are in memory at once while files are copied."""


def open_file(path: Path) -> BinaryIO:
    """A regular file, opened for reading. Nothing else is: a pipe would wait for ever, a device never ends.

    Raises:
        OSError: it is something else, or as `open`.
    """
    _require_file(path, path.stat())  # before it is opened, since that alone does something to some devices
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_file(path, os.fstat(handle))  # and after, since it may have been exchanged
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        partial = Path(partial_name)
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
