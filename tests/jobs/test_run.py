"""The jobs from Python: no command line is loaded, a reporter of one's own is told all, and the files are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers import ROOT, tiny_models
from helpers.command_line import KNOWN
from onnx_xcam.errors import ImageError, OutputError, XcamError
from onnx_xcam.explainer import ModelOptions
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs import evaluate, explain


class Collected:
    """A reporter that keeps what it is told, kind by kind."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, kind: str):
        return lambda *told: self.told.append((kind, told[0] if len(told) == 1 else told))

    @contextmanager
    def photos(self, done: int, total: int):
        self.told.append(("photos", (done, total)))
        yield
        self.told.append(("photos end", None))

    def of(self, kind: str) -> list[Any]:
        return [what for one, what in self.told if one == kind]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of three photos, one of which is bad."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), "model.onnx")
    (tmp_path / "photos").mkdir()
    for n in range(2):
        write_image(tmp_path / f"photos/{n}.png", np.random.default_rng(n).integers(0, 256, (20, 30, 3), np.uint8))
    (tmp_path / "photos/bad.png").write_bytes(b"no picture")
    return tmp_path


def lines(out: str) -> list[dict]:
    found = [json.loads(line) for line in Path(out, "results.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "files")} for line in found]


def asked(out: str, **more: Any) -> Mapping[str, Any]:
    return {"model": Path("model.onnx"), "images": [Path("photos")], "out": Path(out), **more}


def test_explain_writes_what_the_command_writes_and_tells_what_it_prints(run, folder):
    status, out, err = run("explain", "model.onnx", "photos", "--top", "2", "--raw", "-o", "command")
    reporter = Collected()
    outcome = explain.run(explain.ExplainRequest(**asked("job", top=2, raw=True)), reporter)
    assert (status, outcome.photos, outcome.failed) == (1, 3, 1)
    assert lines("job") == lines("command")
    for picture in Path("command").glob("*.png"):
        assert Path("job", picture.name).read_bytes() == picture.read_bytes()
    assert [text.replace("job/", "command/") for text in reporter.of("result")] == out.splitlines()
    messages = [f"note: {text}" for text in reporter.of("note")] + [f"error: {text}" for text in reporter.of("error")]
    assert [*messages, "error: 1 of 3 pictures could not be explained."] == err.splitlines()
    assert reporter.of("photos") == [(0, 3)] and len(reporter.of("photo_done")) == 3


def test_a_job_is_continued_whoever_began_it(run, folder):
    run("explain", "model.onnx", "photos/0.png", "-o", "out")
    reporter = Collected()
    request = explain.ExplainRequest(**asked("out", images=[Path("photos/0.png"), Path("photos/1.png")], resume=True))
    assert explain.run(request, reporter) == explain.ExplainOutcome(photos=2, failed=0)
    assert reporter.of("photos") == [(1, 2)]
    assert "1 of 2 photos are done already." in reporter.of("note")
    assert [Path(line["image"]).name for line in lines("out")] == ["0.png", "1.png"]


def test_evaluate_measures_what_the_command_measures(run, folder):
    status, out, _ = run(
        "evaluate", "model.onnx", "photos", "--metrics", "drop", "-o", "command", "--sanity", "1", "-q"
    )
    reporter = Collected()
    request = evaluate.EvaluateRequest(**asked("job", metrics=["drop"], sanity=1))
    outcome = evaluate.run(request, reporter)
    assert (status, outcome.photos, outcome.failed) == (1, 3, 1)
    assert lines("job") == lines("command")
    assert Path("job/results.csv").read_bytes() == Path("command/results.csv").read_bytes()
    ((summary,), (steps,)) = reporter.of("summary"), reporter.of("sanity")
    assert summary == outcome.summary and summary["sanity"] == steps
    assert "sanity check" in out and summary["maps"] == 2


def test_nobody_need_be_told(folder, capfd):
    assert explain.run(explain.ExplainRequest(**asked("out"))).failed == 1
    assert evaluate.run(evaluate.EvaluateRequest(**asked("other", metrics=["drop"]))).failed == 1
    assert capfd.readouterr() == ("", "")


def test_options_are_those_of_an_explainer(folder):
    options = ModelOptions(layers=["features", "c"], labels=["a", "b", "c", "d", "e"], exact=True)
    request = explain.ExplainRequest(**asked("out", options=options, methods=["grad-cam", "xgrad-cam"], fuse="mean"))
    explain.run(request)
    first = lines("out")[0]
    assert first["labels"][0] in "abcde" and first["settings"]["products"] == "exact"
    assert first["settings"]["maps"].endswith("all layers in one by their mean")


def test_requests_that_contradict_themselves(folder):
    for more, message in (
        ({"pictures": False, "beside": True}, "only where pictures are written"),
        ({"html": Path("p.html"), "resume": True}, "write these too"),
    ):
        with pytest.raises(XcamError, match=message):
            explain.ExplainRequest(**asked("out", **more))
    with pytest.raises(XcamError, match="only where the truth is given"):
        evaluate.EvaluateRequest(**asked("out", any_class=True))
    with pytest.raises(OutputError, match="holds the photos"):
        explain.run(explain.ExplainRequest(**asked("photos", resume=True)))
    Path("empty").mkdir()
    with pytest.raises(ImageError, match="no picture"):
        explain.run(explain.ExplainRequest(**asked("out", images=[Path("empty")])))
    assert not Path("out").exists(), "found before anything is written"


@pytest.mark.parametrize("job", ["explain", "evaluate"])
def test_no_command_line_and_no_terminal_is_loaded(folder, job):
    """In a process in which importing these is an error."""
    more = ", metrics=['drop']" if job == "evaluate" else ""
    code = (
        "import sys\n"
        "for name in ('typer', 'click', 'rich'): sys.modules[name] = None\n"
        f"from pathlib import Path\nfrom onnx_xcam.jobs import {job}\n"
        f"request = {job}.{job.title()}Request(model=Path('model.onnx'), images=[Path('photos')]{more})\n"
        f"print({job}.run(request).failed)\n"
    )
    command: Sequence[str] = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={"PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
