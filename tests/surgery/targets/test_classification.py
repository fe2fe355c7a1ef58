"""Finding the class score, stepping over a final activation, and the forms a score may have."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import GAP, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images, outputs, props, run, tensors, weight
from onnx_xcam import inspect, instrument
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.targets.classification import find_score

EVERY = ["map", "activations", "gradients", "heatmap", "status"]


def score_of(model, wanted="auto"):
    return find_score(prepare(model), wanted)


# --- a final activation is stepped over ------------------------------------------------------------------------------

ENDS = {
    "softmax": ("y = Softmax<axis=1>(logits)", "Softmax"),
    "log softmax": ("y = LogSoftmax<axis=1>(logits)", "LogSoftmax"),
    "sigmoid": ("y = Sigmoid(logits)", "Sigmoid"),
    "identity": ("s = Softmax<axis=1>(logits)  y = Identity(s)", "Softmax"),
    "reshape": ("t = Constant<value_ints=[-1,5]>()  s = Softmax<axis=1>(logits)  y = Reshape(s, t)", "Softmax"),
    "flatten": ("s = Sigmoid(logits)  y = Flatten(s)", "Sigmoid"),
    "squeeze": (
        "t = Constant<value_ints=[2]>()  u = Unsqueeze(logits, t)  s = Softmax<axis=1>(u)  y = Squeeze(s, t)",
        "Softmax",
    ),
    "several": (
        "t = Constant<value_ints=[-1,5]>()  s = LogSoftmax<axis=1>(logits)  i = Identity(s)  f = Flatten(i)  "
        "r = Reshape(f, t)  y = Dropout(r)",
        "LogSoftmax",
    ),
    "none": ("y = Identity(logits)", None),
}


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("end", ENDS)
def test_final_activations_are_stepped_over(end, n, batch):
    text, activation = ENDS[end]
    model = cnn("dense", end=text, output=f"float[N,{C}] y", n=n)
    score = score_of(model)
    assert score.activation == activation
    assert score.name == {"none": "y", "squeeze": "u"}.get(end, "logits")
    note = " ".join(score.notes)
    assert score.name in note
    assert activation is None or (activation in note and "'y'" in note), "what was assumed is said"
    plain, found = run(instrument(cnn("dense", n=n)), batch, [[-1, 0]]), run(instrument(model), batch, [[-1, 0]])
    for name in ("xcam_classes", "xcam_scores", "xcam_map", "xcam_gradients"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_array_equal(found["y"], run(model, batch)["y"])


def test_an_activation_that_is_not_final_is_not_stepped_over(batch):
    model = cnn("dense", end="s = Softmax<axis=1>(logits)  y = Mul(s, s)", output=f"float[N,{C}] y")
    assert (score_of(model).name, score_of(model).activation) == ("y", None)
    found = run(instrument(model), batch, [[0]])
    np.testing.assert_array_equal(found["xcam_scores"][:, 0], found["y"][:, 0])


def test_softmax_of_another_domain_is_not_stepped_over():
    model = cnn("dense", end="y = my.Softmax(logits)", output=f"float[N,{C}] y")
    model.opset_import.add(domain="my", version=1)
    assert score_of(model).name == "y"


def test_probabilities_as_the_score_when_asked(batch):
    model = cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y")
    made = instrument(model, score="y")
    found = run(made, batch, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(found["xcam_scores"], found["y"])
    total = np.abs(found["xcam_gradients"].sum(1)).max()
    assert total <= 1e-6 * np.abs(found["xcam_gradients"]).max() * C, "probabilities add up to 1: their gradients to 0"
    assert np.abs(found["xcam_gradients"]).max() > 0


def test_a_named_score_behind_which_an_activation_lies():
    model = cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y")
    score = score_of(model, "logits")
    assert (score.activation, score.notes) == ("Softmax", ("Score: 'logits', as asked.",))


# --- forms -----------------------------------------------------------------------------------------------------------

HEAD_W = {"fc": (C, 4), "fb": (C,)}
POOL = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  "
CLASS_FORMS = {
    "[N,C,1,1]": ("pooled = GlobalAveragePool(a)  y = Conv(pooled, fc4, fb)", "float[N,5,1,1] y"),
    "[N,1,C]": (GAP + " t = Constant<value_ints=[1]>()  y = Unsqueeze(logits, t)", "float[N,1,5] y"),
    "[N,1,1,C]": (GAP + " t = Constant<value_ints=[1,2]>()  y = Unsqueeze(logits, t)", "float[N,1,1,5] y"),
    "[N,C,1]": (GAP + " t = Constant<value_ints=[2]>()  y = Unsqueeze(logits, t)", "float[N,5,1] y"),
}


@pytest.mark.parametrize("n", [2, 1, "N"])
@pytest.mark.parametrize("form", CLASS_FORMS)
def test_unit_dimensions_are_dropped(form, n):
    text, output = CLASS_FORMS[form]
    weights = {"fc": (C, 4), "fb": (C,)}
    image = images(1 if n == 1 else 2)
    plain = cnn("gap", n=n)
    model = cnn(text, n=n, output=output, weights=weights)
    if "fc4" in text:
        four = onnx.numpy_helper.from_array(weight(plain, "fc").reshape(C, 4, 1, 1), "fc4")
        model.graph.initializer.append(four)
    found = run(instrument(model, emit=EVERY), image, [[-1, 0, -5]])
    expected = run(instrument(plain, emit=EVERY), image, [[-1, 0, -5]])
    for name in expected:
        if name != "logits":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_scores_without_a_batch_dimension():
    """[C] is one image's scores."""
    model = cnn(
        GAP + " zero = Constant<value_ints=[0]>()  y = Squeeze(logits, zero)", n=1, output="float[5] y",
        weights=HEAD_W,
    )  # fmt: skip
    found = run(instrument(model, emit=EVERY), images(1), [[-1, 3]])
    expected = run(instrument(cnn("gap", n=1), emit=EVERY), images(1), [[-1, 3]])
    assert found["xcam_scores"].shape == (1, 2)
    for name in expected:
        if name != "logits":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


LOGIT_FORMS = {
    "[N,1]": ("y = Gemm<transB=1>(flat, one, b)", "float[N,1] y"),
    "[N]": ("z = Gemm<transB=1>(flat, one, b)  t = Constant<value_ints=[1]>()  y = Squeeze(z, t)", "float[N] y"),
    "[N,1,1,1]": ("z = Gemm<transB=1>(flat, one, b)  t = Constant<value_ints=[2,3]>()  y = Unsqueeze(z, t)",
                  "float[N,1,1,1] y"),
    "sigmoid [N,1]": ("logits = Gemm<transB=1>(flat, one, b)  y = Sigmoid(logits)", "float[N,1] y"),
    "sigmoid [N]": ("logits = Gemm<transB=1>(flat, one, b)  s = Sigmoid(logits)  "
                    "t = Constant<value_ints=[1]>()  y = Squeeze(s, t)", "float[N] y"),
}  # fmt: skip


@pytest.mark.parametrize("n", [3, 1, "N"])
@pytest.mark.parametrize("form", LOGIT_FORMS)
def test_one_logit_is_two_classes(form, n):
    """Class 1 has the score S, class 0 its negative; -1 picks by the sign, -2 is the other one."""
    text, output = LOGIT_FORMS[form]
    image = images(1 if n == 1 else 3, seed=3)
    w = np.array([[1.0, -1.5, 0.5, -0.25]], np.float32)
    raw = np.concatenate(
        [np.atleast_1d(v.sum()) for v in tensors(_logit(text, output, n, w, 0), ["flat"], image)["flat"] @ w.T]
    )
    offset = np.float32(-np.median(raw) + (0 if len(raw) == 1 else 1e-3))
    model = _logit(text, output, n, w, offset - np.float32(0.1) * (len(raw) == 1))
    s = tensors(model, ["flat"], image)["flat"] @ w.T + weight(model, "b")
    if len(raw) > 1:
        assert (s > 0).any() and (s < 0).any()
    found = run(instrument(model, emit=EVERY), image, [[0, 1, -1, -2]])
    top = (s > 0).astype(int)
    np.testing.assert_array_equal(found["xcam_classes"], np.concatenate([0 * top, 0 * top + 1, top, 1 - top], 1))
    np.testing.assert_allclose(
        found["xcam_scores"], np.concatenate([-s, s, np.abs(s), -np.abs(s)], 1), rtol=1e-4, atol=1e-6
    )
    sign = np.where(found["xcam_classes"] == 1, 1, -1)[..., None, None, None]
    np.testing.assert_allclose(
        found["xcam_gradients"],
        np.broadcast_to(sign * w[0][:, None, None] / 36, found["xcam_gradients"].shape),
        rtol=1e-5,
    )
    assert any("One logit" in note for note in score_of(model).notes)
    assert inspect(model).classes == 2


def _logit(text, output, n, w, offset):
    return cnn(POOL + text, n=n, output=output, weights={"one": w, "b": np.array([offset], np.float32)}, seed=2)


def test_fixed_classes_of_one_logit():
    model = _logit(*LOGIT_FORMS["[N,1]"], 2, np.ones((1, 4), np.float32), 0)
    found = run(instrument(model, class_input="fixed", classes=[0, 1]), images(2))
    np.testing.assert_allclose(found["xcam_scores"][:, 0], -found["y"][:, 0])
    with pytest.raises(Exception, match=r"Class 2 does not exist.*0 to 1"):
        instrument(model, class_input="fixed", classes=[2])


@pytest.mark.parametrize("seed", range(3))
def test_ties_and_ranks(seed):
    """Equal scores: every rank is a different class."""
    model = cnn("gap", seed=seed)
    for tensor in model.graph.initializer:
        if tensor.name in ("fc", "fb"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    found = run(instrument(model, emit=EVERY), images(2), [[-1, -2, -3, -4, -5]])
    assert [sorted(row) for row in found["xcam_classes"].tolist()] == [[0, 1, 2, 3, 4]] * 2
    np.testing.assert_array_equal(found["xcam_status"], 2)


# --- what is no score ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "output", "said"),
    [
        ("y = Identity(a)", "float[N,4,6,6] y", r"'y' has the shape \[N,4,6,6\].*\[N,C\] is needed"),
        (GAP + " y = Cast<to=7>(logits)", "int64[N,5] y", "'y' holds int64 values"),
        (GAP + " y = ReduceMean<keepdims=0>(logits)", "float y", "single number"),
        (GAP + " t = Constant<value_ints=[0,-1,5]>() u = Unsqueeze(logits, one) e = Expand(u, two) y = Reshape(e, t)",
         "float[N,3,5] y", r"\[N,3,5\]"),
    ],
)  # fmt: skip
def test_no_score_is_refused_with_the_reason(text, output, said):
    weights = {**HEAD_W, "one": np.array([1]), "two": np.array([1, 3, 5])}
    model = cnn(text, output=output, weights=weights)
    for call in (instrument, inspect):
        with pytest.raises(ScoreError, match=f"No class score was found.*{said}"):
            call(model)


def test_a_score_that_is_not_there_is_suggested():
    with pytest.raises(ScoreError, match=r"no tensor 'logit' .*did you mean 'logits'.*the outputs are logits"):
        instrument(cnn(), score="logit")
    for wrong in ("", "fc", "Gemm"):
        with pytest.raises(ScoreError, match=f"no tensor '{wrong}'"):
            instrument(cnn(), score=wrong)
    with pytest.raises(ScoreError, match=r"'a' has the shape \[N,4,6,6\]"):
        instrument(cnn(), score="a")


def test_several_outputs_the_first_that_serves_is_taken_and_that_is_said(batch):
    model = cnn("dense", end="aux = Gemm<transB=1>(flat, x1)  map = Identity(a)", weights={"x1": (3, 144)})
    for name, shape in (("aux", ["N", 3]), ("map", ["N", 4, 6, 6])):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, shape))
    model.graph.output.insert(0, model.graph.output[2])
    del model.graph.output[3]
    assert outputs(model) == ["map", "logits", "aux"]
    score = score_of(model)
    assert score.name == "logits"
    assert any("several outputs" in note and "'aux'" in note for note in score.notes)
    found = run(instrument(model, score="aux"), batch, [[2]])
    np.testing.assert_array_equal(found["xcam_scores"][:, 0], found["aux"][:, 2])
    expected = weight(model, "x1")[2].reshape(1, 1, 4, 6, 6)
    np.testing.assert_allclose(found["xcam_gradients"], np.broadcast_to(expected, (2, 1, 4, 6, 6)), rtol=1e-6)
    assert '"score": "aux"' in props(instrument(model, score="aux"))[-1][1]


def test_score_with_an_unknown_number_of_classes(batch):
    body = TRUNK + "a = Relu(c2)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = MatMul(flat, table)"
    model = build(
        body,
        TRUNK_WEIGHTS,
        inputs="float[N,3,12,12] image, float[4,K] table",
        outputs="float[N,K] logits",
    )
    assert inspect(model).classes is None
    made = instrument(model, class_input="fixed", classes=[-1, 6])
    table = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    from helpers.models import session

    names = outputs(made)
    found = dict(zip(names, session(made).run(names, {"image": batch, "table": table}), strict=True))
    np.testing.assert_array_equal(found["xcam_classes"][:, 0], found["logits"].argmax(1))
    expected = table.T[found["xcam_classes"]][..., None, None] / 36
    np.testing.assert_allclose(
        found["xcam_gradients"], np.broadcast_to(expected, found["xcam_gradients"].shape), rtol=1e-5
    )
