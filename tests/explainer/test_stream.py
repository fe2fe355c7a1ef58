"""Explainer.stream: order, look-ahead, errors, an early end, groups; and memory that stays flat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers import ROOT, tiny_models
from helpers.command_line import KNOWN
from onnx_xcam.errors import ClassError, ImageError, InputError, ModelError
from onnx_xcam.explainer import Explainer, Streamed
from onnx_xcam.explainer import stream as module
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.images.write import write_image
from onnx_xcam.runtime import batching

RANDOM = np.random.default_rng(3)
PHOTOS = [RANDOM.integers(0, 256, (20 + 3 * i, 30 + i % 4, 3), np.uint8) for i in range(12)]
AHEAD = 1 + min(4, max(2, os.cpu_count() or 1))


def explainer_of(**options) -> Explainer:
    return Explainer(tiny_models.tiny(metadata=KNOWN, **options), providers="cpu", threads=1)


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return explainer_of()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("onnx-xcam")}


def assert_same(found: Streamed, expected) -> None:
    """What a stream gives is what `explain` gives, to the last bit."""
    explanation = found.unwrap()
    assert found.error is None and found.seconds > 0
    np.testing.assert_array_equal(explanation.classes, expected.classes)
    np.testing.assert_array_equal(explanation.scores, expected.scores)
    np.testing.assert_array_equal(explanation.probabilities, expected.probabilities)
    np.testing.assert_array_equal(explanation.maps, expected.maps)
    np.testing.assert_array_equal(explanation.status, expected.status)
    assert explanation.labels == expected.labels


@pytest.mark.parametrize("wanted", [{}, {"classes": ["cat", 0]}, {"top": 3}])
def test_a_stream_gives_what_explain_gives_in_order(explainer, wanted):
    found = list(explainer.stream((photo for photo in PHOTOS), **wanted))
    assert [id(one.image) for one in found] == [id(photo) for photo in PHOTOS]
    for one in found:
        assert_same(one, explainer.explain(one.image, **wanted))
        np.testing.assert_array_equal(one.unwrap().overlay(), explainer.explain(one.image, **wanted).overlay())


def test_paths_prepared_pictures_and_ready_tensors_are_taken_as_well(explainer, tmp_path: Path):
    write_image(tmp_path / "a.png", PHOTOS[0])
    tensor = RANDOM.normal(size=(3, 3, 16, 16)).astype(np.float32)
    images = [tmp_path / "a.png", str(tmp_path / "a.png"), explainer.prepare(PHOTOS[1]), tensor]
    found = list(explainer.stream(images, [1]))
    assert [one.unwrap().classes.shape for one in found] == [(1, 1), (1, 1), (1, 1), (3, 1)]
    for one, image in zip(found, images, strict=True):
        assert_same(one, explainer.explain(image, [1]))
    assert found[0].unwrap().pictures[0].name == str(tmp_path / "a.png")


def test_only_a_few_images_are_taken_ahead(explainer):
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield PHOTOS[0]

    stream = explainer.stream(endless())
    assert taken == 0, "lazy"
    for n in range(20):
        next(stream)
        assert taken <= n + 1 + AHEAD
    stream.close()
    assert not threads()


def test_images_are_taken_in_the_callers_thread(explainer):
    where = []

    def images() -> Iterator[np.ndarray]:
        for photo in PHOTOS[:3]:
            where.append(threading.current_thread())
            yield photo

    list(explainer.stream(images()))
    assert set(where) == {threading.current_thread()}


@pytest.mark.parametrize("options", [{}, {"n": 2}, {"n": 4}])
def test_one_bad_image_does_not_end_the_stream(options):
    explainer = explainer_of(**options)
    images = [PHOTOS[0], "missing.png", PHOTOS[1], np.zeros((3, 3), bool), PHOTOS[2]]
    found = list(explainer.stream(images, [2]))
    assert [one.error is None for one in found] == [True, False, True, False, True]
    assert "no such file" in str(found[1].error) and found[1].explanation is None and found[1].seconds == 0
    with pytest.raises(ImageError, match="not bool"):
        found[3].unwrap()
    for one in found[::2]:
        assert_same(one, explainer.explain(one.image, [2]))


def test_a_run_that_fails_for_a_group_is_tried_image_by_image(explainer):
    explained = explainer._explained

    def weak(pictures, classes):
        if len(pictures) > 1 or pictures[0][0].image_rgb is PHOTOS[2]:
            raise ModelError("Memory ran out")
        return explained(pictures, classes)

    found = list(
        module.stream(
            PHOTOS[:5],
            explainer.model.pictures,
            lambda p: weak(p, Cells()),
            module.Streamed,
            lambda r: r,
            group=4,
            cancel=lambda: None,
        )
    )
    assert [one.error is None for one in found] == [True, True, False, True, True]


def test_images_of_a_group_share_a_run_where_they_are_of_one_shape(monkeypatch):
    """As on a GPU: groups of four, of which each shape is a run."""
    with pytest.warns(onnx_xcam.explainer.XcamWarning, match="any size"):
        explainer = explainer_of(size="any")
    runs = tiny_models.count_runs(explainer, monkeypatch)
    tensors = [RANDOM.normal(size=(1, 3, size, 16)).astype(np.float32) for size in (16, 20, 16, 16, 20, 20, 24)]
    found = list(
        module.stream(
            tensors,
            explainer.model.pictures,
            lambda p: explainer._explained(p, Cells()),
            module.Streamed,
            lambda r: r,
            group=4,
            cancel=lambda: None,
        )
    )
    assert sorted(feeds["image"].shape[0] for feeds in runs) == [1, 1, 2, 3]
    for one, tensor in zip(found, tensors, strict=True):
        expected = explainer.explain(tensor)
        assert one.image is tensor
        np.testing.assert_allclose(one.unwrap().maps, expected.maps, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(one.unwrap().classes, expected.classes)


def test_wrong_classes_are_found_before_anything_is_taken(explainer):
    def never() -> Iterator[np.ndarray]:
        pytest.fail("an image was taken")
        yield PHOTOS[0]

    for wanted in ({"classes": [9]}, {"top": 6}, {"classes": [[1], [2]]}, {"classes": ["dgo"]}):
        with pytest.raises(ClassError):
            explainer.stream(never(), **wanted)


def test_each_is_called_in_a_worker_and_what_it_returns_is_handed_out(explainer):
    def each(one: Streamed) -> tuple[str, int]:
        return threading.current_thread().name, int(one.unwrap().classes[0, 0])

    found = list(explainer.stream(PHOTOS, [3], each=each))
    assert [value for _, value in found] == [3] * len(PHOTOS)
    assert all(name.startswith("onnx-xcam") for name, _ in found)
    assert not threads()


def test_what_each_raises_ends_the_stream_and_its_threads(explainer):
    def each(one: Streamed) -> int:
        if one.image is PHOTOS[3]:
            raise OSError("disk full")
        return 1

    stream = explainer.stream(PHOTOS, each=each)
    assert [next(stream) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(OSError, match="disk full"):
        next(stream)
    assert not threads()


def test_what_the_images_raise_comes_after_the_results_before_it(explainer):
    def broken() -> Iterator[np.ndarray]:
        yield from PHOTOS[:2]
        raise ConnectionError("camera gone")

    stream = explainer.stream(broken())
    assert [next(stream).image is photo for photo in PHOTOS[:2]] == [True, True]
    with pytest.raises(ConnectionError, match="camera gone"):
        next(stream)
    assert not threads()


def test_a_loop_that_is_left_early_or_interrupted_leaves_no_threads(explainer):
    for _ in explainer.stream(PHOTOS):
        break
    stream = explainer.stream(PHOTOS)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)
    assert not threads()


def worked(images, prepare, explain, **options) -> Iterator:
    """A stream whose steps are ours, in groups of four."""
    steps = {"outcome": lambda image, *_: image, "each": lambda image: image, "group": 4, "cancel": lambda: None}
    return module.stream(images, prepare, explain, **{**steps, **options})


@pytest.mark.parametrize("left_in", ["prepare", "explain", "each"])
def test_workers_end_at_their_next_step_once_the_loop_was_left(left_in):
    """A worker that is in the middle of its group when the loop is left prepares, runs and hands out nothing more."""
    begun, left = threading.Event(), threading.Event()
    steps = []

    def step(name: str, n: int) -> None:
        steps.append((name, n))
        if n >= 4 and name == left_in and not left.is_set():  # of the second group, which nobody waits for any more
            begun.set()
            assert left.wait(60)

    def prepare(n: int):
        step("prepare", n)
        return [_Item(n)]

    def explain(group):
        step("explain", group[0][0].n)
        return [None] * len(group)

    def each(n: int) -> int:
        step("each", n)
        return n

    stream = worked(iter(range(8)), prepare, explain, each=each, cancel=left.set)
    assert next(stream) == 0
    assert begun.wait(60)
    stream.close()  # says that it is over, cancels the runs, and waits for the workers
    assert [name for name, n in steps if n >= 4][-1] == left_in
    assert [n for name, n in steps if n >= 4 and name == left_in] == [4], "the step that it was in, and no other"
    assert not threads()


def test_what_waits_for_a_worker_is_not_begun_once_the_loop_was_left(monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    left, prepared = threading.Event(), []

    def prepare(n: int):
        prepared.append(n)
        assert n == 0 or left.wait(60)
        return [_Item(n)]

    stream = worked(iter(range(100)), prepare, lambda group: [None] * len(group), group=1, cancel=left.set)
    assert next(stream) == 0
    stream.close()
    assert set(prepared) <= {0, 1, 2}, "two workers, each with one image at most beside the first"


class _Item:
    """What `stream` takes for a prepared picture, with a number in it."""

    def __init__(self, n: int) -> None:
        self.n, self.name, self.item = n, f"item {n}", np.zeros((1, n // 2 + 1), np.float32)


def test_no_more_runs_at_once_than_allowed(monkeypatch):
    """Each run takes memory of its own. Four workers are ready to run; a third run among them would open the gate."""
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    lock, gate, running, most = threading.Lock(), threading.Barrier(batching.RUNS_AT_ONCE + 1), 0, 0

    def explain(group):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with suppress(threading.BrokenBarrierError):
            gate.wait(1)  # where only two may run, no third comes; that broken, it holds nobody up any more
        with lock:
            running -= 1
        return [None] * len(group)

    assert list(worked(range(40), lambda n: [_Item(n)], explain, group=1)) == list(range(40))
    assert most <= batching.RUNS_AT_ONCE == 2, "a second one fills the gaps of the first, a third only takes memory"


def test_runs_of_a_model_go_through_the_same_gate(explainer, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    lock, gate, running, most = threading.Lock(), threading.Barrier(3), 0, 0
    session = explainer.model.loaded.session
    plain = session.run

    def counted(*args, **kwargs):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with suppress(threading.BrokenBarrierError):
            gate.wait(1)
        try:
            return plain(*args, **kwargs)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(session, "run", counted)
    assert len(list(explainer.stream(PHOTOS))) == len(PHOTOS)
    assert most <= 2


def test_a_stream_that_ends_cancels_its_runs_and_no_others(explainer):
    """A run of a thousand classes can take a minute: whoever stops a stream does not wait for it."""
    used = []
    explained = explainer._explained
    spied = Explainer.__new__(Explainer)
    spied.__dict__.update(explainer.__dict__)
    spied._explained = lambda pictures, classes, cancellation: (
        used.append(cancellation) or explained(pictures, classes, cancellation)
    )
    stream, other = spied.stream(PHOTOS), spied.stream(PHOTOS)
    next(stream), next(other)
    assert len(set(used)) == 2
    stream.close()
    feeds = {"image": RANDOM.normal(size=(1, 3, 16, 16)).astype(np.float32)}
    with pytest.raises(ModelError, match="terminate"):
        explainer.model.loaded.session.run(feeds, ["xcam_map"], used[0])
    assert len(list(other)) == len(PHOTOS) - 1
    assert explainer.explain(PHOTOS[0]).maps.any()


def test_several_streams_at_once(explainer):
    for first, second in zip(explainer.stream(PHOTOS, [1]), explainer.stream(PHOTOS[::-1], [2]), strict=True):
        assert_same(first, explainer.explain(first.image, [1]))
        assert_same(second, explainer.explain(second.image, [2]))


def test_nothing_to_explain(explainer):
    assert list(explainer.stream([])) == []
    with pytest.raises(InputError):
        next(explainer.stream([[]])).unwrap()


GROWTH = """
import json, sys
import numpy as np
from onnx_xcam import Explainer
explainer = Explainer(sys.argv[1], providers="cpu")
random = np.random.default_rng(0)

def resident():
    lines = open("/proc/self/status", encoding="ascii").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000

def images(count):
    for _ in range(count):
        height, width = random.integers(16, 400, 2)
        if sys.argv[2] == "photos":
            yield np.full((height, width, 3), 7, np.uint8)
        else:
            yield np.full((1, 3, height, width), 0.5, np.float32)

found = []
for count in (500, 2500):
    for one in explainer.stream(images(count)):
        assert one.error is None
        one.explanation.overlay() if sys.argv[2] == "photos" else one.explanation.heatmap()
    found.append(resident())
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's account of memory")
@pytest.mark.parametrize(("kind", "size"), [("photos", 16), ("tensors", "any")])
def test_memory_stays_flat_whatever_sizes_come(tmp_path: Path, kind, size):
    """`tools/speed/stream.py memory` does the same from 2,000 to 20,000 images."""
    onnx.save(tiny_models.tiny(size=size, metadata=KNOWN), tmp_path / "model.onnx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", GROWTH, str(tmp_path / "model.onnx"), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after - before < 20
