"""The job `explain`: pictures of what made the model say so, of many photos, as a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD
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
