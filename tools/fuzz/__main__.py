"""Feed mutated models, pictures and descriptions to the package, and report whatever is not a result or an XcamError.

    python -m tools.fuzz --kind models --count 20000 --seed 0 [--jobs 2] [--out FOLDER]
    python -m tools.fuzz --again FOLDER/models-17.onnx

Each case is made from the seed and its number, and runs in a worker process with a limit on address space. A finding is
a case that ends the interpreter, takes more than 10 seconds or much memory, or raises anything else than an XcamError.
Of each finding the first few are written to the folder: the input, and how it ended. Needs Linux or macOS.

What ends inside of ONNX Runtime, onnx or OpenCV is said to be theirs; only what comes before can be mended here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.common import command_line
from tools.common.folders import ROOT

sys.path.insert(0, str(ROOT / "tests"))  # the cases and how they are run belong to the tests, which run some of them

from helpers.fuzz.worker import SECONDS, ended, make_case, runs_of, work

MEMORY = 1 << 30
"""What one case may take of resident memory."""
_THEIRS = ("explain", "check")
"""What ONNX Runtime takes to run a model is the model's; the surgery has run before, and set the peak."""
KINDS = ("models", "images", "arrays", "preprocess", "names", "labels")
_KEPT = 3
"""How many cases of one finding are written."""
ALONE = (sys.executable, "-m", "tools.fuzz")
"""Starts this program in a process of its own."""


# --- the parent -------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came out so far."""

    ended: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    slow: list[tuple[float, int]] = field(default_factory=list)
    count: int = 0


class Worker:
    """A process that runs cases, started anew when one has ended it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.log = Path(options.scratch) / f"worker-{os.getpid()}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def start(self) -> subprocess.Popen[bytes]:
        """The running process, or a new one."""
        if self.process is None or self.process.poll() is not None:
            command = [
                *ALONE,
                "--worker",
                "--kind",
                self.options.kind,
                "--seed",
                str(self.options.seed),
            ]
            command += ["--scratch", self.options.scratch]
            with self.log.open("w") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
                )
            self.unread = b""
            self._answer(120)
        return self.process

    def run(self, number: int) -> dict[str, Any]:
        """The answer for a case; a problem where there is none."""
        process = self.start()
        assert process.stdin is not None
        process.stdin.write(f"{number}\n".encode())
        end, stage = time.monotonic() + SECONDS, "make"
        while True:
            answer = self._answer(end - time.monotonic())
            if answer is None:
                ended = process.poll()
                self.stop()
                text = self.log.read_text(errors="replace")[-6000:]
                problem, where = "hang" if ended is None else f"ended by {-ended}", blamed(text)
                if where.startswith("onnxruntime"):
                    return {"ended": [f"{stage}: {problem} inside of ONNX Runtime ({where})"]}
                return {"problem": problem, "where": f"{stage}: {where}", "text": text}
            if "stage" not in answer:
                if answer.get("problem") == "MemoryError" or answer.get("peak", 0) - answer["before"] > MEMORY >> 10:
                    self.stop()
                    if stage in _THEIRS and "problem" not in answer:
                        return {"ended": [f"{stage} took much memory in ONNX Runtime"]}
                    answer.setdefault("problem", "much memory")
                    answer.setdefault("where", stage)
                    answer.setdefault("text", f"{answer.get('peak', 0) >> 10} MiB")
                return answer
            stage = answer["stage"]

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """The next line of the worker; None if it has ended or the time is over."""
        assert self.process is not None and self.process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                if ready:
                    self.process.wait()
                return None
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process, which this one started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def blamed(text: str) -> str:
    """In whose code the interpreter ended, by faulthandler's traceback: the innermost file."""
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', text)
    if not frames:
        return "?"
    path, line, name = frames[0]
    owner = next(
        (who for who in ("onnxruntime", "onnx_xcam", "cv2", "PIL", "onnx") if f"/{who}/" in path), Path(path).name
    )
    return f"{owner} {Path(path).name}:{line} {name}"


def fuzz(options: argparse.Namespace) -> Tally:
    """Run the cases of this process, `--first` on; every `--jobs`-th."""
    tally, worker, out = Tally(), Worker(options), Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for number in range(options.first, options.first + options.count):
        if options.seconds and time.monotonic() - started > options.seconds:
            break
        before = time.monotonic()
        answer = worker.run(number)
        tally.count += 1
        tally.slow = sorted([*tally.slow, (round(time.monotonic() - before, 2), number)], reverse=True)[:5]
        if "problem" in answer:
            key = (answer["problem"], answer["where"])
            numbers = tally.findings.setdefault(key, [])
            numbers.append(str(number))
            if len(numbers) <= _KEPT:
                _keep(options, number, answer, out)
                print(f"{number}: {answer['problem']} in {answer['where']}", flush=True)
        else:
            tally.ended.update(answer["ended"])
        for file in Path(options.scratch).glob(f"{options.kind}-{number}.*"):
            file.unlink()
    worker.stop()
    return tally


def _keep(options: argparse.Namespace, number: int, answer: dict[str, Any], out: Path) -> None:
    suffix, data = make_case(options.kind, options.seed, number)
    path = out / f"{options.kind}-{number}{suffix}"
    path.write_bytes(data)
    command = f"python -m tools.fuzz --again {path}"
    path.with_suffix(".txt").write_text(f"{answer['problem']} in {answer['where']}\n{command}\n\n{answer['text']}\n")


def report(tally: Tally, options: argparse.Namespace) -> None:
    """Print how the cases ended."""
    print(f"\n{options.kind}: {tally.count} cases, seed {options.seed}")
    for name, count in sorted(tally.ended.items()):
        print(f"  {count:7d}  {name}")
    print(f"  slowest: {', '.join(f'{seconds} s (case {number})' for seconds, number in tally.slow)}")
    print(f"  findings: {len(tally.findings)}")
    for (problem, where), numbers in sorted(tally.findings.items()):
        print(f"    {problem} in {where}: {len(numbers)} cases, e.g. {', '.join(numbers[:_KEPT])}")


def again(path: Path) -> None:
    """Run one file as its case ran, in this process, and show how it ended."""
    kind, _, number = path.stem.partition("-")
    warnings.simplefilter("ignore")
    for name, run in runs_of(kind, path, path.read_bytes(), int(number) if number.isdecimal() else 0):
        print(name, ended(run))


def in_parallel(options: argparse.Namespace) -> int:
    """Start a process for each job, each with its share of the cases; the worst exit status."""
    share = -(-options.count // options.jobs)
    processes = []
    for job in range(options.jobs):
        command = [*ALONE, "--kind", options.kind, "--seed", str(options.seed), "--out", options.out]
        command += [
            "--count",
            str(share),
            "--first",
            str(options.first + job * share),
            "--seconds",
            str(options.seconds),
        ]
        processes.append(subprocess.Popen(command))
    return max(process.wait() for process in processes)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.fuzz", __doc__)
    parser.add_argument("--kind", choices=KINDS, default="models")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long, 0: never")
    parser.add_argument("--out", default="fuzz-findings", help="folder for what is found")
    parser.add_argument("--again", type=Path, help="run one written case in this process")
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run what the command line asks for; exit status 1 if something was found."""
    options = parse()
    if options.worker:
        work(options)
        return 0
    if options.again:
        again(options.again)
        return 0
    if options.jobs > 1:
        return in_parallel(options)
    with tempfile.TemporaryDirectory(prefix="xcam-fuzz-") as folder:
        options.scratch = folder
        tally = fuzz(options)
    report(tally, options)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
