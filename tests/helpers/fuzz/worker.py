"""The side of the fuzzer that runs cases: makes each from the seed and its number, and calls the entry points."""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import os
import re
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

os.environ["ONNX_XCAM_STRICT"] = "1"  # what nothing foresaw is a finding: it is raised as it is
SECONDS = 10
"""A case that takes longer hangs."""
_NAMES_AT_ONCE = 2
"""A case is looked for under so many names; each name is read anew, which is slow for YAML."""
ADDRESS_SPACE = 8 << 30
"""The worker's limit; the libraries themselves map some 2 GiB."""


def make_case(kind: str, seed: int, number: int) -> tuple[str, bytes]:
    """The suffix and the content of a case; the same for the same arguments."""
    return make(kind, Random(f"{kind} {seed} {number}"))  # a text: hashed by random itself, the same in every process


def make(kind: str, random: Random) -> tuple[str, bytes]:
    """A case of a kind: suffix and content, chosen by `random`."""
    from helpers.fuzz import mutated_files, mutated_models

    if kind == "models":
        return ".onnx", mutated_models.make(random)
    makers = {
        "images": mutated_files.picture,
        "arrays": mutated_files.array,
        "names": mutated_files.name,
        "preprocess": mutated_files.preprocessing,
        "labels": mutated_files.labels,
    }
    return makers[kind](random)


def run_case(kind: str, path: Path, data: bytes, number: int, stage: Callable[[str], None]) -> list[str]:
    """Run one case through the entry points; how each ended: "ok" or the XcamError's name.

    Raises:
        Exception: a finding.
    """
    found = []
    for name, run in runs_of(kind, path, data, number):
        stage(name)
        found.append(f"{name} {ended(run)}")
    return found


def ended(run: Callable[[], object]) -> str:
    """How an entry point ended: "ok", or the XcamError's name.

    Raises:
        Exception: a finding; an UnexpectedError, which says "a bug here or a damaged file", is one.
    """
    from onnx_xcam import XcamError
    from onnx_xcam.errors import UnexpectedError

    try:
        run()
    except UnexpectedError:
        raise
    except XcamError as error:
        text = str(error)
        if "\n" in text or not text or len(text) > 100_000:
            raise AssertionError(f"the message is not one sentence: {text[:300]!r}") from error
        if re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text):
            raise AssertionError(f"the message holds control characters: {text[:300]!r}") from error
        return type(error).__name__
    return "ok"


_Runs = Iterator[tuple[str, Callable[[], object]]]


def runs_of(kind: str, path: Path, data: bytes, number: int) -> _Runs:
    """The entry points for a case, each with its name."""
    runs = {
        "models": _models,
        "images": _images,
        "arrays": _arrays,
        "names": _names,
        "preprocess": _preprocess,
        "labels": _labels,
    }[kind]
    return runs(path, data, number)


def _models(path: Path, data: bytes, number: int) -> _Runs:
    import onnx_xcam
    from onnx_xcam.surgery import instrument_bytes

    given: Any = path if number % 4 == 0 else data
    emits = (("map",), ("map", "activations", "gradients"), ("map", "heatmap", "status"), ("gradients", "status"))
    how: Any = {1: {"class_input": "required"}, 2: {"class_input": "fixed", "classes": [0, -1]}}.get(number % 5, {})
    yield "inspect", lambda: onnx_xcam.inspect(given).text()
    yield "instrument", lambda: instrument_bytes(given, emit=emits[number % 4], **how)  # type: ignore[arg-type]
    if number % 7 == 0:
        yield "layers", lambda: instrument_bytes(given, layers=["c1", "a"], score="logits")
    if number % 2 == 0:
        yield "explain", lambda: _explain(given)
    if number % 16 == 0:
        yield "check", lambda: onnx_xcam.check(given).text()


def _explain(given: Any) -> None:
    import numpy as np

    from onnx_xcam import Explainer

    explainer = Explainer(given, providers="cpu", threads=1)
    photo = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    explanation = explainer.explain([photo])
    repr(explanation)
    explanation._repr_html_()


def _images(path: Path, data: bytes, number: int) -> _Runs:
    from onnx_xcam.images import read_image

    def read() -> None:
        image = read_image(path)
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == "uint8" and image.flags.c_contiguous

    del data, number
    yield "read", read


def _arrays(path: Path, data: bytes, number: int) -> _Runs:
    """Files whose values are handed on as they are; DICOM files end in one sentence where pydicom is not installed."""
    import numpy as np

    from onnx_xcam.images import InputSpec, Photo, Preprocess, preprocess_image
    from onnx_xcam.images.sources import opened

    def read(source: Any) -> None:
        photo = opened(source)
        if isinstance(photo, Photo):
            assert photo.pixels.ndim == 3 and photo.pixels.size
            assert photo.display().shape == (*photo.size, 3)
            if photo.channels <= 64:
                spec = InputSpec("image", np.dtype(np.float32), "NCHW", photo.channels, 8, 8)
                preprocess_image(photo, Preprocess(bands=tuple(range(photo.channels))), spec)

    del number
    yield "path", lambda: read(path)
    yield "bytes", lambda: read(data)


def _names(path: Path, data: bytes, number: int) -> _Runs:
    """Names of published weights, as an argument and in a description."""
    from onnx_xcam.images import Preprocess
    from onnx_xcam.producers.stated import load_preprocess

    text = data.decode("utf-8", "replace")
    del path, number

    def read(spec: Any) -> None:
        assert isinstance(load_preprocess(spec), Preprocess)

    yield "argument", lambda: read(text)
    yield "preset", lambda: read({"preset": text})


def _preprocess(path: Path, data: bytes, number: int) -> _Runs:
    import numpy as np

    from onnx_xcam.images import InputSpec, preprocess_image
    from onnx_xcam.producers.evidence import evidence
    from onnx_xcam.producers.settle import settle
    from onnx_xcam.producers.stated import load_preprocess
    from onnx_xcam.text import json_text

    photo = np.zeros((20, 30, 3), np.uint8)
    dtype = (np.float32, np.float16, np.uint8)[number % 3]
    spec = InputSpec("image", np.dtype(dtype), "NCHW", 3 if number % 4 else 1, *((8, 8) if number % 2 else ()))

    def feed(preprocess: Any) -> None:
        preprocess.summary(spec)
        if max(preprocess.input_size(spec)) <= 4096:
            preprocess_image(photo, preprocess, spec)

    def settled(said: Any) -> None:
        found = settle(said, spec, 2)
        json_text([*found.remarks, *(origin.contradictions for origin in found.origins.values())]).encode()
        feed(found.preprocess)

    yield "load", lambda: feed(load_preprocess(path))
    yield "argument", lambda: settled(evidence(path, None, {}, None))
    with as_files_beside(path, data, number) as model:
        yield "found", lambda: settled(evidence(None, None, {}, model))
    entries = as_metadata(data)
    yield "metadata", lambda: settled(evidence(None, None, entries, None))


@contextmanager
def as_files_beside(path: Path, data: bytes, number: int) -> Iterator[Path]:
    """Give the block the path of a model beside which the content lies, under some of the names with its suffix."""
    from onnx_xcam.producers.dialects.registry import DIALECTS
    from onnx_xcam.producers.own import LABELS_FILES, PREPROCESS_FILES

    names = [name for dialect in DIALECTS for name in dialect.files] + [*LABELS_FILES, *PREPROCESS_FILES]
    fitting = sorted({name for name in names if Path(name).suffix == path.suffix})
    with tempfile.TemporaryDirectory(prefix="fuzz-beside-") as folder:
        for step in range(min(_NAMES_AT_ONCE, len(fitting))):
            name = fitting[(number + step) % len(fitting)]
            Path(folder, name.replace("{stem}", "model")).write_bytes(data)
        yield Path(folder, "model.onnx")


def as_metadata(data: bytes) -> dict[str, str]:
    """The content as the metadata of a model: an object of JSON by its keys, other values as JSON."""
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        return {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}


def _labels(path: Path, data: bytes, number: int) -> _Runs:
    from onnx_xcam.labels import labels_from_metadata, load_labels, resolve_class
    from onnx_xcam.producers.evidence import evidence
    from onnx_xcam.producers.settle_labels import settle_labels
    from onnx_xcam.text import json_text

    text = data.decode("utf-8", "replace")
    names: list[str] = []
    yield "load", lambda: names.extend(load_labels(path))
    yield "encode", lambda: json_text(names).encode()
    yield "resolve", lambda: resolve_class("cat", names, None)
    key = ("names", "labels", "onnx_xcam", "id2label")[number % 4]
    yield "metadata", lambda: labels_from_metadata({key: text})
    yield "argument", lambda: settle_labels(evidence(None, path, {}, None), 2)
    with as_files_beside(path, data, number) as model:
        yield "found", lambda: settle_labels(evidence(None, None, {}, model), 2)


def work(options: argparse.Namespace) -> None:
    """Read numbers, run the cases, write a line of JSON for each stage and each result."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    warnings.simplefilter("ignore")
    _warm_up()

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    say(ready=True)
    for line in sys.stdin:
        number = int(line)
        suffix, data = make_case(options.kind, options.seed, number)
        path = Path(options.scratch) / f"{options.kind}-{number}{suffix}"
        path.write_bytes(data)
        os.truncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        faulthandler.dump_traceback_later(SECONDS - 0.5)  # says where it hangs
        say(**run_guarded(options.kind, path, data, number, lambda name: say(stage=name)), before=before)
        faulthandler.cancel_dump_traceback_later()


def run_guarded(kind: str, path: Path, data: bytes, number: int, stage: Callable[[str], None]) -> dict[str, Any]:
    """`run_case`, and what it raised, with where: the last line of the package in the traceback."""
    try:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()):
            found = run_case(kind, path, data, number, stage)
        if out.getvalue():
            return {"problem": "printed", "where": "stdout", "text": out.getvalue()[:2000]}
    except Exception as error:  # noqa: BLE001  that is what is looked for
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/onnx_xcam/" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "?"
        return {"problem": type(error).__name__, "where": where, "text": traceback.format_exc()[-6000:]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"ended": found, "peak": peak}


def _warm_up() -> None:
    """Import what is imported late, so that it counts for no case."""
    import cv2  # noqa: F401
    import onnx.reference  # noqa: F401
    import onnxruntime

    import onnx_xcam.explainer
    import onnx_xcam.verification.check

    onnxruntime.set_default_logger_severity(4)
    assert onnx_xcam.verification.check and onnx_xcam.explainer
