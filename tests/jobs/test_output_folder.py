"""What lies in an output folder already, and what cannot be written there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import tiny_models
from helpers.command_line import ENVIRONMENT, KNOWN
from onnx_xcam.images.write import write_image

RANDOM = np.random.default_rng(9)


@pytest.fixture(params=["explain", "evaluate"])
def command(request) -> list[str]:
    return [
        request.param,
        "model.onnx",
        "photos",
        "-q",
        *(["--metrics", "drop"] if request.param == "evaluate" else []),
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of three photos."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny_models.tiny(metadata=KNOWN), "model.onnx")
    Path("photos").mkdir()
    for n in range(3):
        write_image(f"photos/{n}.png", RANDOM.integers(0, 256, (20, 30, 3), np.uint8))
    return tmp_path


def images(out: str = "out") -> list[str]:
    return [json.loads(line)["image"] for line in Path(out, "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("kind", ["folder", "link to a photo", "link to nothing"])
def test_results_that_are_no_file_are_refused_and_a_photo_stays(run, folder, command, kind, resume):
    Path("out").mkdir()
    photo = Path("photos/0.png").read_bytes()
    if kind == "folder":
        Path("out/results.jsonl").mkdir()
    else:
        Path("out/results.jsonl").symlink_to("../photos/0.png" if kind == "link to a photo" else "gone")
    status, out, err = run(*command, "-o", "out", *resume)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "is a folder, a link or a device" in err
    assert Path("photos/0.png").read_bytes() == photo


def test_a_file_in_the_place_of_the_folder(run, folder, command):
    Path("out").write_text("mine")
    status, _, err = run(*command, "-o", "out")
    assert (status, err.count("\n")) == (1, 1) and "The folder 'out' cannot be written to" in err
    assert Path("out").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(run, folder, command):
    Path("out").mkdir(mode=0o555)
    status, _, err = run(*command, "-o", "out")
    assert (status, err.count("\n")) == (1, 1) and "The folder 'out' cannot be written to" in err


@pytest.mark.skipif(os.name == "nt", reason="links and the longest names are others")
@pytest.mark.parametrize("kind", ["a link to itself", "a name that is too long"])
@pytest.mark.parametrize(
    "arguments",
    [
        "explain model.onnx {}.png -q",
        "explain model.onnx photos -q --labels {}.txt",
        "explain model.onnx photos -q --preprocess {}.json",
        "explain model.onnx photos -q --input image={}.npy",
        "explain {}.onnx photos -q",
        "evaluate model.onnx photos --truth {}.csv -q",
        "compare model.onnx {}.png",
        "check model.onnx {}.png",
    ],
)
def test_a_path_that_leads_nowhere_is_told_as_such(run, folder, arguments, kind):
    given = next(one.split("=")[-1] for one in arguments.split() if "{}" in one)
    name = "loop" if kind == "a link to itself" else "y" * 300
    if name == "loop":
        Path(given.format(name)).symlink_to(given.format(name))
    status, _, err = run(*arguments.format(name).split())
    assert status == 1 and name in err and "unexpected" not in err


def test_files_that_may_lie_beside_a_model_of_the_longest_name(run, folder):
    """Their names would be too long for the file system."""
    longest = "m" * 250 + ".onnx"
    onnx.save(tiny_models.tiny(), longest)
    assert run("explain", longest, "photos", "-q")[0] == 0


def test_a_folder_where_a_picture_should_go(run, folder):
    for n in range(3):
        for class_id in range(tiny_models.CLASSES):
            Path(f"out/{n}.{class_id}.png").mkdir(parents=True)
    status, _, err = run("explain", "model.onnx", "photos", "-q", "-o", "out")
    assert (status, err.count("\n")) == (1, 1) and ".png' cannot be written" in err
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from onnx_xcam.cli import main
sys.argv[1:2] = []
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("size", [200, 1500])
def test_a_disk_that_is_full_is_one_sentence_and_can_be_continued(run, folder, command, size):
    """As a limit on the size of files says it: in a picture, or in the middle of results.jsonl."""
    program = [sys.executable, "-c", FULL, str(size), *command, "-o", "out"]
    done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]
    assert run(*command, "-o", "out", "--resume")[0] == 0
    assert images() == [f"photos/{n}.png" for n in range(3)]


# --- photos and what was written of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["photos", "photos/out", "photos/deep/er"])
def test_what_was_written_among_the_photos_is_not_taken_for_photos(run, folder, out):
    command = ("explain", "model.onnx", "photos", "-q", "--recursive")
    for other in (out, out, "another"):
        status, shown, err = run(*command, "-o", other)
        assert (status, len(shown.splitlines())) == (0, 3), err
    write_image("photos/3.png", np.full((20, 30, 3), 9, np.uint8))
    assert len(run(*command, "-o", "another")[1].splitlines()) == 4


def test_a_folder_with_nothing_but_results_has_no_photos(run, folder):
    run("explain", "model.onnx", "photos", "-q", "-o", "out")
    status, _, err = run("explain", "model.onnx", "out", "-q", "-o", "again")
    assert (status, err.count("\n")) == (1, 1)
    assert "out: no picture there but those that earlier runs of onnx-xcam have written" in err


def test_a_result_that_is_named_itself_is_a_photo(run, folder):
    run("explain", "model.onnx", "photos/0.png", "--class", "1", "-q", "-o", "out")
    assert run("explain", "model.onnx", "out/0.1.png", "-q", "-o", "again")[0] == 0


@pytest.mark.parametrize("text", [b"", b"\xff\n", b"[]\n", b'{"files": 1}\n{"files": [1]}\n', b"[" * 5000 + b"\n"])
def test_any_file_called_results_jsonl_may_lie_among_photos(run, folder, text):
    Path("photos/results.jsonl").write_bytes(text)
    assert len(run("explain", "model.onnx", "photos", "-q", "-o", "out")[1].splitlines()) == 3


def test_a_line_cannot_name_a_photo_for_removal(run, folder):
    """Lines are read from a file that anyone may have written."""
    run("explain", "model.onnx", "photos", "-q", "-o", "photos")
    records = [json.loads(line) for line in Path("photos/results.jsonl").read_text().splitlines()]
    write_image("photos/2.7.png", RANDOM.integers(0, 256, (20, 30, 3), np.uint8))
    records[0] |= {"sha256": "0", "files": ["../model.onnx", "1.png", "2.7.png", "results.jsonl", "mine.png"]}
    Path("photos/mine.png").write_bytes(b"mine")
    Path("photos/results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    photos = [*(f"photos/{n}.png" for n in range(3)), "photos/2.7.png"]
    for name in ("model.onnx", "results.jsonl"):  # so that all files of the line are there
        Path("photos", name).touch()
    assert run("explain", "model.onnx", *photos, "-q", "-o", "photos", "--resume")[0] == 0
    assert all(Path(photo).is_file() for photo in (*photos, "model.onnx", "photos/mine.png", "photos/model.onnx"))
