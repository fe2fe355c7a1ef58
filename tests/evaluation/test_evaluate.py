"""`evaluate`: records against slow computations by hand, what the command writes, and runs that are cut short."""

from __future__ import annotations

import csv
import functools
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import tiny_models
from helpers.command_line import ENVIRONMENT, GATE, KNOWN, needs_posix, wait_for_lines
from helpers.layer_models import with_zeroed
from helpers.models import DENSE, DENSE_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build, cnn, session
from onnx_xcam import instrument
from onnx_xcam.cams.methods import METHODS
from onnx_xcam.errors import ClassError, ModelError, XcamError
from onnx_xcam.evaluation.axioms import errors_of
from onnx_xcam.evaluation.evaluator import Evaluator, evaluate
from onnx_xcam.evaluation.metrics import AXIOMS, CURVES, TRUTH, find_metrics
from onnx_xcam.evaluation.metrics import METRICS as CATALOGUE
from onnx_xcam.evaluation.perturbation import METRICS as FAITHFULNESS
from onnx_xcam.evaluation.perturbation import faithfulness
from onnx_xcam.evaluation.summary import summarise
from onnx_xcam.evaluation.truth import load_truth, score_against
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.place import Placement
from onnx_xcam.images.write import write_image

CLASSES = [3, 0]
QUICK = {"steps": 4, "providers": "cpu"}
AXIOM_NAMES = [name for name, metric in CATALOGUE.items() if metric.group == AXIOMS]
TRUTH_NAMES = [name for name, metric in CATALOGUE.items() if metric.group == TRUTH and metric.of == "map"]
OF_MAPS = [name for name, metric in CATALOGUE.items() if metric.of == "map"]


# --- models and the same things computed in another way ---------------------------------------------------------------


def float_model(n):
    """float32 [n,3,12,12] -> probabilities."""
    return cnn("dense", n=n, end="probs = Softmax<axis=1>(logits)", output="float[N,5] probs", seed=3)


def bytes_model(n):
    """uint8 [n,12,12,3] -> logits."""
    before = "real = Cast<to=1>(photo)  unit = Mul(real, s)  image = Transpose<perm=[0,3,1,2]>(unit)"
    weights = {**TRUNK_WEIGHTS, **DENSE_WEIGHTS, "s": np.array(1 / 255, np.float32)}
    signature = {"inputs": f"uint8[{n},12,12,3] photo", "outputs": f"float[{n},5] logits"}
    return build(f"{before} {TRUNK} a = Relu(c2) {DENSE}", weights, seed=3, **signature)


def scores_model(n):
    """float32 [n,3,12,12] -> twice the logits, which tells no probabilities of the score `logits`."""
    return cnn("dense", n=n, end="twice = Add(logits, logits)", output="float[N,5] twice", seed=3)


MODELS = {
    "float NCHW": (float_model, {"preprocess": {"scale": "1/255"}}),
    "uint8 NHWC": (bytes_model, {"preprocess": {"scale": 1}, "probabilities": "softmax"}),
    "scores": (scores_model, {"preprocess": {"scale": "1/255"}, "score": "logits"}),
}


def photo(seed=0, size=(12, 12)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def fed(kind, pixels):
    """A photo of 12x12 as each of the models takes it."""
    return pixels if kind == "uint8 NHWC" else np.float32(pixels.transpose(2, 0, 1) / 255)


def confidences(kind, model, ids):
    """A function of a batch [B,...], by ONNX Runtime with as many images as the model wants, [B,K]."""
    opened = session(model)
    name, n = opened.get_inputs()[0].name, opened.get_inputs()[0].shape[0]

    def predict(batch):
        size = n if isinstance(n, int) else 1
        (table,) = (np.concatenate(one) for one in zip(*(run(item, size) for item in batch), strict=True))
        if kind == "uint8 NHWC":
            table = np.exp(table.astype(np.float64))
            table /= table.sum(1, keepdims=True)
        return np.float32(table / (2 if kind == "scores" else 1))[:, ids]

    def run(item, size):
        return [one[:1] for one in opened.run(None, {name: np.stack([item] * size)})]

    return predict


def close(found, expected):
    """Six digits are written."""
    if expected is None or not np.isfinite(expected):
        assert found is None
    else:
        assert found == pytest.approx(float(expected), rel=2e-4, abs=2e-5)


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
@pytest.mark.parametrize("n", ["N", 1, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_a_record_holds_what_each_part_gives(kind, n, tmp_path):
    """Several layers, methods and classes; faithfulness by runs of the plain model, one picture at a time."""
    made, options = MODELS[kind]
    model, methods, layers = made(n), ["xgrad-cam", "grad-cam++", "eigen-cam"], ["a", "r1"]
    write_image(tmp_path / "one.png", photo())
    (tmp_path / "boxes.json").write_text('{"one.png": [[2, 1, 7, 9]]}')
    truth = load_truth(tmp_path / "boxes.json", [tmp_path / "one.png"])
    mask = np.zeros((12, 12), bool)
    mask[1:9, 2:7] = True
    recorder = Recorder(model, layers, methods=methods, ablations=True, providers="cpu", **options)
    evaluator = Evaluator(recorder, steps=4, truth=truth)
    (record,) = evaluator.stream([tmp_path / "one.png"], recorder.choose(CLASSES))

    recording = recorder.record(recorder.prepare(photo()), Cells(np.array([CLASSES])))
    predict = confidences(kind, model, CLASSES)
    item = fed(kind, photo())
    whole = predict(item[None])[0]
    assert record["error"] is None and record["files"] == [] and record["labels"] is None
    assert (record["layer"], record["method"], record["classes"]) == (layers, methods, CLASSES)
    np.testing.assert_allclose(record["confidences"], whole, rtol=1e-4)
    assert record["confidences"] == (record["scores"] if kind == "scores" else record["probabilities"])
    assert recorder.confidence_kind == ("score" if kind == "scores" else "probability")
    names = [(one["layer"], one["method"], one["class"]) for one in record["results"]]
    assert names == [(layer, method, k) for layer in layers for method in methods for k in CLASSES]

    place = Placement(photo=(12, 12), input=(12, 12), scaled=(12, 12))
    for at, (layer, method, k) in enumerate(names):
        found, column = record["results"][at], CLASSES.index(k)
        raw = recording.map(method, layer)[column]
        errors = errors_of(recording.layer(layer), method)
        (faithful,) = faithfulness(
            predict, item, place.place(raw)[None], [column], channels_last=kind == "uint8 NHWC", steps=4
        )
        hit = score_against(place.heatmap(np.maximum(raw, 0)), mask)
        expected = {name: getattr(errors, name)[column] for name in AXIOM_NAMES} | faithful.metrics
        expected |= dict(zip(TRUTH_NAMES, (hit.hit, hit.centre_hit, hit.energy, hit.object_share), strict=True))
        assert list(found["metrics"]) == OF_MAPS == list(expected)
        for name, value in expected.items():
            close(found["metrics"][name], value)
        assert list(found["curves"]) == list(CURVES)
        for name, curve in faithful.curves.items():
            np.testing.assert_allclose(found["curves"][name], curve, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("background", ["mean", "zero"])
def test_figures_by_hand(background):
    """The axioms from models that lack a channel; drop and the ends of curves from pictures made here."""
    model = float_model("N")
    options = {"layers": "a", "methods": ["xgrad-cam", "grad-cam"], "background": background, **QUICK}
    (record,) = evaluate(model, [photo()], [2], preprocess={"scale": "1/255"}, **options)
    item = fed("float NCHW", photo())
    predict = confidences("float NCHW", model, [2])
    made = session(instrument(model, layers="a", emit=["activations", "gradients", "map"], relu=False))
    feeds = {"image": item[None], "xcam_class": np.array([[2]])}
    names = ["xcam_activations", "xcam_gradients", "xcam_scores"]
    a, g, score = (one[0].astype(np.float64) for one in made.run(names, feeds))
    without = []
    for channel in range(4):
        opened = session(instrument(with_zeroed(model, channel), layers="a"))
        without.append(opened.run(["xcam_scores"], feeds)[0].item())
    drops = score[0] - np.array(without)
    weights = {"xgrad-cam": (g[0] * a).sum((1, 2)) / a.sum((1, 2)), "grad-cam": g[0].mean((1, 2))}
    whole = predict(item[None])[0, 0]
    away = item.mean((1, 2), keepdims=True) if background == "mean" else np.zeros((3, 1, 1), np.float32)
    assert [one["method"] for one in record["results"]] == list(weights)
    for one in record["results"]:
        w, metrics, curves = weights[one["method"]], one["metrics"], one["curves"]
        shares = w * a.sum((1, 2))
        close(metrics["conservation"], abs(score[0] - shares.sum()) / abs(shares).sum())
        close(metrics["gap"], abs(score[0] - shares.sum()) / abs(score[0]))
        close(metrics["sensitivity"], abs(drops - shares).sum() / abs(drops).sum())
        shown = np.maximum(Placement((12, 12), (12, 12), (12, 12)).place(np.einsum("c,chw->hw", w, a)), 0)
        shown = (shown - shown.min()) / np.ptp(shown)
        now = predict((away + shown * (item - away)).astype(np.float32)[None])[0, 0]
        close(metrics["drop"], max(0, whole - now) / whole)
        close(metrics["increase"], float(now > whole))
        close(curves["deletion"][0], whole)
        close(curves["insertion"][-1], whole)
        close(curves["deletion"][-1], predict(np.broadcast_to(away, item.shape)[None])[0, 0])
        for name in ("insertion", "deletion"):
            assert len(curves[name]) == 5
            close(metrics[name], np.convolve(curves[name], [0.5, 0.5], "valid").mean())
        close(metrics["road"], np.subtract(curves["road_least"], curves["road_most"]).mean() / 2)


def test_every_method_can_be_evaluated_and_a_guided_one_has_no_axioms():
    (record,) = evaluate(
        float_model("N"), [photo()], methods=list(METHODS), layers="a", preprocess={"scale": "1/255"}, **QUICK
    )
    assert [one["method"] for one in record["results"]] == list(METHODS)
    for one in record["results"]:
        found = one["metrics"]
        guided, certain = METHODS[one["method"]].is_guided, ("conservation", "unexplained", "gap", "sensitivity")
        assert {found[name] is None for name in certain} == {guided}, one["method"]
        assert guided is (found["scaled_sensitivity"] is None)
        assert all(found[name] is not None for name in FAITHFULNESS)


def test_what_is_not_finite_is_null_and_harms_no_other_class():
    """Class 1's score is infinite, so its figures are undefined; the axioms of class 0 are as ever."""
    model = cnn("dense", seed=3)
    options = {"methods": ["xgrad-cam"], "layers": "a", "metrics": ["axioms", "deletion"], **QUICK}
    options["preprocess"] = {"scale": "1/255"}
    (before,) = evaluate(model, [photo()], [0, 1], **options)
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    (second,) = (tensor for tensor in broken.graph.initializer if tensor.name == "d2")
    values = onnx.numpy_helper.to_array(second).copy()
    values[1] = 3e38
    second.CopyFrom(onnx.numpy_helper.from_array(values, "d2"))
    (record,) = evaluate(broken, [photo()], [0, 1], **options)
    assert record["error"] is None
    json.dumps(record, allow_nan=False)
    assert record["scores"] == [before["scores"][0], None]
    fine, infinite = (one["metrics"] for one in record["results"])
    for name in AXIOM_NAMES:
        close(fine[name], before["results"][0]["metrics"][name])
    assert set(infinite.values()) == {None} and set(record["results"][1]["curves"].get("deletion", [None])) == {None}


# --- the function -----------------------------------------------------------------------------------------------------


def test_the_function_takes_generators_and_tells_of_each_image(tmp_path):
    write_image(tmp_path / "one.png", photo(1))
    options = {"preprocess": {"scale": "1/255"}, "labels": tiny_models.LABELS, "metrics": ["drop"], **QUICK}
    several = [photo(0), tmp_path / "one.png", tmp_path / "none.png", np.zeros((3, 3, 3), bool), photo(2)]
    records = list(evaluate(float_model(1), (one for one in several), top=2, layers="a", **options))
    names = ["the image", str(tmp_path / "one.png"), str(tmp_path / "none.png"), "the image", "the image"]
    assert [one["image"] for one in records] == names
    assert [one["error"] is None for one in records] == [True, True, False, False, True]
    for one in records:
        if one["error"]:
            assert (one["classes"], one["results"], one["seconds"], one["labels"]) == ([], [], None, None)
            continue
        assert len(one["classes"]) == 2 and one["scores"][0] >= one["scores"][1]
        assert one["labels"] == [tiny_models.LABELS[k] for k in one["classes"]]
        assert all(list(result["metrics"]) == ["drop"] and result["curves"] == {} for result in one["results"])
    summary = summarise(
        records,
        model="m",
        layers=["a"],
        methods=["xgrad-cam", "grad-cam", "grad-cam++"],
        metrics=["drop"],
        confidence="probability",
    )
    assert (summary["images"], summary["failed"], summary["maps"]) == (5, 2, 6)


def test_what_is_wrong_with_a_call_is_said_at_once():
    model = float_model("N")
    with pytest.raises(ModelError, match="instrumented already"):
        evaluate(instrument(model), [])
    with pytest.raises(XcamError, match="There is no metric 'beauty'; there are conservation"):
        evaluate(model, [], metrics=["beauty"])
    with pytest.raises(XcamError, match=r"'pointing' needs masks or boxes.*--truth"):
        evaluate(model, [], metrics=["pointing"])
    with pytest.raises(XcamError, match="steps is 1"):
        evaluate(model, [], steps=1)
    with pytest.raises(ClassError):
        evaluate(model, [], [7])


@pytest.mark.parametrize(
    ("names", "truth", "expected"),
    [
        (["faithfulness"], False, list(FAITHFULNESS)),
        (["Axioms "], False, AXIOM_NAMES),
        (["drop", "gap", "", "drop"], False, ["gap", "drop"]),
        (["drop"], True, ["drop", *TRUTH_NAMES]),
        ([], True, TRUTH_NAMES),
    ],
)
def test_metrics_by_name_and_group(names, truth, expected):
    assert list(find_metrics(names, truth=truth, of=("map",))) == expected


def test_metrics_of_objects_are_none_of_a_classifier(tmp_path):
    every = find_metrics(["truth"], truth=True)
    assert [*TRUTH_NAMES, "energy_others", "mark_pointing", "mark_energy"] == list(every)
    assert "energy_others" in find_metrics([], truth=True, of=("map", "object"))
    (tmp_path / "boxes.json").write_text('{"one.png": [[2, 1, 7, 9]]}')
    truth = load_truth(tmp_path / "boxes.json", [tmp_path / "one.png"])
    with pytest.raises(XcamError, match="'energy_others' needs a model that finds objects"):
        evaluate(float_model("N"), [], metrics=["energy_others"], truth=truth, **QUICK)


# --- the command ------------------------------------------------------------------------------------------------------

TWO = ["--method", "xgrad-cam", "--method", "grad-cam++", "--layer", "a", "--layer", "r1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of four photos."""
    monkeypatch.chdir(tmp_path)
    model = cnn("dense", seed=3)
    model.metadata_props.add(key="onnx_xcam", value=json.dumps(KNOWN))
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for n in range(4):
        write_image(tmp_path / "photos" / f"{n}.png", photo(n, (16 + n, 20)))
    return tmp_path


@pytest.fixture
def run(run):
    """Run `evaluate`; gives exit status, stdout and stderr."""
    return functools.partial(run, "evaluate", "model.onnx")


def records(folder="evaluation"):
    return [json.loads(line) for line in (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def summary_of(folder="evaluation"):
    return json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))


def table(folder="evaluation"):
    with (Path(folder) / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content(folder):
    """All that is written, but how long it took."""
    lines = [{**one, "seconds": 0} for one in records(folder)]
    return lines, {**summary_of(folder), "seconds": 0, "command": ""}, (Path(folder) / "results.csv").read_bytes()


def test_summary_and_table_are_those_of_the_lines(run, folder):
    (folder / "photos" / "bad.png").write_bytes(b"no picture")
    status, out, err = run("photos", "missing.png", *TWO, "--top", "2", "--steps", "3")
    assert status == 1
    assert "photos/bad.png" in err and "missing.png" in err and "Traceback" not in err
    assert err.splitlines()[-1] == "error: 2 of 6 pictures could not be evaluated."
    lines, summary = records(), summary_of()
    assert [one["image"] for one in lines] == [*(f"photos/{n}.png" for n in range(4)), "photos/bad.png", "missing.png"]
    assert [one["error"] is None for one in lines] == [True] * 4 + [False] * 2
    assert (summary["images"], summary["failed"], summary["maps"]) == (6, 2, 8)
    assert [(row["layer"], row["method"]) for row in summary["rows"]] == [
        (layer, method) for layer in ("a", "r1") for method in ("xgrad-cam", "grad-cam++")
    ]
    results = [(record, one) for record in lines for one in record["results"]]
    for row in summary["rows"]:
        mine = [one for _, one in results if (one["layer"], one["method"]) == (row["layer"], row["method"])]
        assert list(row["metrics"]) == [*AXIOM_NAMES, *FAITHFULNESS]
        for name, figures in row["metrics"].items():
            values = [one["metrics"][name] for one in mine if one["metrics"][name] is not None]
            assert figures["count"] == len(values) == 8 or name == "scaled_conservation", "shares times 0 have none"
            assert figures["mean"] == pytest.approx(statistics.fmean(values))
            assert figures["std"] == pytest.approx(statistics.stdev(values), abs=1e-12)
            assert (figures["min"], figures["max"]) == (min(values), max(values))
        for name, curve in row["curves"].items():
            assert curve["count"] == 8
            np.testing.assert_allclose(curve["mean"], np.mean([one["curves"][name] for one in mine], axis=0))
    rows = table()
    assert len(rows) == len(results) + 2 == 4 * 8 + 2
    for row, (record, one) in zip(rows, results, strict=False):
        at = record["classes"].index(one["class"])
        expected = {"image": record["image"], "layer": one["layer"], "method": one["method"], "error": ""}
        expected |= {"class": str(one["class"]), "label": record["labels"][at], "score": str(record["scores"][at])}
        expected |= {"confidence": str(record["confidences"][at])}
        expected |= {name: "" if value is None else str(value) for name, value in one["metrics"].items()}
        assert row == expected
    assert [row["error"] for row in rows[-2:]] == [one["error"] for one in lines[-2:]]
    assert out.index("layer a") < out.index("layer r1")
    shown = next(line for line in out.splitlines() if "Deletion" in line).split("better)")[1]
    for row in summary["rows"][:2]:
        assert f"{row['metrics']['deletion']['mean']:.3f} ±" in shown


def test_options_say_what_is_measured(run, folder):
    run("photos", "--limit", "2", "--class", "cat", "--class", "0", "--metrics", "drop,road", "-q")
    assert [one["image"] for one in records()] == ["photos/0.png", "photos/1.png"]
    for record in records():
        assert (record["classes"], record["labels"]) == ([2, 0], ["cat", "ant"])
        assert [(one["method"], one["class"]) for one in record["results"]] == [
            (method, k) for method in ("xgrad-cam", "grad-cam", "grad-cam++") for k in (2, 0)
        ]
        assert {tuple(one["metrics"]) for one in record["results"]} == {("drop", "road")}
        assert {tuple(one["curves"]) for one in record["results"]} == {("road_most", "road_least")}
    summary = summary_of()
    assert [one["name"] for one in summary["metrics"]] == ["drop", "road"]
    assert [one["name"] for one in summary["curves"]] == ["road_most", "road_least"]
    assert set(table()[0]) >= {"drop", "road"} and "gap" not in table()[0]


def test_a_class_that_is_named_twice_counts_once(run, folder):
    run("photos", "--class", "cat", "--class", "1", "--class", "2", "--metrics", "drop", "-q")
    assert [one["classes"] for one in records()] == [[2, 1]] * 4
    assert summary_of()["maps"] == 8


def test_quiet_prints_the_table_only(run, folder):
    status, out, err = run("photos", "-q", "--metrics", "drop")
    assert (status, err) == (0, "")
    assert "Average drop (lower is better)" in out
    assert "\x1b" not in out


def test_truth_of_some_photos(run, folder):
    boxes = {"0.png": [[2, 2, 18, 14]], "2.png": {"cat": [[0, 0, 5, 5]]}, "3.png": {"emu": [[0, 0, 5, 5]]}}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    arguments = ["photos", "--truth", "boxes.json", "--metrics", "truth", "--method", "xgrad-cam", "--class", "cat"]
    assert run(*arguments)[0] == 0
    known = [one["results"][0]["metrics"] for one in records()]
    assert [one["energy"] is not None for one in known] == [True, False, True, False], "1 unknown, 3 another class"
    assert known[0]["object_share"] == pytest.approx(16 * 12 / (16 * 20), rel=1e-5)
    figures = summary_of()["rows"][0]["metrics"]
    assert figures["pointing"]["count"] == 2
    assert figures["energy"]["mean"] == pytest.approx((known[0]["energy"] + known[2]["energy"]) / 2)
    assert run(*arguments, "--any-class", "-o", "any")[0] == 0
    assert records("any")[3]["results"][0]["metrics"]["object_share"] is not None
    (folder / "boxes.json").write_text(json.dumps({**boxes, "1.png": [[100, 100, 120, 120]]}))
    status, _, err = run(*arguments, "-o", "outside")
    assert status == 1 and "lies outside of the photo" in err
    assert [one["error"] is None for one in records("outside")] == [True, False, True, True]


def test_sanity_is_in_the_summary_and_printed(run, folder):
    (folder / "photos" / "0.png").write_bytes(b"")
    status, out, _ = run("photos", *TWO, "--metrics", "drop", "--sanity", "1", "-q")
    assert status == 1, "of the photo that failed"
    steps = summary_of()["sanity"]
    assert [one["target"] for one in steps if one["depth"] == one["of"]] == ["a", "a", "r1", "r1"]
    assert {one["method"] for one in steps} == {"xgrad-cam", "grad-cam++"}
    assert {one["compared"] for one in steps} <= {0, 1}
    assert all(one["follows"] in (True, False, None) for one in steps)
    tables = out[out.index("sanity check, layer a") :]
    assert "sanity check, layer r1" in tables and "follows the model" in tables
    for step in steps:
        if step["rank_correlation"] is not None:
            assert f"{step['rank_correlation']:.2f} / {step['absolute']:.2f}" in tables


def test_a_page_with_the_same_numbers(run, folder):
    assert run("photos", "--metrics", "drop,deletion", "--html", "page.html", "-q")[0] == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    for row in summary_of()["rows"]:
        assert f"{row['metrics']['deletion']['mean']:.3f}" in page


def test_nothing_but_failures(run, folder):
    for path in (folder / "photos").iterdir():
        path.write_bytes(b"")
    status, _, err = run("photos", "--sanity", "1", "-q")
    assert status == 1 and "Traceback" not in err
    assert all(one["error"] for one in records())
    assert {figures["mean"] for row in summary_of()["rows"] for figures in row["metrics"].values()} == {None}


# --- what is wrong with a command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--class", "1", "--top", "2"],
        ["--background", "red"],
        ["--any-class"],
        ["--steps", "1"],
        ["--top", "0"],
        ["--limit", "0"],
        ["--sanity", "-1"],
        ["--input", "x"],
        ["--nothing"],
    ],
)
def test_a_wrong_command_line_is_status_2(run, folder, options):
    status, out, err = run("photos", *options)
    assert (status, out) == (2, "")
    assert "Usage" in err and "Traceback" not in err
    assert not (folder / "evaluation").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "beauty,drop"], "There is no metric 'beauty'"),
        (["--metrics", ","], "There is nothing to measure"),
        (["--metrics", "energy"], "needs masks or boxes"),
        (["--method", "magic"], "magic"),
        (["--layer", "nowhere"], "nowhere"),
        (["--class", "unicorn"], "unicorn"),
        (["--class", "5"], "5"),
        (["--score", "nowhere"], "nowhere"),
        (["--truth", "none.json"], "none.json"),
        (["--truth", "photos/0.png"], "0.png"),
        (["-o", "model.onnx"], "Name another with -o"),
        (["--html", "model.onnx"], "model.onnx"),
        (["--provider", "magic"], "magic"),
    ],
)
def test_an_error_is_one_sentence_and_status_1(run, folder, options, message):
    before = (folder / "model.onnx").read_bytes()
    status, out, err = run("photos", "-q", *options)
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert (folder / "model.onnx").read_bytes() == before


def test_a_model_that_is_instrumented_and_folders_without_photos(run, folder):
    (folder / "empty").mkdir()
    status, _, err = run("empty", "-q")
    assert status == 1 and "empty: no picture" in err and err.count("\n") == 1
    onnx.save(instrument(folder / "model.onnx"), folder / "model.onnx")
    status, _, err = run("photos", "-q")
    assert status == 1 and "is instrumented already" in err and err.count("\n") == 1


# --- cut short --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [False, True])
def test_resumed_is_as_if_never_cut_short(run, folder, torn):
    options = ["photos", *TWO, "--steps", "3"]
    assert run(*options, "-q")[0] == 0
    expected = content("evaluation")
    path = folder / "evaluation" / "results.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:2]) + (whole[2][:-50] if torn else b""))
    status, _, err = run(*options, "--resume")
    assert status == 0 and "note: 2 of 4 photos are done already." in err
    assert path.read_bytes().splitlines(keepends=True)[:2] == whole[:2], "not done again"
    assert content("evaluation") == expected
    before = path.read_bytes()
    assert run(*options, "--resume", "-q")[0] == 0
    assert path.read_bytes() == before


def test_photos_that_failed_are_tried_again(run, folder):
    good = (folder / "photos" / "1.png").read_bytes()
    (folder / "photos" / "1.png").write_bytes(b"")
    assert run("photos", "-q", "--metrics", "drop")[0] == 1
    (folder / "photos" / "1.png").write_bytes(good)
    assert run("photos", "-q", "--metrics", "drop", "--resume")[0] == 0
    assert sorted(one["image"] for one in records()) == [f"photos/{n}.png" for n in range(4)]
    assert (summary_of()["images"], summary_of()["failed"]) == (4, 0)
    assert not any(row["error"] for row in table())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "drop,increase"], "another choice of what is measured"),
        (["--metrics", "drop", "--background", "zero"], "another choice of what is measured"),
        (["--metrics", "drop", "--steps", "9"], "another choice of what is measured"),
        (["--metrics", "drop", "--truth", "boxes.json"], "another choice of what is measured"),
        (["--metrics", "drop", "--method", "grad-cam"], "another method"),
        (["--metrics", "drop", "--layer", "r1"], "another layer"),
        (["--metrics", "drop", "--top", "2"], "another choice of classes"),
        (["--metrics", "drop", "--preprocess", "imagenet"], "another preprocessing"),
    ],
)
def test_another_run_is_not_continued(run, folder, options, message):
    (folder / "boxes.json").write_text('{"0.png": [[1, 1, 5, 5]]}')
    run("photos", "-q", "--metrics", "drop")
    before = content("evaluation")
    status, out, err = run("photos", "-q", "--resume", *options)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert content("evaluation") == before


def test_a_run_that_starts_anew_leaves_nothing_of_the_one_before(run, folder):
    run("photos", "-q", "--metrics", "drop")
    status, _, err = run("photos/0.png", "--metrics", "drop")
    assert status == 0 and "is replaced; --resume would have continued it" in err
    assert len(records()) == 1 and summary_of()["images"] == 1 and len(table()) == 3


@needs_posix
def test_ctrl_c_leaves_a_summary_and_says_how_to_go_on(folder):
    for n in range(8):
        write_image(folder / "photos" / f"p{n}.png", photo(n, (20, 20)))
    gate = [sys.executable, GATE, "p2.png"]
    options = {"cwd": folder, "env": ENVIRONMENT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*gate, "evaluate", "model.onnx", "photos", "--steps", "4"], **options)
    total = len(list((folder / "photos").iterdir()))
    before = total - 6
    wait_for_lines(process, folder / "evaluation" / "results.jsonl", before)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    done = len(records())
    assert process.returncode == 130 and "Traceback" not in err
    assert done in (before, before + 1), "those before the gate, and the one that was held, if it was faster"
    last = f"interrupted: {done} of {total} photos are done; the same command with --resume does the others."
    assert err.splitlines()[-1] == last
    assert summary_of()["images"] == done
    assert len(table()) == 3 * done
    assert not [path for path in (folder / "evaluation").iterdir() if path.name.startswith(".")]
