"""int8 activations: what ONNX Runtime makes uint8 when nobody else reads it stays what it would have been."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import QuantType

import onnx_xcam
from helpers.int8_models import fed, photos, quantised, resnet8
from helpers.models import C, build, forward_ops, images, run
from onnx_xcam import check, inspect, instrument
from onnx_xcam.surgery.normalise.unsigned_activations import signed_pairs

Level = ort.GraphOptimizationLevel
LEVELS = (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_EXTENDED, Level.ORT_ENABLE_ALL)
EMIT = ("map", "activations", "gradients", "status")
on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="ONNX Runtime changes int8 to uint8 on x86 only"
)


def at(model: onnx.ModelProto, level: Level, name: str, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.intra_op_num_threads = 1
    made = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(made.run([name], {made.get_inputs()[0].name: x})[0])


def assert_unchanged(
    model: onnx.ModelProto, made: onnx.ModelProto, x: np.ndarray, folder: Path, levels: Sequence[Level] = LEVELS
) -> None:
    """Outputs bit-equal at these levels of optimisation, and the model's own nodes fused as before.

    A change of layout may come with a DequantizeLinear before and a QuantizeLinear behind it, which change no integer.
    """
    name = model.graph.output[0].name
    for level in levels:
        np.testing.assert_array_equal(at(made, level, name, x), at(model, level, name, x))
    fused = [forward_ops(one, folder) for one in (model, made)]
    for ops in fused:
        del ops[":QuantizeLinear"], ops[":DequantizeLinear"]
    assert fused[0] == fused[1]


# --- a ResNet-8 with int8 input and output ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8])
def test_a_resnet8_gives_what_it_gave(layout, per_channel, activations, tmp_path):
    last = layout == "NHWC"
    twin = quantised(
        resnet8(layout), tmp_path, photos(32, 5, last=last), per_channel=per_channel, activations=activations
    )
    x = fed(twin, photos(63, 77, last=last))
    assert x.dtype == (np.int8 if activations == QuantType.QInt8 else np.uint8)
    for layers in ("auto", ["r0_DequantizeLinear_Output", "r1_DequantizeLinear_Output"]):
        made = instrument(twin, layers=layers, emit=EMIT)
        onnx.checker.check_model(made)
        assert_unchanged(twin, made, x, tmp_path)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """The ResNet-8 with int8 input and output."""
    return quantised(resnet8(), tmp_path_factory.mktemp("twin"), photos(32, 5))


@on_x86
def test_check_finds_outputs_that_move(twin, monkeypatch):
    """Were the pairs left alone, other operators would run on integers, and the outputs of a few pictures move."""
    assert check(twin).passed
    monkeypatch.setattr(sys.modules["onnx_xcam.surgery.instrumented"], "signed_pairs", lambda _: ())
    report = check(twin)
    (output,) = report.outputs
    assert not report.passed and not output.passed
    assert output.difference > 0 and output.pictures > 1
    assert f"FAIL  output '{output.name}' of the instrumented model: differs by" in report.text()
    assert f"on {output.pictures} pictures" in report.text()


def test_only_what_is_read_becomes_uint8(twin):
    made = instrument(twin)
    before, after = ({node.output[0]: node for node in model.graph.node} for model in (twin, made))
    changed = [name for name, node in before.items() if node != after[name]]
    read = {"r2_QuantizeLinear_Output", "logits_QuantizeLinear_Output"}
    assert {name for name in changed if after[name].op_type == "QuantizeLinear"} == read
    assert len(changed) == 2 * len(read)
    assert list(after)[: len(before)] == list(before), "in the order they had"


def test_the_file_is_what_the_model_is(twin, tmp_path):
    onnx.save(twin, tmp_path / "twin.onnx")
    onnx_xcam.instrument_file(tmp_path / "twin.onnx", tmp_path / "made.onnx")
    made = onnx.load(tmp_path / "made.onnx")
    assert made == instrument(twin)
    assert_unchanged(twin, made, fed(twin, photos(8, 1)), tmp_path)


def test_weights_in_another_file_stay_there(twin, tmp_path):
    outside = onnx.ModelProto()
    outside.CopyFrom(twin)
    onnx.save(outside, tmp_path / "twin.onnx", save_as_external_data=True, location="weights", size_threshold=64)
    onnx_xcam.instrument_file(tmp_path / "twin.onnx", tmp_path / "made.onnx")
    made = onnx.load(tmp_path / "made.onnx", load_external_data=False)
    assert {entry.value for tensor in made.graph.initializer for entry in tensor.external_data} > {"weights"}
    assert_unchanged(twin, onnx.load(tmp_path / "made.onnx"), fed(twin, photos(8, 1)), tmp_path)


def test_stated_types_of_inner_tensors_follow(twin, tmp_path):
    told = onnx.shape_inference.infer_shapes(twin)
    made = instrument(told)
    onnx.checker.check_model(made, full_check=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    assert kinds["r2_QuantizeLinear_Output"] == onnx.TensorProto.UINT8
    assert kinds["r1_QuantizeLinear_Output"] == onnx.TensorProto.INT8
    assert_unchanged(told, made, fed(twin, photos(8, 1)), tmp_path)


def test_the_explanation_is_that_of_the_float_model(twin):
    pictures = photos(6, 3)
    mine = run(instrument(twin), fed(twin, pictures), [[1, 4]])["xcam_map"].reshape(12, -1)
    theirs = run(instrument(resnet8()), pictures, [[1, 4]])["xcam_map"].reshape(12, -1)
    for ours, other in zip(mine, theirs, strict=True):
        assert ours @ other >= 0.97 * np.linalg.norm(ours) * np.linalg.norm(other)


# --- one operator behind another --------------------------------------------------------------------------------------

CONV = "c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)  "
ACTS = {
    "Conv": CONV.replace("c2 =", "a ="),
    "Relu": CONV + "a = Relu(c2)",
    "LeakyRelu": CONV + "a = LeakyRelu<alpha=0.1>(c2)",
    "Sigmoid": CONV + "a = Sigmoid(c2)",
    "Clip": CONV + "zero = Constant<value_float=0.0>()  six = Constant<value_float=6.0>()  a = Clip(c2, zero, six)",
    "Add": CONV + "a2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(a2, w3, b2)  a = Add(c3, a2)",
    "Mul": CONV + "c3 = Conv<pads=[1,1,1,1]>(r1, w4, b2)  g = Sigmoid(c3)  a = Mul(c2, g)",
    "gate": CONV + "a2 = Relu(c2)  p2 = GlobalAveragePool(a2)  z = Conv(p2, w5, b2)  g = Sigmoid(z)  a = Mul(a2, g)",
    "Concat": CONV + "a2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(r1, w4, b2)  a = Concat<axis=1>(a2, c3)",
    "MaxPool": CONV + "a2 = Relu(c2)  a = MaxPool<kernel_shape=[2,2]>(a2)",
    "Transpose": CONV + "a2 = Relu(c2)  t = Transpose<perm=[0,2,3,1]>(a2)  a = Transpose<perm=[0,3,1,2]>(t)",
    "ConvTranspose": "c2 = ConvTranspose<strides=[2,2]>(r1, w6, b2)  a = Relu(c2)",
    "Resize": CONV + "a2 = Relu(c2)  two = Constant<value_floats=[1.0,1.0,2.0,2.0]>()  "
    'a = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(a2, , two)',
    "Slice": CONV + "a2 = Relu(c2)  s = Constant<value_ints=[0]>()  e = Constant<value_ints=[8]>()  "
    "x2 = Constant<value_ints=[2]>()  a = Slice(a2, s, e, x2)",
}  # fmt: skip
GATHERED = (
    "p = GlobalAveragePool(a)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc, fb)  prob = Softmax<axis=-1>(logits)"
)
HEADS = {
    "Gemm": "p = GlobalAveragePool(a)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc, fb)",
    "MatMul": "p = GlobalAveragePool(a)  f = Flatten(p)  h = MatMul(f, fd)  logits = Add(h, fb)",
    "Conv": "k = Conv(a, fk, fb)  p = GlobalAveragePool(k)  logits = Flatten(p)",
    "ReduceMean": "p = ReduceMean<axes=[2,3], keepdims=0>(a)  logits = Gemm<transB=1>(p, fc, fb)",
}
SHAPES = {"w1": (3, 3, 3, 3), "b1": (3,), "w2": (4, 3, 3, 3), "b2": (4,), "w3": (4, 4, 3, 3), "w4": (4, 3, 3, 3),
          "w5": (4, 4, 1, 1), "w6": (3, 4, 3, 3), "fb": (C,)}  # fmt: skip


def small(act: str, head: str) -> onnx.ModelProto:
    text = "c1 = Conv<pads=[1,1,1,1]>(image, w1, b1)  r1 = Relu(c1)  " + ACTS[act] + "  " + HEADS[head]
    text += "  prob = Softmax<axis=-1>(logits)"
    channels = 8 if act == "Concat" else 4
    shapes = {**SHAPES, "fc": (C, channels), "fd": (channels, C), "fk": (C, channels, 1, 1)}
    used = {name: shape for name, shape in shapes.items() if f" {name}" in text}
    return build(text, used, outputs=f"float[N,{C}] prob", opset=13, seed=4)


@pytest.mark.parametrize(
    ("act", "head"), [*((act, "Gemm") for act in ACTS), *(("Relu", head) for head in HEADS if head != "Gemm")]
)
@pytest.mark.parametrize("outside", [True, False], ids=["integers outside", "floats outside"])
def test_small_models_give_what_they_gave(act, head, outside, tmp_path):
    twin = quantised(small(act, head), tmp_path, images(16, seed=3), integers_outside=outside)
    x = fed(twin, images(6, seed=9))
    names = [layer.name for layer in inspect(twin).layers if not layer.unsupported]
    for layers in ("auto", names[:1], names):
        assert_unchanged(twin, instrument(twin, layers=layers, emit=EMIT), x, tmp_path, levels=LEVELS[-1:])


# --- what is left alone -----------------------------------------------------------------------------------------------

QDQ = (
    "c = Conv(image, w)  q = QuantizeLinear(c, scale, zero)  d = DequantizeLinear(q, scale, zero)  a = Relu(d)  "
    "p = GlobalAveragePool(a)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc)"
)


def pairs(text: str, *, outputs: str = f"float[N,{C}] logits", zero: object = np.int8(3), **more) -> list[str]:
    weights = {"w": (4, 3, 3, 3), "fc": (C, 4), "scale": np.array(0.1, np.float32), "zero": np.array(zero)}
    return [pair.integers for pair in signed_pairs(build(text, weights, outputs=outputs, **more))]


def test_which_pairs_onnx_runtime_changes():
    assert pairs(QDQ) == ["q"]
    assert pairs(QDQ, zero=np.uint8(3)) == [], "uint8 already"
    assert pairs(QDQ, zero=np.zeros(4, np.int8)) == [], "one for each channel"
    assert pairs(QDQ, zero=np.int16(0), opset=21, ir=10) == []
    assert pairs(QDQ + "  e = DequantizeLinear(q, scale, zero)", outputs=f"float[N,{C}] logits, float e") == []
    assert pairs(QDQ + "  e = Neg(d)", outputs=f"float[N,{C}] logits, float e") == [], "two that get one each"
    assert pairs(QDQ, outputs=f"float[N,{C}] logits, int8 q") == []
    assert pairs(QDQ, outputs=f"int8 q, float[N,{C}] logits") == [], "whichever output it is"
    assert pairs(QDQ, outputs=f"float[N,{C}] logits, float d") == []
    assert pairs(QDQ, inputs="float[N,3,12,12] image, int8 zero") == [], "whoever runs it may change the zero point"
