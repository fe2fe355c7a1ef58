"""This module writes the page of an evaluation: tables and plots of what `evaluate` has measured, in one file.

The page is made from plain data of the types in `onnx_xcam.records.evaluate`: the summary, and the records of the
images, one after the other. No metric is known by name: titles, directions and texts come with the data.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnx_xcam.explainer.described import at_box
from onnx_xcam.records.evaluate import (
    CurveText,
    EvaluateLine,
    EvaluationRecord,
    Figures,
    MeanCurve,
    MetricText,
    SanityFigures,
    Summary,
    by_column,
)
from onnx_xcam.report.assemble import WEB, data_block, page_parts, script_of, style_of, text, writing
from onnx_xcam.report.data import finite
from onnx_xcam.report.page_data import ColumnData, ImageData, RowData, TableData
from onnx_xcam.report.plots import Line, Spread, key, line_plot, number, spread_plot
from onnx_xcam.report.settings import Settings
from onnx_xcam.text import json_text, printable

_SCRIPTS = tuple(WEB / name for name in ("numbers.js", "image-table.js", "evaluation.js"))
_STYLES = (WEB / "common.css", WEB / "evaluation.css")
_ARROWS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better")}

Row = tuple[str, str]
"""The layer and the method or baseline of a row."""


def write_evaluation(
    path: str | Path,
    summary: Summary,
    records: Iterable[EvaluationRecord | EvaluateLine],
    settings: Settings | None = None,
) -> None:
    """Write the page of an evaluation.

    Args:
        path: the HTML file, which is replaced if it exists.
        summary: the summary of all images.
        records: the record of each image, read one by one.
        settings: how the evaluation was made; by default what the summary states about that.

    Raises:
        OutputError: the file cannot be written.
    """
    values = _Values([one["name"] for one in summary["metrics"]], [(r["layer"], r["method"]) for r in summary["rows"]])
    for record in records:
        values.take(record)
    head, tail = page_parts(
        "evaluation.html",
        {
            "model": text(Path(str(summary["model"])).stem),
            "told": _first_line(summary),
            "settings": (settings or _settings_of(summary)).as_html(),
            "data": data_block(_table_data(summary, values)),
        },
        style=style_of(_STYLES),
        script=script_of(_SCRIPTS),
    )
    with writing(Path(path)) as file:
        file.write("".join([head, *_sections(summary, values), tail]).encode("utf-8"))


@dataclass
class _Values:
    """A _Values collects what the page needs from the records.

    Attributes:
        metrics, rows: the names of the metrics and the rows, in order.
        distributions: the finite values of each row's metrics.
        images: for each image and class, the names, the confidence, and the metrics of each row.
        failed: the names of photos that could not be evaluated, each with its error.
    """

    metrics: Sequence[str]
    rows: Sequence[Row]
    distributions: dict[tuple[Row, str], array[float]] = field(default_factory=dict)
    images: list[ImageData] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def take(self, record: EvaluationRecord | EvaluateLine) -> None:
        """Add the numbers of an image."""
        name = printable(record["image"])
        if record["error"] is not None:
            self.failed.append((name, printable(record["error"])))
            return
        by_map = {(one["layer"], one["method"], k): one["metrics"] for k, one in by_column(record)}
        labels = record["labels"] or [None] * len(record["classes"])
        for k, (class_id, label, confidence) in enumerate(
            zip(record["classes"], labels, record["confidences"], strict=True)
        ):
            table = []
            for row in self.rows:
                metrics = by_map.get((*row, k), {})
                numbers = [finite(metrics.get(metric)) for metric in self.metrics]
                table.append([None if value is None else float(f"{value:.5g}") for value in numbers])
                for metric, value in zip(self.metrics, numbers, strict=True):
                    if value is not None:
                        self.distributions.setdefault((row, metric), array("d")).append(value)
            called = f"class {class_id}" if label is None else printable(label)
            box = boxes[k] if (boxes := record.get("boxes")) else None
            called += "" if box is None else f" at {at_box(box)}"
            self.images.append((name, called, finite(confidence), table))


def _sections(summary: Summary, values: _Values) -> Iterable[str]:
    """Yield the sections of the page, as markup."""
    yield _section("Summary", _summary_table(summary) + _meanings(summary))
    if any(row["curves"] for row in summary["rows"]):
        curves = "".join(_curves(summary, one) for one in summary["curves"])
        yield _section("Curves", _legend(summary) + curves)
    plots = "".join(_distribution_plot(summary, values, one) for one in summary["metrics"])
    yield _section(
        "Over the images",
        '<p class="soft">Thin line: 5th to 95th percentile. Bar: the middle half. Tick: median. Dot: mean.</p>'
        f'<div class="plots">{plots}</div>',
    )
    if summary.get("sanity"):
        yield _section("Sanity check", _sanity(summary["sanity"]))
    if values.failed:
        items = "".join(f"<li><b>{text(name)}</b>: {text(error)}</li>" for name, error in values.failed)
        yield _section("Could not be evaluated", f"<ul>{items}</ul>")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>{content}</section>\n"


def _first_line(summary: Summary) -> str:
    """Return the page's first line, as markup."""
    failed = f", of which {summary['failed']} could not be evaluated" if summary["failed"] else ""
    images = "1 photo" if summary["images"] == 1 else f"{summary['images']} photos"
    counts = [f"{images}{failed}"]
    if (objects := summary.get("objects")) is not None:
        counts.append("1 object" if objects["explained"] == 1 else f"{objects['explained']} objects")
        counts += [f"{objects['photos_without']} photos without any"] if objects["photos_without"] else []
        counts += [f"{objects['not_annotated']} not in the truth"] if objects["not_annotated"] else []
    counts += [
        f"{len(names)} {name if len(names) == 1 else name + 's'}"
        for names, name in ((summary["methods"], "method"), (summary["layers"], "layer"))
    ]
    return text(" · ".join([*counts, f"confidence: {summary['confidence']}"]))


def _columns(summary: Summary) -> list[str]:
    """Return the names of the methods, and of the baselines after them."""
    return [*summary["methods"], *summary.get("baselines", ())]


def _called(summary: Summary, name: str) -> str:
    """Return what the page calls a method or a baseline."""
    return f"{name} (baseline)" if name in summary.get("baselines", ()) else name


def _legend(summary: Summary) -> str:
    """Return the list of methods and baselines with the look of their lines, as markup."""
    names = (_called(summary, name) for name in _columns(summary))
    items = "".join(f"<li>{key(index)} {text(name)}</li>" for index, name in enumerate(names))
    return f'<ul class="legend" aria-label="Methods">{items}</ul>'


# --- the summary -----------------------------------------------------------------------------------------------------


def _summary_table(summary: Summary) -> str:
    """Return the table of means by layer, metric and method, as markup.

    The best mean of the methods is marked in each line; a baseline never is.
    """
    methods, count = _columns(summary), len(summary["methods"])
    heads = "".join(f'<th scope="col">{key(n)} {text(_called(summary, name))}</th>' for n, name in enumerate(methods))
    bodies = []
    for layer in summary["layers"]:
        by_method = {row["method"]: row["metrics"] for row in summary["rows"] if row["layer"] == layer}
        lines = [f'<tr><th scope="rowgroup" colspan="{len(methods) + 1}" class="layer">{text(layer)}</th></tr>']
        for metric in summary["metrics"]:
            figures = [by_method[method][metric["name"]] for method in methods]
            best = _best([finite(one["mean"]) for one in figures[:count]], metric["better"])
            cells = "".join(_cell(one, best if n < count else None) for n, one in enumerate(figures))
            lines.append(f'<tr><th scope="row">{_titled(metric)}</th>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    caption = "<caption>Means over the photos, ± standard deviation. The best of a line is marked ★.</caption>"
    head = f'<thead><tr><th scope="col">Metric</th>{heads}</tr></thead>'
    return _table("Summary", f"{caption}{head}{''.join(bodies)}")


def _titled(metric: MetricText) -> str:
    """Return a metric's title with an arrow for the better direction, as markup."""
    sign, words = _ARROWS.get(metric["better"] or "", ("", ""))
    arrow = f' <span role="img" aria-label="{words}" title="{words}">{sign}</span>' if sign else ""
    return text(metric["title"]) + arrow


def _best(means: Sequence[float | None], better: str | None) -> str | None:
    """Return the best mean as it is written; None if no direction is better or all means are written alike."""
    known = [mean for mean in means if mean is not None]
    if better not in _ARROWS or len({number(mean) for mean in known}) < 2:
        return None
    return number(max(known) if better == "higher" else min(known))


def _cell(figures: Figures, best: str | None) -> str:
    mean, deviation = number(finite(figures["mean"])), finite(figures["std"])
    spread = "" if deviation is None else f" <small>± {number(deviation)}</small>"
    return f'<td class="best">★ {mean}{spread}</td>' if mean == best else f"<td>{mean}{spread}</td>"


def _meanings(summary: Summary) -> str:
    rows = "".join(f"<div><dt>{_titled(one)}</dt><dd>{text(one['text'])}</dd></div>" for one in summary["metrics"])
    return f"<details open><summary>What is measured</summary><dl>{rows}</dl></details>"


# --- plots -----------------------------------------------------------------------------------------------------------


def _curves(summary: Summary, curve: CurveText) -> str:
    """Return the plots of a curve, one for each layer on the same axes, and their numbers, as markup."""
    by_layer = {layer: _lines(summary, layer, curve["name"]) for layer in summary["layers"]}
    known = [value for lines in by_layer.values() for line in lines for value in line.values if value is not None]
    if not known:
        return ""
    plots, tables = [], []
    for layer, lines in by_layer.items():
        label = f"{curve['title']} at layer {layer}: {', '.join(_ends(line) for line in lines if line.values)}"
        drawn = line_plot(
            lines,
            label=label,
            x_title=curve["x"],
            first=curve["from"],
            last=curve["to"],
            bounds=(min(known), max(known)),
        )
        plots.append(f"<figure><figcaption>{text(layer)}</figcaption>{drawn}</figure>")
        tables.append(_curve_table(curve, layer, lines))
    title = text(curve["title"])
    numbers = f"<details><summary>The numbers of {title}</summary>{''.join(tables)}</details>"
    return f'<h3>{title}</h3><div class="plots">{"".join(plots)}</div>{numbers}'


def _lines(summary: Summary, layer: str, name: str) -> list[Line]:
    """Return the mean curves at a layer, one for each method; a method without the curve has a line without values."""
    rows = {row["method"]: row["curves"].get(name) for row in summary["rows"] if row["layer"] == layer}
    return [Line(_called(summary, name), _means(rows.get(name))) for name in _columns(summary)]


def _means(curve: MeanCurve | None) -> list[float | None]:
    return [] if curve is None else [finite(value) for value in curve["mean"] or ()]


def _ends(line: Line) -> str:
    return f"{line.name} from {number(line.values[0])} to {number(line.values[-1])}"


def _curve_table(curve: CurveText, layer: str, lines: Sequence[Line]) -> str:
    places = np.linspace(curve["from"], curve["to"], max(len(line.values) for line in lines)).tolist()
    heads = "".join(f'<th scope="col">{number(place)}</th>' for place in places)
    rows = []
    for line in lines:
        cells = "".join(f"<td>{number(value)}</td>" for value in line.values)
        rows.append(f'<tr><th scope="row">{text(line.name)}</th>{cells}</tr>')
    return _table(
        f"{curve['title']}, {layer}",
        f"<caption>{text(layer)}, by {text(curve['x'])}</caption>"
        f'<thead><tr><th scope="col">Method</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>',
    )


def _table(name: str, content: str) -> str:
    """Return a table that scrolls in a box of its own, also by keyboard, as markup."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{text(name)}"><table>{content}</table></div>'


def _distribution_plot(summary: Summary, values: _Values, metric: MetricText) -> str:
    """Return the plot of how a metric's values are distributed over the images, as markup; empty without values."""
    groups = []
    for layer in summary["layers"]:
        rows = [
            Spread(_called(summary, method), index, np.array(finite_values))
            for index, method in enumerate(_columns(summary))
            if (finite_values := values.distributions.get(((layer, method), metric["name"])))
        ]
        if rows:
            groups.append((layer, rows))
    if not groups:
        return ""
    return (
        f"<figure><figcaption>{_titled(metric)}</figcaption>"
        f"{spread_plot(groups, label=_distribution_label(metric, groups))}</figure>"
    )


def _distribution_label(metric: MetricText, groups: Sequence[tuple[str, Sequence[Spread]]]) -> str:
    means = (f"{row.name} at {layer} {number(float(row.values.mean()))}" for layer, rows in groups for row in rows)
    return f"{metric['title']} over the images, means: {', '.join(means)}"


# --- the sanity check ------------------------------------------------------------------------------------------------


def _sanity(steps: Sequence[SanityFigures]) -> str:
    """Return a table, for each layer of the maps, of how much maps change as more and more layers are randomised."""
    introduction = (
        '<p class="soft">The weights of more and more layers are randomised, from the score towards the input. Rank '
        "correlation of the maps with the original ones, and, smaller, of their absolute values: near 0 at the end "
        "where a method follows the model.</p>"
    )
    tables = []
    for target in dict.fromkeys(step["target"] for step in steps):
        rows = [step for step in steps if step["target"] == target]
        depths = list(dict.fromkeys((step["depth"], step["of"]) for step in rows))
        heads = "".join(f'<th scope="col">{depth} of {of}</th>' for depth, of in depths)
        lines = []
        for method in dict.fromkeys(step["method"] for step in rows):
            mine = [step for step in rows if step["method"] == method]
            pairs = [(finite(step["rank_correlation"]), finite(step["absolute"])) for step in mine]
            cells = "".join(f"<td>{number(plain)} <small>{number(absolute)}</small></td>" for plain, absolute in pairs)
            follows = {True: "yes", False: "no", None: "-"}[mine[-1]["follows"]]
            lines.append(f'<tr><th scope="row">{text(method)}</th>{cells}<td>{follows}</td></tr>')
        head = f'<thead><tr><th scope="col">Random layers</th>{heads}<th scope="col">Follows</th></tr></thead>'
        caption = f"<caption>{text(target)}</caption>"
        tables.append(_table(f"Sanity check, {target}", f"{caption}{head}<tbody>{''.join(lines)}</tbody>"))
    return introduction + "".join(tables)


# --- the rest --------------------------------------------------------------------------------------------------------


def _table_data(summary: Summary, values: _Values) -> TableData:
    """Return the data from which a script makes the table of images."""
    metrics: list[ColumnData] = [
        {"title": printable(one["title"]), "better": one["better"]} for one in summary["metrics"]
    ]
    rows: list[RowData] = [
        {"layer": printable(layer), "method": printable(_called(summary, method))} for layer, method in values.rows
    ]
    return {"metrics": metrics, "rows": rows, "images": values.images, "confidence": printable(summary["confidence"])}


def _settings_of(summary: Summary) -> Settings:
    """Return the settings that the summary itself states."""
    facts = [("Model", str(summary["model"])), *(("Layer", layer) for layer in summary["layers"])]
    facts += [
        (name, value if isinstance(value, str) else json_text(value)) for name, value in summary["settings"].items()
    ]
    notes, warnings = tuple(summary["notes"]), tuple(summary["warnings"])
    return Settings("", tuple(facts), summary["command"] or "", "", notes, warnings)
