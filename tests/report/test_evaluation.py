# ruff: noqa: RUF001  - the page writes a true minus
"""The page of an evaluation: its numbers, its plots, and how it behaves in a real Chromium."""

from __future__ import annotations

import copy
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers import evaluations, hostile, tiny_models, web
from helpers.report_pages import CONTRAST, SETTINGS, opened
from onnx_xcam.images.write import write_image
from onnx_xcam.report import write_evaluation
from onnx_xcam.report.plots import Line, Scale, Spread, decades, line_plot, number, spread_plot, ticks


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with web.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def said() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return evaluations.made(20)


@pytest.fixture(scope="module")
def page(said, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "page.html"
    write_evaluation(path, *said)
    return path


def rows_of(table: str) -> list[list[str]]:
    """The cells of a table's rows, as text."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        found.append([html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in cells])
    return found


# --- numbers and plots -----------------------------------------------------------------------------------------------


def test_the_summary_has_the_means_and_marks_the_best(page, said):
    summary, _ = said
    source = page.read_text(encoding="utf-8")
    table = rows_of(re.search(r"<table>.*?</table>", source, re.DOTALL)[0])
    assert table[0] == ["Metric", *evaluations.METHODS]
    at = 1
    for layer in evaluations.LAYERS:
        assert table[at] == [layer]
        rows = [row for row in summary["rows"] if row["layer"] == layer]
        for line, (name, title, better, _) in zip(table[at + 1 : at + 5], evaluations.METRICS, strict=True):
            assert line[0] == f"{title} {'↑' if better == 'higher' else '↓'}"
            means = [row["metrics"][name]["mean"] for row in rows]
            best = max(means) if better == "higher" else min(means)
            for cell, row in zip(line[1:], rows, strict=True):
                assert cell.startswith("★") == (row["metrics"][name]["mean"] == best)
                mean, deviation = cell.removeprefix("★ ").split(" ± ")
                assert float(mean) == pytest.approx(row["metrics"][name]["mean"], rel=6e-3)
                assert float(deviation) == pytest.approx(row["metrics"][name]["std"], rel=6e-3)
        at += 5


def test_curves_are_drawn_where_their_values_are(page, said):
    """The path of every method, taken back to numbers by the ticks beside the axes."""
    summary, _ = said
    source = page.read_text(encoding="utf-8")
    plots = re.findall(r"<svg class=\"plot\".*?</svg>", source, re.DOTALL)
    plots = [plot for plot in plots if "share of pixels" in plot]
    assert len(plots) == 4
    wanted = [(curve, layer) for curve, *_ in evaluations.CURVES for layer in evaluations.LAYERS]
    for plot, (curve, layer) in zip(plots, wanted, strict=True):
        y_ticks = re.findall(r'y2="([\d.]+)"/><text class="end"[^>]*>([^<]*)<', plot)
        pixels, values = (np.array([float(one[i].replace("−", "-")) for one in y_ticks]) for i in (0, 1))
        slope, offset = np.polyfit(pixels, values, 1)
        for method, path in zip(evaluations.METHODS, re.findall(r' d="([^"]*)"', plot), strict=True):
            row = next(one for one in summary["rows"] if (one["layer"], one["method"]) == (layer, method))
            points = np.array([[float(v) for v in point.split()] for point in re.split("[ML]", path)[1:]])
            np.testing.assert_allclose(points[:, 1] * slope + offset, row["curves"][curve]["mean"], atol=5e-3)
            np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.02)


def test_spreads_are_those_of_the_records(page, said):
    _, records = said
    source = page.read_text(encoding="utf-8")
    found = re.findall(
        r"<title>([\w+-]+): mean ([^,]+), median ([^,]+), half of (\d+) between (\S+) and (\S+?)</title>", source
    )
    assert len(found) == len(evaluations.METRICS) * len(evaluations.LAYERS) * len(evaluations.METHODS)
    told = iter(found)
    for name, *_ in evaluations.METRICS:
        for layer in evaluations.LAYERS:
            for method in evaluations.METHODS:
                values = [
                    one["metrics"][name]
                    for record in records
                    for one in record["results"]
                    if (one["layer"], one["method"]) == (layer, method) and one["metrics"][name] is not None
                ]
                shown, mean, median, count, low, high = next(told)
                assert (shown, int(count)) == (method, len(values))
                quartiles = np.percentile(values, [50, 25, 75])
                for text, value in zip((mean, median, low, high), (np.mean(values), *quartiles), strict=True):
                    assert float(text.replace("−", "-")) == pytest.approx(value, rel=6e-3, abs=1e-12)


def test_nothing_is_best_where_all_is_the_same(tmp_path):
    """Means that are written alike share the star, and where all are, there is none."""
    summary, records = evaluations.made(4)
    for row in summary["rows"]:
        alike = {"xgrad-cam": 1e-9, "grad-cam": 1.0001e-9}.get(row["method"], 0.5)
        row["metrics"]["conservation"]["mean"] = alike
        row["metrics"]["insertion"]["mean"] = 0.25
    write_evaluation(tmp_path / "page.html", summary, records)
    table = rows_of(re.search(r"<table>.*?</table>", (tmp_path / "page.html").read_text("utf-8"), re.DOTALL)[0])
    lines = {line[0]: line for line in table[2:6]}
    assert [cell.startswith("★") for cell in lines["Conservation error ↓"][1:]] == [True, True, False, False]
    assert not any("★" in cell for cell in lines["Insertion ↑"])


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.03, 0.97, [0.25, 0.5, 0.75]),
        (-3, 8, [-2.5, 0, 2.5, 5, 7.5]),
        (5, 5, [5]),
        (1e-9, 4e-9, [1e-9, 2e-9, 3e-9, 4e-9]),
    ],
)
def test_ticks(low, high, wanted):
    assert ticks(low, high) == pytest.approx(wanted)


def test_ticks_are_round_and_within():
    random = np.random.default_rng(1)
    for low, span in zip(random.normal(0, 100, 300), 10 ** random.uniform(-6, 6, 300), strict=True):
        found = ticks(low, low + span)
        assert 1 <= len(found) <= 6
        assert low - 1e-6 * span <= found[0] and found[-1] <= low + span * (1 + 1e-6)


def test_a_logarithmic_axis():
    """Where values are far apart; the marks stand where the numbers beside them say."""
    rows = [Spread("a", 0, np.full(3, 2e-7)), Spread("b", 1, np.array([0.5, 0.6])), Spread("c", 2, np.full(2, 105.0))]
    plot = spread_plot([("", rows)], label="x")
    assert ">logarithmic<" in plot
    marks = re.findall(r'class="middle" x="([\d.]+)"[^>]*>([^<]*)<', plot)
    pixels, powers = np.array([[float(x), np.log10(float(t.replace("−", "-")))] for x, t in marks]).T
    slope, offset = np.polyfit(pixels, powers, 1)
    means = [float(x) for x in re.findall(r'cx="([\d.]+)"', plot)]
    np.testing.assert_allclose(10 ** (np.array(means) * slope + offset), [2e-7, 0.55, 105.0], rtol=1e-2)
    assert len(decades(1e-9, 1e9)) <= 7 and decades(0.02, 5.0) == pytest.approx([0.01, 0.1, 1, 10])
    for values in ([0.0, 100.0], [-1.0, 500.0], [1.0, 150.0]):
        assert "logarithmic" not in spread_plot([("", [Spread("a", 0, np.full(2, v)) for v in values])], label="x")


def test_numbers():
    told = [number(v) for v in (0.0, 0.12345, -0.5, 1234.5, 99999, 2e5, 1e-4, None, float("nan"))]
    assert told == ["0", "0.123", "−0.5", "1234", "99999", "2e5", "1e−4", "–", "–"]


def test_plots_of_odd_data():
    """Gaps, a single value, values that are all the same: nothing that is no number in the picture."""
    options = {"label": "x", "x_title": "x", "first": 0.0, "last": 1.0}
    plots = [
        line_plot([Line("a", [None, 0.5, None, 0.25])], bounds=(0.25, 0.5), **options),
        line_plot([Line("a", [1.0]), Line("b", [])], bounds=(1.0, 1.0), **options),
        spread_plot([("", [Spread("a", 0, np.array([0.5]))])], label="x"),
        spread_plot([("g", [Spread("a", 11, np.zeros(3)), Spread("b", 1, np.array([-1e-9, 1e9]))])], label="x"),
    ]
    assert not any(re.search(r"\b(nan|inf|None)\b", plot) for plot in plots)
    assert plots[0].count("M") - plots[0].count("xM") >= 2 and 'class="line m0"' in plots[0]
    assert Scale(1, 1, 0, 10)(1) == 5


# --- what may be missing, and text of others -------------------------------------------------------------------------


def test_nothing_but_failures(browser, tmp_path):
    write_evaluation(tmp_path / "page.html", *evaluations.made(2, failed=2))
    with opened(browser, tmp_path / "page.html") as tab:
        assert "2 photos, of which 2 could not be evaluated" in tab.page.inner_text("header")
        assert "the file is empty" in tab.page.inner_text("main")
        assert tab.page.is_hidden("#images") and tab.complaints == []


def test_one_image_and_metrics_without_values(tmp_path):
    summary, records = evaluations.made(2, failed=1)
    for row in summary["rows"]:
        row["metrics"]["drop"] = {"count": 0, "mean": None, "std": None, "min": None, "max": None}
        row["curves"] = {}
    summary["metrics"].append({"name": "drop", "title": "Drop", "better": None, "text": "Of confidence."})
    write_evaluation(tmp_path / "page.html", summary, records)
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>Curves</h2>" not in source and "Drop" in source
    assert not re.search(r">(nan|inf|None)<", source)


def test_hostile_names(browser, tmp_path):
    summary, records = evaluations.made(6)
    text = json.dumps([summary, records])
    hostile_names = [
        "<img src=x onerror=alert(1)>",
        "</script><script>alert(1)</script>",
        '" onload="alert(1)',
        hostile.ESCAPES,
    ]
    for old, new in zip(
        ["/_blocks.7/Add_output_0", "grad-cam++", "tiger cat", "photos/001.png"], hostile_names, strict=True
    ):
        text = text.replace(json.dumps(old), json.dumps(new))
    summary, records = json.loads(text)
    summary["notes"], summary["command"] = hostile_names, hostile_names[1]
    write_evaluation(tmp_path / "page.html", summary, records)
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not {one for one in hostile.ESCAPES if not one.isprintable()} & set(source) - {"\n"}
    with opened(browser, tmp_path / "page.html") as tab:
        assert tab.page.evaluate("document.querySelectorAll('img, script').length") == 2
        assert hostile_names[0] in tab.page.inner_text("main") and hostile_names[1] in tab.page.inner_text(".legend")
        assert hostile_names[2] in tab.page.inner_text("#table")
        assert tab.complaints == []


def test_the_settings_that_are_given(tmp_path, said):
    write_evaluation(tmp_path / "page.html", *said, settings=SETTINGS)
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Beware." in source and "A note." in source


def test_several_classes_of_an_image(browser, tmp_path):
    summary, records = evaluations.made(3, failed=0)
    for record in records:
        more = copy.deepcopy(record["results"])
        for one in more:
            one["class"] = 5
            one["metrics"]["insertion"] = 0.125
        record["results"] += more
        record |= {"classes": [282, 5], "labels": None, "confidences": [0.5, None]}
    write_evaluation(tmp_path / "page.html", summary, records)
    with opened(browser, tmp_path / "page.html") as tab:
        lines = tab.page.locator("#table tbody tr").all_inner_texts()
        assert len(lines) == 6
        assert lines[1].split("\t")[:4] == ["photos/000.png", "class 5", "–", "0.125"]


# --- in the browser --------------------------------------------------------------------------------------------------


def column(tab: web.Tab, index: int) -> list[str]:
    return tab.page.locator(f"#table tbody tr td:nth-child({index + 1})").all_inner_texts()


def test_the_table_of_images(page, said, browser):
    _, records = said
    done = [one for one in records if one["error"] is None]
    with opened(browser, page) as tab:

        def wanted(layer: int, method: int, metric: str) -> list[float | None]:
            at = layer * len(evaluations.METHODS) + method
            return [one["results"][at]["metrics"][metric] for one in done]

        def numbers(index: int) -> list[float | None]:
            return [None if text == "–" else float(text.replace("−", "-")) for text in column(tab, index)]

        assert column(tab, 0) == [one["image"] for one in done]
        assert numbers(3) == pytest.approx(wanted(0, 0, "insertion"), rel=1e-3)
        tab.page.select_option("#layer", evaluations.LAYERS[1])
        tab.page.select_option("#method", "grad-cam++")
        assert numbers(3) == pytest.approx(wanted(1, 2, "insertion"), rel=1e-3)
        button = "#table th:nth-child(7) button"
        tab.page.focus(button)
        tab.page.keyboard.press("Enter")
        known = sorted(one for one in wanted(1, 2, "sensitivity") if one is not None)
        assert numbers(6)[:-1] == pytest.approx(known, rel=1e-3) and numbers(6)[-1] is None
        assert tab.page.get_attribute("#table th:nth-child(7)", "aria-sort") == "ascending"
        tab.page.keyboard.press("Space")
        assert numbers(6)[:-1] == pytest.approx(known[::-1], rel=1e-3) and numbers(6)[-1] is None
        assert tab.page.get_attribute("#table th:nth-child(7)", "aria-sort") == "descending"
        tab.page.fill("#filter", "TIGER 01")
        assert tab.page.inner_text("#found") == "10 of 19 rows"
        assert tab.complaints == []
        assert [url for url in tab.asked if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme, page, browser):
    with opened(browser, page, color_scheme=scheme) as tab:
        tab.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        found = tab.page.evaluate(CONTRAST)
        assert len(found) > 300
        assert min(ratio for _, ratio in found) >= 4.5, sorted(found, key=lambda one: one[1])[:5]


@pytest.mark.parametrize("width", [340, 700, 1200])
def test_narrow_windows(width, page, browser):
    with opened(browser, page, viewport={"width": width, "height": 800}) as tab:
        tab.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts(page, browser):
    with opened(browser, page, java_script_enabled=False) as tab:
        assert tab.page.locator("svg.plot").count() == 8 and tab.page.is_visible("main table >> nth=0")
        assert "Scripts are off" in tab.page.inner_text("noscript")


def test_1000_images(browser, tmp_path):
    write_evaluation(tmp_path / "page.html", *evaluations.made(1000))
    assert (tmp_path / "page.html").stat().st_size < 1e6
    with opened(browser, tmp_path / "page.html") as tab:
        assert tab.page.locator("#table tbody tr").count() == 999
        assert tab.complaints == []


# --- evaluate --html -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with model.onnx and photos/ of three photos and one that is none."""
    monkeypatch.chdir(tmp_path)
    known = {"preprocess": {"scale": "1/255"}, "labels": tiny_models.LABELS}
    onnx.save(tiny_models.tiny(metadata=known), tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 256, (20, 30, 3), np.uint8)
        write_image(tmp_path / "photos" / f"{n}.png", pixels)
    (tmp_path / "photos" / "3.png").write_bytes(b"none")
    return tmp_path


EVALUATE = ("evaluate", "model.onnx", "photos", "--layer", "features", "--layer", "c", "-o", "out", "--score", "y")


def test_evaluate_writes_the_page_of_its_summary(folder, run, browser):
    status, out, _ = run(*EVALUATE, "--html", "page.html")
    assert status == 1 and re.search(r"^page  -> page.html \(\d\.\d MB\)$", out, re.MULTILINE)
    summary = json.loads((folder / "out/summary.json").read_text("utf-8"))
    source = (folder / "page.html").read_text("utf-8")
    table = rows_of(re.search(r"<table>.*?</table>", source, re.DOTALL)[0])
    shown = [line for line in table[1:] if len(line) > 1]
    wanted = [(layer, metric["name"]) for layer in summary["layers"] for metric in summary["metrics"]]
    assert len(shown) == len(wanted) > 10
    for line, (layer, metric) in zip(shown, wanted, strict=True):
        rows = [row for row in summary["rows"] if row["layer"] == layer]
        for cell, row in zip(line[1:], rows, strict=True):
            assert cell.removeprefix("★ ").split(" ± ")[0] == number(row["metrics"][metric]["mean"])
    command = "onnx-xcam evaluate --out out --layer features --layer c --score y --html page.html model.onnx photos"
    assert command in source and "not a picture that OpenCV can read" in source and "background mean" in source
    with opened(browser, folder / "page.html") as tab:
        assert tab.page.locator("#table tbody tr").count() == 3 and tab.complaints == []


def test_a_resumed_evaluation_has_the_same_page(folder, run):
    run(*EVALUATE, "--html", "page.html")

    def content() -> str:
        return re.sub(
            r'<details id="settings">.*?</details>', "", (folder / "page.html").read_text("utf-8"), flags=re.S
        )

    before = content()
    lines = (folder / "out/results.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "out/results.jsonl").write_bytes(b"".join(lines[:2]))
    (folder / "page.html").unlink()
    run(*EVALUATE, "--html", "page.html", "--resume")
    assert content() == before


@pytest.mark.parametrize("taken", ["photos/1.png", "model.onnx", "out/summary.json", "photos"])
def test_the_page_takes_no_one_s_place(taken, folder, run):
    status, _, err = run(*EVALUATE, "--html", taken)
    assert status == 1 and f"'{taken}'" in err and "error: " in err
    assert not (folder / "out/summary.json").exists(), "found out before anything ran"
