"""The examples in Python and C++ run as a user runs them, and their maps are ONNX Runtime's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers import ROOT
from helpers.models import session
from helpers.runtimes import need_folder, need_module, need_program

PHOTO = ROOT / "sample_models/photos/cat.png"
CLASSES = [282, 7, -1]
"""The map of 7, which the photo does not show, sums to less than 0 before the ReLU."""
TOLERANCE = 1e-4
"""Of the largest value of a map; 1e-3 is promised, 5e-6 was measured."""

PYTHON = {
    "openvino": "openvino",
    "opencv": "cv2",
    "reference": "onnx",
    "tract": "tract",
    "mnn": "MNN",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `explained.onnx`, made as the README of the examples says."""
    path = tmp_path_factory.mktemp("examples")
    model = ROOT / "sample_models/efficientnet_lite0.onnx"
    options = {"emit": ("map", "heatmap"), "class_input": "required"}
    onnx_xcam.instrument_file(model, path / "explained.onnx", **options)
    return path


@pytest.fixture(scope="module")
def want(folder: Path) -> dict[str, np.ndarray]:
    """What ONNX Runtime says, on the image that the examples feed."""
    made = session(str(folder / "explained.onnx"))
    names = [out.name for out in made.get_outputs()]
    return dict(zip(names, made.run(names, {"image": image()[1], "xcam_class": np.array([CLASSES])}), strict=True))


def image() -> tuple[np.ndarray, np.ndarray]:
    """The photo, uint8 `[224,224,3]`, and the model's input, as the examples read it."""
    sys.path.insert(0, str(ROOT / "examples/python"))
    try:
        import common
    finally:
        sys.path.pop(0)
    return common.read(str(PHOTO))


def run(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def hottest(picture: np.ndarray) -> tuple[float, float]:
    """Where the warmth of a grey picture lies on average, as fractions of height and width."""
    weights = picture.astype(np.float64)
    rows, columns = np.indices(weights.shape)
    return float((rows * weights).sum() / weights.sum() / 224), float((columns * weights).sum() / weights.sum() / 224)


@pytest.mark.parametrize("name", PYTHON)
def test_python(name: str, folder: Path, want: dict[str, np.ndarray]) -> None:
    need_module(PYTHON[name])
    asked = [text for number in CLASSES for text in ("--class", str(number))]
    program = str(ROOT / f"examples/python/with_{name}.py")
    command = [sys.executable, program, "explained.onnx", str(PHOTO), *asked, "-o", name, "--arrays", f"{name}.npz"]
    lines = [json.loads(line) for line in run(command, folder) if line.startswith("{")]
    assert [line["class"] for line in lines] == [282, 7, 282]
    with np.load(folder / f"{name}.npz") as found:
        assert set(found) == set(want)
        np.testing.assert_array_equal(found["xcam_classes"], want["xcam_classes"])
        for key in ("logits", "xcam_scores", "xcam_map", "xcam_heatmap"):
            assert found[key].shape == want[key].shape
            np.testing.assert_allclose(found[key], want[key], rtol=0, atol=TOLERANCE * np.abs(want[key]).max())
    for line in lines:
        assert cv2.imread(str(folder / line["picture"])).shape == (224, 224, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="takes the libraries in the wheels by their names on Linux")
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_cpp(name: str, folder: Path, want: dict[str, np.ndarray]) -> None:
    compiler, package = need_program("g++"), need_module(name)
    if name == "onnxruntime":
        headers = need_folder("ONNXRUNTIME_INCLUDE", "onnxruntime_cxx_api.h")
        (library,) = (package / "capi").glob("libonnxruntime.so.*")
        linked = folder / "libonnxruntime.so.1"  # the wheel has it under its full version only
        linked.symlink_to(library)
    else:
        headers = package / "include"
        (linked,) = (package / "libs").glob("libopenvino.so.*")
    source = ROOT / f"examples/cpp/{name}.cpp"
    program = folder / f"{name}_example"
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-isystem", str(headers), str(source), "-o", str(program)]
    run([*command, str(linked), f"-Wl,-rpath,{linked.parent}"], folder)
    (folder / "photo.ppm").write_bytes(b"P6\n224 224\n255\n" + image()[0].tobytes())
    lines = run([str(program), "explained.onnx", "photo.ppm", *map(str, CLASSES)], folder)
    assert [line.split()[1] for line in lines] == ["282", "7", "282"]
    scores = [float(line.split()[3]) for line in lines]
    np.testing.assert_allclose(scores, want["xcam_scores"][0], rtol=1e-4)
    for k, number in ((0, 282), (1, 7)):
        picture = cv2.imread(str(folder / f"explained.{number}.pgm"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_allclose(picture, want["xcam_heatmap"][0, k] * 255, rtol=0, atol=0.51)
        (folder / f"explained.{number}.pgm").unlink()
    wrong = subprocess.run([str(program), "explained.onnx", "absent.ppm"], cwd=folder, capture_output=True, check=False)
    assert wrong.returncode == 1 and b"absent.ppm" in wrong.stderr


def test_reference_alone_takes_one_class(folder: Path, want: dict[str, np.ndarray]) -> None:
    """Nothing mended: the evaluator as onnx ships it."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load(folder / "explained.onnx"))
    (found,) = evaluator.run(["xcam_map"], {"image": image()[1], "xcam_class": np.array([[7]])})
    np.testing.assert_allclose(found[0, 0], want["xcam_map"][0, 1], rtol=0, atol=TOLERANCE)


def test_openvino_square_weights(tmp_path: Path) -> None:
    """A head with a square dense layer: OpenVINO used to give another map, since it mixed the weight with itself."""
    need_module("openvino")
    import openvino

    from helpers.models import C, cnn, images

    head = """
      flat = Flatten(a)  hidden = Gemm<transB=1>(flat, d1, e1)  active = Relu(hidden)
      square = Gemm<transB=1>(active, d2, e2)  again = Softmax(square)
      turned = MatMul(again, d3)  last = Softmax(turned)  logits = Gemm<transB=1>(last, d4, e4)
    """
    size = {"d2": (16, 16), "e2": (16,), "d3": (16, 16)}
    weights = {"d1": (16, 4 * 6 * 6), "e1": (16,), **size, "d4": (C, 16), "e4": (C,)}
    model = onnx_xcam.instrument(cnn(head, weights=weights), emit=("map",), class_input="required")
    feeds = {"image": images(2), "xcam_class": np.array([[0, 3], [4, 1]])}
    (want,) = session(model).run(["xcam_map"], feeds)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(feeds)["xcam_map"], want, rtol=0, atol=1e-5 * want.max())


def test_openvino_weights_that_are_square_in_each_group(tmp_path: Path) -> None:
    """The same of a grouped convolution with a stride, whose gradient is a ConvTranspose by the same weight."""
    need_module("openvino")
    import openvino

    from helpers.models import C, cnn, images

    head = """
      grouped = Conv<group=2, strides=[2,2], pads=[1,1,1,1]>(a, g)  s = Softmax<axis=1>(grouped)
      flat = Flatten(s)  logits = Gemm<transB=1>(flat, fc)
    """
    model = cnn(
        head, act="e = Conv(c2, ew)  a = Relu(e)", weights={"ew": (32, 4, 1, 1), "g": (32, 16, 3, 3), "fc": (C, 32 * 9)}
    )
    made = onnx_xcam.instrument(model, layers="a", emit=("map",), class_input="required")
    feeds = {"image": images(2), "xcam_class": np.array([[0, 3], [4, 1]])}
    (want,) = session(made).run(["xcam_map"], feeds)
    onnx.save(made, tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(feeds)["xcam_map"], want, rtol=0, atol=1e-5 * want.max())
