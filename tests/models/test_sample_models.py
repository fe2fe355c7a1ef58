"""The shipped models, labels and photos: what they state is true, and the photos get the right names.

Nothing of onnx_xcam runs here but the contract's names, plain onnx, ONNX Runtime and OpenCV, until the int8 model's
maps are compared with the float one's.
"""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from helpers import ROOT
from onnx_xcam import Explainer
from onnx_xcam.metadata import Hints, read_hints
from tools.release import sample_models

SAMPLES = ROOT / "sample_models"
MODEL = SAMPLES / "efficientnet_lite0.onnx"
INT8 = SAMPLES / "efficientnet_lite0_int8.onnx"
PHOTOS = ("cat.png", "coffee.png", "rocket.jpg")
CATS = {"tabby", "tiger cat", "Egyptian cat"}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(MODEL)


@pytest.fixture(scope="module")
def stated(model: onnx.ModelProto) -> Hints:
    """What the model's own metadata says."""
    return read_hints({entry.key: entry.value for entry in model.metadata_props})


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def read_photo(name: str) -> np.ndarray:
    """The photo as the model's authors prepare it: float32 [1,3,224,224], RGB, (pixel - 127) / 128."""
    image_bgr = cv2.imread(str(SAMPLES / "photos" / name), cv2.IMREAD_COLOR)
    height, width = image_bgr.shape[:2]
    side = int(0.875 * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    crop_bgr = image_bgr[top : top + side, left : left + side]
    resized_bgr = cv2.resize(crop_bgr, (224, 224), interpolation=cv2.INTER_CUBIC)
    image_rgb = resized_bgr[:, :, ::-1].astype(np.float32)
    return ((image_rgb - 127) / 128).transpose(2, 0, 1)[None]


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_interface(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, dims(image)) == ("image", ["batch", 3, 224, 224])
    assert (logits.name, dims(logits)) == ("logits", ["batch", 1000])
    assert {value.type.tensor_type.elem_type for value in (image, logits)} == {onnx.TensorProto.FLOAT}


def test_padding_and_batch_norm_are_folded(model: onnx.ModelProto) -> None:
    ops = {node.op_type for node in model.graph.node}
    assert ops == {"Conv", "Clip", "Add", "GlobalAveragePool", "Reshape", "Gemm"}


def test_stated_preprocessing(stated: Hints) -> None:
    assert stated.preprocess == {
        "size": [224, 224],
        "resize": "crop",
        "crop_fraction": 0.875,
        "interpolation": "cubic",
        "scale": 1.0,
        "mean": [127, 127, 127],
        "std": [128, 128, 128],
        "channels": "RGB",
    }
    assert stated.preprocess == sample_models.PREPROCESS


def test_stated_labels(stated: Hints) -> None:
    labels = stated.labels
    assert len(labels) == len(set(labels)) == 1000
    assert all(label and label == label.strip() for label in labels)
    assert (labels[0], labels[281], labels[967], labels[999]) == ("tench", "tabby", "espresso", "toilet tissue")
    lines = (SAMPLES / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    assert tuple(lines) == labels


# The scores may move a little with OpenCV's decoders and resizing; swapped channels or another mean move them far more.
@pytest.mark.parametrize(
    ("photo", "label", "score"),
    [("cat.png", "tiger cat", 9.262), ("coffee.png", "espresso", 11.234), ("rocket.jpg", "missile", 7.160)],
)
def test_top_class(session: ort.InferenceSession, stated: Hints, photo: str, label: str, score: float) -> None:
    (logits,) = session.run(["logits"], {"image": read_photo(photo)})
    assert stated.labels[logits[0].argmax()] == label
    assert logits[0].max() == pytest.approx(score, abs=0.05)


def test_the_cat_is_a_cat(session: ort.InferenceSession, stated: Hints) -> None:
    (logits,) = session.run(["logits"], {"image": read_photo("cat.png")})
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    best = np.argsort(-logits[0])[:3]
    assert {stated.labels[c] for c in best} == CATS
    assert probabilities[best].sum() > 0.9


def test_batch_is_really_dynamic(session: ort.InferenceSession) -> None:
    photos = [read_photo(name) for name in ("cat.png", "coffee.png", "rocket.jpg")]
    (together,) = session.run(["logits"], {"image": np.concatenate(photos)})
    alone = np.concatenate([session.run(["logits"], {"image": photo})[0] for photo in photos])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


# --- the int8 twin ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin() -> onnx.ModelProto:
    return onnx.load(INT8)


def test_the_twin_is_quantised_and_small(twin: onnx.ModelProto) -> None:
    onnx.checker.check_model(twin, full_check=True)
    assert {entry.domain: entry.version for entry in twin.opset_import} == {"": 17}
    ops = {node.op_type for node in twin.graph.node}
    floats = {"Conv", "Add", "GlobalAveragePool", "Reshape", "Gemm"}
    assert ops == {"QuantizeLinear", "DequantizeLinear", *floats}, "Clip is what its quantiser does"
    assert INT8.stat().st_size <= 6e6


def test_every_product_of_the_twin_takes_integers(twin: onnx.ModelProto) -> None:
    """Each operand is the float of integers: uint8, of a bias int32; one zero point for all channels."""
    makers = {output: node for node in twin.graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in twin.graph.initializer}
    kinds = {name: tensor.data_type for name, tensor in stored.items()}
    products = [node for node in twin.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(products) == 50
    for node in products:
        made = [makers[name] for name in node.input]
        assert [maker.op_type for maker in made] == ["DequantizeLinear"] * 3
        zeros = [kinds[maker.input[2]] for maker in made]
        assert zeros == [onnx.TensorProto.UINT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32]
        assert (numpy_helper.to_array(stored[made[1].input[2]]) == 128).all(), "else its convolutions take the slow way"


def test_the_twin_states_what_the_model_states(model: onnx.ModelProto, twin: onnx.ModelProto) -> None:
    assert {p.key: p.value for p in twin.metadata_props} == {p.key: p.value for p in model.metadata_props}
    ports = [(value.name, dims(value)) for value in (*twin.graph.input, *twin.graph.output)]
    assert ports == [(value.name, dims(value)) for value in (*model.graph.input, *model.graph.output)]


@pytest.mark.parametrize("photo", PHOTOS)
def test_the_twin_agrees(session: ort.InferenceSession, photo: str) -> None:
    image = {"image": read_photo(photo)}
    (logits,) = session.run(["logits"], image)
    (quantised,) = ort.InferenceSession(INT8, providers=["CPUExecutionProvider"]).run(["logits"], image)
    assert quantised[0].argmax() == logits[0].argmax()
    assert quantised.tobytes() != logits.tobytes(), "it is another model"
    assert np.corrcoef(quantised[0], logits[0])[0, 1] > 0.98


@pytest.fixture(scope="module")
def explainers() -> tuple[Explainer, Explainer]:
    return Explainer(MODEL, threads=1), Explainer(INT8, threads=1)


@pytest.mark.parametrize("photo", PHOTOS)
def test_the_maps_of_the_twin_are_those_of_the_model(explainers: tuple[Explainer, Explainer], photo: str) -> None:
    ours, theirs = (explainer.explain(SAMPLES / "photos" / photo) for explainer in explainers)
    assert theirs.classes[0, 0] == ours.classes[0, 0]
    a, b = (explanation.maps[0, 0].ravel() for explanation in (ours, theirs))
    assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.99


def test_every_photo_has_its_licence() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    photos = sorted(path.name for path in (SAMPLES / "photos").iterdir())
    assert photos == ["cat.png", "coffee.png", "rocket.jpg"]
    for photo in photos:
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| `photos/{photo}`")]
        assert "CC0" in row or "public domain" in row


def test_tool_names_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_models, "PIP_NAMES", {"onnx": "onnx", "no_such_module": "no-such-package"})
    with pytest.raises(SystemExit, match=r"pip install no-such-package$"):
        sample_models.require_packages()
