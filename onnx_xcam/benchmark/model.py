"""This module compares runs of an instrumented model with runs of the original in time and memory, for `bench`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.benchmark.machine import machine, versions
from onnx_xcam.benchmark.memory import Job, Memory, is_measurable, measured, run_once
from onnx_xcam.benchmark.report import BenchReport, Row
from onnx_xcam.benchmark.timing import Timings, in_turns
from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.explainer.memory import bytes_of_a_class
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.feeds import InputValue, example_feeds, free_picture, takes_pictures
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime import Session, short_name
from onnx_xcam.runtime.batching import classes_per_run
from onnx_xcam.surgery.analysis.concrete_size import picture_size
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.instrumented import instrumented
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse, diagnosed
from onnx_xcam.surgery.targets.unused_inputs import unused_inputs

EMIT: tuple[contract.Emit, ...] = ("map",)
"""What the instrumented model emits."""
PLAIN = "plain"
"""The name of the original's runs among the timings; those of the instrumented model have the number of classes."""
_RANDOM_SIZE = (224, 224)
"""The size of random pictures where the model fits any."""
_OBJECTS = 100
"""At most so many objects of a detector are measured, as many as COCO's metrics count in a picture."""
_SHARE = 8.0
"""A run that takes longer than so many plain runs, of all classes of a middle layer say, sits rounds out."""


def bench(
    model: Path,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = "auto",
    batches: Sequence[int] = (1, 8),
    classes: Sequence[int] = (1, 10, 1000),
    threads: Sequence[int | None] = (None,),
    providers: Sequence[str] | None = None,
    seconds: float = 5.0,
    inputs: Mapping[str, InputValue] | None = None,
    allow_folders: Folders = (),
    progress: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Compare runs of the instrumented model, which emits the map alone, with runs of the original, on random numbers.

    Args:
        model: a plain model's file.
        layers, score, method, allow_folders: as `instrument` takes them.
        batches: numbers of images of a run; a model that was exported with a fixed number is run with that one only.
        classes: numbers of classes: 1 is the top one, 10 the ten best; a number above the model's own means all. Of a
            detector numbers of objects, at most 100.
        threads: numbers of threads of one operator; None leaves it to ONNX Runtime.
        providers: as `open_session` takes them.
        seconds: about how long each combination of batch size, number of classes and number of threads is timed.
        inputs: the values of inputs beside the picture, as `Explainer` takes them; random where not given.
        progress: a function that is called with a text on what begins.

    Raises:
        XcamError: what `instrument` and `open_session` raise; InputError for numbers below 1; ModelError for a model
            that is instrumented already, or that cannot be run.
    """
    for what, numbers in (("--batch", batches), ("--classes", classes), ("--threads", threads)):
        if not numbers or any(number is not None and number < 1 for number in numbers):
            raise InputError(f"{what} takes numbers from 1 on, not {', '.join(map(str, numbers)) or 'none'}.")
    source = Source(model, allow_folders=allow_folders)
    if contract.is_instrumented(output.name for output in source.skeleton().graph.output):
        raise ModelError(
            f"{source.name} is instrumented already; what that costs is measured against the original: give that model."
        )
    inputs, _ = read_pictures(source.skeleton(), source.path, inputs, None)
    wanted = _Wanted(batches, classes, seconds, inputs, progress)
    with diagnosed(source), tempfile.TemporaryDirectory() as folder:
        picture = free_picture(model_infos(source.skeleton()), inputs)
        analysis = analyse(source, Request(layers=layers, score=score, picture=picture))
        made = instrumented(analysis, TailOptions(method=method, emit=EMIT))
        pair = _Pair(source, analysis, made.content(), providers, Path(folder))
        rows = [row for count in threads for row in pair.rows(count, wanted)]
    return BenchReport(
        model=str(model),
        layers=list(pair.metadata.layers),
        score=pair.metadata.score,
        method=pair.metadata.method,
        provider=pair.provider,
        machine=machine(),
        versions=versions("onnx-xcam", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy"),
        notes=list(dict.fromkeys([*pair.metadata.notes, *pair.notes])),
        rows=rows,
    )


@dataclass(frozen=True)
class _Wanted:
    """A _Wanted holds those arguments of `bench` that say what is to be measured."""

    batches: Sequence[int]
    classes: Sequence[int]
    seconds: float
    inputs: Mapping[str, InputValue] | None
    progress: Callable[[str], None]


class _Pair:
    """A _Pair holds the original and the instrumented model, each as a file to open, and what is known of them.

    Attributes:
        source, analysis: the original and its analysis.
        folder: where the files are written.
        jobs: the original's job and the instrumented model's.
        unused: the names of inputs that play no part in the score.
        skeleton: the instrumented model without its weights, serialised.
        metadata: what the instrumented model says of itself.
        provider: the short name of the provider in use, once a session was opened.
        notes: what was assumed, and what was not measured.
        random_size: the height and width of random pictures, once they are known.
    """

    def __init__(
        self, source: Source, analysis: Analysis, made: bytes, providers: Sequence[str] | None, folder: Path
    ) -> None:
        self.source, self.analysis, self.folder = source, analysis, folder
        self.jobs = [
            self._job(source.with_tail(b""), "plain.onnx", providers),
            self._job(made, "instrumented.onnx", providers),
        ]
        skeleton = Source(made, source.path).skeleton()
        self.unused = unused_inputs(skeleton)
        self.skeleton = skeleton.SerializeToString()
        self.metadata = Metadata.from_props({p.key: p.value for p in skeleton.metadata_props}, source.name)
        self.provider = ""
        self.notes: list[str] = []
        self.random_size: tuple[int, int] | None = None

    def _job(self, content: bytes, name: str, providers: Sequence[str] | None) -> Job:
        """Write a model to a file and return the job that opens it."""
        runnable, folder = self.source.runnable(content)
        path = self.folder / name
        path.write_bytes(runnable)
        return Job(str(path), str(folder) if folder and self.source.references() else None, providers, None)

    @property
    def choice(self) -> str:
        """Return the input that chooses classes, or objects of a detector."""
        return contract.CLASS_INPUT if self.metadata.candidates is None else contract.OBJECT_INPUT

    def rows(self, threads: int | None, wanted: _Wanted) -> list[Row]:
        """Measure all batch sizes and numbers of classes with one number of threads."""
        jobs = [replace(job, threads=threads) for job in self.jobs]
        plain, made = sessions = [job.open() for job in jobs]
        self.provider = short_name(made.providers[0])
        if made.provider_warning:
            self.notes.append(made.provider_warning)
        counts = self._counts(wanted.classes)
        rows = []
        for batch in self._batches(plain, wanted.batches):
            feeds = self._feeds(plain, wanted.inputs, batch)
            chunks = {count: self._chunks(made, feeds, count) for count in counts}
            setting = f"batch {batch}, {'all' if threads is None else threads} threads"
            wanted.progress(f"timing: {setting}")
            timings = _timed(sessions, feeds, chunks, wanted.seconds * len(chunks), self.choice)
            wanted.progress(f"memory: {setting}")
            memory = self._memory(jobs, feeds, chunks)
            for count in counts:
                row = Row(
                    batch=batch,
                    classes=count,
                    threads=threads,
                    runs=len(chunks[count]),
                    rounds=len(timings.seconds(str(count))),
                    plain=timings.spread(PLAIN),
                    instrumented=timings.spread(str(count)),
                    ratio=timings.ratio(str(count), PLAIN),
                    memory=memory.get(count),
                )
                rows.append(row)
        return rows

    def _counts(self, wanted: Sequence[int]) -> list[int]:
        """Return the numbers of classes, none above the model's own."""
        there = self.metadata.class_count
        if self.metadata.candidates is not None:
            self.notes.append(f"Objects: the numbers of classes are numbers of objects, at most {_OBJECTS}.")
            return list(dict.fromkeys(min(count, _OBJECTS) for count in wanted))
        if there is None and max(wanted) > 1:
            self.notes.append("Classes: the file does not tell how many there are.")
        elif there is not None and max(wanted) > there:
            self.notes.append(f"Classes: the model has {there}; more than that are all of them.")
        return list(dict.fromkeys(count if there is None else min(count, there) for count in wanted))

    def _batches(self, plain: Session, wanted: Sequence[int]) -> list[int]:
        """Return the batch sizes, or the model's own if that is fixed."""
        used = (info for info in plain.inputs if info.name not in self.unused)
        fixed = next((info.shape[0] for info in used if takes_pictures(info)), None)
        if not isinstance(fixed, int):
            return list(dict.fromkeys(wanted))
        if list(wanted) != [fixed]:
            self.notes.append(f"Batch: the model was exported for {fixed} at once, so only that is measured.")
        return [fixed]

    def _feeds(self, plain: Session, inputs: Mapping[str, InputValue] | None, batch: int) -> dict[str, NDArray[Any]]:
        """Return the feeds of one run: the given values, and random numbers for the others."""
        if self.random_size is None:
            self.random_size = picture_size(self.analysis.skeleton, self.analysis.graph) or _RANDOM_SIZE
        random = np.random.default_rng(0)
        return example_feeds(
            plain.inputs,
            plain.optional_inputs,
            inputs,
            random,
            size=self.random_size,
            images=batch,
            unused=self.unused,
        )

    def _chunks(self, made: Session, feeds: Mapping[str, NDArray[Any]], count: int) -> list[list[int]]:
        """Divide the `count` best classes among runs by their memory; an empty list is the default, the top class."""
        if count == 1:
            return [[]]
        used = (info for info in made.inputs if info.name not in self.unused)
        image = next((info.name for info in used if takes_pictures(info)), next(iter(feeds)))
        maps = {contract.output_name("map", index) for index in range(len(self.metadata.layers))}
        shapes = {name: value.shape for name, value in feeds.items() if value is not None}
        each = bytes_of_a_class(self.skeleton, shapes, image, [out for out in made.outputs if out.name in maps])
        step = classes_per_run(each)
        best = [-rank for rank in range(1, count + 1)]
        return [best[start : start + step] for start in range(0, count, step)]

    def _memory(
        self, jobs: Sequence[Job], feeds: Mapping[str, NDArray[Any]], chunks: Mapping[int, list[list[int]]]
    ) -> dict[int, tuple[Memory, Memory]]:
        """Return the memory of the original and of the instrumented model, by number of classes."""
        if not is_measurable():
            self.notes.append("Memory: not measured; that is done on Linux only.")
            return {}
        if self.provider != "cpu":
            self.notes.append(f"Memory: of the process, not of the device of {self.provider}.")
        stored = self.folder / "feeds.npz"
        try:
            plain = measured(jobs[0].fed(feeds, [[]], stored))
            made = replace(jobs[1], choice=self.choice)
            return {count: (plain, measured(made.fed(feeds, cut, stored))) for count, cut in chunks.items()}
        except ModelError as error:
            self.notes.append(f"Memory: not measured: {error}")
            return {}


def _timed(
    sessions: Sequence[Session],
    feeds: Mapping[str, Any],
    chunks: Mapping[int, list[list[int]]],
    seconds: float,
    choice: str,
) -> Timings:
    """Time the plain model, and the instrumented one for each number of classes, in turns."""
    plain, made = ({name: session.hold(value) for name, value in feeds.items()} for session in sessions)
    calls: dict[str, Callable[[], None]] = {PLAIN: lambda: run_once(sessions[0], plain, [[]], choice)}
    for count, cut in chunks.items():
        calls[str(count)] = lambda cut=cut: run_once(sessions[1], made, cut, choice)  # type: ignore[misc]
    return in_turns(calls, seconds, share=_SHARE)
