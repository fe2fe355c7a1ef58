"""`check`: it proves good models, and finds each planted fault."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images
from onnx_xcam import XcamError, check
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.methods import EMITTED, METHODS
from onnx_xcam.errors import InputError, LayerError, ModelError
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.rules import RULES
from onnx_xcam.surgery.tail import cam
from onnx_xcam.verification.unchanged import VARIANTS, check_output, patched

UINT8 = build(
    "f = Cast<to=1>(image)  k = Constant<value_float=0.01>()  x = Mul(f, k)  c = Conv<strides=[2,2]>(x, w) "
    "a = Relu(c)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)",
    {"w": (4, 3, 3, 3), **GAP_WEIGHTS},
    inputs="uint8[N,3,12,12] image",
)
NHWC = build(
    "x = Transpose<perm=[0,3,1,2]>(image)  c = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(c)  a = Relu(t) "
    "flat = ReduceMean<axes=[1,2], keepdims=0>(a)  logits = Gemm<transB=1>(flat, fc, fb)",
    {"w": (4, 3, 3, 3), **GAP_WEIGHTS},
    inputs="float[N,12,12,3] image",
)
GOOD = {
    "gap": (cnn("gap"), "auto"),
    "dense": (cnn("dense", n=2), "auto"),
    "several layers": (cnn("dense", n="N"), ["a", "c2", "p1", "r1"]),
    "signed": (cnn("dense", act="s = Sigmoid(c2)  a = Mul(c2, s)"), ["a", "c2"]),
    "saturated": (
        cnn("dense", act="k = Constant<value_float=30.0>()  z = Add(c2, k)  s = Sigmoid(z)  a = Mul(c2, s)"),
        ["a", "c2"],
    ),
    "softmax": (cnn("gap", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y"), "p1"),
    "opset 9": (cnn("gap", opset=9, ir=4), "p1"),
    "opset 21": (cnn("dense", opset=21), "p1"),
    "uint8": (UINT8, ["a", "c"]),
    "channels last": (NHWC, ["a", "c"]),
    "one logit": (
        cnn("pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  z = Gemm<transB=1>(flat, one)  y = Sigmoid(z)",
            output="float[N,1] y", weights={"one": (1, 4)}), "p1"),
    "no batch": (cnn(GAP + " ax = Constant<value_ints=[0]>()  y = Squeeze(logits, ax)", n=1, output=f"float[{C}] y",
                     weights=GAP_WEIGHTS), "p1"),
    "[N]": (
        cnn("pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  z = Gemm<transB=1>(flat, one) "
            "ax = Constant<value_ints=[1]>()  y = Squeeze(z, ax)", output="float[N] y", weights={"one": (1, 4)}), "p1"),
    "residual": (cnn(GAP, act="r2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(r2, w3)  s3 = Add(c3, r2)  a = Relu(s3)",
                     weights={**GAP_WEIGHTS, "w3": (4, 4, 3, 3)}), "r2"),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_good_models_pass(case):
    model, layers = GOOD[case]
    report = check(model, layers=layers)
    assert report.passed, report.text()
    if case != "channels last":  # there ONNX Runtime moves the Transpose, and the sum of the mean runs in another order
        assert [out.difference for out in report.outputs] == [0.0]
    assert all(node.error is not None and node.error < 1e-6 for node in report.nodes), report.text()
    assert report.nodes
    expected = ["a"] if layers == "auto" else [layers] if isinstance(layers, str) else layers
    assert [layer.layer for layer in report.layers] == expected
    says, does = report.layers[0].finite_difference
    if case in ("gap", "softmax", "uint8"):  # no kinks behind the layer, or few: both ways agree
        np.testing.assert_allclose(says, does, rtol=0.05, atol=1e-3)


def test_classes_masked_by_infinity_are_no_failure():
    """What stays infinite has no slope, whatever is added to it."""
    end = "m = Constant<value_floats=[0.0,0.0,-inf,0.0,-inf]>()  l = Add(logits, m)  y = Softmax<axis=1>(l)"
    model = cnn("dense", end=end.replace("-inf", "-1e38"), output=f"float[N,{C}] y")
    mask = next(node for node in model.graph.node if node.op_type == "Constant")
    mask.attribute[0].floats[:] = [0.0, 0.0, -np.inf, 0.0, -np.inf]
    report = check(model)
    assert report.passed, report.text()
    assert any(node.op == "Add" for node in report.nodes)


def test_labels_as_texts_are_compared_too():
    """An output of texts: what they are in a run of several images is no matter of numbers."""
    names = ",".join(f'"{name}"' for name in "abcde")
    end = (
        "k = ArgMax<axis=1, keepdims=0>(logits)  "
        f"y = ai.onnx.ml.LabelEncoder<keys_int64s=[0,1,2,3,4], values_strings=[{names}]>(k)"
    )
    model = cnn("dense", end=end, output="string[N] y")
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    report = check(model)
    assert report.passed, report.text()
    assert report.rows.difference is not None


def test_the_report_for_people_and_for_programs():
    report = check(cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y"), layers=["a", "r1"])
    text = report.text()
    assert text.startswith("the model: all checks passed")
    assert "ok    output 'y' of the instrumented model: bit-equal" in text
    assert f"ok    gradient: {len(report.nodes)} of {len(report.nodes)} differentiated nodes pass" in text
    for layer in ("a", "r1"):
        assert f"ok    map of '{layer}'" in text
    assert "FAIL" not in text
    assert "Softmax" in text, "what was assumed is said"
    data = json.loads(json.dumps(report.to_dict()))
    assert data["passed"] is True
    assert [layer["layer"] for layer in data["layers"]] == ["a", "r1"]
    assert {node["op"] for node in data["nodes"]} == {"Conv", "MaxPool", "Relu", "Flatten", "Gemm"}


def test_a_named_image_and_path(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(cnn("dense"), path)
    report = onnx_xcam.check(path, images(3))
    assert report.passed
    assert report.model == str(path)


@pytest.mark.parametrize("op", ["Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Sigmoid", "Mul"])
def test_a_wrong_rule_is_found(op, monkeypatch):
    """A rule that is off by a thousandth: check fails and names the nodes of that operator, and only those."""
    model = cnn("dense", act="s = Sigmoid(c2)  n = Neg(s)  m = Mul(c2, n)  a = Relu(m)")
    assert check(model, layers="r1").passed
    rule = RULES[op]

    def wrong(node, gy):
        result = rule.function(node, gy)
        gradients = [result] if isinstance(result, Value) else list(result)
        return [g if g is None else g * 1.001 for g in gradients]

    monkeypatch.setitem(RULES, op, replace(rule, function=wrong))
    report = check(model, layers="r1")
    assert not report.passed
    assert {node.op for node in report.nodes if not node.passed} == {op}
    assert all(5e-6 < node.error < 1e-2 for node in report.nodes if not node.passed)
    text = report.text()
    assert text.startswith("the model: FAILED")
    assert "FAIL  gradient" in text
    assert f"      {op} '" in text
    assert report.to_dict()["passed"] is False


def test_a_wrong_map_is_found(monkeypatch):
    monkeypatch.setattr(cam, "map_of", lambda xp, contributions: map_of(xp, contributions) * 1.001)
    report = check(cnn("dense"))
    assert not report.passed
    assert report.layers[0].formula == pytest.approx(1e-3, rel=0.1)
    assert "FAIL  map of 'a'" in report.text()


@pytest.mark.parametrize("method", EMITTED)
def test_each_method_is_checked_against_its_formula(method):
    if METHODS[method].is_guided:
        with pytest.raises(XcamError, match="a guided one is made of the input's gradient too; check 'xgrad-cam'"):
            check(cnn("dense"), method=method)
        return
    report = check(cnn("dense", act="a = Identity(c2)"), method=method, layers="a")
    assert report.passed
    assert report.layers[0].formula < 1e-5
    assert (report.layers[0].conservation is not None) == ("conservation" in report.text()) == METHODS[method].conserves


def compared(before, after, *levels, room=0.0):
    """`check_output` of an output on one picture; the original at other levels last."""
    runs = [[{"y": values}] for values in (before, after, *levels)]
    return check_output("y", runs[0], runs[1], runs[2:], room)


def test_a_changed_output_is_found():
    before = np.array([[1.0, 2.0]], np.float32)
    assert compared(before, before.copy()).passed
    near = compared(before, before * np.float32(1 + 3e-7))
    assert near.passed
    assert near.difference > 0
    far = compared(before, before * np.float32(1 + 3e-6))
    assert not far.passed
    assert far.difference == pytest.approx(3e-6, rel=0.1)
    assert compared(before, before * np.float32(1 + 3e-6), room=1e-5).passed
    assert not compared(before, np.array([[1.0, np.nan]], np.float32)).passed
    assert not compared(np.array([1, 2]), np.array([1, 3])).passed


def test_a_quantised_output_moves_as_far_as_by_itself_and_keeps_its_class():
    before, level = np.array([[10, 50, 49]], np.int8), np.array([[10, 50, 47]], np.int8)
    assert compared(before, np.array([[10, 50, 48]], np.int8), level).passed
    assert not compared(before, np.array([[10, 50, 46]], np.int8), level).passed
    other = compared(before, np.array([[10, 48, 49]], np.int8), level)
    assert (other.passed, other.other_classes) == (False, 1)
    assert "and has another top class on 1" in other.text()
    assert compared(before, np.array([[10, 48, 49]], np.int8), np.array([[10, 48, 49]], np.int8)).passed, "its own, too"
    tied = np.array([[10, 50, 50]], np.int8)
    assert compared(tied, np.array([[10, 49, 50]], np.int8), np.array([[10, 49, 49]], np.int8)).passed


def test_pictures_of_other_sizes_of_detail_and_contrast(batch):
    more = patched({"image": batch, "other": np.ones(3)}, {"image": (2, 3)}, np.random.default_rng(0))
    assert len(more) == len(VARIANTS)
    assert len({feeds["image"].tobytes() for feeds in more}) == len(VARIANTS)
    for feeds, (patches, contrast) in zip(more, VARIANTS, strict=True):
        assert (feeds["image"].shape, feeds["image"].dtype) == (batch.shape, batch.dtype)
        assert len(np.unique(feeds["image"][0, 0])) <= patches**2
        assert np.ptp(feeds["image"]) <= contrast * np.ptp(batch) * 1.0001
        assert (feeds["other"] == 1).all()
    whole = patched(
        {"image": np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)}, {"image": (1, 2)}, np.random.default_rng(0)
    )
    assert all(feeds["image"].dtype == np.uint8 for feeds in whole)


def test_a_node_that_cannot_be_evaluated_is_no_proof(monkeypatch):
    """Silence is not success: a node without a result fails the check and is named."""
    monkeypatch.setattr("onnx_xcam.verification.products._dot_product_error", _refuses)
    report = check(cnn("gap"))
    assert not report.passed
    assert "cannot run it: no such thing" in report.text()


def _refuses(*_):
    raise NotImplementedError("no such thing")


def test_what_check_refuses():
    with pytest.raises(LayerError):
        check(cnn(), layers="nothing")
    with pytest.raises(ModelError, match="instrumented already"):
        check(onnx_xcam.instrument(cnn()))
    with pytest.raises(InputError, match="image"):
        check(cnn(), np.zeros((1, 5, 12, 12), np.float32))


def test_a_model_with_several_inputs():
    model = build(
        TRUNK + "a0 = Relu(c2)  a = Mul(a0, gain) " + GAP,
        {**TRUNK_WEIGHTS, **GAP_WEIGHTS},
        inputs="float[1,3,12,12] image, float[1,4,1,1] gain",
        outputs=f"float[1,{C}] logits",
    )
    assert check(model, layers="a0").passed
    with pytest.raises(InputError, match=r"needs the input 'gain'.*--input gain="):
        check(model, images(1))


def test_what_is_stated_of_pictures_does_not_matter_where_there_is_none():
    model = cnn()
    onnx.helper.set_model_props(model, {"onnx_xcam.preprocess": '{"sclae": 1}'})
    assert check(model).passed
