"""`explain` that is cut short: nothing that was told is lost, and --resume does the rest and no more."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import tiny_models
from helpers.command_line import ENVIRONMENT, GATE, KNOWN, needs_posix, wait_for_lines
from onnx_xcam.cli import app
from onnx_xcam.explainer import Explainer
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs import explain_photos
from onnx_xcam.jobs.file_names import places, stems
from onnx_xcam.jobs.results import add_line

PROGRAM = [
    sys.executable,
    "-m",
    "onnx_xcam",
    "explain",
    "model.onnx",
    "photos",
    "--top",
    "2",
    "--raw",
    "--score",
    "y",
]
RANDOM = np.random.default_rng(3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of four photos."""
    monkeypatch.chdir(tmp_path)
    model = tiny_models.tiny(metadata=KNOWN)
    model.graph.node.append(onnx.helper.make_node("Add", ["logits", "fb"], ["z"]))
    model.graph.output.add(name="z").type.CopyFrom(model.graph.output[0].type)
    onnx.save(model, tmp_path / "model.onnx")
    add_photos(tmp_path / "photos", 4)
    return tmp_path


def add_photos(folder: Path, count: int, size: int = 20) -> None:
    folder.mkdir(exist_ok=True)
    for n in range(count):
        write_image(folder / f"{n:03}.png", RANDOM.integers(0, 256, (size + n % 7, 30, 3), np.uint8))


@pytest.fixture
def run(run):
    """Run `explain`; gives exit status, stdout and stderr."""
    return functools.partial(run, "explain")


def results(folder: Path | str = "explanations") -> dict[str, dict]:
    """The records by photo; each photo has one."""
    records = [json.loads(line) for line in (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {Path(record["image"]).name: record for record in records}
    assert len(found) == len(records)
    return found


def content(folder: str | Path) -> dict[str, bytes]:
    """Every file of an output folder; of results.jsonl what does not depend on time and folder."""
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "results.jsonl"}
    for name, record in results(folder).items():
        record.pop("seconds")
        record["files"] = [Path(file).name for file in record["files"]]
        files[f"line of {name}"] = json.dumps(record).encode()
    for name in [name for name in files if name.endswith(".npz")]:
        with np.load(Path(folder) / name) as raw:  # the archive itself holds times
            files[name] = b"".join(raw[key].tobytes() for key in sorted(raw))
    return files


# --- cut short --------------------------------------------------------------------------------------------------------


def started(*arguments: str, first: str, lines: int, folder: Path) -> subprocess.Popen[str]:
    """The program, held before the photo `first`, once the photos before it have their lines of results."""
    command = [sys.executable, GATE, first, *PROGRAM[3:], *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **streams)
    wait_for_lines(process, folder / "explanations" / "results.jsonl", lines)
    return process


@needs_posix
def test_killed_in_the_middle_and_resumed_is_as_if_never_killed(folder):
    add_photos(folder / "photos", 14)
    (folder / "photos" / "bad.jpg").write_bytes(b"no picture")
    for lines in (3, 9):
        process = started("--resume", "-q", first=f"{lines:03}.png", lines=lines, folder=folder)
        process.kill()
        process.communicate()
        whole = (folder / "explanations" / "results.jsonl").read_bytes()
        finished = [json.loads(line) for line in whole.splitlines()]
        assert len(finished) == lines
        for record in finished:
            for file in record["files"]:
                assert read_image(folder / file).size if file.endswith(".png") else np.load(folder / file)
    again = {"cwd": folder, "env": ENVIRONMENT, "capture_output": True, "text": True}
    resumed = subprocess.run([*PROGRAM, "--resume"], check=False, **again)
    assert resumed.returncode == 1, "one picture is bad"
    assert "note: 9 of 15 photos are done already." in resumed.stderr
    assert len(resumed.stdout.splitlines()) == 2 * (14 - 9)
    subprocess.run([*PROGRAM, "-q", "-o", "at once"], check=False, **again)
    assert content(folder / "explanations") == content(folder / "at once")


@needs_posix
def test_ctrl_c_says_how_to_go_on(folder):
    add_photos(folder / "photos", 14)
    process = started(first="006.png", lines=6, folder=folder)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    done = len(results())
    assert done in (6, 7), "those before the gate, and the one that was held, if it was faster than the interrupt"
    assert err.splitlines()[-1] == (
        f"interrupted: {done} of 14 photos are done; the same command with --resume does the others."
    )
    assert not [path for path in (folder / "explanations").iterdir() if path.name.startswith(".")]
    assert len(out.splitlines()) in (2 * done, 2 * done - 1, 2 * done - 2)


@needs_posix
def test_what_is_done_is_what_has_a_line(folder, monkeypatch, capfd):
    """An interrupt between a photo's line and whatever comes next: the photo is done."""

    def interrupted(lines, record):
        add_line(lines, record)
        if Path(record["image"]).name == "001.png":
            raise KeyboardInterrupt

    monkeypatch.setattr(explain_photos, "add_line", interrupted)
    with pytest.raises(SystemExit) as ended:
        app(["explain", "model.onnx", "photos"], prog_name="onnx-xcam")
    assert ended.value.code == 130
    assert len(results()) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("interrupted: 2 of 4 photos are done;")


def test_a_torn_last_line_is_done_again_and_half_written_files_go(run, folder):
    assert run("model.onnx", "photos", "-q")[0] == 0
    path = folder / "explanations" / "results.jsonl"
    expected = content("explanations")
    path.write_bytes(path.read_bytes()[:-40])
    (folder / "explanations" / ".onnx-xcam.003.1.png").write_bytes(b"half")
    status, out, err = run("model.onnx", "photos", "--resume")
    assert status == 0
    assert "note: 3 of 4 photos are done already." in err
    assert [line.split()[0] for line in out.splitlines()] == ["003.png"]
    assert content("explanations") == expected


def test_resume_of_what_is_finished_does_nothing_and_of_nothing_does_all(run, folder):
    status, out, _ = run("model.onnx", "photos", "--resume")
    assert (status, len(out.splitlines())) == (0, 4)
    before = (folder / "explanations" / "results.jsonl").read_bytes()
    status, out, err = run("model.onnx", "photos", "--resume")
    assert (status, out) == (0, "")
    assert "4 of 4 photos are done already" in err
    assert (folder / "explanations" / "results.jsonl").read_bytes() == before


def test_photos_that_failed_or_whose_files_are_gone_are_tried_again(run, folder):
    (folder / "photos" / "001.png").write_bytes(b"")
    assert run("model.onnx", "photos", "-q")[0] == 1
    assert results()["001.png"]["error"]
    write_image(folder / "photos" / "001.png", RANDOM.integers(0, 256, (20, 30, 3), np.uint8))
    (folder / results()["003.png"]["files"][0]).unlink()
    status, out, _ = run("model.onnx", "photos", "--resume", "-q")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["001.png", "003.png"]
    assert {name: record["error"] for name, record in results().items()} == dict.fromkeys(
        ("000.png", "001.png", "002.png", "003.png")
    )
    assert all((folder / file).is_file() for record in results().values() for file in record["files"])


def test_without_resume_a_run_starts_anew_and_says_so(run, folder):
    run("model.onnx", "photos", "-q")
    status, out, err = run("model.onnx", "photos/000.png")
    assert (status, len(out.splitlines())) == (0, 1)
    assert list(results()) == ["000.png"]
    assert "is replaced; --resume would have continued it" in err


def other_model(folder: Path) -> None:
    onnx.save(tiny_models.tiny(metadata=KNOWN, seed=1), folder / "model.onnx")


def labels(folder: Path) -> None:
    (folder / "labels.txt").write_text("\n".join("vwxyz"), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (other_model, [], "another model file"),
        (None, ["--layer", "c"], r"another layer (features, now c)"),
        (None, ["--class", "1"], "another choice of classes (-1, now 1)"),
        (None, ["--top", "2"], "another choice of classes (-1, now -1,-2)"),
        (None, ["--preprocess", "imagenet"], "another preprocessing"),
        (None, ["--score", "z"], "another score"),
        (labels, ["--labels", "labels.txt"], "another labels"),
        (None, ["--raw"], "another choice of what is written (pictures, now pictures raw)"),
        (None, ["--beside"], "another choice of what is written (pictures, now pictures beside photos)"),
        (None, ["--no-pictures"], "another choice of what is written (pictures, now results only)"),
    ],
)
def test_another_run_is_not_continued(run, folder, change, options, message):
    run("model.onnx", "photos", "-q")
    before = content("explanations")
    if change:
        change(folder)
    status, out, err = run("model.onnx", "photos", "--resume", "-q", *options)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert message in err
    assert content("explanations") == before


def test_threads_and_provider_may_change(run, folder):
    run("model.onnx", "photos/000.png", "-q")
    assert run("model.onnx", "photos", "--resume", "-q", "--threads", "1", "--provider", "cpu")[0] == 0
    assert len(results()) == 4


@pytest.mark.parametrize(
    "line",
    [
        *(b"{]", b"", b"[]", b'{"image": 1}', b"\xff", b"[" * 3000),
        *(b'{"image": "a", "files": "b", "error": null}', b'{"image": "a", "files": [1], "error": null}'),
        b'{"image": "a\\u0000", "files": [], "error": null}',
    ],
)
def test_a_damaged_line_is_one_sentence_that_names_it(run, folder, line):
    run("model.onnx", "photos", "-q")
    path = folder / "explanations" / "results.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = line
    path.write_bytes(b"\n".join(lines))
    status, out, err = run("model.onnx", "photos", "--resume", "-q")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "Line 2 of 'explanations" in err


def test_results_that_do_not_tell_how_they_were_made_are_not_continued(run, folder):
    run("model.onnx", "photos/000.png", "-q")
    record = results()["000.png"]
    del record["settings"]
    (folder / "explanations" / "results.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert "does not tell how it was made" in run("model.onnx", "photos", "--resume", "-q")[2]


def test_what_was_written_beside_the_photos_is_not_taken_for_photos(run, folder):
    assert run("model.onnx", "photos", "-o", "photos", "-q")[0] == 0
    status, out, err = run("model.onnx", "photos", "-o", "photos", "--resume")
    assert (status, out) == (1, "")
    assert "'photos' holds the photos and what was written" in err
    status, out, _ = run("model.onnx", *sorted((folder / "photos").glob("*.png")), "-o", "photos", "--resume")
    assert (status, out) == (0, "")
    assert len(results("photos")) == 4


# --- names ------------------------------------------------------------------------------------------------------------


def test_photos_that_come_later_never_take_the_names_of_what_is_done(run, folder):
    """Another folder's 000.png would be called 000 as well, if the first one were not known from the results."""
    run("model.onnx", "photos/000.png", "photos/001.png", "-q", "--class", "1")
    before = content("explanations")
    add_photos(folder / "more", 1)
    assert run("model.onnx", "more", "photos/001.png", "--resume", "-q", "--class", "1")[0] == 0
    records = [json.loads(line) for line in (folder / "explanations" / "results.jsonl").read_text().splitlines()]
    assert [Path(record["files"][0]).name for record in records] == ["000.1.png", "001.1.png", "000-2.1.png"]
    assert (folder / "explanations" / "000.1.png").read_bytes() == before["000.1.png"]


def test_names_that_are_taken():
    assert places(["A.b.285.png", "A.b.npz", "é.x.1.png"]) == {"a.b.png", "a.b.npz", "é.x.png"}
    taken = places(["CAT.1.png", "cat-2.281.png"])
    assert stems([Path("x/cat.png"), Path("x/dog.png")], taken=taken) == ["cat-3", "dog"]
    assert stems([Path("x/cat.png"), Path("y/cat.png")], taken=taken, done=[Path("x/cat.png")]) == [
        "x.cat.png",
        "y.cat.png",
    ]


def test_many_photos_of_one_name_take_no_time():
    images = [Path(f"{n}/images/photo.png") for n in range(20_000)]
    started = time.process_time()
    names = stems(images)
    assert time.process_time() - started < 30, "it was quadratic once: minutes"
    assert len(set(names)) == len(images)
    assert names[:3] == ["images.photo.png", "images.photo.png-2", "images.photo.png-3"]


def test_folders_in_folders(run, folder):
    add_photos(folder / "photos" / "inner", 2)
    add_photos(folder / "photos" / ".hidden", 1)
    add_photos(folder / "photos" / "out", 1)
    arguments = ["model.onnx", "photos", "-q", "--class", "1", "-o", "photos/out"]
    assert len(run(*arguments)[1].splitlines()) == 4
    for _ in range(2):  # what was written is not taken for photos
        status, out, _ = run(*arguments, "--recursive")
        assert status == 0
        files = [line.split("-> ")[1] for line in out.splitlines()]
        assert len(files) == 6
        assert Path(files[-1]).name == "inner.001.png.1.png"


# --- what is shown and written ----------------------------------------------------------------------------------------


def test_no_pictures(run, folder):
    status, out, _ = run("model.onnx", "photos", "--no-pictures", "--raw", "-q", "--class", "cat")
    assert status == 0
    assert {path.name for path in Path("explanations").iterdir()} == {
        "results.jsonl",
        *(f"{n:03}.npz" for n in range(4)),
    }
    explanation = Explainer("model.onnx").explain("photos/000.png", ["cat"])
    assert out.splitlines()[0] == f"000.png  {explanation.caption()}"
    with np.load("explanations/000.npz") as raw:
        np.testing.assert_array_equal(raw["map"], explanation.maps[0])
    assert run("model.onnx", "photos", "--no-pictures", "-q", "-o", "bare")[0] == 0
    assert {path.name for path in Path("bare").iterdir()} == {"results.jsonl"}
    assert results("bare")["000.png"]["files"] == []
    assert run("model.onnx", "photos", "--no-pictures", "--beside")[0] == 2


def on_a_terminal(command: list[str], folder: Path, *, stdout: bool) -> tuple[str, bytes]:
    """What a program writes into a pipe and on a terminal, on which stderr is, and stdout if so wished."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"}
    streams = {"stdout": theirs if stdout else subprocess.PIPE, "stderr": theirs}
    with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        os.close(ours)
        piped = "" if process.stdout is None else process.stdout.read().decode()
    assert process.returncode == 0, shown
    return piped, shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other end is closed
        return b""


@needs_posix
@pytest.mark.parametrize("stdout", [True, False])
def test_a_bar_on_a_terminal_and_whole_lines_above_it(folder, stdout):
    piped, shown = on_a_terminal([*PROGRAM, "-o", "x" * 120], folder, stdout=stdout)
    assert b"4/4" in shown
    text = shown.decode().replace("\r\n", "\n")
    for record in results("x" * 120).values():
        for file in record["files"][:2]:
            assert (file in text) == stdout, "not broken at the terminal's width"
            assert (file in piped) == (not stdout)
    assert "\x1b" not in piped


@needs_posix
def test_no_bar_when_quiet_or_for_a_single_photo(folder):
    for command in ([*PROGRAM, "--quiet"], [*PROGRAM[:5], "photos/000.png"]):
        _, shown = on_a_terminal(command, folder, stdout=False)
        assert b"\x1b" not in shown


def test_no_bar_in_a_pipe(run, folder):
    _, out, err = run("model.onnx", "photos")
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 4
    assert all(line.startswith("note: ") for line in err.splitlines())
