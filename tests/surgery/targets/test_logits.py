"""Outputs that are not plain scores: probabilities however they are written, rounding, labels, the best few."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from helpers.models import TRUNK, TRUNK_WEIGHTS, C, build, cnn, images, run, session, weight
from onnx_xcam import Explainer, instrument
from onnx_xcam.errors import ModelError, ScoreError
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.targets.classification import find_score

ONE = "one = Constant<value_float=1.0>()  "
LAST = "last = Constant<value_ints=[1]>()  "
EXP = LAST + "e = Exp(logits)  t = ReduceSum(e, last)  "
SHIFT = "m = ReduceMax<axes=[1]>(logits)  z = Sub(logits, m)  "

ENDS = {
    "softmax": ("y = Softmax<axis=1>(logits)", "Softmax", True),
    "log softmax": ("y = LogSoftmax<axis=1>(logits)", "LogSoftmax", True),
    "sigmoid": ("y = Sigmoid(logits)", "Sigmoid", True),
    "hard sigmoid": ("y = HardSigmoid(logits)", "HardSigmoid", True),
    "hardmax": ("y = Hardmax<axis=1>(logits)", "Hardmax", False),
    "exp by its sum": (EXP + "y = Div(e, t)", "Softmax", True),
    "exp by its sum, shifted": (
        LAST + SHIFT + "e = Exp(z)  t = ReduceSum(e, last)  y = Div(e, t)", "Softmax", True,
    ),
    "minus log of the sum": (EXP + "l = Log(t)  y = Sub(logits, l)", "LogSoftmax", True),
    "minus log of the sum, shifted": (
        LAST + SHIFT + "e = Exp(z)  t = ReduceSum(e, last)  l = Log(t)  y = Sub(z, l)", "LogSoftmax", True,
    ),
    "minus ReduceLogSumExp": ("l = ReduceLogSumExp<axes=[1]>(logits)  y = Sub(logits, l)", "LogSoftmax", True),
    "1 / (1 + exp(-x))": (ONE + "n = Neg(logits)  e = Exp(n)  d = Add(one, e)  y = Div(one, d)", "Sigmoid", True),
    "reciprocal": (
        ONE + "k = Constant<value_float=-1.0>()  n = Mul(k, logits)  e = Exp(n)  d = Add(e, one)  y = Reciprocal(d)",
        "Sigmoid", True,
    ),
    "exp / (1 + exp)": (ONE + "e = Exp(logits)  d = Add(e, one)  y = Div(e, d)", "Sigmoid", True),
    "log of softmax": ("s = Softmax<axis=1>(logits)  y = Log(s)", "Softmax", True),
    "times one": (ONE + "s = Softmax<axis=1>(logits)  y = Mul(one, s)", "Softmax", True),
    "times a hundred": (
        "k = Constant<value_float=100.0>()  s = Softmax<axis=1>(logits)  y = Mul(s, k)", "Softmax", False,
    ),
    "clip": (
        ONE + "o = Constant<value_float=0.0>()  s = Softmax<axis=1>(logits)  y = Clip(s, o, one)", "Softmax", True,
    ),
    "narrow clip": (
        ONE + "o = Constant<value_float=0.3>()  s = Softmax<axis=1>(logits)  y = Clip(s, o, one)", "Softmax", False,
    ),
    "a small clip": (
        ONE + "o = Constant<value_float=1e-7>()  s = Softmax<axis=1>(logits)  y = Clip(s, o, one)", "Softmax", True,
    ),
    "rounded": (
        "k = Constant<value_float=1e5>()  s = Sigmoid(logits)  p = Mul(s, k)  r = Round(p)  y = Div(r, k)",
        "Sigmoid", True,
    ),
    "rounded to tenths": (
        "k = Constant<value_float=10.0>()  s = Sigmoid(logits)  p = Mul(s, k)  r = Round(p)  y = Div(r, k)",
        "Sigmoid", False,
    ),
    "rounded to whole numbers": ("s = Sigmoid(logits)  y = Round(s)", "Sigmoid", False),
    "rounded percents": (
        "k = Constant<value_float=100.0>()  s = Sigmoid(logits)  p = Mul(s, k)  y = Round(p)", "Sigmoid", False,
    ),
    "log of softmax and a little": (
        "k = Constant<value_float=1e-7>()  s = Softmax<axis=1>(logits)  p = Add(s, k)  y = Log(p)", "Softmax", False,
    ),
}  # fmt: skip
"""Nodes from the logits to y, the activation, and whether y tells the probabilities."""


def end(text, n="N", output=f"float[N,{C}] y"):
    return cnn("dense", end=text, n=n, output=output)


def explained(model, batch, classes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(model, preprocess="unit").explain(batch, classes)


def softmax(x):
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def assert_same_maps(model, batch, plain=None):
    expected = run(instrument(plain or cnn("dense")), batch, [[-1, 0, 3]])
    found = run(instrument(model), batch, [[-1, 0, 3]])
    assert np.abs(expected["xcam_map"]).max() > 0
    for name in ("xcam_classes", "xcam_scores", "xcam_map", "xcam_gradients"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("kind", ENDS)
def test_the_score_is_what_the_probabilities_are_made_from(kind, n, batch):
    text, activation, _ = ENDS[kind]
    model = end(text, n)
    score = find_score(prepare(model))
    assert score.activation == activation
    assert activation in " ".join(score.notes)
    assert_same_maps(model, batch)


@pytest.mark.parametrize("kind", ENDS)
def test_probabilities_are_the_models_own(kind, batch):
    text, activation, told = ENDS[kind]
    explanation = explained(end(text), batch, list(range(C)))
    if not told:
        assert explanation.probabilities is None
        return
    logits = run(cnn("dense"), batch)["logits"].astype(np.float64)
    own = {
        "Sigmoid": 1 / (1 + np.exp(-logits)),
        "HardSigmoid": np.clip(0.2 * logits + 0.5, 0, 1),
    }.get(activation, softmax(logits))
    np.testing.assert_allclose(explanation.probabilities, own, rtol=1e-5, atol=6e-6 if kind == "rounded" else 1e-6)


def test_several_labels_whose_logits_come_out_too(batch):
    """Where the output of the sigmoid does not tell them, the sigmoid of the logits does, not their softmax."""
    model = end("s = Sigmoid(logits)  r = Round(s)  y = Cast<to=6>(r)", output=f"int32[N,{C}] y")
    model.graph.output.append(onnx.helper.make_tensor_value_info("logits", 1, ["N", C]))
    logits = run(model, batch)["logits"].astype(np.float64)
    explanation = explained(model, batch, list(range(C)))
    np.testing.assert_allclose(explanation.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_probabilities_named_as_the_score_are_not_squashed_again(batch):
    model = end("y = Softmax<axis=1>(logits)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = Explainer(model, score="y", preprocess="unit").explain(batch, list(range(C)))
    np.testing.assert_allclose(explanation.probabilities, explanation.scores, rtol=1e-6)


def test_half_precision_probabilities(batch):
    model = end("s = Softmax<axis=1>(logits)  y = Cast<to=10>(s)", output=f"float16[N,{C}] y")
    assert_same_maps(model, batch)
    logits = run(cnn("dense"), batch)["logits"]
    np.testing.assert_allclose(explained(model, batch, [0, 1]).probabilities, softmax(logits)[:, :2], atol=1e-3)


@pytest.mark.parametrize("restored", [False, True])
def test_quantised_probabilities(restored, batch):
    """Whole numbers from 0 to 255 are shown as what they stand for."""
    text = (
        "scale = Constant<value=float{0.00390625}>()  zero = Constant<value=uint8{0}>()  s = Softmax<axis=1>(logits)  "
        "q = QuantizeLinear(s, scale, zero)  y = "
    ) + ("DequantizeLinear(q, scale, zero)" if restored else "Identity(q)")
    model = end(text, output=f"{'float' if restored else 'uint8'}[N,{C}] y")
    assert_same_maps(model, batch)
    found = explained(model, batch, list(range(C))).probabilities
    np.testing.assert_allclose(found, softmax(run(cnn("dense"), batch)["logits"]), atol=2.1e-3)
    np.testing.assert_array_equal(found * 256 % 1, 0)


# --- choices ---------------------------------------------------------------------------------------------------------

CHOICES = {
    "argmax": ("y = ArgMax<axis=1>(logits)", "int64[N,1] y", None),
    "argmax of a softmax": ("s = Softmax<axis=1>(logits)  y = ArgMax<axis=1, keepdims=0>(s)", "int64[N] y", "Softmax"),
    "argmax as int32": ("i = ArgMax<axis=1>(logits)  y = Cast<to=6>(i)", "int32[N,1] y", None),
    "top k": ("k = Constant<value_ints=[3]>()  y, i = TopK(logits, k)", "float[N,3] y", None),
    "top k, which": ("k = Constant<value_ints=[3]>()  v, y = TopK(logits, k)", "int64[N,3] y", None),
    "top k of a softmax": (
        "k = Constant<value_ints=[3]>()  s = Softmax<axis=1>(logits)  y, i = TopK(s, k)", "float[N,3] y", "Softmax",
    ),
    "the largest of a softmax": ("s = Softmax<axis=1>(logits)  y = ReduceMax<axes=[1], keepdims=0>(s)", "float[N] y",
                                 "Softmax"),
    "which labels": ("k = Constant<value_float=0.5>()  s = Sigmoid(logits)  y = Greater(s, k)", f"bool[N,{C}] y",
                     "Sigmoid"),
    "a table of names": (
        "names = Constant<value_strings=[\"a\",\"b\",\"c\",\"d\",\"e\"]>()  i = ArgMax<axis=1, keepdims=0>(logits)  "
        "y = Gather(names, i)", "string[N] y", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHOICES)
def test_the_score_is_what_a_choice_was_made_from(kind, batch):
    text, output, activation = CHOICES[kind]
    model = end(text, output=output)
    score = find_score(prepare(model))
    assert (score.name, score.activation) == ("logits", activation)
    assert score.notes[0] != "Score: output 'logits'."
    assert_same_maps(model, batch)
    explanation = explained(model, batch, [-1, -2])
    assert explanation.probabilities is None
    best = np.argsort(-run(cnn("dense"), batch)["logits"], axis=1)[:, :2]
    np.testing.assert_array_equal(explanation.classes, best)


def test_label_and_confidence_are_one_score(batch):
    text = "s = Softmax<axis=1>(logits)  y = ReduceMax<axes=[1], keepdims=0>(s)  label = ArgMax<axis=1, keepdims=0>(s)"
    model = end(text, output="float[N] y, int64[N] label, float[N,5] s")
    score = find_score(prepare(model))
    assert score.name == "logits"
    assert not any("several" in note for note in score.notes)
    probabilities = explained(model, batch, [-1]).probabilities
    np.testing.assert_allclose(probabilities[:, 0], run(model, batch)["y"], rtol=1e-6)


def test_label_and_dictionary_as_scikit_learn_exports_them(batch):
    text = "s = Softmax<axis=1>(logits)  label = ArgMax<axis=1, keepdims=0>(s)  "
    model = end(text, output="int64[N] label")
    model.opset_import.add(domain="ai.onnx.ml", version=1)
    names = onnx.helper.make_node("ZipMap", ["s"], ["y"], domain="ai.onnx.ml", classlabels_int64s=list(range(C)))
    model.graph.node.append(names)
    pairs = onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, onnx.helper.make_tensor_type_proto(1, []))
    model.graph.output.append(onnx.helper.make_value_info("y", onnx.helper.make_sequence_type_proto(pairs)))
    assert find_score(prepare(model)).name == "logits"
    assert_same_maps(model, batch)
    assert explained(model, batch, [0]).probabilities is None
    del model.graph.output[0]
    assert find_score(prepare(model)).name == "logits"
    assert_same_maps(model, batch)


def test_the_largest_of_instances_is_a_score_itself(batch):
    """Multiple instances: one logit per place, the largest of them counts. No class was chosen there."""
    text = "m = Conv(a, place)  flat = Flatten(m)  y = ReduceMax<axes=[1]>(flat)"
    model = cnn(text, output="float[N,1] y", weights={"place": (1, 4, 1, 1)})
    score = find_score(prepare(model))
    assert (score.name, score.form) == ("y", "logit")
    found = run(instrument(model), batch, [[1]])
    np.testing.assert_array_equal(found["xcam_scores"], found["y"])
    assert ((found["xcam_gradients"][:, 0, 0] != 0).sum(axis=(1, 2)) == 1).all(), "one place speaks"


# --- one logit -------------------------------------------------------------------------------------------------------

LOGIT = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  x = Gemm<transB=1>(flat, w, b)  "
PAIRS = {
    "sigmoid": ("y = Sigmoid(x)", "float[N,1] y", "x"),
    "written out": (ONE + "n = Neg(x)  e = Exp(n)  d = Add(one, e)  y = Div(one, d)", "float[N,1] y", "x"),
    "both classes": (ONE + "p = Sigmoid(x)  q = Sub(one, p)  y = Concat<axis=1>(q, p)", "float[N,2] y", "x"),
    "softmax of -x and x": ("n = Neg(x)  z = Concat<axis=1>(n, x)  y = Softmax<axis=1>(z)", "float[N,2] y", "z"),
    "softmax of 0 and x": ("n = Sub(x, x)  z = Concat<axis=1>(n, x)  y = Softmax<axis=1>(z)", "float[N,2] y", "z"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_two_classes_of_one_logit(kind):
    """Class 0 is explained against what speaks for class 1, and both have the model's own probability."""
    text, output, name = PAIRS[kind]
    w = np.array([[1.0, -1.5, 0.5, -0.25]], np.float32)
    model = cnn(LOGIT + text, output=output, weights={"w": w, "b": np.array([0.1], np.float32)})
    batch = images(3, seed=3)
    assert find_score(prepare(model)).name == name
    found = run(instrument(model), batch, [[0, 1]])
    g = found["xcam_gradients"][:, 1].mean((2, 3))
    np.testing.assert_allclose(g, np.broadcast_to(w / 36, g.shape), rtol=1e-5)
    if kind != "softmax of 0 and x":
        np.testing.assert_allclose(found["xcam_gradients"][:, 0], -found["xcam_gradients"][:, 1], rtol=1e-5)
    own = found["y"] if found["y"].shape[1] == 2 else np.concatenate([1 - found["y"], found["y"]], axis=1)
    explanation = explained(model, batch, [0, 1])
    np.testing.assert_allclose(explanation.probabilities, own, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(explained(model, batch, [-1]).classes[:, 0], own.argmax(1))


def test_classes_in_the_other_order_are_not_swapped():
    """[p, 1 - p]: class 0 is the one that the logit speaks for, so the probabilities themselves are the score."""
    model = cnn(
        LOGIT + ONE + "p = Sigmoid(x)  q = Sub(one, p)  y = Concat<axis=1>(p, q)",
        output="float[N,2] y",
        weights={"w": (1, 4), "b": (1,)},
    )
    batch = images(3)
    found = run(instrument(model), batch, [[0, 1]])
    np.testing.assert_array_equal(found["xcam_scores"], found["y"])
    np.testing.assert_allclose(found["xcam_gradients"][:, 0], -found["xcam_gradients"][:, 1], rtol=1e-5)


# --- what is none of these -------------------------------------------------------------------------------------------

NOT_FINAL = {
    "a product": "s = Softmax<axis=1>(logits)  y = Mul(s, s)",
    "a negative factor": "k = Constant<value_float=-1.0>()  s = Softmax<axis=1>(logits)  y = Mul(s, k)",
    "another sum": EXP.replace("[1]", "[0]") + "y = Div(e, t)",
    "another quotient": EXP + "f = Exp(e)  y = Div(f, t)",
    "two and exp": "two = Constant<value_float=2.0>()  n = Neg(logits)  e = Exp(n)  d = Add(two, e)  y = Div(two, d)",
    "no minus": ONE + "e = Exp(logits)  d = Add(one, e)  y = Div(one, d)",
    "by a factor for each class": "s = Softmax<axis=1>(logits)  y = Mul(s, each)",
}


@pytest.mark.parametrize("kind", NOT_FINAL)
def test_what_looks_alike_stays_as_it_is(kind, batch):
    model = cnn("dense", end=NOT_FINAL[kind], output=f"float[N,{C}] y", weights={"each": (C,)})
    if "each" not in NOT_FINAL[kind]:
        model.graph.initializer.pop()
    score = find_score(prepare(model))
    assert (score.name, score.activation) == ("y", None)
    found = run(instrument(model), batch, [[1]])
    np.testing.assert_array_equal(found["xcam_scores"][:, 0], found["y"][:, 1])


def test_rows_that_are_picked_are_no_labels():
    text = "i = ArgMax<axis=0, keepdims=0>(logits)  y = Gather(logits, i)"
    assert find_score(prepare(end(text, output=f"float[5,{C}] y"))).name == "y"


def test_metadata_that_state_probabilities_wrongly():
    made = instrument(end("y = Softmax<axis=1>(logits)"), emit=("map",))
    entry = next(entry for entry in made.metadata_props if entry.key == "onnx_xcam")
    said = "stat(es its|e) probabilities in a wrong way"
    elsewhere = "they take probabilities from 'z', which is no output of the original model"
    for wrong, why in (('["z", "none"]', elsewhere), ('["y", "cube"]', said), ('"y"', said), ("7", said)):
        broken = onnx.ModelProto()
        broken.CopyFrom(made)
        broken.metadata_props[0].value = entry.value.replace('["y", "none"]', wrong)
        assert broken.metadata_props[0].value != entry.value
        with pytest.raises(ModelError, match=why):
            explained(broken, images(1), [0])


# --- several outputs -------------------------------------------------------------------------------------------------


def with_outputs(model, **shapes):
    for name, (kind, shape) in shapes.items():
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    return model


def test_scores_made_of_an_embedding_are_taken_whatever_the_order(batch):
    model = with_outputs(cnn("dense"), active=(1, ["N", 7]))
    model.graph.output.reverse()
    assert [out.name for out in model.graph.output] == ["active", "logits"]
    score = find_score(prepare(model))
    assert score.name == "logits"
    assert any("last made of the outputs" in note and "'active'" in note and "--score" in note for note in score.notes)
    assert_same_maps(model, batch)


def test_logits_and_their_softmax_are_one_score(batch):
    model = with_outputs(end("y = Softmax<axis=1>(logits)"), logits=(1, ["N", C]))
    for _ in "ab":
        score = find_score(prepare(model))
        assert (score.name, score.activation) == ("logits", "Softmax")
        assert len(score.notes) == 1
        np.testing.assert_allclose(
            explained(model, batch, list(range(C))).probabilities, softmax(run(model, batch)["logits"]), rtol=1e-5
        )
        model.graph.output.reverse()


def test_hidden_states_beside_the_logits(batch):
    """As Hugging Face models give them: maps and tokens first or last, one of them pooled to a vector."""
    text = "t = Constant<value_ints=[0,4,-1]>()  tokens = Reshape(a, t)"
    model = with_outputs(cnn("dense", end=text), a=(1, ["N", 4, 6, 6]), tokens=(1, ["N", 4, 36]), hidden=(1, ["N", 7]))
    model.graph.output.reverse()
    assert find_score(prepare(model)).name == "logits"
    assert_same_maps(model, batch)


def test_heads_beside_the_last_one(batch):
    """As GoogLeNet and Inception have them in training: the first is taken, the others are named and can be chosen."""
    model = with_outputs(
        cnn("dense", end="low = GlobalAveragePool(p1)  lowflat = Flatten(low)  aux = Gemm<transB=1>(lowflat, x)",
            weights={"x": (C, 3)}),
        aux=(1, ["N", C]),
    )  # fmt: skip
    score = find_score(prepare(model))
    assert score.name == "logits"
    assert any("'aux'" in note and "--score" in note for note in score.notes)
    assert_same_maps(model, batch)
    found = run(instrument(model, score="aux"), batch, [[2]])
    np.testing.assert_array_equal(found["xcam_scores"][:, 0], found["aux"][:, 2])
    expected = weight(model, "x")[2] / 36
    np.testing.assert_allclose(found["xcam_gradients"][:, 0].mean((2, 3)), np.tile(expected, (2, 1)), rtol=1e-5)


def test_an_output_that_does_not_depend_on_the_picture_is_no_score(batch):
    model = with_outputs(cnn("dense"), e2=(1, [C]), given=(1, ["N", 3]), scaled=(1, ["N", 3]))
    model.graph.input.append(onnx.helper.make_tensor_value_info("given", 1, ["N", 3]))
    model.graph.node.add(op_type="Relu", input=["given"], output=["scaled"])
    model.graph.output.reverse()
    score = find_score(prepare(model))
    assert score.name == "logits"
    assert len(score.notes) == 1
    made = session(instrument(model))
    names = [out.name for out in made.get_outputs()]
    found = dict(zip(names, made.run(names, {"image": batch, "given": np.ones((2, 3), np.float32)}), strict=True))
    np.testing.assert_array_equal(found["xcam_map"], run(instrument(cnn("dense")), batch)["xcam_map"])


def test_scores_in_a_sequence(batch):
    model = end("both = SequenceConstruct(logits, active)", output="seq(float[]) both")
    del model.graph.output[:]
    kind = onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(1, None))
    model.graph.output.append(onnx.helper.make_value_info("both", kind))
    assert find_score(prepare(model)).name == "logits"
    assert_same_maps(model, batch)
    explanation = explained(model, batch, [-1])
    np.testing.assert_array_equal(
        explanation.maps_of(0), run(instrument(cnn("dense"), emit=("map",)), batch)["xcam_map"]
    )


MAPS = "segmentation is not supported"
NO_BOXES = r"is needed\. No output holds candidates with boxes"


@pytest.mark.parametrize(
    ("text", "output", "said", "missing"),
    [
        ("y = Identity(a)", "float[N,4,6,6] y", r"\[N,4,6,6\] \(a map, as segmentation gives\)", MAPS),
        ("y = Softmax<axis=1>(a)", "float[N,4,6,6] y", "a map, as segmentation gives", MAPS),
        ("y = ArgMax<axis=1>(a)", "int64[N,1,6,6] y", "a map, as segmentation gives", MAPS),
        ("t = Constant<value_ints=[0,4,-1]>()  y = Reshape(a, t)", "float[N,4,36] y", "of each place or box", NO_BOXES),
    ],
)
def test_maps_and_places_are_refused_with_a_word_on_why(text, output, said, missing):
    """Places of a detector are no missing task: what is said is that no output can be read as its boxes."""
    with pytest.raises(ScoreError, match=rf"{said}.*{missing}") as refusal:
        instrument(cnn(text, output=output))
    assert "detection" not in str(refusal.value)


@pytest.mark.parametrize("inside", [False, True])
def test_picked_boxes_are_refused(inside):
    """As torchvision exports its detectors: NonMaxSuppression stands in a branch that is taken if there are boxes."""
    body = (
        TRUNK + "a = Relu(c2)  t = Constant<value_ints=[1,-1,4]>()  boxes = Reshape(a, t)"
        "  u = Constant<value_ints=[1,1,-1]>()  flat = Reshape(a, u)  w = Constant<value_ints=[36]>()"
        "  zero = Constant<value_ints=[0]>()  two = Constant<value_ints=[2]>()"
        "  part = Slice(flat, zero, w, two)  picked = NonMaxSuppression(boxes, part)"
        "  column = Constant<value_int=2>()  index = Gather<axis=1>(picked, column)"
        "  first = Squeeze(boxes, zero)  y = Gather(first, index)"
    )  # fmt: skip
    model = build(body, TRUNK_WEIGHTS, inputs="float[1,3,12,12] image", outputs="float[M,4] y")
    if inside:
        node = next(node for node in model.graph.node if node.op_type == "NonMaxSuppression")
        kept, empty = onnx.helper.make_tensor_value_info("kept", 7, None), onnx.TensorProto(data_type=7, dims=[0, 3])
        empty.name = "none"
        branch = onnx.helper.make_node("If", ["any"], list(node.output))
        node.output[0] = "kept"
        chosen = onnx.helper.make_graph([node], "then", [], [kept])
        nothing = onnx.helper.make_node("Constant", [], ["kept"], value=empty)
        branch.attribute.append(onnx.helper.make_attribute("then_branch", chosen))
        branch.attribute.append(
            onnx.helper.make_attribute("else_branch", onnx.helper.make_graph([nothing], "else", [], [kept]))
        )
        node.CopyFrom(branch)
        model.graph.input.append(onnx.helper.make_tensor_value_info("any", onnx.TensorProto.BOOL, []))
        session(model)
    else:
        run(model, images(1))
    with pytest.raises(ScoreError, match=r"'y' is what NonMaxSuppression has picked: boxes, as detectors give"):
        instrument(model)
