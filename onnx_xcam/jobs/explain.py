"""This module has the job `explain` as a function: it explains many photos, and writes pictures and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.errors import XcamError
from onnx_xcam.explainer import Explainer
from onnx_xcam.jobs.explain_photos import ExplainJob, Page
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.reporter import Reporter, Silent
from onnx_xcam.jobs.requests import PhotosRequest, tell_assumptions, without_python_warnings
from onnx_xcam.jobs.result_files import Writing
from onnx_xcam.report import python_call


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(PhotosRequest):
    """An ExplainRequest states what `explain.run` explains and writes.

    Attributes:
        out: the folder for the pictures and results.jsonl.
        methods: the CAM methods; all share the runs of a photo.
        relu: whether to leave out what speaks against the class.
        fuse: how to fuse the maps of several layers into one more map; None for no such map.
        pictures: whether to write `<stem>.<class id>.png` for each photo and class, or for each object
            `<stem>.<rank>-<class id>.png` and for all of them `<stem>.objects.png`.
        beside: whether these pictures have the photo beside the explanation.
        raw: whether to write the unscaled maps, as `<stem>.npz`.

    Raises:
        XcamError: two fields contradict each other.
    """

    out: Path = Path("explanations")
    methods: Sequence[str] = (AUTO_METHOD,)
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
    """An ExplainOutcome says how a job ended.

    Attributes:
        photos: the number of photos, with those that an earlier job had done.
        failed: the number of photos that could not be explained in this job; results.jsonl says why.
    """

    photos: int
    failed: int


def run(request: ExplainRequest, reporter: Reporter | None = None) -> ExplainOutcome:
    """Explain photos, and write pictures, results.jsonl with a line for each photo, and the page, as requested.

    A photo that cannot be explained does not end the job. If the job or the process is ended, every photo with a line
    in results.jsonl stays done: the same request with `resume` does the rest.

    Args:
        request: what to explain, and what to write.
        reporter: receives what happens, in the calling thread; None to show nothing.

    Raises:
        XcamError: the model cannot be opened, the results cannot be written, or earlier results are of another job.
        KeyboardInterrupt: the user ended the job; the reporter has received how many photos were done.
    """
    reporter = reporter or Silent()
    photos = request.find_photos()
    with output_folder(request.out, reporter), without_python_warnings():
        writing = Writing(pictures=request.pictures, raw=request.raw, beside=request.beside)
        job = ExplainJob(
            photos,
            request.out,
            writing=writing,
            resume=request.resume,
            reporter=reporter,
            standard_input=request.standard_input,
        )
        opened = request.options.arguments()
        opened["contrast"] = opened["contrast"] or request.against is not None
        explainer = Explainer(request.model, method=request.methods, relu=request.relu, fuse=request.fuse, **opened)
        tell_assumptions(reporter, explainer.notes, explainer.warnings)
        page = Page(request.html, request.command, _python(request, next(iter(photos)))) if request.html else None
        failed = job.run(explainer, request.cells(explainer.model), page)
    return ExplainOutcome(len(photos), failed)


def _python(request: ExplainRequest, photo: Path) -> str:
    """Return the lines of Python that explain a photo as the job does."""
    stated = {name: value for name, value in request.options.arguments().items() if name != "exact" or value}
    options = {**stated, "fuse": request.fuse, **({} if request.relu else {"relu": False})}
    return python_call(
        request.model,
        photo,
        request.methods,
        options,
        {"classes": request.classes, "top": request.top, **request.asked},
    )
