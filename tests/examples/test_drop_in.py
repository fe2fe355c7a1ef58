"""The explained model in place of the original: scripts and tools that know nothing of it see no difference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_xcam
from helpers import ROOT
from helpers.half_precision import halved
from helpers.models import cnn, saved, session
from helpers.runtimes import need_module

PHOTOS = [str(path) for path in sorted((ROOT / "sample_models/photos").iterdir())]
LITE0 = ROOT / "sample_models/efficientnet_lite0.onnx"
INT8 = ROOT / "sample_models/efficientnet_lite0_int8.onnx"
CLASSIFY = ROOT / "examples/drop_in/classify.py"
OTHERWISE = ROOT / "tests/examples/drop_in/classify_otherwise.py"
EMIT = ("map", "activations", "gradients", "heatmap", "status")


def outside(path: Path) -> None:
    """The sample model with its weights in another file."""
    onnx.save(onnx.load(LITE0), path, save_as_external_data=True, location=f"{path.stem}.weights")


def old(path: Path) -> None:
    """As exporters wrote it in 2018: opset 9, IR 3, every weight an input."""
    model = cnn("dense", opset=9, ir=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, path)


MODELS: dict[str, tuple[Callable[[Path], object], int]] = {
    "sample": (lambda path: path.write_bytes(LITE0.read_bytes()), 1),
    "symbolic batch of 3": (lambda path: path.write_bytes(LITE0.read_bytes()), 3),
    "int8": (lambda path: path.write_bytes(INT8.read_bytes()), 2),
    "external data": (outside, 1),
    "old": (old, 2),
    "fixed batch": (lambda path: onnx.save(cnn("dense", n=3), path), 3),
    "float16": (lambda path: onnx.save(halved(cnn("dense")), path), 2),
    "probabilities": (
        lambda path: onnx.save(cnn("gap", end="p = Softmax(logits)", output="float[N,5] p"), path),
        1,
    ),
}
"""Name: (how it is made, number of photos)."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Makes the original and the explained file of one of MODELS, once."""
    made: dict[str, tuple[Path, Path]] = {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp("drop_in")
            made[name] = folder / "model.onnx", folder / "explained.onnx"
            MODELS[name][0](made[name][0])
            onnx_xcam.instrument_file(*made[name], emit=EMIT)
        return made[name]

    return of


Pairs = Callable[[str], tuple[Path, Path]]


def printed(*command: object) -> bytes:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout
    return done.stdout


@pytest.mark.parametrize("name", MODELS)
def test_the_script_prints_the_same(name: str, pairs: Pairs) -> None:
    original, explained = pairs(name)
    photos = PHOTOS[: MODELS[name][1]]
    want = printed(CLASSIFY, original, *photos)
    assert want.count(b"\n") == 5 * len(photos)
    assert printed(CLASSIFY, explained, *photos) == want


@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_outputs_are_the_same(name: str, pairs: Pairs) -> None:
    """Names, order, types and shapes; values bit by bit; only outputs named xcam_ join them."""
    before, after = (session(str(path)) for path in pairs(name))
    assert [described(i) for i in after.get_inputs()] == [described(i) for i in before.get_inputs()]
    want, found = ([described(out) for out in one.get_outputs()] for one in (before, after))
    assert found[: len(want)] == want
    assert all(entry[0].startswith("xcam_") for entry in found[len(want) :])
    feeds = {before.get_inputs()[0].name: drawn(before, MODELS[name][1])}
    results = after.run(None, feeds)
    for one, other in zip(before.run(None, feeds), results, strict=False):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(results[[out.name for out in after.get_outputs()].index("xcam_map")]).all()


def described(value: ort.NodeArg) -> tuple[str, str, list[object]]:
    return value.name, value.type, value.shape


def drawn(made: ort.InferenceSession, count: int) -> np.ndarray:
    """Random images as the first input wants them."""
    image = made.get_inputs()[0]
    shape = [count, *image.shape[1:]]
    values = np.random.default_rng(0).normal(size=shape)
    return values.astype({"tensor(float)": np.float32, "tensor(float16)": np.float16}[image.type])


WAYS = ["first_output", "by_name", "io_binding", "io_binding_of_all", "openvino", "opencv", "reference"]


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_print_the_same(way: str, pairs: Pairs, tmp_path: Path) -> None:
    if way == "openvino":
        need_module("openvino")
    if way == "opencv" and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV before 5 reads no Expand to more axes")
    original, explained = pairs("sample")
    np.save(tmp_path / "x.npy", drawn(session(str(original)), 1))
    want = printed(OTHERWISE, way, original, tmp_path / "x.npy")
    assert printed(OTHERWISE, way, explained, tmp_path / "x.npy") == want


@pytest.mark.parametrize("name", MODELS)
def test_onnx_takes_it(name: str, pairs: Pairs) -> None:
    """The checker, and shape inference, which finds the same shapes of the original's outputs as in the original."""
    original, explained = pairs(name)
    onnx.checker.check_model(str(explained), full_check=True)
    before, after = (onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True) for path in pairs(name))
    for want, found in zip(before.graph.output, after.graph.output, strict=False):
        assert found == want
    assert onnx.load(original).graph.name == after.graph.name


@pytest.mark.parametrize("name", ["sample", "int8", "external data"])
def test_what_viewers_show_is_still_there(name: str, pairs: Pairs) -> None:
    """Producer, version, descriptions, metadata: the original's, and one entry more."""
    metas = [session(str(path)).get_modelmeta() for path in pairs(name)]
    for field in ("producer_name", "domain", "description", "graph_name", "graph_description", "version"):
        assert getattr(metas[1], field) == getattr(metas[0], field)
    before, after = (meta.custom_metadata_map for meta in metas)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"onnx_xcam"}


def test_the_preprocessing_of_quantisation_takes_it(pairs: Pairs, tmp_path: Path) -> None:
    """ONNX Runtime's symbolic shape inference and optimisation, as its quantiser asks for them."""
    need_module("sympy")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    _, explained = pairs("fixed batch")
    quant_pre_process(str(explained), str(tmp_path / "prepared.onnx"))
    assert_same_outputs(explained, tmp_path / "prepared.onnx", 3)


def test_what_onnxruntime_optimised_and_saved_is_the_same(pairs: Pairs, tmp_path: Path) -> None:
    _, explained = pairs("fixed batch")
    optimised = saved(onnx.load(explained), ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, tmp_path)
    onnx.save(optimised, tmp_path / "saved.onnx")
    assert_same_outputs(explained, tmp_path / "saved.onnx", 3)


@pytest.mark.parametrize("tool", ["onnxslim", "onnxsim"])
def test_simplifiers_leave_the_map(tool: str, pairs: Pairs, tmp_path: Path) -> None:
    """They take the default class for a constant: the map of the top class stays, the choice is gone."""
    need_module(tool)
    _, explained = pairs("sample")
    if tool == "onnxslim":
        import onnxslim

        slim = onnxslim.slim(onnx.load(explained))
    else:
        import onnxsim

        slim, good = onnxsim.simplify(onnx.load(explained))
        assert good
    onnx.save(slim, tmp_path / "slim.onnx")
    assert_same_outputs(explained, tmp_path / "slim.onnx", 1, tolerance=1e-5)


def assert_same_outputs(path: Path, other: Path, count: int, tolerance: float = 1e-6) -> None:
    """All outputs of two files on random images, up to a part of the largest value."""
    one, two = session(str(path)), session(str(other))
    names = [out.name for out in one.get_outputs()]
    assert [out.name for out in two.get_outputs()] == names
    feeds = {one.get_inputs()[0].name: drawn(one, count)}
    for name, want, found in zip(names, one.run(names, feeds), two.run(names, feeds), strict=True):
        np.testing.assert_allclose(
            found, want, rtol=0, atol=tolerance * np.abs(want.astype(np.float64)).max(), err_msg=name
        )
