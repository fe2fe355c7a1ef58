"""Small plots as inline SVG: lines, and how values are spread. Colours, lines and fonts are the style sheet's.

Series are told apart by the classes `m0`, `m1`, ... of their position, which choose colour and dashes. Everything that
a plot shows is also said: by its label, by a title on every mark, and by the tables beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.report.assemble import text

SERIES = 10
"""How many series have a look of their own; then it begins anew."""

_WIDTH, _HEIGHT = 340, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 10, 36
_ROW, _NAME, _SPREAD_WIDTH = 20, 150, 520
_FAR = 200.0
"""Values so many times apart cannot be told from each other on a linear axis."""


@dataclass(frozen=True)
class Line:
    """A curve: y at even steps of x; None leaves a gap."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Spread:
    """How values are spread; `values` are finite, at least one."""

    name: str
    series: int
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Numbers along an axis to pixels; on a logarithmic one all are above 0."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number, to two digits."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(one) for one in (value, low, high))
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)


def series_class(index: int) -> str:
    """The class that gives a series its look."""
    return f"m{index % SERIES}"


def key(index: int) -> str:
    """A sample of a series' line."""
    line = f'<line class="line {series_class(index)}" x1="1" y1="6" x2="27" y2="6"/>'
    return f'<svg class="key" width="28" height="12" aria-hidden="true">{line}</svg>'


def line_plot(
    lines: Sequence[Line], *, label: str, x_title: str, first: float, last: float, bounds: tuple[float, float]
) -> str:
    """Curves over the same x, the i-th of them as series i.

    Args:
        lines: the curves, of the same length.
        label: what the plot shows, for those who do not see it.
        x_title: of the x axis.
        first, last: the x of the first and the last value.
        bounds: least and largest y; the axis begins at 0 where that is near.
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
    """How values are spread, a row each (at least one) under the headings of their groups.

    The thin line goes from the 5th to the 95th percentile, the bar over the middle half, the tick is the median, the
    dot the mean. Where values are above 0 and hundreds of times apart, the axis is logarithmic, and says so.
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
    """About five round numbers from `low` to `high`, the first and the last at or within them."""
    if not high > low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.9 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)] or [low]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten around two numbers above 0, seven at most."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = math.ceil((last - first) / 6)
    return [10.0**power for power in range(first, last + step, step)]


def number(value: float | None) -> str:
    """A number in three digits that count."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001  the sign for "none"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        digits, _, power = f"{value:.1e}".partition("e")
        shown = f"{digits.removesuffix('.0')}e{int(power)}"
    else:
        shown = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return shown.replace("-", "−")  # noqa: RUF001  a minus as long as a plus


def _path(values: Sequence[float | None], x: Scale, y: Scale, first: float, last: float) -> str:
    """The line through the values that are there."""
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
    """5th percentile, quartile, median, quartile, 95th percentile, mean."""
    return [*np.percentile(values, [5, 25, 50, 75, 95]).tolist(), float(values.mean())]


def _spread_row(row: Spread, figures: Sequence[float], x: Scale, top: float) -> str:
    least, quarter, median, three, most, mean = map(x, figures)
    middle = top + _ROW / 2
    told = (
        f"{row.name}: mean {number(figures[5])}, median {number(figures[2])}, half of {len(row.values)} between "
        f"{number(figures[1])} and {number(figures[3])}"
    )
    return (
        f'<g class="{series_class(row.series)}"><title>{text(told)}</title>'
        f'<text class="end" x="{_NAME - 8}" y="{middle + 4}">{text(_shortened(row.name, 22))}</text>'
        f'<line class="whisker" x1="{least}" x2="{most}" y1="{middle}" y2="{middle}"/>'
        f'<rect class="box" x="{quarter}" width="{max(1.0, round(three - quarter, 2))}" y="{middle - 5}" height="10"/>'
        f'<line class="median" x1="{median}" x2="{median}" y1="{middle - 7}" y2="{middle + 7}"/>'
        f'<circle class="mean" cx="{mean}" cy="{middle}" r="3.5"/></g>'
    )


def _shortened(name: str, longest: int) -> str:
    """The end of a long name, which tells layers apart."""
    return name if len(name) <= longest else "…" + name[-(longest - 1) :]


def _svg(width: float, height: float, label: str, content: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{text(label)}">{content}</svg>'
    )
