"""tools/speed/bench.py, as far as it goes without PyTorch: what it measures, one cell for real, its tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import onnx
import pytest

from helpers import ROOT, tiny_models
from onnx_xcam.benchmark.memory import is_measurable
from tools.speed import bench, bench_table


def options(**changed) -> argparse.Namespace:
    known = {
        "only": ["resnet50"],
        "layer": ["auto", "middle"],
        "batch": [1, 8],
        "threads": [1],
        "classes": [1, 10, 1000],
    }
    return argparse.Namespace(**{**known, "models": Path("models"), "seconds": 0, "no_peers": False, **changed})


def test_many_classes_are_measured_of_one_image_at_the_default_layer():
    found = {(cell.layer, cell.batch): cell.classes for cell in bench.cells(options())}
    assert found == {("auto", 1): [1, 10, 1000], ("auto", 8): [1, 10], ("middle", 1): [1, 10], ("middle", 8): [1, 10]}


@pytest.fixture
def record(tmp_path):
    """A real one, of a tiny model."""
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_models.tiny(size="S"), path)
    (cell,) = bench.cells(options(only=[str(path)], layer=["auto"], batch=[2], classes=[1, 3]))
    found = bench.measure(cell)
    assert found is not None
    return found


def test_a_cell(record):
    assert record["key"][1:] == ["auto", 2, 1] and record["layer"] == "features"
    timed = {(figure["name"], figure["classes"]) for figure in record["figures"]}
    assert timed == {("onnxruntime forward", 0), ("onnx_xcam", 1), ("onnx_xcam", 3)}
    assert all(figure["rounds"] >= 1 and figure["ms"]["median"] > 0 for figure in record["figures"])
    assert record["cosines"]["onnx_xcam"] > 0.999
    if is_measurable():
        assert set(record["memory"]) == {"onnxruntime forward", "onnx_xcam"}


def test_a_cell_that_fails_is_none(capfd):
    (cell,) = bench.cells(options(only=["none.onnx"], layer=["auto"], batch=[1]))
    assert bench.measure(cell) is None
    assert "failed: cell" in capfd.readouterr().err


def figure(name: str, classes: int, median: float) -> dict:
    spread = {"low": median * 0.9, "median": median, "high": median * 1.1}
    return {"name": name, "classes": classes, "ms": spread, "ratio": spread, "rounds": 9}


def made_up(**changed) -> dict:
    figures = [
        figure("onnxruntime forward", 0, 1),
        *(figure("onnx_xcam", count, ratio) for count, ratio in ((1, 1.01), (10, 1.02), (1000, 1.2))),
        *(figure("torchcam XGradCAM", count, ratio) for count, ratio in ((1, 2), (10, 20))),
    ]
    sizes = {"model": 100_000_000, "peak": 150_000_000}
    memory = {"onnxruntime forward": sizes, "onnx_xcam": {"model": 110_000_000, "peak": 160_000_000}}
    known = {"key": ["resnet50", "auto", 1, 2], "machine": "m", "versions": {"onnx": "1"}, "date": "2026-01-02"}
    return {**known, "figures": figures, "skipped": {"onnx-ad": "it cannot"}, "memory": memory, **changed}


def test_tables():
    text = bench_table.tables([made_up(), made_up(key=["swin_t", "auto", 1, 2], date="2026-01-03")])
    assert text.startswith("Taken 2026-01-02 to 2026-01-03 on m; onnx 1.")
    assert "### Default layer, batch 1, 2 threads" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| resnet50 | 1.00 ms"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # A further class costs 2 more: 2 + 999 x 2.
    assert cells[2:] == [
        *("1.010 (0.909 to 1.111)", "1.020 (0.918 to 1.122)", "1.200 (1.080 to 1.320)"),
        *("2.0 (1.8 to 2.2)", "20.0 (18.0 to 22.0)", "about 2000 *"),
    ]
    assert "| resnet50 | 1 | 2 | 100 MB | 110 MB | 1.10 | 1.07 |" in text
    assert "- onnx-ad: it cannot: resnet50 (default layer), swin_t (default layer)." in text


def test_the_tables_go_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{bench_table.BEGIN}\nold\n{bench_table.END}\nafter\n", encoding="utf-8")
    bench_table.put_into(page, [made_up()])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "resnet50" in text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no"):
        bench_table.put_into(page, [made_up()])


def test_the_last_record_of_a_key_counts(tmp_path):
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(made_up(date=date)) + "\n" for date in ("old", "new")), encoding="utf-8")
    assert [record["date"] for record in bench.load(file)] == ["new"]
    assert bench.load(tmp_path / "none.jsonl") == []


def test_the_page_has_the_marks():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.index(bench_table.BEGIN) < text.index(bench_table.END)
