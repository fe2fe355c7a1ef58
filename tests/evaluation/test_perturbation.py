"""Faithfulness on models whose confidences are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnx_xcam.evaluation import perturbation
from onnx_xcam.evaluation.perturbation import METRICS, faithfulness

H, W = 12, 10


class Linear:
    """confidence_k = sum(weight_k * picture), of a batch [B,C,H,W] or [B,H,W,C]; it counts what it is fed."""

    def __init__(self, classes=2, channels=3, channels_last=False, seed=1):
        shape = (classes, channels, H, W)
        weights = np.random.default_rng(seed).normal(size=shape)
        self.weights = np.moveaxis(weights, 1, -1) if channels_last else weights
        self.batches = []

    def __call__(self, batch):
        self.batches.append(batch)
        return np.einsum("bijk,cijk->bc", batch.astype(np.float64), self.weights).astype(np.float32)

    def contributions(self, item, column, channel_axis=0):
        """[H,W]: what each pixel adds to the confidence."""
        return (item * self.weights[column]).sum(axis=channel_axis)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def item():
    return normal(3, H, W, seed=7).astype(np.float32)


def areas_in_closed_form(contributions, order, start=0.0):
    """Insertion into a picture that gives `start`, and deletion to zero, a pixel at a time."""
    kept = np.concatenate([[0.0], np.cumsum(contributions.ravel()[order])])
    whole = kept[-1]
    area = lambda curve: (curve[1:] + curve[:-1]).mean() / 2  # noqa: E731
    return area(whole - kept), area(kept)


def run(model, x, maps, columns, **options):
    options = {"channels_last": False, "background": "zero", **options}
    return faithfulness(model, x, np.asarray(maps, np.float32), columns, **options)


def test_deletion_of_a_linear_model_in_closed_form():
    model, x = Linear(), item()
    maps = [model.contributions(x, 0), normal(H, W), model.contributions(x, 1)]
    found = run(model, x, maps, [0, 0, 1], metrics={"deletion"}, steps=H * W)
    for one, values, column in zip(found, maps, [0, 0, 1], strict=True):
        order = np.argsort(-np.asarray(values, np.float32).ravel())
        expected, _ = areas_in_closed_form(model.contributions(x, column), order)
        assert one.metrics["deletion"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert set(one.metrics) == {"deletion"}
    assert found[0].metrics["deletion"] < found[1].metrics["deletion"], "the exact map is the best one"


def test_insertion_is_deletion_the_other_way_round(monkeypatch):
    """From a blurred picture that is made empty, what is inserted is what a deletion of the opposite map leaves."""
    monkeypatch.setattr(perturbation, "_blur", lambda length: np.zeros((length, length), np.float32))
    model, x = Linear(), item()
    values = normal(H, W)
    there, back = run(model, x, [values, -values], [0, 0], steps=H * W)
    _, expected = areas_in_closed_form(model.contributions(x, 0), np.argsort(-values.astype(np.float32).ravel()))
    assert there.metrics["insertion"] == pytest.approx(expected, rel=1e-4)
    assert_allclose(there.curves["insertion"], back.curves["deletion"][::-1], atol=1e-4)


def test_curves_run_from_end_to_end():
    model, x = Linear(), item()
    (one,) = run(model, x, [normal(H, W)], [1], steps=5, background="mean")
    whole = model(x[None])[0, 1]
    mean = model(np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape)[None])[0, 1]
    assert len(one.curves["deletion"]) == len(one.curves["insertion"]) == 6
    assert one.curves["deletion"][0] == one.curves["insertion"][-1] == pytest.approx(whole, rel=1e-5)
    assert one.curves["deletion"][-1] == pytest.approx(mean, rel=1e-4)
    assert one.curves["insertion"][0] not in (one.curves["deletion"][-1], pytest.approx(whole))
    assert len(one.curves["road_most"]) == len(one.curves["road_least"]) == 9


def test_more_steps_come_to_the_same_area():
    model, x = Linear(), item()
    values = model.contributions(x, 0)
    coarse, fine = (run(model, x, [values], [0], metrics={"deletion"}, steps=s)[0] for s in (12, H * W))
    assert coarse.metrics["deletion"] == pytest.approx(fine.metrics["deletion"], rel=0.02)


def test_drop_and_increase():
    """Of a linear model: what the kept pixels add, as a part of what all of them do."""
    model, x = Linear(), item()
    values = model.contributions(x, 0)
    model.weights[0] *= np.sign(values.sum())
    values *= np.sign(values.sum())
    speaking_for = (values > 0).astype(float)
    against = 1 - speaking_for
    some = (values > np.quantile(values, 0.9)).astype(float) * 0.5  # scaled to 1 before it is used
    good, bad, part, blank = run(model, x, [speaking_for, against, some, np.zeros((H, W))], [0] * 4)
    assert (good.metrics["drop"], good.metrics["increase"]) == (0.0, 1.0)
    assert (bad.metrics["drop"], bad.metrics["increase"]) == (
        pytest.approx(1 - values[values < 0].sum() / values.sum()),
        0,
    )
    assert part.metrics["drop"] == pytest.approx(max(0.0, 1 - (values * some * 2).sum() / values.sum()), abs=1e-5)
    assert (blank.metrics["drop"], blank.metrics["increase"]) == (pytest.approx(1.0), 0.0)


def test_drop_of_a_score_that_is_not_positive_is_not_defined():
    x = item()
    (one,) = run(lambda batch: -np.ones((len(batch), 1), np.float32), x, [normal(H, W)], [0])
    assert one.metrics["drop"] is None
    assert one.metrics["increase"] == 0.0


def test_the_map_is_scaled_as_it_is_shown():
    seen = []
    x = item()

    def predict(batch):
        seen.extend(batch)
        return np.ones((len(batch), 1), np.float32)

    values = normal(H, W).astype(np.float32)
    run(predict, x, [values], [0], metrics={"drop"})
    shown = np.maximum(values, 0) / values.max()
    assert_allclose(seen[3], x * shown, atol=1e-6)
    assert len(seen) == 4, "the picture, its background, blurred, and times the map"


def test_road_prefers_the_right_map():
    """A bright square on a black ground, a model that looks at it: the right map gains, its opposite loses as much."""
    x = np.zeros((1, H, W), np.float32)
    x[0, 3:7, 3:7] = 1
    right = x[0] + 0.01 * normal(H, W)
    model = lambda batch: batch[:, 0, 3:7, 3:7].mean(axis=(1, 2))[:, None]  # noqa: E731
    good, bad = run(model, x, [right, -right], [0, 0], metrics={"road"})
    assert good.metrics["road"] > 0.2
    assert bad.metrics["road"] == pytest.approx(-good.metrics["road"], abs=0.02)
    assert good.curves["road_most"][1:] == pytest.approx([0] * 8, abs=0.02), "nothing around the square tells of it"
    assert good.curves["road_least"] == pytest.approx([1] * 8 + [good.curves["road_least"][-1]], abs=0.02)


def test_layouts_and_dtypes_come_to_the_same():
    photo = np.random.default_rng(0).integers(0, 256, (3, H, W)).astype(np.uint8)
    planes, rows = Linear(seed=5), Linear(seed=5, channels_last=True)
    maps = normal(2, H, W)
    first = run(planes, photo.astype(np.float32), maps, [0, 1])
    last = run(rows, np.moveaxis(photo, 0, -1).astype(np.float32), maps, [0, 1], channels_last=True)
    whole = run(planes, photo, maps, [0, 1])
    for a, b, c in zip(first, last, whole, strict=True):
        assert a.metrics.keys() == b.metrics.keys()
        for name, value in a.metrics.items():
            assert b.metrics[name] == (None if value is None else pytest.approx(value, rel=1e-3, abs=1e-3))
        assert_allclose(a.curves["deletion"], c.curves["deletion"], rtol=1e-3, atol=1e-2)
    assert planes.batches[-1].dtype == np.uint8
    assert rows.batches[-1].shape[1:] == (H, W, 3)


def test_the_mean_background_does_not_depend_on_the_preprocessing():
    """(x - a) / b of the picture, undone by the model: the same numbers."""
    model, x = Linear(), item()
    model.weights = np.abs(model.weights) * np.sign(x)  # a confidence above 0: drop is defined
    other = lambda batch: model(batch * 3 + 7)  # noqa: E731
    maps = normal(1, H, W)
    a, b = (run(m, p, maps, [0], background="mean")[0] for m, p in ((model, x), (other, (x - 7) / 3)))
    assert_allclose(list(a.metrics.values()), list(b.metrics.values()), rtol=2e-3)


def test_equal_values_are_not_taken_row_by_row():
    """Half of the picture counts; with a map that says nothing, deletion goes down evenly."""
    x = np.zeros((1, 64, 64), np.float32)
    x[0, :32] = 1
    model = lambda batch: batch.mean(axis=(2, 3))  # noqa: E731
    (one,) = run(model, x, [np.zeros((64, 64))], [0], metrics={"deletion"}, steps=8)
    assert_allclose(one.curves["deletion"], 0.5 * np.linspace(1, 0, 9), atol=0.02)


def test_a_map_that_is_not_finite_has_no_metrics_and_harms_no_other():
    model, x = Linear(), item()
    values = normal(H, W)
    broken = values.copy()
    broken[0, 0] = np.nan
    found = run(model, x, [broken, values], [0, 0])
    assert found[0].metrics == dict.fromkeys(METRICS)
    assert found[0].curves == {}
    assert found[1].metrics == run(model, x, [values], [0])[0].metrics


@pytest.mark.parametrize("broken", ["whole", "changed"])
def test_a_confidence_that_is_not_finite_is_no_drop_and_no_increase(broken):
    """Neither 0 % nor "no increase": nothing is known."""
    x = item()

    def model(batch):
        whole = np.array([np.array_equal(one, x) for one in batch])
        return np.where((whole if broken == "whole" else ~whole)[:, None], np.nan, 0.5).astype(np.float32)

    (one,) = run(model, x, [normal(H, W)], [0], steps=4)
    assert one.metrics["drop"] is None
    assert one.metrics["increase"] is None
    assert one.metrics["deletion"] is None


def test_batches_are_bounded_and_pictures_counted():
    model, x = Linear(), item()
    run(model, x, normal(3, H, W), [0, 1, 0], batch=5, steps=4)
    assert max(map(len, model.batches)) <= 5
    assert sum(map(len, model.batches)) == 3 + 3 * (1 + 2 * 3 + 2 * 9)
    assert [len(b) for b in model.batches[1:-1]] == [5] * (len(model.batches) - 2), "full ones"


def test_a_planted_fault_is_seen(monkeypatch):
    """The least relevant first: every metric that ranks must become worse for a map that is exactly right."""
    model, x = Linear(), item()
    values = model.contributions(x, 0)
    right = run(model, x, [values], [0])[0].metrics
    plain = perturbation._ranks
    monkeypatch.setattr(perturbation, "_ranks", lambda v, s: v.size - 1 - plain(v, s))
    wrong = run(model, x, [values], [0])[0].metrics
    assert wrong["deletion"] > right["deletion"]
    assert wrong["insertion"] < right["insertion"]
    assert wrong["road"] < right["road"]
