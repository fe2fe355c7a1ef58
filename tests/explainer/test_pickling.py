"""What is handed to another process: an Explainer opens its model again, results and errors go as they are."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import pickle
import shutil
import warnings

import numpy as np
import onnx
import pytest

from helpers.external_models import save_external
from helpers.tiny_models import LABELS, tiny
from onnx_xcam import Explainer, errors, instrument_file
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.explainer.recorder import Recorder

PHOTOS = [np.random.default_rng(n).integers(0, 256, (20 + n, 24, 3), np.uint8) for n in range(2)]


@pytest.fixture
def model(tmp_path):
    onnx.save(tiny(), tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    (tmp_path / "p.json").write_text(json.dumps({"preset": "raw"}))
    return tmp_path / "m.onnx"


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def same(one, other, photos=PHOTOS):
    for name in ("name", "notes", "warnings", "layers", "score", "providers", "labels", "preprocess", "batch"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("method", "relu", "fuse"):
        assert getattr(one, name) == getattr(other, name), name
    expected, found = one.explain(photos, top=2), other.explain(photos, top=2)
    for name in ("classes", "scores", "maps", "status", "probabilities", "fused"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.labels == expected.labels


OPTIONS = [
    {},
    {"layers": ["features"], "score": "y", "threads": 1, "providers": ["cpu"], "probabilities": "softmax"},
    {"relu": False, "method": "grad-cam", "labels": "labels.txt", "preprocess": "p.json", "allow_folders": "."},
    {"layers": ["c", "features"], "fuse": "max", "labels": LABELS, "preprocess": {"preset": "unit"}},
    {"method": "eigen-cam", "preprocess": "imagenet"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_an_explainer_is_opened_again_with_its_options(options, model, tmp_path, monkeypatch):
    """From another folder: what was relative to the first still means the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()  # a preset's name is no path
    with warnings.catch_warnings(action="ignore"):
        explainer = Explainer("m.onnx", **options)
    held = pickle.dumps(explainer)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with warnings.catch_warnings(action="error"):  # what it warned of is not said again
        other = pickle.loads(held)
    same(explainer, other)
    same(explainer, again(other))
    same(explainer, again(explainer))  # by a path that leads nowhere from here
    same(explainer, copy.deepcopy(explainer))
    assert other.model.loaded.session is not explainer.model.loaded.session


@pytest.mark.parametrize("method", ["xgrad-cam", "eigen-cam", "ablation-cam", "score-cam"])
def test_a_process_may_go_to_another_folder(method, model, tmp_path, monkeypatch):
    """Score-CAM opens its model once more when it is first asked."""
    monkeypatch.chdir(tmp_path)
    np.save("more.npy", np.float32(0.5))
    onnx.save(with_another_input(), "more.onnx")
    here = Explainer("more.onnx", method=method, preprocess="raw", inputs={"more": "more.npy"}).explain(PHOTOS[0])
    explainer = Explainer("more.onnx", method=method, preprocess="raw", inputs={"more": "more.npy"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(explainer.explain(PHOTOS[0]).maps, here.maps)


def with_another_input():
    made = tiny()
    made.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, []))
    (last,) = (node for node in made.graph.node if "y" in node.output)
    last.output[0] = "before"
    made.graph.node.append(onnx.helper.make_node("Mul", ["before", "more"], ["y"]))
    return made


def test_arguments_that_are_used_up_or_changed_afterwards(model):
    layers, settings = ["features"], {"preset": "unit"}
    explainer = Explainer(model, layers=layers, labels=iter(LABELS), providers=iter(["cpu"]), preprocess=settings)
    layers[:], settings["preset"] = ["c"], "raw"
    same(explainer, again(explainer))


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, again])
def test_every_kind_of_copy(how, model):
    explainer = Explainer(model, preprocess="unit")
    same(explainer, how(explainer))


def test_instrumented_files_and_external_data(model, tmp_path):
    instrument_file(model, tmp_path / "made.onnx")
    explainer = Explainer(tmp_path / "made.onnx", preprocess="unit")
    same(explainer, again(explainer))
    path, _ = save_external(tmp_path / "outside")
    explainer = Explainer(path, preprocess="unit")
    held = pickle.dumps(explainer)
    same(explainer, pickle.loads(held))
    weights = path.parent / "weights.bin"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    with pytest.raises(ModelError, match=r"weights\.bin' changed since; make a new one"):
        pickle.loads(held)


def test_values_of_inputs(tmp_path):
    two = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] image, float[1,3,1,1] gain) => (float[N,3] y) {
            a = Mul(image, gain)  r = Relu(a)  p = GlobalAveragePool(r)  y = Flatten(p) }""")
    onnx.save(two, tmp_path / "two.onnx")
    np.save(tmp_path / "gain.npy", np.float32([[[[2]], [[1]], [[3]]]]))
    gain = np.full((1, 3, 1, 1), 5.0, np.float32)
    explainer = Explainer(tmp_path / "two.onnx", preprocess="unit", inputs={"gain": gain})
    gain[:] = 0
    same(explainer, again(explainer))
    explainer = Explainer(tmp_path / "two.onnx", preprocess="unit", inputs={"gain": tmp_path / "gain.npy"})
    held = pickle.dumps(explainer)
    same(explainer, pickle.loads(held))
    np.save(tmp_path / "gain.npy", np.float32([[[[2]], [[1]], [[4]]]]))
    with pytest.raises(ModelError, match="the inputs changed since"):
        pickle.loads(held)


def test_what_has_changed_is_told(model, tmp_path):
    explainer = Explainer(model, preprocess="unit", labels=tmp_path / "labels.txt")
    held = pickle.dumps(explainer)
    shutil.copy(model, tmp_path / "kept")
    (tmp_path / "labels.txt").write_text("\n".join(reversed(LABELS)))
    with pytest.raises(ModelError, match="the labels changed since"):
        pickle.loads(held)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    onnx.save(tiny(seed=1), model)
    with pytest.raises(ModelError, match=r"m\.onnx' changed since; make a new one"):
        pickle.loads(held)
    with pytest.raises(ModelError, match="changed since it was opened"):
        pickle.dumps(explainer)
    model.unlink()
    for call in (lambda: pickle.loads(held), lambda: pickle.dumps(explainer), lambda: copy.copy(explainer)):
        with pytest.raises(ModelError, match=r"put it back|does not exist"):
            call()
    shutil.copy(tmp_path / "kept", model)
    same(explainer, pickle.loads(held))


def test_models_in_memory_and_recorders_say_that_they_cannot(model):
    for given in (tiny(), tiny().SerializeToString()):
        explainer = Explainer(given, preprocess="unit")
        for how in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(ModelError, match="a model in memory cannot be pickled or copied"):
                how(explainer)
    with pytest.raises(ModelError, match="A Recorder cannot be pickled"):
        pickle.dumps(Recorder(model, methods=["grad-cam"], preprocess="unit"))


def explained(task):
    explainer, photo = task
    return explainer.explain(photo)


def test_a_process_of_its_own(model):
    explainer = Explainer(model, preprocess="unit", threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(explained, [(explainer, PHOTOS[0])])
    expected = explainer.explain(PHOTOS[0])
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.overlay(), expected.overlay())


def test_results(model, tmp_path):
    explainer = Explainer(model, preprocess="unit", labels=LABELS)
    explanation = explainer.explain(PHOTOS, classes=["bee", 0])
    found = again(explanation)
    assert repr(found) == repr(explanation) and found.warnings() == explanation.warnings()
    np.testing.assert_array_equal(found.overlay(1, 1), explanation.overlay(1, 1))
    good, bad = map(again, explainer.stream([PHOTOS[0], tmp_path / "nope.png"]))
    assert good.error is None and good.explanation.caption() == explainer.explain(PHOTOS[0]).caption()
    assert isinstance(bad.error, XcamError) and "no such file" in str(bad.error)


def test_errors():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(kinds) > 15
    for kind in kinds:
        found = again(kind("what \x1b is wrong"))
        assert type(found) is kind and str(found) == "what \\x1b is wrong"
