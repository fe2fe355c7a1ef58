"""The work of `explain`: photos in batches through the Explainer, pictures and results.jsonl out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from onnx_xcam.cli.naming import layer_parts, picture_name, stems
from onnx_xcam.cli.options import say, say_all
from onnx_xcam.errors import ImageError, InputError, ModelError, OutputError
from onnx_xcam.explainer import Explainer
from onnx_xcam.explainer.explanation import Explanation, Picture
from onnx_xcam.images.read import find_images
from onnx_xcam.text import json_text, printable

_OF_ONE_PICTURE = (ImageError, InputError, ModelError)
"""Errors that one picture may cause while the others are fine."""

_BATCH_ON_CPU, _BATCH_ELSEWHERE = 1, 16
"""A CPU gains nothing from larger batches, and one picture at a time shows results at once."""


class ExplainJob:
    """One run of `explain`: knows the photos, the output folder and the names in it."""

    def __init__(self, images: Sequence[Path], folder: Path, *, raw: bool, beside: bool, quiet: bool) -> None:
        """Prepare the output folder.

        Raises:
            OutputError: the folder cannot be made or written to.
        """
        self._stems = dict(zip(images, stems(images), strict=True))
        self._inputs = {path.resolve() for path in images}
        self._folder, self._raw, self._beside, self._quiet = folder, raw, beside, quiet
        _prepare_folder(folder)

    def run(self, explainer: Explainer, classes: NDArray[np.int64] | None) -> int:
        """Explain all photos for these classes (see `Explainer.choose`); the number of photos that failed is returned.

        Raises:
            OutputError: a result cannot be written.
            ClassError: the model has no such class.
        """
        failed = 0
        path = self._folder / "results.jsonl"
        with _written(path), path.open("w", encoding="utf-8") as lines:
            for record in self._records(explainer, classes):
                failed += record["error"] is not None
                lines.write(json_text(record) + "\n")
                lines.flush()
        return failed

    def _records(self, explainer: Explainer, classes: NDArray[np.int64] | None) -> Iterator[dict[str, Any]]:
        on_cpu = explainer.providers[0] == "CPUExecutionProvider"
        size = explainer.batch or (_BATCH_ON_CPU if on_cpu else _BATCH_ELSEWHERE)
        images = list(self._stems)
        for start in range(0, len(images), size):
            yield from self._batch(explainer, classes, images[start : start + size])

    def _batch(
        self, explainer: Explainer, classes: NDArray[np.int64] | None, images: Sequence[Path]
    ) -> Iterator[dict[str, Any]]:
        """The records of a few photos that share a run."""
        group: list[tuple[Path, Picture]] = []
        for image in images:
            try:
                group.append((image, explainer.prepare(image)))
            except _OF_ONE_PICTURE as error:
                yield self._failure(explainer, image, error)
        if group:
            yield from self._group(explainer, classes, group)

    def _group(
        self, explainer: Explainer, classes: NDArray[np.int64] | None, group: Sequence[tuple[Path, Picture]]
    ) -> Iterator[dict[str, Any]]:
        """The records of photos that share a run; if that fails, each gets a run of its own."""
        started = time.perf_counter()
        try:
            explanation = explainer.explain([picture for _, picture in group], classes)
        except _OF_ONE_PICTURE as error:
            if len(group) == 1:
                yield self._failure(explainer, group[0][0], error)
                return
            for alone in group:
                yield from self._group(explainer, classes, [alone])
            return
        seconds = (time.perf_counter() - started) / len(group)
        say_all("warning", explanation.warnings())
        for n, (image, _) in enumerate(group):
            yield self._success(explainer, explanation, n, image, seconds)

    def _failure(self, explainer: Explainer, image: Path, error: Exception) -> dict[str, Any]:
        say(f"error: {error}" if str(image) in str(error) else f"error: {image}: {error}")
        nothing: dict[str, Any] = {"classes": [], "labels": None, "scores": [], "probabilities": None, "status": []}
        return {**_head(explainer, image), **nothing, "files": [], "seconds": None, "error": str(error)}

    def _success(
        self, explainer: Explainer, explanation: Explanation, n: int, image: Path, seconds: float
    ) -> dict[str, Any]:
        files = self._write_pictures(explanation, n, image)
        if self._raw:
            files.append(self._write_raw(explanation, n, image))
        status = [explanation.status_of(layer)[n].tolist() for layer in range(len(explanation.layers))]
        probabilities = explanation.probabilities
        return {
            **_head(explainer, image),
            "classes": explanation.classes[n].tolist(),
            "labels": None if explanation.labels is None else explanation.labels[n],
            "scores": _numbers(explanation.scores[n]),
            "probabilities": None if probabilities is None else _numbers(probabilities[n]),
            "status": _one_or_all(status),
            "files": [file.as_posix() for file in files],
            "seconds": round(seconds, 6),
            "error": None,
        }

    def _write_pictures(self, explanation: Explanation, n: int, image: Path) -> list[Path]:
        files = []
        parts = layer_parts(explanation.layers)
        for layer, part in enumerate(parts):
            for k, class_id in enumerate(explanation.classes[n].tolist()):
                path = self._free(self._folder / picture_name(self._stems[image], part, class_id))
                explanation.save(path, n, k, layer=layer, beside=self._beside)
                where = f"  layer {explanation.layers[layer]}" if part else ""
                typer.echo(printable(f"{image.name}  {explanation.caption(n, k)}{where}  -> {path}"))
                files.append(path)
        return files

    def _write_raw(self, explanation: Explanation, n: int, image: Path) -> Path:
        path = self._free(self._folder / f"{self._stems[image]}.npz")
        maps = {
            "map" + (f"_{layer}" if layer else ""): explanation.maps_of(layer)[n]
            for layer in range(len(explanation.layers))
        }
        with _written(path):
            np.savez_compressed(path, classes=explanation.classes[n], scores=explanation.scores[n], **maps)
        return path

    def _free(self, path: Path) -> Path:
        """The path, unless one of the photos lies there."""
        if path.resolve() in self._inputs:
            raise OutputError(f"'{path}' is one of the photos; name another folder with -o.")
        return path


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """The files as they are, folders as their pictures, each once.

    A file that is not there stays in the list: it is one bad picture, and no reason to leave out the others.

    Raises:
        ImageError: a folder without pictures.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for picture in find_images([path]) if path.is_dir() else [path]:
            found.setdefault(picture.resolve(), picture)
    return list(found.values())


def _prepare_folder(folder: Path) -> None:
    """Make the folder and try to write to it, before any time goes into running a model."""
    probe = folder / ".onnx-xcam-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written to: {error.strerror or error}. Name another with -o."
        ) from error


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an OutputError; a closed stdout (`| head`) is not about the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from error


def _head(explainer: Explainer, image: Path) -> dict[str, Any]:
    return {
        "image": str(image),
        "model": explainer.name,
        "layer": _one_or_all(list(explainer.layers)),
        "method": explainer.method,
    }


def _one_or_all(values: list[Any]) -> Any:
    """What belongs to the only layer, or a list with an entry per layer."""
    return values[0] if len(values) == 1 else values


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """Floats for JSON, which has neither NaN nor infinity."""
    return [value if math.isfinite(value) else None for value in values.astype(float).tolist()]
