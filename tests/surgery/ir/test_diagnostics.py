"""A failure that nothing foresaw blames the file only where onnx refuses the file, and is raised as it is in tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, build, cnn
from onnx_xcam import check, inspect, instrument
from onnx_xcam.errors import ModelError, UnexpectedError
from onnx_xcam.surgery.analysis import concrete_size
from onnx_xcam.surgery.analysis import prepare as prepare_module
from onnx_xcam.surgery.autodiff import function_bodies
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.diagnostics import STRICT, Diagnosed
from onnx_xcam.surgery.ir.verify import refusal
from onnx_xcam.surgery.lowering import lowered
from onnx_xcam.surgery.rules import RULES

MISTAKES = (AttributeError, TypeError, KeyError, IndexError, ValueError, AssertionError, RuntimeError, StopIteration)


@pytest.fixture(params=MISTAKES, ids=lambda kind: kind.__name__)
def mistake(request, monkeypatch):
    """A mistake in a rule: it raises an exception of this class."""

    def function(node, gy):
        raise request.param("planted")

    monkeypatch.setitem(RULES, "Relu", dataclasses.replace(RULES["Relu"], function=function))
    return request.param


def gemm_of_five_axes() -> onnx.ModelProto:
    model = cnn("gap")
    fc = next(tensor for tensor in model.graph.initializer if tensor.name == "fc")
    fc.CopyFrom(onnx.numpy_helper.from_array(np.zeros((6, 4, 1, 0, 1), np.int8), "fc"))
    return model


def test_a_mistake_of_ours_is_raised_in_tests(mistake):
    with pytest.raises(mistake, match="planted"):
        instrument(cnn("gap"), layers="c2")


@pytest.mark.parametrize("call", [instrument, check])
def test_a_mistake_of_ours_does_not_blame_the_file(mistake, call, monkeypatch):
    monkeypatch.setenv(STRICT, "0")
    with pytest.raises(UnexpectedError, match=rf"Node '.*' \(Relu\).*{mistake.__name__}: .*planted.*please report"):
        call(cnn("gap"), layers="c2")


SECOND_LOOKS = {
    "at a picture's size": (concrete_size, cnn("gap", size="H")),
    "at an operator's body": (
        function_bodies,
        cnn("gap", act="to = Constant<value_ints=[4,4]>()  a = CenterCropPad<axes=[2,3]>(c2, to)", opset=18),
    ),
}
"""Models that are looked at a second time, in another form, and the module that does."""


@pytest.mark.parametrize("look", SECOND_LOOKS)
def test_a_mistake_in_a_second_look_is_not_taken_for_a_model_without_such_a_form(look, monkeypatch):
    module, model = SECOND_LOOKS[look]
    assert instrument(model, layers="p1").graph.node
    monkeypatch.setenv(STRICT, "0")

    def mistaken(*_args, **_options):
        with Diagnosed("it"):
            raise AttributeError("planted")

    monkeypatch.setattr(module, "prepare", mistaken)
    with pytest.raises(UnexpectedError, match=r"AttributeError: planted.*please report"):
        instrument(model, layers="p1")


def test_the_command_line_says_it_without_a_traceback(mistake, run, tmp_path, monkeypatch):
    monkeypatch.setenv(STRICT, "0")
    onnx.save(cnn("gap"), tmp_path / "m.onnx")
    status, out, err = run("instrument", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx", "--layer", "c2")
    assert (status, out) == (1, "")
    assert "please report it" in err and "Traceback" not in err


@pytest.mark.parametrize("strict", ["0", "1"])
def test_a_file_that_onnx_refuses_is_damaged(strict, monkeypatch):
    """Whether or not exceptions pass: what fails is the file's verification."""
    monkeypatch.setenv(STRICT, strict)
    with pytest.raises(ModelError, match=r"The model is damaged: onnx refuses it \(.*rank 2 but has rank 5") as caught:
        instrument(gemm_of_five_axes())
    assert not isinstance(caught.value, UnexpectedError)


def test_operators_that_nobody_knows_may_be_the_reason(monkeypatch):
    monkeypatch.setenv(STRICT, "0")
    said = r"^It cannot be analysed \(KeyError: 1\).*please report it\. .*Perhaps\.$"
    with pytest.raises(UnexpectedError, match=said), Diagnosed("it", lambda: "Perhaps."):
        raise KeyError(1)


def test_an_error_of_ours_and_a_key_of_the_keyboard_pass(monkeypatch):
    monkeypatch.setenv(STRICT, "0")
    for error in (ModelError("said already"), KeyboardInterrupt(), OSError("disk")):
        with pytest.raises(type(error)), Diagnosed(Source(b"")):
            raise error


@pytest.mark.parametrize("flag", ["keepdims", "allowzero"])
def test_flags_are_0_or_1(flag):
    """onnx and ONNX Runtime read others differently: an axis may be kept or gone."""
    text = {
        "keepdims": "flat = ReduceMean<axes=[2,3], keepdims=9>(a)",
        "allowzero": "to = Constant<value_ints=[0,-1]>()  p = GlobalAveragePool(a)  flat = Reshape<allowzero=7>(p, to)",
    }[flag]
    model = cnn(text + "  logits = Gemm<transB=1>(flat, fc, fb)", weights=GAP_WEIGHTS)
    for call in (inspect, instrument):
        with pytest.raises(ModelError, match=rf"attribute '{flag}' is \d, not 0 or 1; the file is damaged"):
            call(model)


def test_a_constant_that_does_not_hold_what_it_states():
    model = build("k = Constant<value = float[2] {1, 2}>()  m = Mul(image, k)  c = Conv(m, w)  a = Relu(c)" + GAP,
                  {"w": (4, 3, 3, 3), **GAP_WEIGHTS}, inputs="float[N,3,12,2] image")  # fmt: skip
    constant = next(node for node in model.graph.node if node.op_type == "Constant")
    constant.attribute[0].t.ClearField("raw_data")
    constant.attribute[0].t.float_data[:] = [1.0]
    for call in (inspect, instrument):
        with pytest.raises(ModelError, match=r"The value of node 'k' \(Constant\) is damaged"):
            call(model)


def test_onnx_refuses_no_good_model():
    """Neither for a shape that an exporter noted wrongly, nor for operators that onnx does not know."""
    good = cnn("gap")
    assert refusal(good) is None
    good.graph.value_info.add(name="flat").type.tensor_type.shape.dim.add(dim_value=7)
    good.graph.value_info[-1].type.tensor_type.elem_type = 1
    assert refusal(good) is None
    assert "rank" in (refusal(gemm_of_five_axes()) or "")
    foreign = gemm_of_five_axes()
    foreign.graph.node[0].domain = "com.microsoft"
    assert refusal(foreign) is None


def test_onnx_judges_a_file_beside_an_operator_of_a_later_opset():
    """A node that onnx does not know keeps its shape inference from reporting anything."""
    damaged, good = gemm_of_five_axes(), cnn("gap")
    for model in (damaged, good):
        assert next(entry.version for entry in model.opset_import if not entry.domain) < 20
        model.graph.node.insert(0, onnx.helper.make_node("Gelu", ["image"], ["later"]))
    assert "rank" in (refusal(damaged) or "")
    assert refusal(good) is None


def test_a_domain_that_the_file_does_not_import_is_not_taken_for_a_mistake_of_ours():
    model = cnn("gap")
    next(node for node in model.graph.node if node.op_type == "Flatten").domain = "com.microsoft"
    with pytest.raises(ModelError, match="No opset import for domain com") as caught:
        inspect(model)
    assert not isinstance(caught.value, UnexpectedError)


def test_shapes_that_our_own_rewriting_breaks_do_not_blame_the_file(monkeypatch):
    broken = cnn("gap")
    next(node for node in broken.graph.node if node.op_type == "Flatten").domain = "com.microsoft"
    known = lowered(cnn("gap"))
    monkeypatch.setattr(prepare_module, "lowered", lambda model: dataclasses.replace(known, model=broken))
    with pytest.raises(UnexpectedError, match="that is a bug here or a damaged file: please report it"):
        inspect(cnn("gap"))
