"""The work of `explain`: a stream of photos through the Explainer, pictures and results.jsonl out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD
from onnx_xcam.common.files import writing_to, written
from onnx_xcam.errors import ImageError, OutputError, XcamError
from onnx_xcam.explainer import Explainer, Explanation, Streamed
from onnx_xcam.explainer.explanation import FUSED_LAYER
from onnx_xcam.images.write import encode_image
from onnx_xcam.jobs.earlier import Earlier
from onnx_xcam.jobs.explain_page import EarlierPhotos, JobPage, entry_of, failed_entry, job_page
from onnx_xcam.jobs.file_names import layer_parts, name_parts, picture_name, places, raw_fused_name, raw_names, stems
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.page_file import check_page, page_line
from onnx_xcam.jobs.photo_identity import PhotoFiles
from onnx_xcam.jobs.photos import without_results
from onnx_xcam.jobs.reporter import Reporter, Silent
from onnx_xcam.jobs.requests import PhotosRequest, tell_assumptions, without_python_warnings
from onnx_xcam.jobs.results import add_line, begun_anew, continued, failure_text, lines_in
from onnx_xcam.jobs.run_settings import RunSettings, run_settings
from onnx_xcam.records.explain import ExplainLine, MapRecord
from onnx_xcam.records.lines import VERSION
from onnx_xcam.report import python_call, settings_of


@dataclass(frozen=True)
class Writing:
    """What `explain` writes for each photo."""

    pictures: bool
    raw: bool
    beside: bool

    def told(self) -> list[str]:
        """The same in words."""
        beside = self.pictures and self.beside
        kinds = {"pictures": self.pictures and not beside, "pictures beside photos": beside, "raw": self.raw}
        return [name for name, wanted in kinds.items() if wanted] or ["results only"]


@dataclass(frozen=True)
class Page:
    """The HTML page that `explain` writes: its file, and the command and Python lines that it tells."""

    file: Path
    command: str
    python: str


@dataclass(frozen=True)
class _Done:
    """What became of a photo: its line for results.jsonl, what to print, and what the page holds of it."""

    image: Path
    record: ExplainLine
    results: Sequence[str]
    warnings: Sequence[str]
    entry: bytes = b""


class ExplainJob:
    """One run of `explain`: knows the photos, the output folder and the names in it."""

    def __init__(
        self, images: Mapping[Path, Path], folder: Path, *, writing: Writing, resume: bool, reporter: Reporter
    ) -> None:
        """Prepare a run.

        Args:
            images: the photos as they are called, and where they lie (resolved).
            folder: for all that is written; `output_folder` has made it.
            writing: what is.
            resume: continue what is there.
            reporter: is told what happens.
        """
        self._images, self._resolved = dict(images), frozenset(images.values())
        self._folder, self._writing, self._resume, self._reporter = folder, writing, resume, reporter
        self._results = folder / "results.jsonl"
        self._stems: dict[Path, str] = {}
        self._page: Page | None = None
        self._settings: RunSettings
        self._files = PhotoFiles(self._images, folder)

    def run(self, explainer: Explainer, classes: NDArray[np.int64] | None, page: Page | None = None) -> int:
        """Explain all photos for these classes (see `Explainer.choose`); the number of photos that failed is returned.

        Args:
            explainer: that explains.
            classes: int64 [1,K], or None where the model has settled them.
            page: to be written as well.

        Raises:
            OutputError: a result cannot be written, or the earlier results are those of another run.
            ClassError: the model has no such class.
            KeyboardInterrupt: after it was said how to go on.
        """
        self._page = page
        if page is not None:
            check_page(page.file, self._images.values(), explainer.model.files, self._folder)
        self._settings = run_settings(
            explainer.model,
            classes,
            methods=explainer.methods,
            maps=_kind_of_maps(explainer),
            write=" ".join(self._writing.told()),
        )
        earlier = self._earlier(explainer)
        total = len(self._images)
        todo = [image for image, resolved in self._images.items() if resolved not in earlier.finished]
        done, failed = total - len(todo), 0
        earlier_lines = lines_in(self._results)
        try:
            with (
                self._reporter.photos(done, total),
                writing_to(self._results),
                self._results.open("ab") as lines,
                self._paged(explainer, earlier) as shown,
            ):
                for one in self._explained(explainer, classes, todo):
                    failed += one.record["error"] is not None
                    add_line(lines, one.record)
                    if shown is not None:
                        shown.add(one.image, one.entry)
                    done += 1
                    self._report(one)
        except KeyboardInterrupt:
            self._reporter.interrupted(total - len(todo) + lines_in(self._results) - earlier_lines, total)
            raise
        finally:
            for remark in explainer.model.remarks.summed_up():
                self._reporter.warning(remark)
        if page is not None:
            self._reporter.result(page_line(page.file))
        return failed

    def _paged(self, explainer: Explainer, earlier: Earlier) -> AbstractContextManager[JobPage | None]:
        if self._page is None:
            return nullcontext()
        done = EarlierPhotos({photo: line.text for photo, line in earlier.finished.items()}, self._folder)
        settings = settings_of(explainer.model, explainer.methods, command=self._page.command, python=self._page.python)
        return job_page(self._page.file, settings, explainer, self._images, done)

    def _earlier(self, explainer: Explainer) -> Earlier:
        """What an earlier run has done, and names for the rest: never those of files that stay."""
        if self._resume:
            self._images = without_results(self._images, self._folder)
            earlier = continued(self._results, self._settings, self._images, self._reporter, given=self._resolved)
        else:
            earlier = begun_anew(self._results, self._settings, self._reporter)
        done = {image for image, resolved in self._images.items() if resolved in earlier.finished}
        parts = name_parts(explainer.methods, [FUSED_LAYER] if explainer.fuse else explainer.model.layers)
        called = list(self._images)
        self._stems = dict(zip(called, stems(called, parts, taken=places(earlier.files), done=done), strict=True))
        return earlier

    def _explained(
        self, explainer: Explainer, classes: NDArray[np.int64] | None, images: Sequence[Path]
    ) -> Iterator[_Done]:
        def finish(outcome: Streamed) -> _Done:
            if outcome.explanation is None:
                return self._failure(explainer, outcome)
            try:
                return self._success(explainer, outcome)
            except ImageError as error:  # too large to be drawn, or for the format of its pictures
                return self._failure(explainer, replace(outcome, explanation=None, error=error))

        return explainer.stream(self._files.taken(images), classes, each=finish)

    def _record(self, explainer: Explainer, outcome: Streamed, files: Sequence[Path], error: str | None) -> ExplainLine:
        """The line of a photo; all that would tell of its maps is empty if it failed."""
        image, found = outcome.image, outcome.explanation
        maps = _maps_of(found) if found else []
        labels, probabilities = (found.labels, found.probabilities) if found else (None, None)
        return {
            "version": VERSION,
            "image": str(image),
            "model": explainer.model.name,
            "layer": explainer.model.layers[0],
            "method": explainer.methods[0],
            "classes": found.classes[0].tolist() if found else [],
            "labels": None if labels is None else labels[0],
            "scores": _numbers(found.scores[0]) if found else [],
            "probabilities": None if probabilities is None else _numbers(probabilities[0]),
            "status": maps[0]["status"] if maps else [],
            "maps": maps,
            "files": [file.as_posix() for file in files],
            "seconds": None if error else round(outcome.seconds, 6),
            "error": error,
            **self._files.in_line(image),
            "settings": self._settings.in_line(),
        }

    def _failure(self, explainer: Explainer, outcome: Streamed) -> _Done:
        image, error = outcome.image, str(outcome.error)
        record = self._record(explainer, outcome, [], error)
        entry = failed_entry(image, error) if self._page else b""
        return _Done(image, record, (), (), entry)

    def _success(self, explainer: Explainer, outcome: Streamed) -> _Done:
        """Write the files of a photo, and tell of them."""
        image, explanations = outcome.image, _by_every_method(outcome)
        files, lines = [], []
        for explanation in explanations:
            method = explanation.method if len(explanations) > 1 else ""
            pictures, told = self._pictures(image, explanation, method)
            files += pictures
            lines += told
        if self._writing.raw:
            files.append(self._write_raw(explanations, image))
        record = self._record(explainer, outcome, files, None)
        entry = entry_of(image, explanations) if self._page else b""
        return _Done(image, record, lines, explanations[0].map_warnings(), entry)

    def _pictures(self, image: Path, explanation: Explanation, method: str) -> tuple[list[Path], list[str]]:
        """Write the pictures of a photo by one method, if any are wanted: their files, and lines to print."""
        files, lines = [], []
        shown = [FUSED_LAYER] if explanation.fused is not None else explanation.layers
        for layer, part in zip(shown, layer_parts(shown), strict=True):
            where = (f"  method {method}" if method else "") + (f"  layer {layer}" if part else "")
            for k, class_id in enumerate(explanation.classes[0].tolist()):
                line = f"{image.name}  {explanation.caption(0, k)}{where}"
                if self._writing.pictures:
                    files.append(self._free(picture_name(self._stems[image], method, part, class_id)))
                    picture = explanation.overlay(0, k, layer=layer, beside=self._writing.beside)
                    with written(files[-1]) as file:
                        file.write(encode_image(picture, ".png"))
                    line += f"  -> {files[-1]}"
                lines.append(line)
        return files, lines

    def _write_raw(self, explanations: Sequence[Explanation], image: Path) -> Path:
        path = self._free(f"{self._stems[image]}.npz")
        maps = {}
        for one in explanations:
            names = raw_names(one.method if len(explanations) > 1 else "", len(one.layers))
            maps.update({name: one.maps_of(layer)[0] for layer, name in enumerate(names)})
            if one.fused is not None:
                maps[raw_fused_name(names)] = one.fused[0]
        with written(path) as file:
            # Not compressed: maps are small, and it would take twenty times as long for a tenth of the size.
            np.savez(file, classes=explanations[0].classes[0], scores=explanations[0].scores[0], **maps)
        return path

    def _report(self, done: _Done) -> None:
        for line in done.results:
            self._reporter.result(line)
        if done.record["error"] is not None:
            self._reporter.error(failure_text(str(done.image), done.record["error"]))
        for warning in done.warnings:
            self._reporter.warning(warning)
        self._reporter.photo_done()

    def _free(self, name: str) -> Path:
        """The path of a file of the output folder, unless one of the photos lies there."""
        path = self._folder / name
        if path.resolve() in self._resolved:
            raise OutputError(f"'{path}' is one of the photos; name another folder with -o.")
        return path


def _kind_of_maps(explainer: Explainer) -> str:
    """What the maps show, in words."""
    shown = "what speaks for the class" if explainer.relu else "what speaks for the class and against it"
    return shown + (f", all layers in one by their {explainer.fuse}" if explainer.fuse else "")


def _by_every_method(outcome: Streamed) -> list[Explanation]:
    explanation = outcome.unwrap()
    return [explanation.by(method) for method in explanation.methods]


def _maps_of(explanation: Explanation) -> list[MapRecord]:
    every = (explanation.by(method) for method in explanation.methods)
    return [
        {"layer": layer, "method": one.method, "status": one.status_of(index)[0].tolist()}
        for one in every
        for index, layer in enumerate(one.layers)
    ]


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """Floats for JSON, which has neither NaN nor infinity."""
    return [value if math.isfinite(value) else None for value in values.astype(float).tolist()]


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(PhotosRequest):
    """States what `explain.run` explains and writes.

    Attributes:
        out: the folder for the pictures and results.jsonl.
        methods: the CAM methods; all share the runs of a photo.
        relu: leave out what speaks against the class.
        fuse: of several layers, make one map of all.
        pictures: write `<stem>.<class id>.png` for each photo and class.
        beside: put the photo beside the explanation in these pictures.
        raw: write the unscaled maps, as `<stem>.npz`.

    Raises:
        XcamError: what is asked for contradicts itself.
    """

    out: Path = Path("explanations")
    methods: Sequence[str] = (DEFAULT_METHOD,)
    relu: bool = True
    fuse: Fusion | None = None
    pictures: bool = True
    beside: bool = False
    raw: bool = False

    def __post_init__(self) -> None:
        if self.beside and not self.pictures:
            raise XcamError("Photos can be put beside pictures only where pictures are written.")
        if self.html and self.resume and not self.raw:
            raise XcamError("A page takes the maps of photos that are done from the raw maps; write these too.")


@dataclass(frozen=True)
class ExplainOutcome:
    """What became of a job.

    Attributes:
        photos: how many there were, those among them that an earlier job had done.
        failed: how many of them could not be explained now; results.jsonl tells why.
    """

    photos: int
    failed: int


def run(request: ExplainRequest, reporter: Reporter | None = None) -> ExplainOutcome:
    """Explain photos: write pictures, results.jsonl with a line for each, and the page, as it is requested.

    A photo that cannot be explained does not end the job. What ends it, or the process, loses nothing that
    results.jsonl tells of: the same request with `resume` does the rest.

    Args:
        request: what to explain, and what to write.
        reporter: is told what happens, in the calling thread; None for nobody.

    Raises:
        XcamError: the model cannot be opened, the results cannot be written, or the earlier ones are another job's.
        KeyboardInterrupt: after the reporter was told how far the job came.
    """
    reporter = reporter or Silent()
    photos = request.find_photos()
    with output_folder(request.out, reporter), without_python_warnings():
        writing = Writing(pictures=request.pictures, raw=request.raw, beside=request.beside)
        job = ExplainJob(photos, request.out, writing=writing, resume=request.resume, reporter=reporter)
        opened = request.options.arguments()
        explainer = Explainer(request.model, method=request.methods, relu=request.relu, fuse=request.fuse, **opened)
        tell_assumptions(reporter, explainer.notes, explainer.warnings)
        page = Page(request.html, request.command, _python(request, next(iter(photos)))) if request.html else None
        failed = job.run(explainer, explainer.choose(request.classes, request.top), page)
    return ExplainOutcome(len(photos), failed)


def _python(request: ExplainRequest, photo: Path) -> str:
    """The Python lines that explain a photo as the job does."""
    stated = {name: value for name, value in request.options.arguments().items() if name != "exact" or value}
    told = {**stated, "fuse": request.fuse, **({} if request.relu else {"relu": False})}
    return python_call(request.model, photo, request.methods, told, {"classes": request.classes, "top": request.top})
