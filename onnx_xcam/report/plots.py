"""This module draws small plots as inline SVG: lines, and distributions of values.

Colours, line styles and fonts come from the style sheet. Series differ by the classes `m0`, `m1`, ... of their
position, which choose colour and dashes. Everything that a plot shows is also given as text: by its label, by a title
on every mark, and by the tables beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.report.assemble import text

SERIES = 10
"""The number of series with a look of their own; further series repeat the looks."""

_WIDTH, _HEIGHT = 340, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 10, 36
_ROW, _NAME, _SPREAD_WIDTH = 20, 150, 520
_FAR = 200.0
"""Values whose ratio is larger than this need a logarithmic axis."""


@dataclass(frozen=True)
class Line:
    """A Line is a curve with values of y at even steps of x; None leaves a gap."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Spread:
    """A Spread holds the values of which a distribution is drawn; they are finite, and there is at least one."""

    name: str
    series: int
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """A Scale maps numbers along an axis to pixels; on a logarithmic axis all numbers are above 0."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a number, to two digits."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(one) for one in (value, low, high))
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)


def series_class(index: int) -> str:
    """Return the CSS class that gives a series its look."""
    return f"m{index % SERIES}"


def key(index: int) -> str:
    """Return a sample of a series' line as SVG, for a legend."""
    line = f'<line class="line {series_class(index)}" x1="1" y1="6" x2="27" y2="6"/>'
    return f'<svg class="key" width="28" height="12" aria-hidden="true">{line}</svg>'


def line_plot(
    lines: Sequence[Line], *, label: str, x_title: str, first: float, last: float, bounds: tuple[float, float]
) -> str:
    """Draw curves over the same x, the i-th of them as series i.

    Args:
        lines: the curves, of the same length.
        label: what the plot shows, for those who do not see it.
        x_title: the title of the x axis.
        first, last: the x of the first and the last value.
        bounds: the least and the largest y; the axis begins at 0 if that is near.
    """
    low, high = bounds
    marks = ticks(min(low, 0.0) if low < 0.3 * high else low, high)
    x = Scale(first, last, _LEFT, _WIDTH - _RIGHT)
    y = Scale(min(low, marks[0]), max(high, marks[-1]), _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(mark)}" y2="{y(mark)}"/>'
        f'<text class="end" x="{_LEFT - 6}" y="{y(mark) + 4}">{number(mark)}</text>'
        for mark in marks
    ]
    parts += [
        f'<text class="middle" x="{x(mark)}" y="{_HEIGHT - _BOTTOM + 16}">{number(mark)}</text>'
        for mark in ticks(min(first, last), max(first, last))
    ]
    parts.append(f'<text class="middle" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}">{text(x_title)}</text>')
    for index, line in enumerate(lines):
        path = _path(line.values, x, y, first, last)
        parts.append(f'<path class="line {series_class(index)}" d="{path}"><title>{text(line.name)}</title></path>')
    return _svg(_WIDTH, _HEIGHT, label, "".join(parts))


def spread_plot(groups: Sequence[tuple[str, Sequence[Spread]]], *, label: str) -> str:
    """Draw distributions of values, one row each (at least one) under the headings of their groups.

    The thin line goes from the 5th to the 95th percentile, the bar spans the middle half, the tick is the median, and
    the dot the mean. If all values are above 0 and differ by large factors, the axis is logarithmic and labelled so.
    """
    figures = {id(one): _figures(one.values) for _, rows in groups for one in rows}
    ends = [value for five in figures.values() for value in (five[0], five[4], five[5])]
    far_apart = min(ends) > 0 and max(ends) > _FAR * min(ends)
    marks = decades(min(ends), max(ends)) if far_apart else ticks(min(ends), max(ends))
    x = Scale(min([*ends, marks[0]]), max([*ends, marks[-1]]), _NAME, _SPREAD_WIDTH - _RIGHT, far_apart)
    parts: list[str] = []
    at = _TOP
    for heading, rows in groups:
        if heading:
            parts.append(f'<text class="heading" x="0" y="{at + 14}">{text(_shortened(heading, 70))}</text>')
            at += _ROW
        for row in rows:
            parts.append(_spread_row(row, figures[id(row)], x, at))
            at += _ROW
    grid = [
        f'<line class="grid" x1="{x(mark)}" x2="{x(mark)}" y1="{_TOP}" y2="{at}"/>'
        f'<text class="middle" x="{x(mark)}" y="{at + 14}">{number(mark)}</text>'
        for mark in marks
    ]
    if far_apart:
        parts.append(f'<text x="0" y="{at + 14}">logarithmic</text>')
    return _svg(_SPREAD_WIDTH, at + 20, label, "".join([*grid, *parts]))


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that lie within `low` and `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.9 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)] or [low]


def decades(low: float, high: float) -> list[float]:
    """Return at most seven powers of ten that enclose two numbers above 0."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = math.ceil((last - first) / 6)
    return [10.0**power for power in range(first, last + step, step)]


def number(value: float | None) -> str:
    """Format a number with three significant digits, or as a dash if it is not finite."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001  the sign for "none"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        digits, _, power = f"{value:.1e}".partition("e")
        shown = f"{digits.removesuffix('.0')}e{int(power)}"
    else:
        shown = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return shown.replace("-", "−")  # noqa: RUF001  a minus as long as a plus


def _path(values: Sequence[float | None], x: Scale, y: Scale, first: float, last: float) -> str:
    """Return the SVG path through the values, with gaps where a value is None."""
    parts, pen = [], "M"
    for n, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        share = n / (len(values) - 1) if len(values) > 1 else 0.5
        parts.append(f"{pen}{x(first + share * (last - first))} {y(value)}")
        pen = "L"
    return "".join(parts)


def _figures(values: NDArray[np.float64]) -> list[float]:
    """Return 5th percentile, lower quartile, median, upper quartile, 95th percentile and mean."""
    return [*np.percentile(values, [5, 25, 50, 75, 95]).tolist(), float(values.mean())]


def _spread_row(row: Spread, figures: Sequence[float], x: Scale, top: float) -> str:
    """Return the row of one distribution as SVG, with its figures as a title."""
    least, quarter, median, three, most, mean = map(x, figures)
    middle = top + _ROW / 2
    description = (
        f"{row.name}: mean {number(figures[5])}, median {number(figures[2])}, half of {len(row.values)} between "
        f"{number(figures[1])} and {number(figures[3])}"
    )
    return (
        f'<g class="{series_class(row.series)}"><title>{text(description)}</title>'
        f'<text class="end" x="{_NAME - 8}" y="{middle + 4}">{text(_shortened(row.name, 22))}</text>'
        f'<line class="whisker" x1="{least}" x2="{most}" y1="{middle}" y2="{middle}"/>'
        f'<rect class="box" x="{quarter}" width="{max(1.0, round(three - quarter, 2))}" y="{middle - 5}" height="10"/>'
        f'<line class="median" x1="{median}" x2="{median}" y1="{middle - 7}" y2="{middle + 7}"/>'
        f'<circle class="mean" cx="{mean}" cy="{middle}" r="3.5"/></g>'
    )


def _shortened(name: str, longest: int) -> str:
    """Return a name, or the end of a long name, because layers differ at the end."""
    return name if len(name) <= longest else "…" + name[-(longest - 1) :]


def _svg(width: float, height: float, label: str, content: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{text(label)}">{content}</svg>'
    )
