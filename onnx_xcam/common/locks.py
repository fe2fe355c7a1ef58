"""This module locks what a run writes, by a lock of the operating system, which ends with the process.

A killed process may leave the lock's file behind, which locks nothing. A process that ends well removes the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnx_xcam.errors import OutputError

NAME = ".onnx-xcam-lock"
"""The prefix of the names of the locks' files."""


@contextmanager
def held(file: Path, what: str) -> Iterator[bool]:
    """Hold a lock while the block runs, which is given True, or False where the file system has no locks.

    Args:
        file: the lock's file, which is made, and removed in the end.
        what: what the lock protects, in words, for the message.

    Raises:
        OutputError: another run holds the lock, in this process or another one.
        OSError: the file cannot be made.
    """
    descriptor = _opened(file, what)
    locked = descriptor is not None
    try:
        yield locked
    finally:
        if descriptor is None:
            pass
        elif sys.platform == "win32":
            os.close(descriptor)
            with suppress(OSError):  # another process has opened it meanwhile, and removes it
                file.unlink()
        else:
            with suppress(OSError):
                file.unlink()  # while it is locked: a process that opened it meanwhile checks that it is still there
            os.close(descriptor)


def _opened(file: Path, what: str) -> int | None:
    """Open and lock the lock's file and return its descriptor, or None where the file system has no locks."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
            os.close(descriptor)  # the process that held the lock has removed this file
        except FileNotFoundError:
            os.close(descriptor)
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            raise OutputError(f"Another run is writing to {what}; let it end first, or name another place.") from error
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                file.unlink()
            return None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Lock an open file, or raise a PermissionError if it is locked already."""
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Lock an open file, or raise a BlockingIOError if it is locked already."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
