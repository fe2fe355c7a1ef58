"""Probabilities are shown only where the model tells them, or where it is known to be a classifier."""

from __future__ import annotations

import json
import warnings

import numpy as np
import onnx
import pytest
from onnx.parser import parse_graph

from helpers.models import C, cnn, images, run
from onnx_xcam import Explainer, XcamError, instrument
from onnx_xcam.errors import ModelError, ScoreError
from onnx_xcam.evaluation.evaluator import evaluate
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.probabilities import _source_in_graph
from onnx_xcam.explainer.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

ONE = "one = Constant<value_float=1.0>()  "
LABELS = ["a", "b", "c", "d", "e"]
POOLED = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  "


def opened(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(model, preprocess="unit", **options)


def told(model, batch, classes=None, **options):
    return opened(model, **options).explain(batch, list(range(C)) if classes is None else classes)


def end(text, output=f"float[N,{C}] y", **options):
    return cnn("dense", end=text, output=output, **options)


def softmax(x):
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def with_metadata(model, **props):
    for key, value in props.items():
        model.metadata_props.add(key=key, value=value)
    return model


@pytest.fixture
def batch():
    return images(3)


# --- outputs that are probabilities ----------------------------------------------------------------------------------

ARE = {
    "mean of two": "s = Softmax<axis=1>(logits)  n = Neg(logits)  t = Softmax<axis=1>(n)  u = Add(s, t)  "
    "h = Constant<value_float=0.5>()  y = Mul(u, h)",
    "by their sum": "s = Sigmoid(logits)  l = Constant<value_ints=[1]>()  t = ReduceSum(s, l)  y = Div(s, t)",
    "the rest": ONE + "s = Sigmoid(logits)  y = Sub(one, s)",
    "cumulative products": "s = Sigmoid(logits)  n = Neg(logits)  t = Sigmoid(n)  y = Mul(s, t)",
    "two softmaxes": "h, k = Split<axis=1>(logits, sizes)  s = Softmax<axis=1>(h)  t = Softmax<axis=1>(k)  "
    "y = Concat<axis=1>(s, t)",
    "powers of logarithms": "l = LogSoftmax<axis=1>(logits)  y = Exp(l)",
    "colder": "k = Constant<value_float=0.1>()  z = Mul(logits, k)  y = Softmax<axis=1>(z)",
    "in half precision": "s = Softmax<axis=1>(logits)  h = Cast<to=10>(s)  y = Cast<to=1>(h)",
}


@pytest.mark.parametrize("kind", ARE)
def test_an_output_that_is_probabilities_is_read(kind, batch):
    model = end(ARE[kind])
    if "sizes" in ARE[kind]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "sizes"))
    explanation = told(model, batch)
    np.testing.assert_allclose(explanation.probabilities, run(model, batch)["y"], rtol=1e-6)
    assert " p " in explanation.caption()


ARE_NOT = {
    "over the images": "y = Softmax<axis=0>(logits)",
    "twice": "s = Softmax<axis=1>(logits)  y = Add(s, s)",
    "a hundred times a sigmoid": "k = Constant<value_float=100.0>()  s = Sigmoid(logits)  y = Mul(s, k)",
    "expected values": "s = Softmax<axis=1>(logits)  y = Mul(s, each)",
    "by the sum of the run": "s = Sigmoid(logits)  l = Constant<value_ints=[0]>()  t = ReduceSum(s, l)  y = Div(s, t)",
    "within bounds": "y = Tanh(logits)",
    "cut to 0..1": ONE + "o = Constant<value_float=0.0>()  y = Clip(logits, o, one)",
    "of unit length": "y = LpNormalization<axis=1>(logits)",
    "a distance": "d = Mul(logits, logits)  y = Sqrt(d)",
}


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("kind", ARE_NOT)
def test_an_output_that_is_none_tells_none_whatever_the_labels(kind, labels, batch):
    weights = {"each": (C,)} if "each" in ARE_NOT[kind] else None
    explanation = told(end(ARE_NOT[kind], weights=weights), batch, labels=labels, score="y")
    assert explanation.probabilities is None
    assert " p " not in explanation.caption()


def test_a_long_product_is_followed_once():
    """Each factor is there twice: followed each time it would take longer than anybody waits."""
    squares = "  ".join(f"s{n + 1} = Mul(s{n}, s{n})" for n in range(60))
    model = end(f"s0 = Sigmoid(logits)  {squares}  y = Identity(s60)")
    assert told(model, images(1), [0]).probabilities is not None


# --- logits ----------------------------------------------------------------------------------------------------------


def test_plain_numbers_tell_none_and_say_why(batch):
    explainer = opened(cnn("dense"))
    assert explainer.explain(batch, [0]).probabilities is None
    (note,) = [note for note in explainer.notes if note.startswith("Probabilities")]
    assert "'logits'" in note and "--probabilities softmax" in note


CLASSIFIERS = {
    "labels": ({"labels": LABELS}, {}, "softmax"),
    "labels in the metadata": ({}, {"names": str(dict(enumerate(LABELS)))}, "softmax"),
    "our own": ({}, {"onnx_xcam.labels": json.dumps(LABELS)}, "softmax"),
    "the task": ({}, {"task": "classify"}, "softmax"),
    "several labels": ({"labels": LABELS}, {"problem_type": "multi_label_classification"}, "sigmoid"),
    "the author": ({}, {"onnx_xcam.probabilities": "sigmoid"}, "sigmoid"),
    "another task": ({"labels": LABELS}, {"problem_type": "regression"}, None),
    "the author of another": ({"labels": LABELS}, {"onnx_xcam.probabilities": "none"}, None),
    "the user": ({"probabilities": "sigmoid", "labels": LABELS}, {}, "sigmoid"),
    "the user, of logits": ({"probabilities": "softmax"}, {}, "softmax"),
    "a user who wants none": ({"probabilities": "none", "labels": LABELS}, {}, None),
}


@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_logits_of_a_known_classifier(kind, instrumented, batch):
    options, props, how = CLASSIFIERS[kind]
    model = with_metadata(cnn("dense"), **props)
    logits = run(model, batch)["logits"].astype(np.float64)
    wanted = {"softmax": softmax(logits), "sigmoid": 1 / (1 + np.exp(-logits)), None: None}[how]
    found = told(instrument(model, emit=["map"]) if instrumented else model, batch, **options).probabilities
    if wanted is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    recorder = Recorder(model, methods=["xgrad-cam"], preprocess="unit", **options)
    assert recorder.confidence_kind == ("score" if how is None else "probability")
    expected = logits if wanted is None else wanted
    np.testing.assert_allclose(recorder.confidences(batch, Cells(np.arange(C)[None])), expected, rtol=1e-4)


CONFIGS = {
    "classification": ({"architectures": ["ResNetForImageClassification"]}, "softmax"),
    "several labels": ({"problem_type": "multi_label_classification"}, "sigmoid"),
    "regression": ({"problem_type": "regression"}, None),
    "detection": ({"architectures": ["DetrForObjectDetection"]}, None),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_configuration_beside_the_model_is_believed(kind, batch, tmp_path):
    config, how = CONFIGS[kind]
    model = cnn("dense")
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": dict(enumerate(LABELS))}))
    found = told(tmp_path / "m.onnx", batch).probabilities
    logits = run(model, batch)["logits"].astype(np.float64)
    if how is None:
        assert found is None
    else:
        wanted = softmax(logits) if how == "softmax" else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(("count", "shown"), [(999, False), (1000, True), (1001, True), (512, False)])
def test_a_thousand_logits_are_imagenets(count, shown, batch):
    text = POOLED + "logits = Gemm<transB=1>(flat, w)"
    model = cnn(text, output=f"float[N,{count}] logits", weights={"w": (count, 4)})
    assert (told(model, batch, [0]).probabilities is not None) == shown


def test_pairs_of_findings_have_the_probabilities_of_their_softmax(batch):
    """[N,6] logits in three pairs, each with a softmax of its own: the score that is asked for is what they are of."""
    shape = "s = Constant<value_ints=[0,3,2]>()  pairs = Reshape(logits, s)  y = Softmax<axis=2>(pairs)"
    text = POOLED + "logits = Gemm<transB=1>(flat, w)  " + shape
    model = cnn(text, output="float[N,3,2] y", weights={"w": (6, 4)})
    found = told(model, batch, list(range(6)), score="logits").probabilities
    np.testing.assert_allclose(found, run(model, batch)["y"].reshape(3, 6), rtol=1e-6)


def test_a_class_that_is_chosen_makes_a_classifier(batch):
    model = end("y = ArgMax<axis=1>(logits)", output=f"int64[N,1] y, float[N,{C}] logits")
    logits = run(model, batch)["logits"].astype(np.float64)
    np.testing.assert_allclose(told(model, batch).probabilities, softmax(logits), rtol=1e-5)


def test_logits_of_squeezenet_are_cut_off_below_zero(batch):
    text = "m = Conv(a, k)  r = Relu(m)  g = GlobalAveragePool(r)  logits = Flatten(g)"
    model = cnn(text, weights={"k": (C, 4, 1, 1)})
    logits = run(model, batch)["logits"].astype(np.float64)
    np.testing.assert_allclose(told(model, batch, labels=LABELS).probabilities, softmax(logits), rtol=1e-5)


def test_choices_that_cannot_be(batch):
    with pytest.raises(XcamError, match="probabilities is one of auto, softmax, sigmoid, none, not 'cube'"):
        opened(cnn("dense"), probabilities="cube")
    with pytest.raises(XcamError, match="probabilities is one of"):
        Recorder(cnn("dense"), methods=["xgrad-cam"], probabilities=None)
    with pytest.raises(ScoreError, match="by a Softmax, which --probabilities sigmoid"):
        opened(end("y = Softmax<axis=1>(logits)"), probabilities="sigmoid")
    with pytest.raises(ScoreError, match="needs an output of logits"):
        opened(end("y = Tanh(logits)"), probabilities="softmax")
    with pytest.raises(XcamError, match=r"'onnx_xcam.probabilities' is one of softmax, sigmoid, none, not 'cube'"):
        opened(with_metadata(cnn("dense"), **{"onnx_xcam.probabilities": "cube"}))


def test_a_file_of_an_earlier_version_is_no_better_known(batch):
    """It says softmax of whatever comes out; what lies beside it, or the user, must say that it is a classifier."""
    made = instrument(cnn("dense"), emit=["map"])
    (entry,) = (entry for entry in made.metadata_props if entry.key == "onnx_xcam")
    data = json.loads(entry.value)
    del data["logits"]
    entry.value = json.dumps({**data, "probabilities": ["logits", "softmax"]})
    assert told(made, batch).probabilities is None
    assert told(made, batch, labels=LABELS).probabilities is not None
    entry.value = json.dumps({**data, "probabilities": None, "logits": ["z", "softmax"]})
    with pytest.raises(ModelError, match="logits from 'z', which is no output"):
        told(made, batch)


# --- one number ------------------------------------------------------------------------------------------------------

NUMBERS = {"age": "y = Gemm<transB=1>(flat, w, b)", "angle": "z = Gemm<transB=1>(flat, w, b)  y = Tanh(z)"}
ONE_NUMBER = {"w": (1, 4), "b": np.array([0.2], np.float32)}


@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_goes_up_or_down(kind, instrumented):
    model = cnn(POOLED + NUMBERS[kind], output="float[N,1] y", weights=ONE_NUMBER)
    batch = images(8, seed=4)
    values = run(model, batch)["y"][:, 0]
    assert (values > 0).any() and (values < 0).any()
    explainer = opened(instrument(model, emit=["map"]) if instrumented else model)
    explanation = explainer.explain(batch)
    assert explanation.probabilities is None
    np.testing.assert_array_equal(explanation.classes[:, 0], values > 0)
    for n, value in enumerate(values):
        named = "up (class 1)" if value > 0 else "down (class 0)"
        assert explanation.caption(n) == f"{named}  value {value:.2f}"
        assert f"value {value:.2f}" in explanation._repr_html_()
    assert explainer.explain(batch, ["up"]).labels == [["up"]] * 8
    assert not any("shown as numbers" in note for note in explainer.notes)


def test_a_number_with_a_name_is_still_a_number(tmp_path):
    """Hugging Face writes a label for the only output of a regression."""
    model = cnn(POOLED + NUMBERS["age"], output="float[N,1] y", weights=ONE_NUMBER)
    onnx.save(model, tmp_path / "m.onnx")
    config = {"problem_type": "regression", "id2label": {"0": "age"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    explanation = told(tmp_path / "m.onnx", images(1, seed=4), [0, 1])
    assert explanation.probabilities is None
    assert explanation.labels == [["down", "up"]]


def test_one_logit_with_two_labels_is_a_classifier():
    model = cnn(POOLED + NUMBERS["age"], output="float[N,1] y", weights=ONE_NUMBER)
    batch = images(4, seed=4)
    p = 1 / (1 + np.exp(-run(model, batch)["y"].astype(np.float64)))
    explanation = told(model, batch, [0, 1], labels=["cat", "dog"])
    np.testing.assert_allclose(explanation.probabilities, np.concatenate([1 - p, p], 1), rtol=1e-5)
    assert explanation.caption().startswith('class 0 "cat"  score')


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_confidence_is_the_score_where_no_probability_is_told():
    photo = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    options = {"methods": ["xgrad-cam"], "metrics": ["drop"], "preprocess": "unit", "providers": "cpu"}
    (record,) = evaluate(cnn("dense"), [photo], **options)
    assert record["probabilities"] is None
    assert record["confidences"] == record["scores"]
    (record,) = evaluate(cnn("dense"), [photo], probabilities="softmax", **options)
    assert record["confidences"] == record["probabilities"]


@pytest.mark.parametrize(
    ("nodes", "squash"),
    [
        ("p = Softmax(s) y = Flatten(p)", "none"),
        ("d = Dropout(s) y = LogSoftmax(d)", "exp"),
        ("y = HardSigmoid(s)", "none"),
        ("y = Hardmax(s)", None),
        ("y = Reshape(s, n)", "softmax"),
        ("y = Relu(s)", None),
    ],
)
def test_the_activation_behind_the_scores_tells_it(nodes, squash):
    found = _source_in_graph(parse_graph(f"g (float[1,5] s) => (float[1,5] y) {{ {nodes} }}"), "s")
    assert (found and (found.output, found.squash)) == (squash and ("y", squash))
