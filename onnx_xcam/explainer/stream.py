"""Many images one after the other: the next ones are read while one runs, in order, in bounded memory.

A worker takes an image all the way: read, prepare, run, and what the caller wants done with the result. With two
workers on two cores one of them decodes while the other runs, which was as fast as threads of their own for each step
(EfficientNet-Lite0 and ResNet-50, photos of 0.3 to 3 megapixels), needs no queues between the steps, and holds no
more photos than there are workers. OpenCV keeps its own threads: with a single one nothing was faster, and the
setting is the process's.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

from onnx_xcam.errors import ImageError, InputError, ModelError, PreprocessError, XcamError
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.images.backend import memory_for
from onnx_xcam.runtime import batching

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_OF_ONE_IMAGE = (ImageError, InputError, ModelError, PreprocessError)
"""Errors that one image may cause while the others are fine."""


@dataclass(frozen=True)
class Streamed:
    """What became of one image of a stream: an explanation or an error.

    Attributes:
        image: the image as the stream was given it.
        explanation: of this image alone (N = 1; of a ready tensor, N as it has); None if it failed.
        error: why it could not be explained, or None.
        seconds: what the run took, shared among the images of a run; 0.0 if it failed.
    """

    image: Any
    explanation: Explanation | None
    error: XcamError | None
    seconds: float

    def unwrap(self) -> Explanation:
        """The explanation, for callers who want an image that failed to be an exception.

        Raises:
            XcamError: the image could not be explained.
        """
        if self.error is not None:
            raise self.error
        assert self.explanation is not None
        return self.explanation


def stream(
    images: Iterable[Any],
    prepare: Callable[[Any], list[Picture]],
    explain: Callable[[Sequence[Sequence[Picture]]], list[R]],
    outcome: Callable[[Any, R | None, XcamError | None, float], S],
    each: Callable[[S], T],
    *,
    group: int,
    cancel: Callable[[], None],
    more_workers: int = 0,
) -> Generator[T]:
    """What `each` makes of the outcome of every image, in order.

    Args:
        images: taken in the caller's thread, and only a few ahead of what has been handed out.
        prepare: an image as the pictures that it holds (one, but for a tensor).
        explain: one result for each list of pictures, in one run; they are of one shape.
        outcome: what became of an image: it, its result or None, the error or None, the seconds that the run took.
        each: called in a worker.
        group: how many images share a run.
        cancel: ends the runs that are under way, where nobody waits for their results any more.
        more_workers: than there are cores, where `each` computes long between runs of its own.
    """
    workers = min(batching.WORKERS, max(2, os.cpu_count() or 1) + more_workers)
    work = _Work(prepare, explain, outcome, each)
    waiting: deque[Future[list[T]]] = deque()
    source = iter(images)
    pool = ThreadPoolExecutor(workers, "onnx-xcam")
    try:
        while True:
            try:
                taken = list(islice(source, group))
            except Exception:  # of the caller's own generator: what came before it is handed out first
                while waiting:
                    yield from waiting.popleft().result()
                raise
            if taken:
                waiting.append(pool.submit(work.do, taken))
            elif not waiting:
                return
            if not taken or len(waiting) > workers:
                yield from waiting.popleft().result()
    finally:
        work.stopped.set()
        cancel()
        pool.shutdown(cancel_futures=True)


def _name(image: Any) -> str:
    return str(image) if isinstance(image, str | Path) else "the image"


class _Work(Generic[R, S, T]):
    """What a worker does with a few images."""

    def __init__(
        self,
        prepare: Callable[[Any], list[Picture]],
        explain: Callable[[Sequence[Sequence[Picture]]], list[R]],
        outcome: Callable[[Any, R | None, XcamError | None, float], S],
        each: Callable[[S], T],
    ) -> None:
        self._prepare, self._explain, self._outcome, self._each = prepare, explain, outcome, each
        self._running = threading.Semaphore(batching.RUNS_AT_ONCE)
        self.stopped = threading.Event()

    def do(self, images: Sequence[Any]) -> list[T]:
        """The results of these images, as `each` gives them."""
        results: dict[int, S] = {}
        groups: dict[tuple[int, ...], list[tuple[int, list[Picture]]]] = {}
        for n, image in enumerate(images):
            self._go_on()
            try:
                with memory_for(_name(image)):
                    pictures = self._prepare(image)
            except _OF_ONE_IMAGE as error:
                results[n] = self._outcome(image, None, error, 0.0)
            else:
                groups.setdefault(pictures[0].item.shape, []).append((n, pictures))
        for alike in groups.values():
            for n, result, wrong, seconds in self._run(alike, images):
                results[n] = self._outcome(images[n], result, wrong, seconds)
        done = []
        for n in range(len(images)):
            self._go_on()
            done.append(self._each(results.pop(n)))
        return done

    def _run(
        self, group: Sequence[tuple[int, list[Picture]]], images: Sequence[Any]
    ) -> list[tuple[int, R | None, XcamError | None, float]]:
        """The results of images that share a run; if that fails, each gets a run of its own."""
        self._go_on()
        try:
            with self._running, memory_for(", ".join(_name(images[n]) for n, _ in group)):
                started = perf_counter()
                found = self._explain([pictures for _, pictures in group])
                seconds = (perf_counter() - started) / len(group)
        except _OF_ONE_IMAGE as error:
            if len(group) == 1:
                return [(group[0][0], None, error, 0.0)]
            return [result for alone in group for result in self._run([alone], images)]
        return [(n, one, None, seconds) for (n, _), one in zip(group, found, strict=True)]

    def _go_on(self) -> None:
        """End this worker's work where nobody waits for it any more."""
        if self.stopped.is_set():
            raise CancelledError
