"""A lock on what a run writes, held by the operating system: it ends with the process, however that ends.

A killed process may leave the lock's file behind, which locks nothing. Who ends well removes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnx_xcam.errors import OutputError

NAME = ".onnx-xcam-lock"
"""How the names of locks' files begin."""


@contextmanager
def held(file: Path, what: str) -> Iterator[bool]:
    """Hold a lock while the context lasts; False is given where the file system has none.

    Args:
        file: of the lock; made, and removed in the end.
        what: is written to, in words.

    Raises:
        OutputError: another run holds it, in this process or another one.
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
            with suppress(OSError):  # another one has opened it meanwhile, and removes it
                file.unlink()
        else:
            with suppress(OSError):
                file.unlink()  # while it is locked: whoever waits for it then looks whether it is still there
            os.close(descriptor)


def _opened(file: Path, what: str) -> int | None:
    """A descriptor of the locked file, or None where the file system has no locks."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
            os.close(descriptor)  # the one who held it has removed it
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
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
