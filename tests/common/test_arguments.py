"""Whatever is given for an argument, what ends is a result or an XcamError that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.tiny_models import CLASSES, LABELS, tiny
from onnx_xcam import Explainer, XcamError, check, inspect, instrument, instrument_file
from onnx_xcam.errors import ClassError, ImageError, InputError, LabelsError, LayerError, OutputError, UnexpectedError
from onnx_xcam.evaluation.evaluator import evaluate
from onnx_xcam.explainer.recorder import Recorder


class Other:
    """Something that nobody expects."""

    def __repr__(self):
        return "Other()"


NOTHING_FITS = [b"x", {5: 6}, {1, 2}, Other(), lambda: 1, [[1], [1, 2]], [None], [b"x"], np.array(["x"], object)]
NUMBERS = [True, 5, -1, 2.5, float("nan"), 2**70, np.float64(1), np.array([1.0, 2.0])]
TEXTS = ["", "x", "3", "a\0b", "\ud800", "x" * 5000, Path("nowhere"), np.array("x")]
EMPTY = [[], (), {}]
WRONG = [*NOTHING_FITS, *NUMBERS, *TEXTS, *EMPTY, None]

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    onnx.save(tiny(metadata={"labels": LABELS, "preprocess": {"preset": "imagenet"}}), folder / "m.onnx")
    instrument_file(folder / "m.onnx", folder / "made.onnx")
    return folder


@pytest.fixture(scope="module")
def explainer(files):
    return Explainer(files / "m.onnx")


@pytest.fixture(scope="module")
def explanation(explainer):
    return explainer.explain(PHOTO)


def outcome(call, value):
    """None where it works, the error where it is ours; anything else passes through, and fails the test."""
    try:
        call(value)
    except XcamError as error:
        assert not isinstance(error, UnexpectedError), "that does not say which argument is wrong"
        return error
    return None


# What is right: all else must be an error. Texts for paths and names are wrong in their own way.
EXPLAINER = {
    "layers": ("auto", "features", ["features"]),
    "score": ("auto", "y"),
    "method": ("xgrad-cam", "GradCAM"),
    "preprocess": (None, "imagenet", {}, {"preset": "raw"}),
    "labels": (None, LABELS, tuple(LABELS), np.array(LABELS)),
    "providers": (None, "cpu", ["cpu"], [], ()),
    "threads": (None, 1, np.int64(2), 5),
    "inputs": (None, {}),
    "allow_folders": ((), [], ".", Path(), [Path()]),
    "relu": (True, False, np.True_),
    "fuse": (None,),
    "probabilities": ("auto", "none"),
    "exact": (True, False),
}
INSTRUMENT = {name: EXPLAINER[name] for name in ("layers", "score", "method", "allow_folders", "relu", "fuse")} | {
    "emit": (("map",), ["status", "map"], [], ()),
    "class_input": ("optional", "required"),
    "classes": (None,),
}


def fits(value, right):
    return any(value is one or (type(value) is type(one) and np.array_equal(value, one)) for one in right)


@pytest.mark.parametrize("kind", ["plain", "instrumented"])
@pytest.mark.parametrize("name", EXPLAINER)
def test_explainer(name, kind, files):
    path = files / {"plain": "m.onnx", "instrumented": "made.onnx"}[kind]
    for value in WRONG:
        found = outcome(lambda value: Explainer(path, **{name: value}), value)
        assert (found is None) == fits(value, EXPLAINER[name]), f"{name}={value!r}: {found}"
    for value in EXPLAINER[name]:
        if kind == "plain" or name not in ("layers", "method", "relu"):
            Explainer(path, **{name: value})


@pytest.mark.parametrize("name", INSTRUMENT)
def test_instrument(name, files):
    for value in WRONG:
        found = outcome(lambda value: instrument(files / "m.onnx", **{name: value}), value)
        assert (found is None) == fits(value, INSTRUMENT[name]), f"{name}={value!r}: {found}"
    for value in INSTRUMENT[name]:
        instrument(files / "m.onnx", **{name: value})


def test_fixed_classes(files):
    for value in WRONG:
        call = lambda value: instrument(files / "m.onnx", class_input="fixed", classes=value)  # noqa: E731
        assert isinstance(outcome(call, value), ClassError), value
    for right in ([1], (0, -1), np.array([3, 4]), range(2)):
        instrument(files / "m.onnx", class_input="fixed", classes=right)


@pytest.mark.parametrize("call", [Explainer, instrument, inspect, check, lambda m: instrument_file(m, "never.onnx")])
def test_models(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in WRONG:
        assert outcome(call, value) is not None, value
    assert not list(tmp_path.iterdir())


def test_files_to_write(files, explanation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (*NOTHING_FITS, *NUMBERS, *EMPTY, None, "", "a\0b", "\ud800", "x" * 5000):
        for call in (lambda out: instrument_file(files / "m.onnx", out), explanation.save):
            assert isinstance(outcome(call, value), OutputError), value
    for value in WRONG:
        call = lambda value: instrument_file(files / "m.onnx", "o.onnx", external_data=value)  # noqa: E731
        assert outcome(call, value) is not None, value
    assert not list(tmp_path.iterdir())


# --- explaining ------------------------------------------------------------------------------------------------------

CLASSES_RIGHT = (1, -1, "1", "bee", np.int8(-1), np.array(1), [1], (1, 2), range(3), np.array([[1, 2]]), [["bee", 0]])
CLASSES_WRONG = [
    *(value for value in WRONG if not fits(value, (-1, "3", None))),
    *(1.0, np.float32(1), np.True_, b"bee", bytearray(b"\1"), [1, None], [1.0], np.array([1.0]), np.array([True])),
    *([[1], [2]], [[]], [[], []], 2**63, -(2**63), "9" * 30, np.uint64(2**63), memoryview(b"\1"), [[[1]]], -6, 5),
]


def test_classes(explainer):
    for value in CLASSES_WRONG:
        for call in (
            lambda value: explainer.explain(PHOTO, value),
            lambda value: explainer.stream([PHOTO], value),
            lambda value: list(evaluate(tiny(), [PHOTO], value, metrics=["insertion"])),
        ):
            assert isinstance(outcome(call, value), ClassError), value
    for value in CLASSES_RIGHT:
        explainer.explain(PHOTO, value)


def test_classes_of_a_model_that_does_not_tell_how_many(files, monkeypatch):
    explainer = Explainer(files / "m.onnx")
    object.__setattr__(explainer.model.loaded, "class_count", None)
    for value in (2**63, -(2**70), 1 << 40):
        with pytest.raises(ClassError, match="out of range"):
            explainer.choose(value)
        with pytest.raises(ClassError, match="top is"):
            explainer.choose(top=abs(value))


def test_top(explainer):
    for value in (*(value for value in WRONG if not fits(value, (5, None))), 0, 6, 2.0, "2", np.float64(2), np.True_):
        for call in (explainer.explain, lambda photos, top: explainer.stream([photos], top=top)):
            error = outcome(lambda value, call=call: call(PHOTO, top=value), value)
            assert isinstance(error, ClassError), value
    assert explainer.explain(PHOTO, top=np.int64(2)).classes.shape == (1, 2)
    assert explainer.explain(PHOTO, top=CLASSES).classes.shape == (1, CLASSES)


def test_images(explainer):
    for value in WRONG:
        for call in (explainer.explain, explainer.prepare, lambda image: next(explainer.stream([image])).unwrap()):
            assert isinstance(outcome(call, value), ImageError | InputError), value
    single = [value for value in WRONG if not isinstance(value, list | tuple | np.ndarray)]
    for value in (*single, np.array("x"), "photo.png", Path("photo.png"), explainer.prepare(PHOTO)):
        for call in (explainer.stream, lambda images: evaluate(tiny(), images)):
            assert isinstance(outcome(call, value), ImageError), value
    for value in ([PHOTO], (PHOTO,), iter([PHOTO]), PHOTO[None]):
        assert [one.error for one in explainer.stream(value)] == [None]
    for value in (value for value in WRONG if value is not None):
        assert callable(value) or outcome(lambda value: explainer.stream([PHOTO], each=value), value) is not None, value


def test_what_an_explanation_is_asked_for(explanation):
    for value in (value for value in WRONG if not fits(value, (-1,))):
        for name in ("n", "k"):
            for method in (explanation.heatmap, explanation.overlay, explanation.caption):
                error = outcome(lambda value, call=method, name=name: call(**{name: value}), value)
                assert isinstance(error, InputError), (name, value)
        for method in (explanation.maps_of, explanation.status_of):
            assert isinstance(outcome(method, value), LayerError), value
        assert value is None or outcome(lambda value: explanation.heatmap(layer=value), value) is not None, value
        assert fits(value, (np.float64(1),)) or outcome(lambda value: explanation.overlay(alpha=value), value), value
        assert fits(value, (True,)) or outcome(lambda value: explanation.overlay(beside=value), value), value
        assert value is None or outcome(lambda value: explanation.overlay(colour_map=value), value), value
    for right in (0, -1, np.int64(0)):
        explanation.overlay(right, right, layer=right, alpha=0, beside=np.False_, colour_map="turbo")


# --- the rest --------------------------------------------------------------------------------------------------------

EVALUATE = {
    "methods": ("xgrad-cam", ["grad-cam"]),
    "metrics": ("insertion", ["drop"], {"drop"}),
    "steps": (5, 2, np.int32(3)),
    "background": ("mean", "zero"),
    "truth": (None,),
    "layers": EXPLAINER["layers"],
    "score": EXPLAINER["score"],
    "threads": EXPLAINER["threads"],
}


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluate(name, files):
    def measured(value):
        list(evaluate(files / "m.onnx", [PHOTO], **{"metrics": ["insertion"], "steps": 2, name: value}))

    for value in WRONG:
        found = outcome(measured, value)
        assert (found is None) == fits(value, EVALUATE[name]), f"{name}={value!r}: {found}"
    for value in EVALUATE[name]:
        measured(value)


def test_check_and_recorder(files):
    image = np.zeros((1, 3, 16, 16), np.float32)
    for value in WRONG:
        assert value is None or outcome(lambda value: check(files / "m.onnx", value), value) is not None, value
        for name in ("layers", "score", "method", "inputs", "allow_folders"):
            found = outcome(lambda value, name=name: check(files / "m.onnx", image, **{name: value}), value)
            assert (found is None) == fits(value, EXPLAINER[name]), (name, value)
        assert outcome(lambda value: Recorder(files / "m.onnx", methods=value), value) is not None, value


def test_what_is_said():
    """A sentence names the argument, what was given, and what it takes."""
    made = onnx_xcam.Explainer(tiny(), preprocess="imagenet")
    for call, error, said in (
        (lambda: made.explain(PHOTO, 1.0), ClassError, "classes is 1.0; it must be a class (a number or a label), or"),
        (lambda: made.explain(PHOTO, top=2.5), ClassError, "top is 2.5; it must be a whole number, at least 1."),
        (lambda: made.explain(None), ImageError, "images is None; it must be a picture"),
        (lambda: made.stream("photo.png"), ImageError, "images is 'photo.png'; it must be a list or a generator"),
        (lambda: Explainer(tiny(), threads="2"), InputError, "threads is '2'; it must be a whole number, at least 1."),
        (lambda: Explainer(tiny(), relu="no"), XcamError, "relu is 'no'; it must be True or False."),
        (lambda: Explainer(tiny(), labels=5), LabelsError, "labels is 5; it must be a list of labels"),
        (lambda: Explainer(tiny(), labels=[None] * 5), LabelsError, "A label is a text, not None."),
    ):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value).startswith(said)
