"""Products of 8-bit integers: on a processor whose sums of them saturate that is said, and `exact` makes them right.

What this processor does is found out here by a product of its own. `tools/runtimes/without_vnni.c` makes the tests run
as on one that saturates; they are told so by XCAM_SATURATES=1.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers.models import C, build, images, session
from onnx_xcam import Explainer, check, instrument
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.evaluation.sanity import sanity
from onnx_xcam.images.write import write_image
from onnx_xcam.surgery.analysis.integer_products import beyond_seven_bits, products
from onnx_xcam.surgery.lowering import lowered

K = 16
RANDOM = np.random.default_rng(3)
SIGNS = RANDOM.permuted(np.resize([1, -1], C))
"""Weights of one sign in each class, so that all pairs of products add up."""
LARGE = (SIGNS * RANDOM.integers(90, 128, (K, C))).astype(np.int8)
UNSIGNED = (LARGE.astype(np.int16) + 128).astype(np.uint8)
SEVEN_BITS = (LARGE // 2).astype(np.int8)
X = np.abs(images(2, seed=5)) + 1


@pytest.fixture(scope="module")
def saturates() -> bool:
    """Whether uint8 times int8 comes out wrong on this processor."""
    text = "y = MatMulInteger(a, b)"
    ports = {"inputs": f"uint8[4,{K}] a, int8[{K},{C}] b", "outputs": f"int32[4,{C}] y"}
    feeds = {"a": np.full((4, K), 255, np.uint8), "b": np.full((K, C), 127, np.int8)}
    return bool((session(build(text, **ports)).run(["y"], feeds)[0] != 255 * 127 * K).any())


def test_a_processor_that_is_said_to_saturate_does(saturates):
    assert saturates or not os.environ.get("XCAM_SATURATES")


# --- models -----------------------------------------------------------------------------------------------------------

TRUNK = "x = Conv(image, w1)  a = Relu(x)  "
POOLED = TRUNK + "p = GlobalAveragePool(a)  f = Flatten(p)  "
Q, D = "q = QuantizeLinear({0}, s, z)  ", "d = DequantizeLinear(q, s, z)  "
END = "r = QuantizeLinear(y, sy, zy)  {0} = DequantizeLinear(r, sy, zy)  "
AFTER_CONV = "g = GlobalAveragePool(c)  logits = Flatten(g)"
MS = "com.microsoft."
QDQ_CONV = (
    TRUNK + Q.format("a") + D + "v = DequantizeLinear(w, sw, zw)  y = Conv(d, v)  " + END.format("c") + AFTER_CONV
)
QDQ_MATMUL = POOLED + Q.format("f") + D + "v = DequantizeLinear(w, sw, zw)  y = MatMul(d, v)  " + END.format("logits")
FORMS = {
    "QDQ Conv": QDQ_CONV,
    "QDQ MatMul": QDQ_MATMUL,
    "QDQ MatMul, float result": POOLED + Q.format("f") + D + "v = DequantizeLinear(w, sw, zw)  logits = MatMul(d, v)",
    "QDQ Gemm": QDQ_MATMUL.replace("MatMul", "Gemm"),
    "QDQ, weights moved": QDQ_MATMUL.replace("MatMul(d, v)", "MatMul(d, m)").replace("y =", "m = Transpose(v)  y ="),
    "QDQ, weights quantised in the graph": QDQ_MATMUL.replace("v = ", "w = QuantizeLinear(wf, sw, zw)  v = "),
    "QDQ Conv, float weights": TRUNK + Q.format("a") + D + "y = Conv(d, wf)  " + END.format("c") + AFTER_CONV,
    "QLinearConv": TRUNK + Q.format("a") + "r = QLinearConv(q, s, z, w, sw, zw, sy, zy)  "
    "c = DequantizeLinear(r, sy, zy)  " + AFTER_CONV,
    "QLinearMatMul": POOLED + Q.format("f") + "r = QLinearMatMul(q, s, z, w, sw, zw, sy, zy)  "
    "logits = DequantizeLinear(r, sy, zy)",
    "QGemm": POOLED + Q.format("f") + f"logits = {MS}QGemm(q, s, z, w, sw, zw)",
    "MatMulIntegerToFloat": POOLED + Q.format("f") + f"logits = {MS}MatMulIntegerToFloat(q, w, s, sw, z, zw)",
    "MatMulInteger": POOLED + "q, sd, zd = DynamicQuantizeLinear(f)  i = MatMulInteger(q, w, zd, zw)  "
    "j = Cast<to=1>(i)  m = Mul(sd, sw)  logits = Mul(j, m)",
    "DynamicQuantizeMatMul": POOLED + f"logits = {MS}DynamicQuantizeMatMul(f, w, sw, zw)",
    "ConvInteger": TRUNK + "q, sd, zd = DynamicQuantizeLinear(a)  i = ConvInteger(q, w, zd, zw)  "
    "j = Cast<to=1>(i)  m = Mul(sd, sw)  c = Mul(j, m)  " + AFTER_CONV,
}
NEVER = {"ConvInteger"}
"""ONNX Runtime computes it in another way."""
SIGNED = ("QDQ Conv", "QDQ MatMul", "QDQ Gemm")


def model(form: str, weights: np.ndarray = LARGE, *, signed: bool = False, opset: int = 17) -> onnx.ModelProto:
    """One of FORMS with these integers."""
    text, kind = FORMS[form], np.int8 if signed else np.uint8
    integers = weights.T.reshape(C, K, 1, 1) if "Conv" in form else weights.T if "moved" in form else weights
    zero = np.array(0 if weights.dtype == np.int8 else 128, weights.dtype)
    known: Mapping[str, np.ndarray | tuple[int, ...]] = {
        "w1": np.full((K, 3, 3, 3), 0.1, np.float32),
        "s": np.array(5 / 255, np.float32),
        "z": np.array(np.iinfo(kind).min, kind),
        "w": integers,
        "wf": (integers.astype(np.float32) - float(zero)) * np.float32(0.01),
        "sw": np.array(0.01, np.float32),
        "zw": zero,
        "sy": np.array(1, np.float32),
        # A quantised result has the type of what it is made of; room for both signs.
        "zy": np.array(0, np.int8) if signed else np.array(128, np.uint8),
    }
    read = {word.strip(",()") for word in text.replace("(", " ").split()}
    made = {"w"} if "w = QuantizeLinear" in text else set()
    stored = {name: value for name, value in known.items() if name in read - made}
    return build(text, stored, opset=opset, imports=', "com.microsoft" : 1' if MS in text else "")


def truth(made: onnx.ModelProto) -> np.ndarray:
    """The logits in exact arithmetic: of the standard operators that are meant, in float."""
    return session(lowered(made).model, optimised=False).run(["logits"], {"image": X})[0]


def opened(made: onnx.ModelProto | Path, **options) -> Explainer:
    """With signed maps: those of classes that nothing speaks for would be a warning."""
    return Explainer(made, preprocess="unit", relu=False, **options)


def scores(explainer: Explainer) -> np.ndarray:
    return np.asarray(explainer.explain(X, classes=list(range(C))).scores)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def said(explainer: Explainer) -> list[str]:
    return [note for note in explainer.notes if note.startswith("Processor:")]


CASES = [*((form, False) for form in FORMS), *((form, True) for form in SIGNED)]


@pytest.mark.parametrize(("form", "signed"), CASES)
def test_exact_is_right_on_every_processor_and_else_it_is_said(form, signed, saturates):
    made = model(form, signed=signed)
    expected = truth(made)
    plain, exact = opened(made), opened(made, exact=True)
    assert off(scores(exact), expected) < 0.03
    assert not said(exact)
    wrong = saturates and form not in NEVER
    # The model itself: of the explained one, what is read of int8 activations has ONNX Runtime multiply in float.
    assert (off(session(made).run(["logits"], {"image": X})[0], expected) > 0.1) == wrong
    assert len(said(plain)) == wrong


@pytest.mark.parametrize("weights", [UNSIGNED, SEVEN_BITS], ids=["uint8", "seven bits"])
@pytest.mark.parametrize("form", ["QDQ Conv", "QDQ MatMul", "QLinearConv", "MatMulInteger", "QGemm"])
def test_weights_that_cannot_saturate_are_right_and_nothing_is_said(form, weights):
    made = model(form, weights)
    plain = opened(made)
    assert off(scores(plain), truth(made)) < 0.03
    assert not said(plain)


def test_signed_activations_with_signed_weights_are_exact_by_themselves():
    """ONNX Runtime has a kernel for them, and none for the uint8 weights that exact arithmetic makes elsewhere."""
    made = model("QLinearConv", signed=True)
    for exact in (False, True):
        explainer = opened(made, exact=exact)
        assert off(scores(explainer), truth(made)) < 0.03
        assert not said(explainer)


def test_weights_alone_are_no_product_of_integers():
    weights = {"w1": (K, 3, 3, 3), "w": LARGE, "sw": np.array(0.01, np.float32), "zw": np.array(0, np.int8)}
    made = build(POOLED + "v = DequantizeLinear(w, sw, zw)  logits = MatMul(f, v)", weights)
    assert not products(made)
    assert check(made).processor is None


FLOATS = {
    "Conv whose result stays float": FORMS["QDQ Conv"].replace(END.format("c"), "c = Identity(y)  "),
    "MatMul with float weights": FORMS["QDQ MatMul"].replace("MatMul(d, v)", "MatMul(d, wf)"),
    "activations that are not quantised": FORMS["QDQ MatMul"].replace("MatMul(d, v)", "MatMul(f, v)"),
}


@pytest.mark.parametrize("text", FLOATS.values(), ids=FLOATS)
def test_what_onnx_runtime_multiplies_as_floats_is_no_product_of_integers(text):
    """It is right on every processor, and nothing is said."""
    assert not products(build(text))


def test_of_a_type_that_nothing_tells_the_worse_is_assumed():
    text = "y = MatMulInteger(a, b)"
    made = build(text, inputs=f"uint8[4,{K}] a", outputs=f"int32[4,{C}] y")
    assert {(product.signed, product.weights) for product in products(made)} == {(False, "int8"), (False, "uint8")}


def test_damaged_weights_are_told_when_the_model_is_loaded():
    made = build("y = MatMulInteger(a, b)", {"b": LARGE}, inputs=f"uint8[4,{K}] a", outputs=f"int32[4,{C}] y")
    made.graph.initializer[0].raw_data = b"short"
    assert beyond_seven_bits(made, {"b"})


def test_a_model_that_cannot_be_computed_exactly_is_refused(saturates):
    """ONNX Runtime makes no uint8 weights of this operator's at this opset."""
    made = model("QLinearMatMul", opset=21)
    if not saturates:
        assert off(scores(opened(made, exact=True)), truth(made)) < 0.03
        return
    with pytest.raises(ModelError, match=r"cannot be computed exactly on this processor.*QLinearMatMul.*uint8 weights"):
        opened(made, exact=True)
    assert said(opened(made))


def test_a_pickled_explainer_is_as_exact(tmp_path):
    onnx.save(model("QDQ Conv"), tmp_path / "model.onnx")
    again = pickle.loads(pickle.dumps(opened(tmp_path / "model.onnx", exact=True)))
    assert again.exact
    assert off(scores(again), truth(model("QDQ Conv"))) < 0.03


def test_exact_is_true_or_false():
    with pytest.raises(XcamError, match="exact"):
        opened(model("QDQ Conv"), exact="yes")


def test_methods_that_run_the_head_run_it_exactly():
    made = model("QDQ Conv")
    for method in ("ablation-cam", "score-cam"):
        explainer = opened(made, method=method, layers="a", exact=True)
        assert off(scores(explainer), truth(made)) < 0.03


def test_an_instrumented_model_is_no_other(saturates):
    made = instrument(model("QDQ Conv"), layers="a", relu=False)
    assert len(said(opened(made))) == saturates
    exact = opened(made, exact=True)
    assert off(scores(exact), truth(model("QDQ Conv"))) < 0.03
    assert not said(exact)


# --- check ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["QDQ Conv", "QLinearConv", "MatMulInteger"])
def test_check_tells_whether_this_processor_changes_the_answers(form, saturates):
    report = check(model(form), X, layers="a")
    assert report.passed, report.text()
    assert report.processor is not None
    assert bool(report.processor.saturating) == report.processor.changes_answers == saturates
    text = report.text()
    assert ("changes the model's answers" in text) == (report.processor.text() in report.warnings) == saturates
    assert ("added up exactly on this processor" in text) == (not saturates)
    if saturates:
        assert report.processor.differences["logits"] > 0.1
        assert report.to_dict()["processor"]["differences"] == report.processor.differences


def test_check_says_when_the_values_do_not_saturate(saturates):
    report = check(model("QDQ MatMul"), X / 100, layers="a")
    assert report.processor is not None
    assert not report.processor.changes_answers
    assert ("do not with these values" in report.text()) == saturates


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    onnx.save(model("QDQ Conv"), tmp_path / "model.onnx")
    write_image(tmp_path / "photo.png", np.full((12, 12, 3), 200, np.uint8))
    return tmp_path


def test_explain_says_it_once_and_exact_is_an_option(files, run, saturates):
    arguments = ["explain", files / "model.onnx", files / "photo.png", "--preprocess", "unit", "-o", files / "out"]
    status, _, err = run(*arguments)
    assert status == 0
    assert err.count("saturate") == saturates
    status, _, err = run(*arguments, "--resume", "--exact")
    assert status == 1
    assert "way of adding up 8-bit products" in err
    status, _, err = run(*arguments, "--exact")
    assert status == 0
    assert "saturate" not in err


def test_compare_and_evaluate_take_it(files, run, saturates):
    paths = [files / "model.onnx", files / "photo.png", "--preprocess", "unit", "--layer", "a"]
    for command, out in (("compare", files / "c.png"), ("evaluate", files / "e")):
        for exact in ([], ["--exact"]):
            status, _, err = run(command, *paths, "-o", out, *exact)
            assert status == 0, err
            assert err.count("saturate") == (saturates and not exact)


def test_sanity_takes_it():
    photo = np.full((12, 12, 3), 200, np.uint8)
    assert list(sanity(model("QDQ Conv"), [photo], steps=1, preprocess="unit", exact=True))
