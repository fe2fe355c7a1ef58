"""The command line, with a gate before some photos: `python gate.py FIRST COMMAND ARGUMENTS...`.

Of the photos in `photos`, those named FIRST or later in the order of names cannot be opened by the threads of the
stream, until the program is interrupted. Those before are all done and written by then, however fast or busy the
machine is, and no others are. No part of the program knows of the gate: it stands where Python opens files.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from onnx_xcam.cli import main

FIRST = sys.argv.pop(1)
OPEN = threading.Event()


def gate(event: str, arguments: tuple[Any, ...]) -> None:
    """Hold a thread of the stream that opens one of the photos; others only look whether they are done."""
    if event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
        return
    path = Path(arguments[0])
    of_stream = threading.current_thread().name.startswith("onnx-xcam_")
    if of_stream and path.parent.name == "photos" and path.name >= FIRST:
        OPEN.wait()


def interrupted(number: int, frame: FrameType | None) -> None:
    """Open the gate, so that the threads can end, and do what Python does."""
    OPEN.set()
    signal.default_int_handler(number, frame)


signal.signal(signal.SIGINT, interrupted)
sys.addaudithook(gate)
main()
