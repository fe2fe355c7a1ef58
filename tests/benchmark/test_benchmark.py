"""Timing in turns on a clock of its own, peak memory in real processes, and the command `bench` on tiny models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers import tiny_models
from helpers.detectors import one_table
from onnx_xcam.benchmark import memory, model
from onnx_xcam.benchmark.machine import machine, versions
from onnx_xcam.benchmark.memory import Job, measured
from onnx_xcam.benchmark.model import bench
from onnx_xcam.benchmark.timing import Spread, Timings, in_turns
from onnx_xcam.errors import ModelError
from onnx_xcam.explainer import memory as explainer_memory
from onnx_xcam.surgery.files.source import Source

# --- timing ----------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that only what runs moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.slept: list[float] = []

    def call(self, name: str, *seconds: float):
        """A callable that takes these times one after the other, then the last one for ever."""
        left = list(seconds)

        def run() -> None:
            self.ran.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def turns(self, calls, seconds, **options) -> Timings:
        return in_turns(calls, seconds, clock=lambda: self.now, sleep=self.sleep, **options)


def test_first_runs_are_not_timed():
    clock = Clock()
    found = clock.turns({"a": clock.call("a", 1, 0.5, 0.25, 0.125)}, 1.0)
    assert set(found.seconds("a")) == {0.125}


def test_a_slow_warm_up_is_cut_short():
    clock = Clock()
    found = clock.turns({"slow": clock.call("slow", 100, 10)}, 0, least=2)
    assert found.seconds("slow") == [10, 10]
    assert len(clock.ran) == 3


def test_every_second_round_is_the_one_before_backwards():
    clock = Clock()
    clock.turns({name: clock.call(name, 0.01) for name in "abcd"}, 10, least=40)
    timed = clock.ran[12:]
    rounds = [timed[at : at + 4] for at in range(0, len(timed), 4)]
    assert len(rounds) >= 40
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert all(second == first[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=False))
    assert len({tuple(one) for one in rounds[::2]}) > 5, "and the orders differ"


def test_it_ends_when_the_time_is_over_and_not_before_the_least():
    clock = Clock()
    assert len(clock.turns({"a": clock.call("a", 1.0)}, 20).rounds) == 20
    assert len(clock.turns({"a": clock.call("a", 1.0)}, 2, least=9).rounds) == 9


def test_the_least_is_given_up_when_it_takes_too_long():
    clock = Clock()
    found = clock.turns({"a": clock.call("a", 1.0), "slow": clock.call("slow", 100.0)}, 10, least=9, longest=250)
    assert len(found.seconds("slow")) == 3
    assert len(clock.turns({"slow": clock.call("slow", 100.0)}, 10, least=9, longest=20).rounds) == 1


def test_what_is_slow_sits_rounds_out_but_runs_the_least():
    clock = Clock()
    calls = {"base": clock.call("base", 1.0), "slow": clock.call("slow", 100.0)}
    found = clock.turns(calls, 2000, share=4.0)
    base, slow = len(found.seconds("base")), len(found.seconds("slow"))
    assert slow >= 7
    assert base / slow == pytest.approx(25, rel=0.2)
    assert found.ratio("slow", "base") == Spread(100, 100, 100)


def test_it_pauses_before_every_timed_run():
    clock = Clock()
    found = clock.turns({"a": clock.call("a", 1.0), "b": clock.call("b", 2.0)}, 30, pause=0.5)
    assert clock.slept == [0.5] * 2 * len(found.rounds)
    assert found.seconds("b") == [2.0] * len(found.rounds), "the pause is not in it"


def test_ratios_are_of_pairs_of_the_same_round():
    """A machine that is twice as slow in some rounds has no influence on them."""
    found = Timings([{"a": 1, "b": 1.1}, {"a": 2, "b": 2.2}, {"a": 1, "b": 1.1}, {"a": 5}, {"b": 9}])
    assert found.ratio("b", "a").median == pytest.approx(1.1)
    assert found.ratio("b", "a").high == pytest.approx(1.1)
    assert found.spread("a") == Spread(1, 1.5, 2.75)


def test_spread():
    assert Spread.of([3]) == Spread(3, 3, 3)
    assert Spread.of([4, 1, 2, 3, 5]) == Spread(2, 3, 4)
    assert Spread.of([1, 2, 3]).scaled(2).to_dict() == {"low": 3, "median": 4, "high": 5}


def test_real_calls_are_told_apart():
    """No bound on a time: only that twenty times the work takes longer."""
    found = in_turns({"one": lambda: sum(range(10_000)), "many": lambda: sum(range(200_000))}, 0.2)
    assert found.ratio("many", "one").low > 2


def test_machine_and_versions():
    assert " x " in machine()
    found = versions("onnx", "no-such-package-here")
    assert found["onnx"] == onnx.__version__ and found["python"] and len(found) == 2


# --- memory ----------------------------------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(not memory.is_measurable(), reason="NOT TESTED: peak memory is read on Linux only")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(tiny_models.tiny(), path)
    return path


def images(count: int, size: int = 16) -> dict[str, np.ndarray]:
    return {"image": np.zeros((count, 3, size, size), np.float32)}


@on_linux
def test_memory_grows_with_the_images(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny_models.tiny(size="S"), path)
    job = Job(str(path), None, ["cpu"], 1)
    small = measured(job.fed(images(1), [[]], tmp_path / "small.npz"))
    large = measured(job.fed(images(8, 512), [[]], tmp_path / "large.npz"))
    megabyte = 1 << 20
    assert small.run is not None and large.run is not None
    assert 0 <= small.model < 40 * megabyte
    fed = 8 * 3 * 512 * 512 * 4
    assert large.model - small.model > 8 * 4 * 256 * 256 * 4, "the features at least"
    assert large.start - small.start == pytest.approx(fed, abs=8 * megabyte), "what is fed was there before"
    assert large.peak >= large.run >= large.start


@on_linux
def test_what_is_missing_is_an_error(tmp_path):
    job = Job(str(tmp_path / "none.onnx"), None, ["cpu"], 1).fed(images(1), [[]], tmp_path / "feeds.npz")
    with pytest.raises(ModelError, match=r"none\.onnx"):
        measured(job)


@on_linux
def test_a_process_that_ends_is_an_error(tiny, tmp_path):
    with pytest.raises(ModelError, match=r"ended with 1: .*no-such-file"):
        measured(Job(str(tiny), None, ["cpu"], 1, feeds=str(tmp_path / "no-such-file.npz"), names=["image"]))


# --- the report ------------------------------------------------------------------------------------------------------


def test_json(run, tiny):
    status, out, err = run("bench", tiny, "--batch", "1,3", "--threads", "1,2", "--seconds", "0", "--json")
    assert status == 0
    assert err.splitlines()[0] == "timing: batch 1, 1 threads"
    report = json.loads(out)
    assert set(report) == {*("model", "layers", "score", "method", "provider", "machine", "versions", "notes", "rows")}
    assert (report["model"], report["layers"], report["provider"]) == (str(tiny), ["features"], "cpu")
    assert {"python", "onnx-xcam", "onnx", "numpy"} <= set(report["versions"])
    # 1, 10 and 1000 classes of a model that has 5: the top one, and all.
    cells = [(row["threads"], row["batch"], row["classes"]) for row in report["rows"]]
    assert cells == [(t, b, k) for t in (1, 2) for b in (1, 3) for k in (1, 5)]
    assert any("the model has 5" in note for note in report["notes"])
    for row in report["rows"]:
        assert row["runs"] == 1 and row["rounds"] >= 7
        for spread in (row["plain_ms"], row["instrumented_ms"], row["ratio"]):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        quotient = row["instrumented_ms"]["median"] / row["plain_ms"]["median"]
        assert row["ratio_of_medians"] == pytest.approx(quotient)
        if memory.is_measurable():
            plain, made = row["memory"]["plain"], row["memory"]["instrumented"]
            assert made["peak"] >= made["run"] > made["start"] > 0
            assert row["memory"]["ratio"] == pytest.approx(made["model"] / plain["model"])


def test_text(run, tiny):
    status, out, _ = run("bench", tiny, "--batch", "2", "--classes", "1", "--seconds", "0", "--layer", "c")
    assert status == 0
    assert "Layer: 'c' (Conv" in out
    head, row = (line for line in out.splitlines() if line.startswith(("batch  classes", "    2        1")))
    assert row.split()[2] == "all" and row.count(" ms") == 2 and " to " in row
    assert "memory" in head


def test_fixed_batch(run, tmp_path):
    onnx.save(tiny_models.tiny(n=3), tmp_path / "three.onnx")
    status, out, _ = run("bench", tmp_path / "three.onnx", "--seconds", "0", "--json")
    report = json.loads(out)
    assert status == 0 and {row["batch"] for row in report["rows"]} == {3}
    assert any("exported for 3 at once" in note for note in report["notes"])


def test_weights_in_other_files(run, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny_models.tiny(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    status, out, _ = run("bench", path, "--seconds", "0", "--batch", "1", "--json")
    assert status == 0 and len(json.loads(out)["rows"]) == 2
    assert not any("Memory" in note for note in json.loads(out)["notes"]) or not memory.is_measurable()


def test_other_inputs(run, tmp_path):
    proto = tiny_models.tiny()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("factor", onnx.TensorProto.FLOAT, []))
    proto.graph.node.append(onnx.helper.make_node("Mul", ["logits", "factor"], ["scaled"]))
    proto.graph.output[0].name = "scaled"
    onnx.save(proto, tmp_path / "two.onnx")
    status, out, _ = run("bench", tmp_path / "two.onnx", "--seconds", "0", "--input", "factor=2", "--json")
    assert status == 0 and json.loads(out)["rows"]


def test_of_a_detector_objects_are_counted(tmp_path, monkeypatch):
    path = tmp_path / "detector.onnx"
    onnx.save(one_table(), path)
    chosen = []
    plain_run = model.run_once

    def running(session, feeds, classes, choice):
        chosen.append((choice, [len(numbers) for numbers in classes]))
        plain_run(session, feeds, classes, choice)

    monkeypatch.setattr(model, "run_once", running)
    monkeypatch.setattr(memory, "is_measurable", lambda: False)
    report = bench(path, batches=[1], classes=[1, 5, 1000], threads=[1], providers=["cpu"], seconds=0)
    assert [row.classes for row in report.rows] == [1, 5, 100]
    assert report.method == "local-xgrad-cam"
    assert ("xcam_object", [5]) in chosen and ("xcam_object", [100]) in chosen


def test_both_run_on_the_same_and_only_the_model_differs(tiny, monkeypatch):
    opened, fed = [], []
    plain_open, plain_run = memory.open_session, model.run_once

    def opening(content, **options):
        opened.append(options)
        return plain_open(content, **options)

    def running(session, feeds, classes, choice):
        fed.append((session, feeds, classes))
        plain_run(session, feeds, classes, choice)

    monkeypatch.setattr(memory, "open_session", opening)
    monkeypatch.setattr(model, "run_once", running)
    monkeypatch.setattr(memory, "is_measurable", lambda: False)
    bench(tiny, batches=[2], classes=[1, 4], threads=[2], providers=["cpu"], seconds=0)
    assert opened[0] == opened[1] == {"providers": ["cpu"], "threads": 2, "folder": None}
    assert len(opened) == 2
    assert len({id(session) for session, _, _ in fed}) == 2
    assert all(feeds.keys() == {"image"} and feeds["image"].shape == (2, 3, 16, 16) for _, feeds, _ in fed)
    assert all((feeds["image"] == fed[0][1]["image"]).all() for _, feeds, _ in fed)
    assert {json.dumps(classes) for _, _, classes in fed} == {"[[]]", "[[-1, -2, -3, -4]]"}


def test_many_classes_are_cut_as_the_explainer_does(tiny, monkeypatch):
    made = Source(onnx_xcam.surgery.instrument_bytes(tiny, emit=("map",))).skeleton().SerializeToString()
    each = explainer_memory.bytes_of_a_class(made, {"image": (1, 3, 16, 16)}, "image", [])
    monkeypatch.setattr("onnx_xcam.runtime.batching.BYTES_OF_CLASSES", 2 * each)
    report = bench(tiny, batches=[1], classes=[1, 5], seconds=0)
    assert [row.runs for row in report.rows] == [1, 3]
    assert "5 in 3 runs" in report.text()


def test_elsewhere_than_on_linux_memory_is_said_not_to_be_measured(tiny, monkeypatch):
    monkeypatch.setattr(model, "is_measurable", lambda: False)
    report = bench(tiny, batches=[1], classes=[1], seconds=0)
    assert report.rows[0].memory is None and report.to_dict()["rows"][0]["memory"] is None
    assert any(note.startswith("Memory: not measured") for note in report.notes)
    assert "not measured" in report.text()


@pytest.fixture
def folder(tiny, monkeypatch) -> Path:
    """A folder to stand in, with a plain model and an instrumented one."""
    monkeypatch.chdir(tiny.parent)
    onnx_xcam.instrument_file(tiny, tiny.parent / "made.onnx")
    return tiny.parent


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["none.onnx"], 1, "none.onnx"),
        (["model.onnx", "--layer", "nowhere"], 1, "nowhere"),
        (["model.onnx", "--score", "nothing"], 1, "nothing"),
        (["made.onnx"], 1, "is instrumented already"),
        (["model.onnx", "--provider", "nopu"], 1, "nopu"),
        (["model.onnx", "--input", "extra=1"], 1, "extra"),
        (["model.onnx", "--classes", "0"], 2, "--classes"),
        (["model.onnx", "--batch", "1,x"], 2, "--batch"),
        (["model.onnx", "--threads", "-1"], 2, "--threads"),
        (["model.onnx", "--seconds", "-1"], 2, "--seconds"),
        ([], 2, "MODEL"),
    ],
)
def test_errors(run, folder, arguments, status, says):
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "made.onnx"}
    found, out, err = run("bench", *arguments, *(["--seconds", "0"] if "--seconds" not in arguments else []))
    assert (found, out) == (status, "")
    assert says in err and "Traceback" not in err
    if status == 1:
        assert err.startswith("error: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize("wrong", [{"batches": [0]}, {"classes": []}, {"threads": [0]}])
def test_numbers_below_one_in_python(tiny, wrong):
    with pytest.raises(onnx_xcam.XcamError, match="takes numbers from 1 on"):
        bench(tiny, **wrong)


@on_linux
def test_the_child_takes_nothing_from_the_folder_it_stands_in(tiny, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert measured(Job(str(tiny), None, ["cpu"], 1).fed(images(1), [[]], tmp_path / "feeds.npz")).run
    assert str(tmp_path) not in sys.path
