"""The peak memory of a process that loads a model and runs it: a fresh one for each model, since memory that one
session gave back may or may not have gone back to the system.

Read off Linux's account of the process (`VmHWM`, the highest resident size); not measured elsewhere.

    python -m onnx_xcam.benchmark.memory < job.json      # what `measured` starts
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.runtime import Feed, Session, available_providers, open_session

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_RUNS = 3
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc gives every larger block back at once. As it is by default, what it keeps of the loading hides what the runs
take: the same model then took 56 to 70 MB, and now takes 42 each time. Others than glibc do not know it."""


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process.

    Attributes:
        start: before the model is loaded, with all libraries loaded.
        load: the highest while it is loaded.
        run: the highest while it runs; None where the system does not let a process reset its peak.
    """

    start: int
    load: int
    run: int | None

    @property
    def peak(self) -> int:
        """The highest over loading and running."""
        return max(self.load, self.run or 0)

    @property
    def model(self) -> int:
        """What the model takes while it runs, weights and all: the peak of the runs without what was there before."""
        return (self.peak if self.run is None else self.run) - self.start

    def to_dict(self) -> dict[str, int | None]:
        """The figures as plain data."""
        return {**asdict(self), "peak": self.peak, "model": self.model}


def is_measurable() -> bool:
    """Whether this system tells a process's peak memory in the way that is read here."""
    return _STATUS.is_file() and "VmHWM" in _STATUS.read_text(encoding="ascii", errors="replace")


@dataclass(frozen=True)
class Job:
    """A model to load and run.

    Attributes:
        model: the file.
        folder: where its external data lie, if it has any.
        providers, threads: of the session, as `open_session` takes them.
        feeds: a .npz file with the inputs' values, in the order of `names`.
        names: of the inputs.
        unread: those that no node reads, and which are fed nothing.
        classes: for each run that one explanation takes, the classes; an empty list feeds none.
    """

    model: str
    folder: str | None
    providers: Sequence[str] | None
    threads: int | None
    feeds: str = ""
    names: Sequence[str] = ()
    unread: Sequence[str] = ()
    classes: Sequence[Sequence[int]] = ((),)

    def open(self) -> Session:
        """A session of the model, whose threads do not wait busily: they would take a core from whom runs next."""
        path, folder = Path(self.model), Path(self.folder) if self.folder else None
        content = path.read_bytes() if folder else path
        return open_session(content, providers=self.providers, threads=self.threads, folder=folder)

    def fed(self, feeds: Mapping[str, NDArray[Any]], classes: Sequence[Sequence[int]], path: Path) -> Job:
        """The job with these feeds, which are written to `path`, and these classes."""
        read = {name: value for name, value in feeds.items() if value is not None}
        np.savez(path, *read.values())
        unread = [name for name in feeds if name not in read]
        return replace(self, feeds=str(path), names=list(read), unread=unread, classes=classes)


def measured(job: Job) -> Memory:
    """Load and run a model in a process of its own.

    Raises:
        ModelError: it could not be loaded or run, or the process ended (memory ran out, perhaps).
    """
    # -P: nothing that lies in the current folder is imported in place of a library.
    command = [sys.executable, "-P", "-m", "onnx_xcam.benchmark.memory"]
    environment = {**os.environ, **_ALLOCATOR}
    done = subprocess.run(
        command, input=json.dumps(asdict(job)), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"The process that measures memory ended with {done.returncode}: {last}")
    found = json.loads(done.stdout)
    if "error" in found:
        raise ModelError(found["error"])
    return Memory(**found)


def run_job(job: Job) -> Memory:
    """Load and run a model in this process.

    Raises:
        XcamError: it could not be loaded or run.
    """
    available_providers()  # loads ONNX Runtime
    with np.load(job.feeds, allow_pickle=False) as stored:
        feeds: dict[str, Feed] = dict.fromkeys(job.unread)
        feeds.update(zip(job.names, [stored[name] for name in stored.files], strict=True))
    start = _status("VmRSS")
    session = job.open()
    load = _status("VmHWM")
    reset = _reset_peak()
    for _ in range(_RUNS):
        run_once(session, feeds, job.classes)
    return Memory(start, load, _status("VmHWM") if reset else None)


def run_once(session: Session, feeds: Mapping[str, Feed], classes: Sequence[Sequence[int]]) -> None:
    """A prediction, or an explanation in as many runs as its classes are cut into; all outputs are fetched."""
    outputs = [output.name for output in session.outputs]
    for chunk in classes:
        chosen = {contract.CLASS_INPUT: np.array([chunk], np.int64)} if chunk else {}
        session.run({**feeds, **chosen}, outputs)


def _status(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ModelError(f"{_STATUS} has no {field}, so memory is not measured.")


def _reset_peak() -> bool:
    """Make the highest resident size what it is now; whether the system did."""
    try:
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def main() -> None:
    """Read a job on stdin, do it, and write the figures, or the error, as JSON."""
    try:
        found: dict[str, Any] = asdict(run_job(Job(**json.load(sys.stdin))))
    except XcamError as error:
        found = {"error": str(error)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
