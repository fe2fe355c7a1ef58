"""This module measures the peak memory of a process that loads a model and runs it.

Each model gets a process of its own, since memory that one session freed may or may not have gone back to the system.
The peak is what Linux states of the process (`VmHWM`, the highest resident size); other systems are not measured.

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
"""This environment makes glibc give every larger block back at once. By default, the memory that glibc keeps from
loading hides what the runs take: the same model took 56 to 70 MB, and with this setting 42 MB each time. Other C
libraries ignore it."""


@dataclass(frozen=True)
class Memory:
    """A Memory holds the resident bytes of a process that loads and runs a model.

    Attributes:
        start: the bytes before the model is loaded, with all libraries loaded.
        load: the peak until the model is loaded.
        run: the peak while it runs; None where the system does not let a process reset its peak.
    """

    start: int
    load: int
    run: int | None

    @property
    def peak(self) -> int:
        """Return the peak over loading and running."""
        return max(self.load, self.run or 0)

    @property
    def model(self) -> int:
        """Return what the model takes while it runs, with its weights: the peak of the runs less the bytes before."""
        return (self.peak if self.run is None else self.run) - self.start

    def to_dict(self) -> dict[str, int | None]:
        """Return the figures as plain data."""
        return {**asdict(self), "peak": self.peak, "model": self.model}


def is_measurable() -> bool:
    """Tell whether this system states a process's peak memory (`VmHWM`)."""
    return _STATUS.is_file() and "VmHWM" in _STATUS.read_text(encoding="ascii", errors="replace")


@dataclass(frozen=True)
class Job:
    """A Job names a model to load and run, and what to feed it.

    Attributes:
        model: the model's file.
        folder: where its external data lie, if it has any.
        providers, threads: the session's, as `open_session` takes them.
        feeds: a .npz file with the inputs' values, in the order of `names`.
        names: the names of the inputs.
        unread: the names of inputs that no node reads, which are fed nothing.
        classes: the classes, or objects, of each run that one explanation takes; an empty list feeds none.
        choice: the input that they are fed to.
    """

    model: str
    folder: str | None
    providers: Sequence[str] | None
    threads: int | None
    feeds: str = ""
    names: Sequence[str] = ()
    unread: Sequence[str] = ()
    classes: Sequence[Sequence[int]] = ((),)
    choice: str = contract.CLASS_INPUT

    def open(self) -> Session:
        """Open a session of the model."""
        path, folder = Path(self.model), Path(self.folder) if self.folder else None
        content = path.read_bytes() if folder else path
        return open_session(content, providers=self.providers, threads=self.threads, folder=folder)

    def fed(self, feeds: Mapping[str, NDArray[Any]], classes: Sequence[Sequence[int]], path: Path) -> Job:
        """Return the job with these feeds, which are written to `path`, and these classes."""
        read = {name: value for name, value in feeds.items() if value is not None}
        np.savez(path, *read.values())
        unread = [name for name in feeds if name not in read]
        return replace(self, feeds=str(path), names=list(read), unread=unread, classes=classes)


def measured(job: Job) -> Memory:
    """Load and run a model in a process of its own and return the memory that it took.

    Raises:
        ModelError: the model could not be loaded or run, or the process ended (memory ran out, perhaps).
    """
    # -P: a file in the current folder must not be imported in place of a library of the same name.
    command = [sys.executable, "-P", "-m", "onnx_xcam.benchmark.memory"]
    environment = {**os.environ, **_ALLOCATOR}
    done = subprocess.run(
        command, input=json.dumps(asdict(job)), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"The process that measures memory ended with {done.returncode}: {last}")
    result = json.loads(done.stdout)
    if "error" in result:
        raise ModelError(result["error"])
    return Memory(**result)


def run_job(job: Job) -> Memory:
    """Load and run a model in this process and return the memory that it took.

    Raises:
        XcamError: the model could not be loaded or run.
    """
    available_providers()  # loads ONNX Runtime, which must not count as the model's memory
    with np.load(job.feeds, allow_pickle=False) as stored:
        feeds: dict[str, Feed] = dict.fromkeys(job.unread)
        feeds.update(zip(job.names, [stored[name] for name in stored.files], strict=True))
    start = _status("VmRSS")
    session = job.open()
    load = _status("VmHWM")
    reset = _reset_peak()
    for _ in range(_RUNS):
        run_once(session, feeds, job.classes, job.choice)
    return Memory(start, load, _status("VmHWM") if reset else None)


def run_once(session: Session, feeds: Mapping[str, Feed], classes: Sequence[Sequence[int]], choice: str) -> None:
    """Run a prediction, or an explanation once for each group of its classes, and fetch all outputs."""
    outputs = [output.name for output in session.outputs]
    for chunk in classes:
        chosen = {choice: np.array([chunk], np.int64)} if chunk else {}
        session.run({**feeds, **chosen}, outputs)


def _status(field: str) -> int:
    """Return a field of Linux's status of this process, in bytes; raise a ModelError if there is none."""
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ModelError(f"{_STATUS} has no {field}, so memory is not measured.")


def _reset_peak() -> bool:
    """Reset this process's peak to its present resident size, and tell whether the system did it."""
    try:
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def main() -> None:
    """Read a job from stdin, run it, and write the figures, or the error, to stdout as JSON."""
    try:
        result: dict[str, Any] = asdict(run_job(Job(**json.load(sys.stdin))))
    except XcamError as error:
        result = {"error": str(error)}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
