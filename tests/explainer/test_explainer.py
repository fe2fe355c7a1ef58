"""Explainer and Explanation, on real ONNX Runtime sessions."""

from __future__ import annotations

import json
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers import tiny_models
from helpers.tiny_models import LABELS
from onnx_xcam import contract
from onnx_xcam.errors import (
    ClassError,
    ImageError,
    InputError,
    LabelsError,
    LayerError,
    ModelError,
    PreprocessError,
    ProviderError,
)
from onnx_xcam.explainer import Explainer, XcamWarning
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image

RANDOM = np.random.default_rng(3)
PHOTOS = [RANDOM.integers(0, 256, (20 + 4 * i, 30, 3), np.uint8) for i in range(5)]
UNIT = {"scale": "1/255"}
KNOWN = {"preprocess": UNIT, "labels": LABELS}


def explainer_of(model: onnx.ModelProto, **options) -> Explainer:
    return Explainer(model, providers="cpu", threads=1, **options)


@pytest.fixture(scope="module", params=["plain", "instrumented by hand"])
def explainer(request) -> Explainer:
    make = tiny_models.tiny if request.param == "plain" else tiny_models.by_hand
    return explainer_of(make(metadata=KNOWN))


def tensor(n: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 3, size, size)).astype(np.float32)


def literal(batch: np.ndarray, classes: np.ndarray, model: onnx.ModelProto | None = None):
    """Scores [N,K] and XGrad-CAM [N,K,h,w] and the logits, as the paper writes it; `tiny`'s gradient is known."""
    model = onnx.ModelProto.FromString((model or tiny_models.tiny()).SerializeToString())
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ("features", "logits"))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    features, logits = session.run(["features", "logits"], {"image": batch})
    head = tiny_models.weight(model, "fc").astype(np.float64)
    n, channels, h, w = features.shape
    maps = np.zeros((n, classes.shape[1], h, w))
    for i in range(n):
        for k, class_id in enumerate(classes[i]):
            for channel in range(channels):
                activation = features[i, channel].astype(np.float64)
                gradient = np.full((h, w), head[class_id, channel] / (h * w))
                if activation.sum() > 0:
                    maps[i, k] += (gradient * activation).sum() / activation.sum() * activation
    return np.take_along_axis(logits, classes, axis=1), np.maximum(maps, 0), logits


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def assert_is(explanation, batch, classes):
    scores, maps, logits = literal(batch, np.asarray(classes))
    np.testing.assert_array_equal(explanation.classes, classes)
    np.testing.assert_allclose(explanation.scores, scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explanation.maps, maps, rtol=1e-4, atol=1e-6)
    expected = np.take_along_axis(softmax(logits.astype(np.float64)), explanation.classes, axis=1)
    np.testing.assert_allclose(explanation.probabilities, expected, rtol=1e-5)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_without_classes_the_top_class_of_each_image_is_explained(explainer):
    batch = tensor(3)
    logits = literal(batch, np.zeros((3, 1), int))[2]
    assert_is(explainer.explain(batch), batch, logits.argmax(1)[:, None])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([4, 0], [[4, 0]] * 2),
        (2, [[2]] * 2),
        (["dog", 1, "CAT"], [[3, 1, 2]] * 2),
        ("emu", [[4]] * 2),
        ([[1, 2], ["cat", "ant"]], [[1, 2], [2, 0]]),
        (np.array([[3], [4]]), [[3], [4]]),
        (np.array([3, 4]), [[3, 4]] * 2),
        ((np.int32(1),), [[1]] * 2),
        (["2"], [[2]] * 2),
    ],
)
def test_classes_are_ids_or_labels_for_all_images_or_per_image(explainer, classes, expected):
    batch = tensor(2)
    assert_is(explainer.explain(batch, classes), batch, np.array(expected))


def test_top_and_negative_classes_rank_by_the_models_own_score(explainer):
    batch = tensor(2)
    ranked = np.argsort(-literal(batch, np.zeros((2, 1), int))[2], axis=1)
    assert_is(explainer.explain(batch, top=3), batch, ranked[:, :3])
    assert_is(explainer.explain(batch, [-5, -2]), batch, ranked[:, [4, 1]])


@pytest.mark.parametrize(
    ("classes", "top", "message"),
    [
        ([5], None, "out of range"),
        ([-6], None, "out of range"),
        ([[0], [9]], None, "out of range"),
        (["dgo"], None, "dog"),
        ([], None, "empty"),
        ([[], []], None, "empty"),
        ([[0, 1], [2]], None, "same number"),
        ([[0], [1], [2]], None, "3 images, but there are 2"),
        ([0, [1]], None, "mixes"),
        ([1.5], None, "number or a label"),
        ([True], None, "number or a label"),
        ([0], 2, "not both"),
        (None, 6, "at most 5"),
        (None, 0, "at least 1"),
    ],
)
def test_wrong_classes_are_found_before_the_run(explainer, classes, top, message, monkeypatch):
    monkeypatch.setattr(explainer.model.loaded.session, "run", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(ClassError, match=message):
        explainer.explain(tensor(2), classes, top)


def test_a_label_without_known_labels_is_an_error_that_says_so():
    with pytest.raises(ClassError, match="no labels are known"):
        explainer_of(tiny_models.by_hand(metadata={"preprocess": UNIT})).explain(tensor(1), "cat")


def test_a_model_with_fixed_classes_explains_those_and_no_others():
    fixed = explainer_of(tiny_models.by_hand(class_input="fixed", metadata=KNOWN))
    batch = tensor(2)
    assert_is(fixed.explain(batch), batch, np.array([[3, 1]] * 2))
    for wanted in ({"classes": [1]}, {"top": 1}):
        with pytest.raises(ClassError, match="instrumented for"):
            fixed.explain(batch, **wanted)


def test_a_required_class_input_is_fed():
    explainer = explainer_of(tiny_models.by_hand(class_input="required", metadata=KNOWN))
    batch = tensor(2)
    top = literal(batch, np.zeros((2, 1), int))[2].argmax(1)[:, None]
    assert_is(explainer.explain(batch), batch, top)
    assert_is(explainer.explain(batch, [4, 2]), batch, np.array([[4, 2]] * 2))


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [{}, {"classes": [0, 3]}, {"top": 5}, {"classes": [[0], [1], [2], [3]]}])
def test_a_batch_is_one_run_whatever_the_classes(explainer, wanted, monkeypatch):
    runs = tiny_models.count_runs(explainer, monkeypatch)
    explainer.explain(tensor(4), **wanted)
    assert len(runs) == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [tiny_models.tiny, tiny_models.by_hand])
def test_a_static_batch_is_honoured_the_last_run_padded_and_trimmed(n, make, monkeypatch):
    static = explainer_of(make(n=2, metadata=KNOWN))
    assert static.batch == 2
    runs = tiny_models.count_runs(static, monkeypatch)
    batch = tensor(n)
    assert_is(static.explain(batch, [1, 4]), batch, np.array([[1, 4]] * n))
    assert [len(feeds["image"]) for feeds in runs] == [2] * ((n + 1) // 2)
    rows = RANDOM.integers(0, 5, (n, 3))
    assert_is(static.explain(batch, rows), batch, rows)


def test_many_images_and_many_classes_are_cut_to_fit_the_memory(explainer, monkeypatch):
    monkeypatch.setattr("onnx_xcam.runtime.batching.IMAGES_PER_RUN", 2)
    monkeypatch.setattr("onnx_xcam.runtime.batching.BYTES_OF_CLASSES", 1)
    monkeypatch.setattr("onnx_xcam.runtime.batching.CLASSES_NOT_WORTH_CUTTING", 1)
    runs = tiny_models.count_runs(explainer, monkeypatch)
    batch = tensor(3)
    rows = np.array([[0, 1, 2], [4, 3, -1], [2, 2, 0]])
    explanation = explainer.explain(batch, rows)
    assert len(runs) == 6
    rows[1, 2] = explanation.scores.shape[1] and literal(batch, np.zeros((3, 1), int))[2][1].argmax()
    assert_is(explanation, batch, rows)


def test_an_explainer_may_be_called_from_several_threads(explainer):
    batches = [tensor(n) for n in range(1, 7)]
    alone = [explainer.explain(batch, top=2).maps for batch in batches]
    found: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        for _ in range(5):
            found[i] = explainer.explain(batches[i], top=2).maps

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, expected in enumerate(alone):
        np.testing.assert_array_equal(found[i], expected)


# --- images ----------------------------------------------------------------------------------------------------------


def prepared(photos: list[np.ndarray]) -> np.ndarray:
    """The `UNIT` preprocessing by OpenCV's own area filter would differ at the edges, so: what the package makes."""
    from onnx_xcam.images import InputSpec, preprocess_image

    spec = InputSpec.from_shape("image", np.float32, (1, 3, 16, 16))
    return np.stack([preprocess_image(photo, Preprocess(scale=1 / 255), spec)[0] for photo in photos])


def test_paths_arrays_and_lists_of_both_are_explained_alike(explainer, tmp_path: Path):
    paths = [tmp_path / f"photo {i} é.png" for i in range(3)]
    for path, photo in zip(paths, PHOTOS, strict=False):
        write_image(path, photo)
    batch = prepared(PHOTOS[:3])
    expected = np.array([[2, 0]] * 3)
    for images in (paths, [str(path) for path in paths], PHOTOS[:3], [paths[0], PHOTOS[1], str(paths[2])]):
        assert_is(explainer.explain(images, [2, 0]), batch, expected)
    assert_is(explainer.explain(paths[1], [2, 0]), batch[1:2], expected[:1])
    assert_is(explainer.explain(PHOTOS[1], [2, 0]), batch[1:2], expected[:1])
    assert_is(explainer.explain([explainer.prepare(path) for path in paths], [2, 0]), batch, expected)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], InputError, "list is empty"),
        ("missing.png", ImageError, "no such file"),
        (np.zeros((8, 8, 3), bool), ImageError, "not bool"),
        (np.zeros((3, 8, 8), np.uint8), ImageError, "channels last"),
        (np.zeros((1, 3, 16, 15), np.float32), InputError, r"\[1,3,16,15\].*\[N,3,16,16\]"),
        (np.zeros((0, 3, 16, 16), np.float32), InputError, r"\[0,3,16,16\]"),
        (np.zeros((1, 3, 16, 16), np.uint8), InputError, "holds uint8.*list of"),
        (np.zeros((1, 3, 16, 16), np.int64), InputError, "holds int64.*float32"),
    ],
)
def test_images_that_cannot_be_explained(explainer, images, error, message):
    with pytest.raises(error, match=message):
        explainer.explain(images)


def test_a_ready_tensor_of_another_float_type_is_converted(explainer):
    batch = tensor(2)
    explanation = explainer.explain(batch.astype(np.float64), [1])
    assert_is(explanation, batch, np.array([[1], [1]]))


def test_a_model_of_any_size_takes_ready_tensors_of_any_size():
    for make in (tiny_models.tiny, tiny_models.by_hand):
        with pytest.warns(XcamWarning, match="224x224 is assumed"):
            free = explainer_of(make(size="any", metadata=KNOWN))
        for size in (10, 17):
            batch = tensor(2, size)
            scores, maps, _ = literal(batch, np.array([[1], [2]]), tiny_models.tiny(size="any"))
            explanation = free.explain(batch, [[1], [2]])
            np.testing.assert_allclose(explanation.scores, scores, rtol=1e-5)
            np.testing.assert_allclose(explanation.maps, maps, rtol=1e-4, atol=1e-6)
            assert explanation.heatmap().shape == (size, size)


# --- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["softmax", "logsoftmax", "sigmoid", "logits"])
def test_probabilities_are_the_models_own_or_the_softmax_of_its_logits(end):
    batch = tensor(3)
    explanation = explainer_of(tiny_models.tiny(end=end, metadata=KNOWN)).explain(batch, [0, 3])
    logits = literal(batch, np.zeros((3, 1), int))[2].astype(np.float64)
    own = 1 / (1 + np.exp(-logits)) if end == "sigmoid" else softmax(logits)
    np.testing.assert_allclose(explanation.probabilities, own[:, [0, 3]], rtol=1e-5)
    np.testing.assert_allclose(explanation.scores, logits[:, [0, 3]], rtol=1e-5)


# --- preprocessing and labels ----------------------------------------------------------------------------------------


def saved(folder: Path, **options) -> Path:
    path = folder / "net.onnx"
    onnx.save(tiny_models.by_hand(**options), path)
    return path


def fed(explainer: Explainer) -> np.ndarray:
    return explainer.prepare(np.full((16, 16, 3), 255, np.uint8)).item[:, 0, 0]


def test_preprocessing_comes_from_the_argument_then_the_metadata_then_a_file_beside(tmp_path: Path):
    white = {"argument": 1.0, "metadata": 510.0, "stem": 765.0, "shared": (1 - 0.5) / 0.25}
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_processor_type": "ViTImageProcessor", "size": 16, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        ),
        encoding="utf-8",
    )
    path = saved(tmp_path)
    shared = Explainer(path, labels=LABELS)
    np.testing.assert_allclose(fed(shared), white["shared"])
    assert any("preprocessor_config.json" in note for note in shared.notes)
    (tmp_path / "net.preprocess.json").write_text('{"scale": 3}', encoding="utf-8")
    beside = Explainer(path, labels=LABELS)
    np.testing.assert_allclose(fed(beside), white["stem"])
    assert any("net.preprocess.json" in note for note in beside.notes)
    assert not beside.warnings, "our own settings are meant to go before the producer's"
    path = saved(tmp_path, metadata={"preprocess": {"scale": 2}})
    with pytest.warns(XcamWarning, match=r"'net.preprocess.json' beside the model says values .*metadata"):
        own = Explainer(path, labels=LABELS)
    np.testing.assert_allclose(fed(own), white["metadata"])
    assert any("Preprocessing" in note and "metadata" in note for note in own.notes)
    for argument in ("unit", {"scale": 1 / 255}, Preprocess(scale=1 / 255)):
        stated = Explainer(path, labels=LABELS, preprocess=argument)
        np.testing.assert_allclose(fed(stated), white["argument"])
        assert not stated.warnings


def test_preprocessing_that_nothing_states_is_imagenets_and_a_warning():
    with pytest.warns(XcamWarning, match=r"ImageNet's mean.*--preprocess"):
        explainer = explainer_of(tiny_models.by_hand())
    assert len(explainer.warnings) == 1
    assert explainer.warnings[0] in explainer.notes
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(fed(explainer), expected, rtol=1e-6)


def test_whole_numbers_get_raw_pixels_without_a_warning():
    model = tiny_models.tiny()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["as_float"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "as_float"
    explainer = explainer_of(model, probabilities="softmax")
    assert fed(explainer).tolist() == [255] * 3
    assert explainer.prepare(PHOTOS[0]).item.dtype == np.uint8
    assert explainer.warnings == ()
    batch = RANDOM.integers(0, 256, (2, 3, 16, 16)).astype(np.uint8)
    assert_is(explainer.explain(batch, [1]), batch.astype(np.float32), np.array([[1], [1]]))


def test_a_preprocessing_that_contradicts_the_model_is_an_error():
    with pytest.raises(PreprocessError, match="fixed to 16x16"):
        explainer_of(tiny_models.by_hand(), preprocess={"size": 224})
    with pytest.raises(PreprocessError, match="imagenet"):
        explainer_of(tiny_models.by_hand(), preprocess="imagnet")


def test_labels_come_from_the_argument_then_the_metadata_then_a_file_beside(tmp_path: Path):
    def labels(path: Path, argument=None):
        explainer = Explainer(path, preprocess="unit", labels=argument)
        return explainer.labels, next(note for note in explainer.notes if note.startswith("Labels:"))

    path = saved(tmp_path)
    assert labels(path) == (
        None,
        "Labels: none known, classes are shown as numbers; give a file with --labels (labels=).",
    )
    (tmp_path / "config.json").write_text('{"hidden": 3}', encoding="utf-8")
    assert labels(path)[0] is None
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate("ABCDE"))}), encoding="utf-8")
    assert labels(path) == (tuple("ABCDE"), "Labels: from 'config.json' beside the model.")
    (tmp_path / "net.labels.txt").write_text("\n".join("vwxyz"), encoding="utf-8")
    assert labels(path) == (tuple("vwxyz"), "Labels: from 'net.labels.txt' beside the model.")
    path = saved(tmp_path, metadata={"labels": LABELS})
    assert labels(path) == (tuple(LABELS), "Labels: from the model's metadata.")
    assert labels(path, tmp_path / "net.labels.txt")[0] == tuple("vwxyz")
    assert labels(path, list("abcde")) == (tuple("abcde"), "Labels: given as an argument.")


def test_labels_that_do_not_fit_the_model_are_an_error(tmp_path: Path):
    with pytest.raises(LabelsError, match="are 4, but the model has 5 classes"):
        explainer_of(tiny_models.by_hand(), preprocess="unit", labels=["a"] * 4)
    (tmp_path / "net.labels.json").write_text('["a", "b"]', encoding="utf-8")
    with pytest.raises(LabelsError, match=r"net\.labels\.json' are 2, but the model has 5 classes"):
        Explainer(saved(tmp_path), preprocess="unit", labels=tmp_path / "net.labels.json")


def test_labels_that_are_found_and_do_not_fit_are_not_used(tmp_path: Path):
    (tmp_path / "net.labels.json").write_text('["a", "b"]', encoding="utf-8")
    with pytest.warns(XcamWarning, match=r"net\.labels\.json' beside the model are 2, but the model has 5 classes, so"):
        explainer = Explainer(saved(tmp_path), preprocess="unit")
    assert explainer.labels is None and len(explainer.warnings) == 1
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate("ABCDE"))}), encoding="utf-8")
    with pytest.warns(XcamWarning, match=r"Labels: from 'config\.json' beside the model\. The labels from 'net"):
        explainer = Explainer(saved(tmp_path), preprocess="unit")
    assert explainer.labels == tuple("ABCDE")


# --- models ----------------------------------------------------------------------------------------------------------


def test_path_bytes_and_message_are_the_same_model_and_stay_unchanged(tmp_path: Path):
    batch = tensor(2)
    for make in (tiny_models.tiny, tiny_models.by_hand):
        model = make(metadata=KNOWN)
        before = model.SerializeToString()
        path = tmp_path / "model.onnx"
        path.write_bytes(before)
        for source in (path, str(path), before, model):
            assert_is(Explainer(source).explain(batch, [3]), batch, np.array([[3], [3]]))
        assert model.SerializeToString() == before
        assert path.read_bytes() == before


def test_weights_outside_of_the_file_are_found(tmp_path: Path):
    batch = tensor(2)
    for make in (tiny_models.tiny, tiny_models.by_hand):
        model = make(metadata=KNOWN)
        path = tmp_path / make.__name__ / "model.onnx"
        path.parent.mkdir()
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=32)
        assert_is(Explainer(path).explain(batch, [3]), batch, np.array([[3], [3]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"<html>not found</html>", "not an ONNX model"), (None, "does not exist")],
)
def test_what_is_no_model_is_a_model_error(content, message, tmp_path: Path):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        Explainer(path)


def test_a_truncated_model_is_a_model_error(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_models.tiny().SerializeToString()[:-200])
    with pytest.raises(ModelError):
        Explainer(path)


@pytest.mark.parametrize(
    "asked", [{"layers": "c"}, {"layers": ["features", "c"]}, {"score": "flat"}, {"method": "grad-cam"}]
)
def test_an_instrumented_model_is_used_as_it_is_and_nothing_else_is_promised(asked):
    with pytest.raises(LayerError, match=r"instrumented already.*features.*original model"):
        explainer_of(tiny_models.by_hand(metadata=KNOWN), **asked)
    explainer_of(tiny_models.by_hand(metadata=KNOWN), layers="features", score="logits", method="xgrad-cam")


def test_an_instrumented_model_without_a_map_says_what_to_do():
    model = tiny_models.by_hand(metadata=KNOWN)
    del model.graph.output[-1]
    with pytest.raises(ModelError, match=r"without 'xcam_map'.*--emit map"):
        explainer_of(model)


def test_several_inputs_or_none_for_an_image_say_what_is_needed():
    model = tiny_models.by_hand(metadata=KNOWN)
    model.graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [1]))
    last = model.graph.node[-1]  # the ReLU of the map
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Mul", [last.input[0], "scale"], ["more"]))
    model.graph.node[-1].input[0] = "more"
    with pytest.raises(InputError, match=r"needs the input 'scale' \(float32 \[1\]\).*--input scale="):
        explainer_of(model)
    text = "(float[N,7] x) => (float[N,7] y, int64[N,1] xcam_classes, float[N,1,2,2] xcam_map) "
    classes = "xcam_classes = Constant<value=int64[1,1]{0}>()"
    blank = "xcam_map = Constant<value=float[1,1,2,2]{0,0,0,0}>()"
    flat = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> flat {text} {{ y = Identity(x) {classes} {blank} }}'
    )
    flat.metadata_props.add(key="onnx_xcam", value=json.dumps({"version": 1, "layers": ["y"], "score": "y"}))
    with pytest.raises(InputError, match=r"no input that a picture can be fed to.*'x' \(float32 \[N,7\]\)"):
        explainer_of(flat)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is there")
def test_a_provider_that_is_not_there_is_an_error():
    with pytest.raises(ProviderError, match="no provider 'cuda'"):
        Explainer(tiny_models.by_hand(), preprocess="unit", providers="cuda")


def test_the_notes_say_all_that_was_assumed(explainer):
    text = "\n".join(explainer.notes)
    score = "Score: output 'y'" if "(Relu)" in text else "Score: logits"
    for part in ("features", score, "16x16, stretched", "NCHW", "Provider: cpu", "Labels: from the model's metadata"):
        assert part in text
    assert ("instrumented already" in text) == ("(Relu)" not in text)
    assert explainer.explain(PHOTOS[0]).notes == explainer.notes


# --- the explanation -------------------------------------------------------------------------------------------------


def test_a_heatmap_lies_on_the_photo_and_runs_from_0_to_1(explainer):
    explanation = explainer.explain(PHOTOS[:2], [1])
    for n in range(2):
        heat = explanation.heatmap(n, 0)
        assert heat.shape == PHOTOS[n].shape[:2]
        assert heat.dtype == np.float32
        height, width = heat.shape
        resized = cv2.resize(explanation.maps[n, 0], (width, height), interpolation=cv2.INTER_LINEAR)
        expected = (resized - resized.min()) / (resized.max() - resized.min())
        np.testing.assert_allclose(heat, expected, atol=1e-5)


def test_the_overlay_and_its_file_are_the_same_picture(explainer, tmp_path: Path):
    explanation = explainer.explain(PHOTOS[:2], [1, 2])
    for beside in (False, True):
        picture = explanation.overlay(1, 1, beside=beside)
        path = explanation.save(tmp_path / "out.png", 1, 1, beside=beside)
        np.testing.assert_array_equal(read_image(path), picture)
    assert picture.shape[0] == PHOTOS[1].shape[0]
    np.testing.assert_array_equal(picture[:, :30], PHOTOS[1])
    assert (explanation.overlay(0, 0) != explanation.overlay(0, 1)).any()
    np.testing.assert_array_equal(explanation.overlay(0, 0, alpha=0), PHOTOS[0])


def test_notebooks_show_every_overlay(explainer, tmp_path: Path):
    explanation = explainer.explain(PHOTOS[:2], ["cat", "bee"])
    path = tmp_path / "display.png"
    path.write_bytes(explanation._repr_png_())
    np.testing.assert_array_equal(read_image(path), explanation.overlay())
    html = explanation._repr_html_()
    assert html.count("<img") == 4
    assert "&quot;cat&quot;" in html
    assert "class 2" in repr(explanation)


def test_a_ready_tensor_has_a_heatmap_but_no_photo_to_draw_on(explainer):
    explanation = explainer.explain(tensor(2))
    assert explanation.images == [None, None]
    assert explanation.heatmap(1).shape == (16, 16)
    assert explanation._repr_png_() is None
    html = explanation._repr_html_()
    assert "<img" in html and "background-image" not in html, "the map alone, over grey"
    with pytest.raises(InputError, match="no photo"):
        explanation.overlay()


def test_labels_and_caption(explainer):
    explanation = explainer.explain(PHOTOS[:2], [[0, 2], [1, 0]])
    assert explanation.labels == [["ant", "cat"], ["bee", "ant"]]
    score, p = explanation.scores[1, 0], explanation.probabilities[1, 0]
    assert explanation.caption(1, 0) == f'class 1 "bee"  score {score:.2f}  p {p:.2f}'


def test_a_layer_is_chosen_by_index_or_name(explainer):
    explanation = explainer.explain(tensor(1))
    assert explanation.layers == ("features",)
    np.testing.assert_array_equal(explanation.maps_of("features"), explanation.maps_of(0))
    for layer in ("other", 1, -2):
        with pytest.raises(LayerError, match="has 'features'"):
            explanation.heatmap(layer=layer)


def test_several_layers_each_have_their_maps():
    model = tiny_models.tiny(metadata=KNOWN)
    pool = onnx.helper.make_node("AveragePool", ["image"], ["half"], kernel_shape=[2, 2], strides=[2, 2])
    model.graph.node.insert(0, pool)
    model.graph.node[1].input[0] = "half"
    explainer = explainer_of(model, layers=["features", "half"])
    assert explainer.layers == ("features", "half")
    batch = tensor(2)
    both = explainer.explain(batch, [1, 2])
    assert both.maps.shape == (2, 2, 4, 4)
    assert both.maps_of(1).shape == (2, 2, 8, 8)
    assert both.heatmap(1, 1, layer="half").shape == (16, 16)
    for layer in explainer.layers:
        alone = explainer_of(model, layers=layer).explain(batch, [1, 2])
        np.testing.assert_allclose(both.maps_of(layer), alone.maps, rtol=1e-6)
        np.testing.assert_array_equal(both.status_of(layer), alone.status)


@pytest.mark.parametrize("make", [tiny_models.tiny, tiny_models.by_hand])
def test_a_blank_map_is_never_without_a_word(make):
    model = make(metadata=KNOWN)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "fc")
    values = onnx.numpy_helper.to_array(head).copy()
    values[3] = -np.abs(values[3])
    head.CopyFrom(onnx.numpy_helper.from_array(values, "fc"))
    explainer = explainer_of(model)
    with pytest.warns(XcamWarning, match=r"image 0, class 3 \(dog\).*zero everywhere"):
        explanation = explainer.explain(PHOTOS[0], ["cat", "dog"])
    assert explanation.status.tolist() == [[contract.GOOD, contract.MAP_ZERO]]
    assert len(explanation.warnings()) == 1
    assert explanation.heatmap(0, 1).max() == 0
    np.testing.assert_array_equal(explanation.overlay(0, 1), PHOTOS[0])


def test_values_beyond_the_type_of_the_input_are_told_by_their_map_alone():
    """And not by a warning of NumPy's as well."""
    with pytest.warns(XcamWarning, match="not finite"):
        explanation = explainer_of(tiny_models.tiny(metadata=KNOWN)).explain(tensor(1).astype(np.float64) + 1e300, [1])
    assert explanation.status.tolist() == [[contract.NOT_FINITE]]


@pytest.mark.parametrize("make", [tiny_models.tiny, tiny_models.by_hand])
def test_values_that_are_not_finite_are_never_without_a_word(make):
    explainer = explainer_of(make(metadata=KNOWN))
    batch = tensor(2)
    batch[1, 0, 3, 3] = np.nan
    with pytest.warns(XcamWarning, match="image 1, .*not finite"):
        explanation = explainer.explain(batch, [1])
    assert explanation.status.tolist() == [[contract.GOOD], [contract.NOT_FINITE]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(explanation.heatmap(1)).all()


# --- other kinds of models -------------------------------------------------------------------------------------------


def test_one_logit_is_two_classes():
    model = tiny_models.tiny(end="sigmoid", metadata={"preprocess": UNIT, "labels": ["no", "yes"]}, classes=1)
    explainer = explainer_of(model)
    batch = tensor(3)
    explanation = explainer.explain(batch, ["yes", "no"])
    logits = literal(batch, np.zeros((3, 1), int), model)[2]
    np.testing.assert_allclose(explanation.scores, np.concatenate([logits, -logits], axis=1), rtol=1e-5)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(explanation.probabilities, np.concatenate([p, 1 - p], axis=1), rtol=1e-5)
    top = explainer.explain(batch)
    np.testing.assert_array_equal(top.classes, (logits > 0).astype(int))
    assert top.labels == [["yes" if logit > 0 else "no"] for logit in logits[:, 0]]
    with pytest.raises(ClassError, match="2 classes"):
        explainer.explain(batch, [2])


def test_channels_last():
    model = tiny_models.tiny(metadata=KNOWN)
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[1].dim_value, shape.dim[3].dim_value = 16, 3
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
    model.graph.node[1].input[0] = "planes"
    explainer = explainer_of(model)
    assert any("NHWC" in note for note in explainer.notes)
    explanation = explainer.explain(PHOTOS[:2], [1])
    assert_is(explanation, prepared(PHOTOS[:2]), np.array([[1], [1]]))
    assert explanation.pictures[0].item.shape == (16, 16, 3)
    assert_is(explainer.explain(tensor(2).transpose(0, 2, 3, 1), [1]), tensor(2), np.array([[1], [1]]))


def test_grey():
    model = tiny_models.tiny(channels=1)
    with pytest.warns(XcamWarning, match=r"grey values 0\.\.1"):
        explainer = explainer_of(model, labels=LABELS)
    white = explainer.prepare(np.full((16, 16, 3), 255, np.uint8)).item
    np.testing.assert_array_equal(white, np.ones((1, 16, 16), np.float32))
    assert explainer.explain(PHOTOS[0], [1]).overlay().shape == PHOTOS[0].shape


def test_many_blank_maps_are_one_warning():
    model = tiny_models.tiny(metadata=KNOWN)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "fc")
    head.CopyFrom(onnx.numpy_helper.from_array(-np.abs(tiny_models.weight(model, "fc")), "fc"))
    with pytest.warns(XcamWarning) as caught:
        explanation = explainer_of(model).explain(PHOTOS[:2], top=5)
    assert len(caught) == 1
    assert str(caught[0].message).endswith("And 7 more; see status.")
    assert len(explanation.warnings()) == 10
