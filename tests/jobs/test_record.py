"""results.jsonl is a true record: a line belongs to a file, a run to its settings, a folder to one run at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper

import onnx_xcam
from helpers import tiny_models
from helpers.command_line import ENVIRONMENT, KNOWN
from onnx_xcam.cli import app
from onnx_xcam.cli.reporter import TerminalReporter
from onnx_xcam.common.locks import held
from onnx_xcam.errors import OutputError
from onnx_xcam.images.write import write_image
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.photo_identity import PhotoFiles

RANDOM = np.random.default_rng(5)


def photo() -> np.ndarray:
    return RANDOM.integers(0, 256, (20, 30, 3), np.uint8)


def model(seed: int = 0) -> onnx.ModelProto:
    """Two scores, and an input beside the picture that scales them."""
    made = tiny_models.tiny(metadata=KNOWN, seed=seed)
    (last,) = (node for node in made.graph.node if "logits" in node.output)
    last.output[0] = "plain"
    made.graph.node.append(helper.make_node("Mul", ["plain", "gain"], ["logits"]))
    made.graph.node.append(helper.make_node("Add", ["logits", "fb"], ["z"]))
    made.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))
    made.graph.output.add(name="z").type.CopyFrom(made.graph.output[0].type)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of three photos."""
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), "model.onnx")
    plain = tiny_models.tiny(metadata=KNOWN)
    for tensor in plain.graph.initializer:  # the top class is the channel that answers most
        if tensor.name in ("fb", "fc"):
            weights = np.zeros(tensor.dims, np.float32) if tensor.name == "fb" else np.eye(*tensor.dims, dtype="f4")
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    onnx.save(plain, "plain.onnx")
    Path("photos").mkdir()
    for n in range(3):
        write_image(f"photos/{n}.png", photo())
    return tmp_path


@pytest.fixture(params=["explain", "evaluate"])
def again(request, run):
    """Run `explain` or `evaluate` with --resume into `out`; the photos that were done."""

    def again(*arguments: str | Path, status: int = 0) -> list[str]:
        more = ["--metrics", "drop"] if request.param == "evaluate" else ["--raw"]
        before = set(lines())
        found, _, err = run(request.param, *arguments, *more, "-q", "-o", "out", "--resume")
        assert found == status, err
        return [json.loads(line)["image"] for line in lines() if line not in before]

    again.command = request.param
    return again


def lines(out: str | Path = "out") -> list[bytes]:
    path = Path(out) / "results.jsonl"
    return path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines() if path.exists() else []


def records(out: str | Path = "out") -> list[dict]:
    return [json.loads(line) for line in lines(out)]


# --- a line belongs to a file -----------------------------------------------------------------------------------------


def test_a_line_says_which_file_its_photo_is(again, folder):
    again("plain.onnx", "photos")
    for record in records():
        file = folder / "out" / record["path"]
        assert record["path"] == "../" + record["image"]
        assert file.resolve() == Path(record["image"]).resolve()
        assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_other_photos_of_the_same_relative_names_are_done(again, folder, monkeypatch):
    shutil.copytree("photos", "a/photos")
    shutil.copytree("photos", "b/photos")
    for n in range(3):
        write_image(f"b/photos/{n}.png", photo())
    (folder / "out").mkdir()
    for site in ("a", "b"):
        monkeypatch.chdir(folder / site)
        Path("out").symlink_to("../out")
        assert again("../plain.onnx", "photos") == [f"photos/{n}.png" for n in range(3)]
    assert len({(record["path"], *record["files"]) for record in records()}) == 6
    files = [file for record in records() for file in record["files"]]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("how", ["absolute", "dots", "link", "link to the folder", "elsewhere", "hard link"])
def test_the_same_photos_otherwise_called_are_done(again, folder, monkeypatch, how):
    again("plain.onnx", "photos")
    before = lines()
    given = {"absolute": folder / "photos", "dots": Path("photos/../photos/./")}.get(how, Path("other"))
    if how == "link":
        given.mkdir()
        for n in range(3):
            (given / f"{n + 7}.png").symlink_to(folder / "photos" / f"{n}.png")
    elif how == "link to the folder":
        given.symlink_to("photos")
    elif how == "hard link":
        given.mkdir()
        for n in range(3):
            (given / f"{n}.png").hardlink_to(folder / "photos" / f"{n}.png")
    elif how == "elsewhere":
        (folder / "deep" / "er").mkdir(parents=True)
        monkeypatch.chdir(folder / "deep" / "er")
        Path("out").symlink_to("../../out")
        given = Path("../../photos")
    assert again(folder / "plain.onnx", given) == ([] if how != "hard link" else [f"other/{n}.png" for n in range(3)])
    assert [record["sha256"] for record in records()] == [json.loads(line)["sha256"] for line in before]
    assert how == "hard link" or lines() == before


@pytest.mark.parametrize("moved", ["photos", "results", "both", "copied", "new times"])
def test_what_is_moved_or_copied_is_done_all_the_same(again, folder, monkeypatch, moved):
    again("plain.onnx", "photos")
    before = records()
    (folder / "machine").mkdir()
    if moved == "copied":  # and nothing else is on the other machine
        for name in ("out", "photos", "plain.onnx"):
            shutil.move(folder / name, folder / "machine" / name)
        monkeypatch.chdir(folder / "machine")
    elif moved == "both":
        Path("new").mkdir()
        Path("photos").rename("new/photos")
        Path("out").rename("new/out")
        monkeypatch.chdir(folder / "new")
    elif moved == "photos":
        Path("photos").rename("pictures")
    elif moved == "results":
        Path("new").mkdir()
        Path("out").rename("new/out")
        Path("out").symlink_to("new/out")
    else:
        for n in range(3):
            os.utime(f"photos/{n}.png", (1, 1))
    given = "pictures" if moved == "photos" else "photos"
    again(folder / "plain.onnx" if moved != "copied" else "plain.onnx", given)
    after = records()
    assert [one["seconds"] for one in after] == [one["seconds"] for one in before], "not measured again"
    assert [one["image"] for one in after] == [f"{given}/{n}.png" for n in range(3)]
    for one in after:
        assert Path("out", one["path"]).resolve() == Path(one["image"]).resolve()


def test_of_two_copies_of_a_photo_that_is_gone_one_has_its_line(again, folder):
    again("plain.onnx", "photos")
    Path("photos").rename("pictures")
    shutil.copy("pictures/0.png", "pictures/9.png")
    again("plain.onnx", "pictures")
    assert sorted(one["image"] for one in records()) == [f"pictures/{n}.png" for n in (0, 1, 2, 9)]
    paths = [one["path"] for one in records()]
    assert len(set(paths)) == 4


def test_a_photo_that_changed_is_done_again_and_its_old_files_go(again, folder):
    again("plain.onnx", "photos")
    before = records()
    times = Path("photos/1.png").stat()
    new = of_another_class(before[1]["classes"][0])
    Path("photos/1.png").unlink()
    write_image("photos/1.png", new)
    os.utime("photos/1.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert again("plain.onnx", "photos") == ["photos/1.png"]
    after = sorted(records(), key=lambda one: one["image"])
    assert [one["image"] for one in after] == [f"photos/{n}.png" for n in range(3)]
    assert after[0] == before[0] and after[1]["scores"] != before[1]["scores"]
    there = {path.name for path in Path("out").iterdir()} - {"results.jsonl", "results.csv", "summary.json"}
    assert there == {Path(file).name for one in after for file in one["files"]}
    if again.command == "evaluate":
        assert json.loads(Path("out/summary.json").read_text())["images"] == 3


def of_another_class(class_id: int) -> np.ndarray:
    """A photo whose files have other names, as they hold the class."""
    explainer = onnx_xcam.Explainer("plain.onnx")
    plain = (np.full((20, 30, 3), colour, np.uint8) for colour in np.ndindex(2, 2, 2))
    return next(image for image in (one * 255 for one in plain) if explainer.explain(image).classes[0, 0] != class_id)


def test_a_photo_that_is_gone_keeps_its_line(again, folder):
    again("plain.onnx", "photos/0.png")
    before = lines()
    Path("photos/0.png").unlink()
    assert again("plain.onnx", "photos/0.png") == []
    assert lines() == before


def test_copies_that_are_both_given_have_a_line_each(again, folder):
    again("plain.onnx", "photos/0.png")
    shutil.copy("photos/0.png", "photos/copy.png")
    assert again("plain.onnx", "photos") == ["photos/1.png", "photos/2.png", "photos/copy.png"]
    assert again("plain.onnx", "photos") == []


def test_a_photo_that_changes_while_it_is_explained_is_done_again(run, folder, monkeypatch):
    """What is read may be the new content: then the line does not claim it, and the next run makes sure."""

    def replaced(path: Path) -> str | None:
        found = digest(path)
        if path.name == "0.png":
            write_image(path, photo())
        return found

    from onnx_xcam.jobs import photo_identity

    digest = photo_identity.digest_of_photo
    monkeypatch.setattr(photo_identity, "digest_of_photo", replaced)
    run("explain", "plain.onnx", "photos", "-q", "-o", "out")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    _, _, err = run("explain", "plain.onnx", "photos", "-o", "out", "--resume")
    assert "note: 2 of 3 photos are done already." in err


def test_a_photo_is_known_by_what_it_was_before_it_is_read(folder):
    files = PhotoFiles({Path("photos/0.png"): folder / "photos" / "0.png"}, folder / "out")
    before = hashlib.sha256(Path("photos/0.png").read_bytes()).hexdigest()
    for image in files.taken([Path("photos/0.png")]):
        write_image(image, photo())  # a stream hands it to a worker, who reads it from now on
        assert files.in_line(image) == {"path": "../photos/0.png", "sha256": before}


def test_a_photo_that_has_two_lines_counts_once(run, folder):
    """As two runs at once left them before there was a lock."""
    command = ("evaluate", "plain.onnx", "photos", "--metrics", "drop", "-q", "-o", "out")
    run(*command)
    once = lines()
    failed = json.loads(once[2]) | {"error": "Memory ran out", "results": [], "classes": [], "scores": []}
    more = json.dumps(failed | {"confidences": []}).encode()
    Path("out/results.jsonl").write_bytes(b"\n".join([*once, *once[1:], *once[:2], more]) + b"\n")
    assert run(*command, "--resume")[0] == 0
    assert lines() == once
    assert json.loads(Path("out/summary.json").read_text())["images"] == 3


def test_results_of_before_that_do_not_tell_the_file_are_refused_and_stay(again, folder):
    again("plain.onnx", "photos")
    old = [{key: value for key, value in one.items() if key not in ("path", "sha256")} for one in records()]
    Path("out/results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    before = lines()
    again("plain.onnx", "photos", status=1)
    assert lines() == before


@pytest.mark.parametrize("change", [{"path": 1}, {"path": "a\0"}, {"sha256": 1}])
def test_a_line_whose_file_makes_no_sense_is_damaged(run, folder, change):
    run("explain", "plain.onnx", "photos", "-q", "-o", "out")
    Path("out/results.jsonl").write_text(json.dumps(records()[0] | change) + "\n")
    status, _, err = run("explain", "plain.onnx", "photos", "-q", "-o", "out", "--resume")
    assert (status, err.count("\n")) == (1, 1) and "Line 1 of 'out" in err


@pytest.mark.parametrize("how", ["bom", "crlf", "no end", "zeros"])
def test_a_file_that_an_editor_or_a_power_cut_has_touched_is_continued(again, folder, how):
    again("plain.onnx", "photos")
    path, whole = Path("out/results.jsonl"), Path("out/results.jsonl").read_bytes()
    changed = {
        "bom": b"\xef\xbb\xbf" + whole,
        "crlf": whole.replace(b"\n", b"\r\n"),
        "no end": whole[:-1],
        "zeros": whole + b"\0" * 100,
    }[how]
    path.write_bytes(changed)
    assert len(again("plain.onnx", "photos")) == (how == "no end")
    assert sorted(one["image"] for one in records()) == [f"photos/{n}.png" for n in range(3)]


# --- a run belongs to its settings ------------------------------------------------------------------------------------

BASE = ["--layer", "features", "--layer", "c", "--input", "gain=1", "-q", "-o", "out"]
SHARED = {
    "model": ["model file"],
    "layer": ["layer", "--layer", "features"],
    "class_": ["choice of classes", "--class", "1"],
    "top": ["choice of classes", "--top", "2"],
    "score": ["score", "--score", "z"],
    "method": ["method", "--method", "grad-cam"],
    "labels": ["labels", "--labels", "labels.txt"],
    "preprocess": ["preprocessing", "--preprocess", "imagenet"],
    "probabilities": ["kind of probabilities", "--probabilities", "none"],
    "input_": ["value of another input", "--input", "gain=2"],
    "exact": ["way of adding up 8-bit products", "--exact"],
}
"""What decides what is written: what is said of another value, and how it is given."""
DECIDES = {
    "explain": {
        **SHARED,
        "against": ["contrast", "--against", "0"],
        "signed": ["kind of map", "--signed"],
        "fuse": ["kind of map", "--fuse", "mean"],
        "beside": ["choice of what is written", "--beside"],
        "raw": ["choice of what is written", "--raw"],
        "no_pictures": ["choice of what is written", "--no-pictures"],
    },
    "evaluate": {
        **SHARED,
        "against": ["contrast", "--against", "0"],
        "metrics": ["choice of what is measured", "--metrics", "drop,increase"],
        "steps": ["choice of what is measured", "--steps", "9"],
        "background": ["choice of what is measured", "--background", "zero"],
        "truth": ["choice of what is measured", "--truth", "more.json"],
        "any_class": ["choice of what is measured", "--any-class"],
    },
}
OF_DETECTORS = {"object_", "box", "point", "task", "conf", "iou"}
"""What decides it of a detector alone, which `test_objects.py` tests."""
MAY_CHANGE = {
    "images": "which photos, not what is written of each",
    "limit": "which photos",
    "recursive": "which photos",
    "out": "the folder that is continued",
    "resume": "that it is",
    "quiet": "what is said",
    "html": "a page of its own, made of all lines",
    "sanity": "made anew each time, from the summary on",
    "provider": "the same up to rounding, as docs/many-photos.md says",
    "threads": "the same",
    "allow_folder": "where weights may lie; what is in them counts with the model",
}


@pytest.mark.parametrize("command", DECIDES)
def test_every_option_either_decides_what_is_written_or_may_change(command):
    """A new option belongs into one of these tables, and if it is the first, into `run_settings`."""
    params = {param.name for param in typer.main.get_command(app).commands[command].params}
    assert params - MAY_CHANGE.keys() - OF_DETECTORS == DECIDES[command].keys()
    assert not DECIDES[command].keys() & MAY_CHANGE.keys()


def given(command: str, arguments: list[str]) -> list[str]:
    """The command line, an option of which takes the place of the one in `BASE`."""
    base = list(BASE)
    if command == "evaluate":
        base += ["--metrics", "drop", "--steps", "3", "--truth", "boxes.json"]
    while arguments and arguments[0] in base:
        at = base.index(arguments[0])
        del base[at : at + 2]
    return [command, "model.onnx", "photos", *base, *arguments]


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command in DECIDES for option in DECIDES[command]]
)
def test_another_value_of_what_decides_is_refused(run, folder, command, option):
    boxes = {f"{n}.png": [[1, 1, 5, 5]] for n in range(3)}
    Path("boxes.json").write_text(json.dumps(boxes))
    Path("more.json").write_text(json.dumps(boxes | {"0.png": [[1, 1, 6, 5]]}))
    Path("labels.txt").write_text("\n".join("vwxyz"))
    assert run(*given(command, []))[0] == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    called, *arguments = DECIDES[command][option]
    if option == "model":
        onnx.save(model(seed=1), "model.onnx")
    status, out, err = run(*given(command, arguments), "--resume")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"another {called}" in err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_what_is_in_an_input_s_file_counts_and_not_its_name(run, folder):
    command = ("explain", "model.onnx", "photos", "-q", "-o", "out", "--input", "gain=gain.npy")
    np.save("gain.npy", np.array([1.0], np.float32))
    assert run(*command)[0] == 0
    Path("gain.npy").rename("other.npy")
    assert run(*command[:-1], "gain=other.npy", "--resume")[0] == 0
    assert run(*command[:-1], "gain=1", "--resume")[0] == 0
    np.save("gain.npy", np.array([2.0], np.float32))
    status, _, err = run(*command, "--resume")
    assert status == 1 and "another value of another input" in err


def test_weights_in_another_file_count_by_what_is_in_them(run, folder):
    onnx.save(model(), "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    command = ("explain", "model.onnx", "photos", "-q", "-o", "out", "--input", "gain=1")
    assert run(*command)[0] == 0
    times = Path("weights").stat()
    os.utime("weights", (1, 1))
    assert run(*command, "--resume")[0] == 0, "copied, unpacked"
    values = np.frombuffer(Path("weights").read_bytes(), np.float32).copy()
    values[:4] += 1
    Path("weights").write_bytes(values.tobytes())
    os.utime("weights", ns=(times.st_atime_ns, times.st_mtime_ns))
    status, _, err = run(*command, "--resume")
    assert status == 1 and "another model file" in err


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("first", ["explain", "evaluate", "another program"])
def test_one_command_takes_no_other_s_results_for_its_own(run, folder, first, resume):
    second = "explain" if first == "evaluate" else "evaluate"
    if first == "another program":
        Path("out").mkdir()
        Path("out/results.jsonl").write_text('{"loss": 0.1}\n')
    else:
        run(first, "plain.onnx", "photos", "-q", "-o", "out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    status, _, err = run(second, "plain.onnx", "photos", "-o", "out", "-q", *resume)
    assert (status, err.count("\n")) == (1, 1) and "results.jsonl'" in err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


# --- one run at a time ------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.reporter import Silent
with output_folder(Path(sys.argv[1]), Silent()):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("command", ["explain", "evaluate"])
def test_a_folder_is_one_run_s_until_that_ends_even_if_it_is_killed(run, folder, command):
    Path("link").symlink_to("out")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "out"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            for out in ("out", "link", folder / "out", "photos/../out"):
                status, shown, err = run(command, "plain.onnx", "photos", "-o", out)
                assert (status, shown, err.count("\n")) == (1, "", 1)
                assert "Another run is writing to the folder" in err
            assert not lines()
        finally:
            process.kill()
    assert run(command, "plain.onnx", "photos", "-q", "-o", "out")[0] == 0
    assert len(records()) == 3
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


def test_a_page_and_a_picture_are_one_run_s_as_well(run, folder):
    with held(Path(".onnx-xcam-lock.page.html"), "it"):
        status, _, err = run("explain", "plain.onnx", "photos", "-q", "-o", "out", "--html", "page.html")
        assert status == 1 and "Another run is writing to the page 'page.html'" in err
    assert run("explain", "plain.onnx", "photos", "-q", "-o", "out", "--html", "page.html")[0] == 0


def test_a_demo_is_one_run_s_as_well(tmp_path):
    from onnx_xcam.demo.page import _staging

    with _staging(tmp_path / "page") as made:
        (made / "index.html").write_text("mine")
        with pytest.raises(OutputError, match="Another run is writing to the page"), _staging(tmp_path / "page"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_a_picture_of_compare_is_put_in_place_as_a_whole(run, folder, monkeypatch):
    """So that of two runs at once each writes all of it, or nothing."""
    Path("c.png").write_bytes(b"before")
    Path("link.png").hardlink_to("c.png")
    assert run("compare", "plain.onnx", "photos/0.png", "-o", "c.png", "--no-axioms", "--method", "grad-cam")[0] == 0
    assert Path("link.png").read_bytes() == b"before" != Path("c.png").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_lock_of_one_who_has_just_ended_is_not_taken_for_a_lock(tmp_path, monkeypatch):
    """The file that was opened may be gone when it is locked: then it keeps nobody out, and a new one is made."""
    from onnx_xcam.common import locks

    lock, tried = locks._lock, []

    def slow(descriptor: int) -> None:
        if not tried:
            (tmp_path / "lock").unlink()
        tried.append(descriptor)
        lock(descriptor)

    monkeypatch.setattr(locks, "_lock", slow)
    with held(tmp_path / "lock", "it"):
        assert len(tried) == 2 and (tmp_path / "lock").exists()
        with pytest.raises(OutputError, match="Another run is writing to it"), held(tmp_path / "lock", "it"):
            pass
    assert not (tmp_path / "lock").exists()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capfd):
    from onnx_xcam.common import locks

    def none(descriptor: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "_lock", none)
    with output_folder(tmp_path / "out", TerminalReporter()):
        assert not list((tmp_path / "out").iterdir())
    assert "has no locks; make sure that no other run writes there" in capfd.readouterr().err
