"""This module opens regular files only, never devices or pipes, and writes files that are either whole or not there.

A file is written as a draft. On Linux a draft has no name until it is whole (`O_TMPFILE`), so that a process that is
killed leaves nothing. Elsewhere a draft is a hidden file that its writer holds locked; `remove_abandoned` removes those
that nobody holds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from onnx_xcam.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: that is lock enough
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20
"""So many bytes are in memory at once while files are copied or compared."""

_DRAFT = ".onnx-xcam."
"""The prefix of the names of hidden drafts."""
_ORDINARY_MODE = 0o666
"""The mode that a new file is created with; the system takes the process's umask off it. The umask can only be read by
changing it, for all threads of the process, so it is never read."""


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading, and nothing else: reading a pipe may wait for ever, and a device never ends.

    Raises:
        OSError: the path leads to something else than a regular file, or `open` fails.
    """
    _require_file(path, path.stat())  # before it is opened, since that alone does something to some devices
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_file(path, os.fstat(handle))  # and after, since it may have been exchanged
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a regular file; an error on the way, which `open` would report, counts as no."""
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Tell whether a path leads to a folder; an error on the way, which `open` would report, counts as no."""
    return _is(path, stat.S_ISDIR)


def is_there(path: Path) -> bool:
    """Tell whether a path leads to anything: a file, a folder, a device or a pipe."""
    return _is(path, lambda mode: True)


def _is(path: Path, of_kind: Callable[[int], bool]) -> bool:
    """Tell whether a path leads to something whose mode is of a kind."""
    try:
        return of_kind(path.stat().st_mode)
    except (OSError, ValueError):  # `Path.is_file` raises some: a name that is too long, a folder that is closed
        return False


def resolved(path: Path) -> Path:
    """Return the absolute path that a path leads to, with links resolved if they can be."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle, before Python 3.13
        return path.absolute()


def _require_file(path: Path, status: os.stat_result) -> None:
    """Raise an OSError unless the status is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))


def _refuse_device(path: Path) -> None:
    """Raise an OSError if a path leads to a device or a pipe, such as /dev/null, which no file may replace."""
    if is_there(path) and not (is_file(path) or is_folder(path)):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a regular file's content in hexadecimal, as `sha256sum` prints it.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_content(one: Path, other: Path) -> bool:
    """Tell whether two regular files hold the same bytes.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(one) as first, open_file(other) as second:
        return same_bytes(first, second)


def same_bytes(first: BinaryIO, second: BinaryIO) -> bool:
    """Tell whether two open files have the same size and hold the same bytes from their current positions on."""
    if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
        return False
    while part := first.read(CHUNK):
        if part != second.read(CHUNK):
            return False
    return not second.read(1)


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give the block a file to write to, which takes the place of `path` when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing_to(path), Draft(path) as draft:
        yield draft.file
        draft.place()


@contextlib.contextmanager
def writing_to(path: Path, what: str = "") -> Iterator[None]:
    """Turn an OSError of the block, which writes a file, into one sentence on that file.

    Args:
        path: the file.
        what: what kind of file it is, for the sentence.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # it comes from a closed stdout (`| head`), and so is not about the file
    except OSError as error:
        raise cannot_write(path, error, what) from error


def cannot_write(path: Path, error: OSError, what: str = "") -> OutputError:
    """Return the error that says that a file, of the kind `what`, cannot be written."""
    name = f"The {what} '{path}'" if what else f"'{path}'"
    return OutputError(f"{name} cannot be written: {error.strerror or error}.")


class Draft:
    """A Draft is a file that is being written; unless `place` puts it in its place, nothing is left of it.

    Attributes:
        path: where the file will be.
        file: the open file to write to.
    """

    def __init__(self, path: Path) -> None:
        """Begin a draft of the file at `path`; its folder is made if need be.

        Raises:
            OSError: the folder or a file in it cannot be made, or a device or a pipe lies there.
        """
        self.path = path
        _refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name: Path | None = None
        handle = _nameless(path.parent)
        if handle is None:
            handle, self._name = _named(path.parent)
        self.file: BinaryIO = os.fdopen(handle, "w+b")

    def allow(self, mode: int) -> None:
        """Take away the permissions of the file that are not in `mode`."""
        self._change_mode(stat.S_IMODE(os.fstat(self.file.fileno()).st_mode) & mode)

    def copy_mode(self, status: os.stat_result) -> None:
        """Give the file the permissions of another file, whose status is given."""
        self._change_mode(stat.S_IMODE(status.st_mode) & 0o777)

    def _change_mode(self, mode: int) -> None:
        """Change the permissions of the file where the system has such ones."""
        if hasattr(os, "fchmod"):  # not on Windows before Python 3.13, which has only a read-only flag
            os.fchmod(self.file.fileno(), mode)

    def place(self) -> None:
        """Put the file in its place in one step; it replaces the file that is there.

        Raises:
            OSError: the file cannot be written, or something else than a file is in its place.
        """
        self.file.flush()
        _refuse_device(self.path)
        if self._name is None:
            self._name = _with_name(self.file.fileno(), self.path.parent)
        if fcntl is None:
            self.file.close()  # an open file cannot be renamed on Windows
        self._name.replace(self.path)
        self._name = None

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # that it could not be written is an error that was raised already
            self.file.close()
        if self._name is not None:
            self._name.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts that killed processes have left in a folder."""
    try:
        drafts = [path for path in folder.iterdir() if path.name.startswith(_DRAFT)]
    except OSError:
        return  # writing to the folder will say what is wrong with it
    for path in drafts:
        with contextlib.suppress(OSError):  # one that is being written, or gone
            if fcntl is not None:
                with open_file(path) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            else:
                path.unlink()


def _nameless(folder: Path) -> int | None:
    """Create a locked file without a name and return its descriptor; None where the file system has no such files."""
    if not hasattr(os, "O_TMPFILE") or fcntl is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, _ORDINARY_MODE)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise
    return _locked(handle)


def _named(folder: Path) -> tuple[int, Path]:
    """Create a locked hidden file and return its descriptor and its path."""
    while True:
        path = folder / f"{_DRAFT}{secrets.token_hex(8)}"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), _ORDINARY_MODE)
        _locked(handle)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle, path
        os.close(handle)  # taken for abandoned by another process, before it was locked


def _locked(handle: int) -> int:
    """Lock an open file where the system and the file system have locks, and return its descriptor."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _with_name(handle: int, folder: Path) -> Path:
    """Give a file without a name that of a hidden draft, and return its path."""
    path = folder / f"{_DRAFT}{secrets.token_hex(8)}"
    root = os.open("/", os.O_RDONLY)
    try:  # with a folder named, `os.link` follows the link that /proc has for the open file
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=root)
    finally:
        os.close(root)
    return path
