"""This module explains many images in order and in bounded memory; the next images are read while one runs.

A worker does every step of an image: read, prepare, run, and what the caller wants done with the result. With two
workers on two cores, one decodes while the other runs. This was as fast as separate threads for each step
(EfficientNet-Lite0 and ResNet-50, photos of 0.3 to 3 megapixels), needs no queues between the steps, and holds no
more photos than there are workers. OpenCV keeps its own threads: a single thread was not faster, and the setting
would hold for the whole process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Generic, TypeVar

from onnx_xcam.errors import ImageError, InputError, ModelError, PreprocessError, XcamError
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.sources import name_of
from onnx_xcam.runtime import batching

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_OF_ONE_IMAGE = (ImageError, InputError, ModelError, PreprocessError)
"""Errors that one image may cause while others succeed."""


@dataclass(frozen=True)
class Streamed:
    """A Streamed is the result of one image of a stream: an explanation or an error.

    Attributes:
        image: the image as the stream was given it.
        explanation: the explanation of this image alone (N = 1, or for a ready tensor its own N); None if it failed.
        error: why the image could not be explained, or None.
        seconds: the duration of the run divided by the number of its images; 0.0 if it failed.
    """

    image: Any
    explanation: Explanation | None
    error: XcamError | None
    seconds: float

    def unwrap(self) -> Explanation:
        """Return the explanation, or raise the error of an image that failed.

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
    """Yield what `each` returns for the outcome of every image, in order.

    Args:
        images: the images; they are taken in the caller's thread, only a few ahead of the results.
        prepare: returns the pictures of an image: one, or several for a ready tensor.
        explain: returns one result for each list of pictures, from one run; all pictures have one shape.
        outcome: makes the outcome of an image from the image, its result or None, its error or None, and the seconds of
            the run.
        each: is called with each outcome in a worker thread.
        group: the number of images that share a run.
        cancel: ends the runs in progress when the stream ends early.
        more_workers: how many workers to add to one per core, where `each` computes for long between runs of its own.
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
            except Exception:  # raised by the caller's generator; earlier images are yielded first
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
    """Return an image's path or other name, or "the image", for messages."""
    return image.name if isinstance(image, Picture) else name_of(image, "the image")


class _Work(Generic[R, S, T]):
    """A _Work does all steps for a few images; the workers share it."""

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
        """Return what `each` returns for each of these images, in order."""
        results: dict[int, S] = {}
        groups: dict[tuple[int, ...], list[tuple[int, list[Picture]]]] = {}
        for n, image in enumerate(images):
            self._check_stopped()
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
            self._check_stopped()
            done.append(self._each(results.pop(n)))
        return done

    def _run(
        self, group: Sequence[tuple[int, list[Picture]]], images: Sequence[Any]
    ) -> list[tuple[int, R | None, XcamError | None, float]]:
        """Run images together, or each by itself if that fails; return index, result, error and seconds of each."""
        self._check_stopped()
        try:
            with self._running, memory_for(", ".join(_name(images[n]) for n, _ in group)):
                started = perf_counter()
                results = self._explain([pictures for _, pictures in group])
                seconds = (perf_counter() - started) / len(group)
        except _OF_ONE_IMAGE as error:
            if len(group) == 1:
                return [(group[0][0], None, error, 0.0)]
            return [result for alone in group for result in self._run([alone], images)]
        return [(n, one, None, seconds) for (n, _), one in zip(group, results, strict=True)]

    def _check_stopped(self) -> None:
        """Raise CancelledError if the stream has ended, so that nobody waits for this worker."""
        if self.stopped.is_set():
            raise CancelledError
