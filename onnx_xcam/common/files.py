"""Files: regular ones are opened for reading and nothing else is, and what is written is either whole or not there.

A file is written as a draft. On Linux a draft has no name until it is whole (`O_TMPFILE`), so that a process that is
killed leaves nothing. Elsewhere it is a hidden file that its writer holds locked; one that nobody holds is removed by
whoever writes to the folder next.
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
"""Bytes that are in memory at once while files are copied or compared."""

_DRAFT = ".onnx-xcam."
"""How the names of hidden drafts begin."""
_ORDINARY_MODE = 0o666
"""What the process's umask leaves of it is the mode of an ordinary new file. The umask itself is the whole process's:
it can only be read by changing it, so it is left to the system to apply."""


def open_file(path: Path) -> BufferedReader:
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


def is_file(path: Path) -> bool:
    """Whether a regular file lies there. Whoever opens it is told why a path leads nowhere."""
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Whether a folder lies there. Whoever opens it is told why a path leads nowhere."""
    return _is(path, stat.S_ISDIR)


def is_there(path: Path) -> bool:
    """Whether anything lies there."""
    return _is(path, lambda mode: True)


def _is(path: Path, of_kind: Callable[[int], bool]) -> bool:
    try:
        return of_kind(path.stat().st_mode)
    except (OSError, ValueError):  # `Path.is_file` raises some: a name that is too long, a folder that is closed
        return False


def resolved(path: Path) -> Path:
    """Where a path leads, links resolved as far as they lead anywhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle, before Python 3.13
        return path.absolute()


def _require_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))


def _refuse_device(path: Path) -> None:
    """Make sure that a file that is put in place takes that of no device or pipe, nor of a link to one: /dev/null."""
    if is_there(path) and not (is_file(path) or is_folder(path)):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))


def sha256_of(path: Path) -> str:
    """The digest of what is in a regular file, as `sha256sum` gives it.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_content(one: Path, other: Path) -> bool:
    """Whether two regular files hold the same bytes.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(one) as first, open_file(other) as second:
        return same_bytes(first, second)


def same_bytes(first: BinaryIO, second: BinaryIO) -> bool:
    """Whether two open files hold the same bytes from here on."""
    if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
        return False
    while part := first.read(CHUNK):
        if part != second.read(CHUNK):
            return False
    return not second.read(1)


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends well.

    Raises:
        OutputError: it cannot be written.
    """
    with writing_to(path), Draft(path) as draft:
        yield draft.file
        draft.place()


@contextlib.contextmanager
def writing_to(path: Path, what: str = "") -> Iterator[None]:
    """A context in which what goes wrong with a file that is written becomes one sentence.

    Args:
        path: the file.
        what: what kind of file it is, for the sentence.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # of a closed stdout (`| head`), and so not about the file
    except OSError as error:
        raise cannot_write(path, error, what) from error


def cannot_write(path: Path, error: OSError, what: str = "") -> OutputError:
    """The sentence on a file, of some kind, that cannot be written."""
    name = f"The {what} '{path}'" if what else f"'{path}'"
    return OutputError(f"{name} cannot be written: {error.strerror or error}.")


class Draft:
    """A file on its way to its place; unless it is placed, nothing is left of it.

    Attributes:
        path: where it will be.
        file: to be written to.
    """

    def __init__(self, path: Path) -> None:
        """Begin a file; its folder is made if need be.

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
        """Withhold the permissions that are not in `mode`."""
        self._change_mode(stat.S_IMODE(os.fstat(self.file.fileno()).st_mode) & mode)

    def copy_mode(self, status: os.stat_result) -> None:
        """Give the file the permissions of another."""
        self._change_mode(stat.S_IMODE(status.st_mode) & 0o777)

    def _change_mode(self, mode: int) -> None:
        if hasattr(os, "fchmod"):  # not on Windows before Python 3.13, which has only a read-only flag
            os.fchmod(self.file.fileno(), mode)

    def place(self) -> None:
        """Put the file where it belongs, in one step, in place of what is there.

        Raises:
            OSError: it cannot be written, or something else than a file is there.
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
        with contextlib.suppress(OSError):  # what could not be written is told already
            self.file.close()
        if self._name is not None:
            self._name.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts in a folder that belong to nobody any more: those of processes that were killed."""
    try:
        drafts = [path for path in folder.iterdir() if path.name.startswith(_DRAFT)]
    except OSError:
        return  # whoever writes there is told
    for path in drafts:
        with contextlib.suppress(OSError):  # one that is being written, or gone
            if fcntl is not None:
                with open_file(path) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            else:
                path.unlink()


def _nameless(folder: Path) -> int | None:
    """A new file without a name, locked; None where the system or the file system has no such files."""
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
    """A new hidden file, locked."""
    while True:
        path = folder / f"{_DRAFT}{secrets.token_hex(8)}"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), _ORDINARY_MODE)
        _locked(handle)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle, path
        os.close(handle)  # taken for abandoned by another process, before it was locked


def _locked(handle: int) -> int:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _with_name(handle: int, folder: Path) -> Path:
    """Give a nameless file one."""
    path = folder / f"{_DRAFT}{secrets.token_hex(8)}"
    root = os.open("/", os.O_RDONLY)
    try:  # with a folder named, `os.link` follows the link that /proc has for the open file
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=root)
    finally:
        os.close(root)
    return path
