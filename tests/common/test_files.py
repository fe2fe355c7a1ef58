"""Files are read only if they are files, and written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import onnx
import pytest

from helpers.external_models import save_external
from onnx_xcam import instrument_file
from onnx_xcam.common import files
from onnx_xcam.common.files import open_file, remove_abandoned, written
from onnx_xcam.errors import OutputError
from onnx_xcam.surgery.files import result

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and signals of POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="files without a name are Linux's")


@pytest.fixture(params=["without a name", "hidden"])
def drafts(request, monkeypatch):
    """Both kinds of drafts: those of Linux, and those of other systems."""
    if request.param == "hidden":
        monkeypatch.setattr(files, "_nameless", lambda folder: None)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("files without a name are Linux's")
    return request.param


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def begun(folder, *, named):
    """A process that has written a part of `folder/out`, and then waits."""
    code = "import sys, time; from pathlib import Path; from onnx_xcam.common import files\n"
    code += "files._nameless = lambda folder: None\n" if named else ""
    code += "with files.written(Path(sys.argv[1])) as file:\n"
    code += "    file.write(b'part'); file.flush(); print(flush=True); time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder / "out")], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


# --- reading ---------------------------------------------------------------------------------------------------------


@POSIX
def test_a_file_that_is_exchanged_for_a_pipe_while_it_is_opened(tmp_path, monkeypatch):
    path, opened = tmp_path / "model", os.open
    path.write_bytes(b"x")

    def exchanging(name, *args):
        path.unlink()
        os.mkfifo(path)
        return opened(name, *args)

    monkeypatch.setattr(files.os, "open", exchanging)
    with pytest.raises(OSError, match="a device or a pipe, not a file"):
        open_file(path)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_there_once_it_is_whole(tmp_path, drafts):
    path = tmp_path / "new" / "out"
    with written(path) as file:
        file.write(b"new")
        assert not path.exists()
    with pytest.raises(KeyError), written(path) as file:
        file.write(b"other")
        raise KeyError
    assert path.read_bytes() == b"new"
    with written(path) as file:
        file.write(b"newer")
        file.flush()
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert [entry.name for entry in path.parent.iterdir()] == ["out"]


@POSIX
def test_the_mode_is_that_of_an_ordinary_new_file_and_the_umask_is_left_alone(tmp_path, drafts, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
            with written(tmp_path / "out") as file:
                file.write(b"x")
        assert mode(tmp_path / "out") == 0o640
    finally:
        os.umask(before)


@POSIX
def test_where_a_folder_or_a_file_is_in_the_way(tmp_path, drafts):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "out", tmp_path / "folder"):
        with pytest.raises(OutputError, match="cannot be written"), written(path) as file:
            file.write(b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


@LINUX
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_leaves_nothing(how, tmp_path):
    with begun(tmp_path, named=False) as process:
        assert list(tmp_path.iterdir()) == []
        process.send_signal(how)
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_drafts_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    with begun(tmp_path, named=True) as process:
        (draft,) = tmp_path.iterdir()
        remove_abandoned(tmp_path)
        process.kill()
        assert list(tmp_path.iterdir()) == [draft]
    assert list(tmp_path.iterdir()) == [draft]
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_threads_at_one_file(tmp_path, drafts):
    path = tmp_path / "out"

    def write(n):
        with written(path) as file:
            file.write(bytes([n]) * 10_000)
        return set(path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        assert all(len(found) == 1 for found in pool.map(write, range(40)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


# --- instrumented models ---------------------------------------------------------------------------------------------


def test_instrument_can_be_repeated_where_it_wrote_before(tmp_path):
    path, _ = save_external(tmp_path / "from")
    out = tmp_path / "to" / "out.onnx"
    instrument_file(path, out)
    first = out.read_bytes()
    metadata = instrument_file(path, out)
    assert "there already" in metadata.notes[-1]
    assert out.read_bytes() == first
    instrument_file(path, tmp_path / "to" / "other.onnx", method="grad-cam")
    assert {entry.name for entry in out.parent.iterdir()} == {"out.onnx", "other.onnx", "weights.bin"}


def test_other_weights_are_not_written_over_those_of_an_earlier_result(tmp_path):
    path, _ = save_external(tmp_path / "from")
    out = tmp_path / "to" / "out.onnx"
    instrument_file(path, out)
    before = {entry: entry.read_bytes() for entry in out.parent.iterdir()}
    weights = path.parent / "weights.bin"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    with pytest.raises(OutputError, match=r"weights\.bin' exists already, with other content; remove it"):
        instrument_file(path, out)
    assert {entry: entry.read_bytes() for entry in out.parent.iterdir()} == before


@pytest.mark.parametrize("same", [True, False])
def test_weights_that_another_process_puts_there_meanwhile(same, tmp_path, monkeypatch):
    path, _ = save_external(tmp_path / "from")
    target, drafted = tmp_path / "to" / "weights.bin", result._drafted
    content = (path.parent / "weights.bin").read_bytes() if same else b"precious"

    def meanwhile(*args):
        draft = drafted(*args)
        target.write_bytes(content)
        return draft

    monkeypatch.setattr(result, "_drafted", meanwhile)
    if same:
        instrument_file(path, tmp_path / "to" / "out.onnx")
    else:
        with pytest.raises(OutputError, match="exists already, with other content"):
            instrument_file(path, tmp_path / "to" / "out.onnx")
    assert target.read_bytes() == content
    assert (tmp_path / "to" / "out.onnx").exists() == same


@POSIX
def test_copies_of_weights_have_the_mode_of_the_original(tmp_path):
    path, _ = save_external(tmp_path / "from")
    before = os.umask(0o022)
    try:
        for bits in (0o600, 0o640, 0o666, 0o444):
            (path.parent / "weights.bin").chmod(bits)
            instrument_file(path, tmp_path / f"{bits:o}" / "out.onnx")
            assert mode(tmp_path / f"{bits:o}" / "weights.bin") == bits
            assert mode(tmp_path / f"{bits:o}" / "out.onnx") == 0o644
            inside = tmp_path / f"{bits:o}" / "inside.onnx"
            instrument_file(path, inside, external_data="inline")
            assert mode(inside) == 0o644 & (bits | 0o600), "who must not read the weights must not read the result"
    finally:
        os.umask(before)


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    path, _ = save_external(tmp_path / "from")
    (tmp_path / "elsewhere").write_bytes(b"precious")
    out = tmp_path / "out.onnx"
    out.symlink_to(tmp_path / "elsewhere")
    instrument_file(path, out)
    assert not out.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_two_threads_instrument_to_the_same_place(tmp_path):
    path, _ = save_external(tmp_path / "from")
    out, gate = tmp_path / "to" / "out.onnx", threading.Barrier(2)

    def once(_):
        gate.wait()
        return instrument_file(path, out)

    with ThreadPoolExecutor(2) as pool:
        assert len({metadata.layers for metadata in pool.map(once, range(2))}) == 1
    onnx.load(out)
    assert {entry.name for entry in out.parent.iterdir()} == {"out.onnx", "weights.bin"}


@POSIX
def test_a_full_disk_leaves_the_earlier_result(tmp_path):
    """A limit on the size of files stands for it: the system refuses in the same place."""
    path, _ = save_external(tmp_path / "from")
    out = tmp_path / "to" / "out.onnx"
    instrument_file(path, out)
    before = out.read_bytes()
    (out.parent / "weights.bin").unlink()
    code = (
        "import resource, sys, onnx_xcam\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: onnx_xcam.instrument_file(sys.argv[1], sys.argv[2], method='grad-cam')\n"
        "except onnx_xcam.XcamError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(out)], check=False, capture_output=True, text=True
    )
    assert "cannot be written: File too large" in done.stdout, done.stderr
    assert out.read_bytes() == before
    assert [entry.name for entry in out.parent.iterdir()] == ["out.onnx"]


@POSIX
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "made meanwhile"])
def test_a_result_takes_the_place_of_no_pipe_or_device(drafts, tmp_path, kind):
    """A user who may do so would lose /dev/null."""
    out, pipe = tmp_path / "out", tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "link to a pipe":
        os.mkfifo(pipe)
        out.symlink_to(pipe)
    with (
        pytest.raises(OutputError, match="cannot be written: it is a device or a pipe, not a file"),
        written(out) as file,
    ):
        file.write(b"result")
        if kind == "made meanwhile":
            os.mkfifo(out)
    assert stat.S_ISFIFO(out.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "pipe"}
