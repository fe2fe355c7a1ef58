"""This module lists the metrics and curves that an evaluation can measure, and explains each in a sentence or two."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from onnx_xcam.common.arguments import texts
from onnx_xcam.errors import XcamError
from onnx_xcam.evaluation import perturbation
from onnx_xcam.records.evaluate import CurveText, MetricText

Better = Literal["higher", "lower"]
Subject = Literal["map", "object", "mark"]
"""What a metric can be measured of: of any map, of one of an object only, or of one whose object has a known mark."""


@dataclass(frozen=True)
class Metric:
    """A Metric describes a number that is measured of each map.

    Attributes:
        name: the name in options and records.
        title: the name for people.
        better: whether higher or lower values are better; None where neither is.
        text: an explanation in a sentence or two.
        group: the name of its group, which `--metrics` takes for all metrics of the group.
        of: what it can be measured of.
    """

    name: str
    title: str
    better: Better | None
    text: str
    group: str
    of: Subject = "map"

    def to_record(self) -> MetricText:
        """Return the description of the metric as the summary holds it."""
        return {"name": self.name, "title": self.title, "better": self.better, "text": self.text}


@dataclass(frozen=True)
class Curve:
    """A Curve describes confidences while a growing part of a picture's pixels is changed, step by step.

    Attributes:
        name: the name in records.
        title: the name for people.
        x: the meaning of the x axis.
        first, last: the part of the pixels at the first and at the last step.
    """

    name: str
    title: str
    x: str
    first: float
    last: float

    def to_record(self) -> CurveText:
        """Return the description of the curve as the summary holds it."""
        return {"name": self.name, "title": self.title, "x": self.x, "from": self.first, "to": self.last}


AXIOMS, FAITHFULNESS, TRUTH = GROUPS = ("axioms", "faithfulness", "truth")
DEFAULT_GROUPS = (AXIOMS, FAITHFULNESS)

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "conservation",
            "Conservation error",
            "lower",
            "|S - sum of the shares| / sum of |shares|: what the map before the ReLU leaves out of the score S.",
            AXIOMS,
        ),
        Metric(
            "unexplained",
            "Conservation error without biases",
            "lower",
            "The same with the score less what biases behind the layer and ways round it add: the method's own part.",
            AXIOMS,
        ),
        Metric(
            "gap",
            "Conservation gap",
            "lower",
            "|S - sum of the shares| / |S|: the same, which large shares that cancel do not make small.",
            AXIOMS,
        ),
        Metric(
            "sensitivity",
            "Sensitivity error",
            "lower",
            "Over the layer's channels, how far the shares are from what the score loses without each channel, as a "
            "part of these losses.",
            AXIOMS,
        ),
        Metric(
            "scaled_conservation",
            "Conservation error, scaled",
            "lower",
            "The conservation error of the shares times the one number by which the sensitivity error is least.",
            AXIOMS,
        ),
        Metric(
            "scaled_sensitivity",
            "Sensitivity error, scaled",
            "lower",
            "The sensitivity error of the shares times that number: fair to methods that leave open how large their "
            "weights are.",
            AXIOMS,
        ),
        Metric(
            "insertion",
            "Insertion",
            "higher",
            "Area under the confidence while pixels come back to a blurred picture, most relevant first.",
            FAITHFULNESS,
        ),
        Metric(
            "deletion",
            "Deletion",
            "lower",
            "Area under the confidence while pixels are taken away, most relevant first.",
            FAITHFULNESS,
        ),
        Metric(
            "drop",
            "Average drop",
            "lower",
            "max(0, Y - O) / Y with Y the confidence in the picture and O in the picture times the map.",
            FAITHFULNESS,
        ),
        Metric(
            "increase",
            "Increase in confidence",
            "higher",
            "The part of the maps for which the picture times the map has the higher confidence.",
            FAITHFULNESS,
        ),
        Metric(
            "road",
            "ROAD",
            "higher",
            "Half of what the confidence is higher when the least relevant pixels are imputed than when the most "
            "relevant are, on average over 10 % to 90 % of the pixels.",
            FAITHFULNESS,
        ),
        Metric(
            "pointing",
            "Pointing game",
            "higher",
            "The part of the maps whose largest value lies on the object; where a class and no object is explained, "
            "also within 15 pixels of it.",
            TRUTH,
        ),
        Metric(
            "pointing_centre",
            "Pointing game of the middle",
            None,
            "The same of the photo's middle: what a map would get that knows nothing.",
            TRUTH,
        ),
        Metric("energy", "Energy inside", "higher", "The share of the map that lies on the object.", TRUTH),
        Metric(
            "object_share",
            "Share of the object",
            None,
            "The share of the photo that the object takes: the energy inside of an even map.",
            TRUTH,
        ),
        Metric(
            "energy_others",
            "Energy on others",
            "lower",
            "The share of the map that lies on other annotated objects and not on its own.",
            TRUTH,
            "object",
        ),
        Metric(
            "mark_pointing",
            "Pointing game of the mark",
            "higher",
            "The part of the maps whose largest value lies on the mark that decides the object's class.",
            TRUTH,
            "mark",
        ),
        Metric(
            "mark_energy",
            "Energy on the mark",
            "higher",
            "The share of the map that lies on the mark that decides the object's class.",
            TRUTH,
            "mark",
        ),
    )
}

_FIRST, _LAST = perturbation.ROAD_PARTS[0], perturbation.ROAD_PARTS[-1]
CURVES: Mapping[str, Curve] = {
    curve.name: curve
    for curve in (
        Curve("insertion", "Insertion", "part of the pixels that are back, most relevant first", 0.0, 1.0),
        Curve("deletion", "Deletion", "part of the pixels that are away, most relevant first", 0.0, 1.0),
        Curve("road_most", "ROAD, most relevant first", "part of the pixels that are imputed", _FIRST, _LAST),
        Curve("road_least", "ROAD, least relevant first", "part of the pixels that are imputed", _FIRST, _LAST),
    )
}


_NEEDED: Mapping[Subject, str] = {
    "object": "a model that finds objects, and the truth about them",
    "mark": "a truth that states the mark of each object",
}


def find_metrics(names: Iterable[str], *, truth: bool, of: Collection[Subject] = get_args(Subject)) -> tuple[str, ...]:
    """Return the metrics with these names or in these groups, in the order of `METRICS`.

    Args:
        names: names of metrics or of groups.
        truth: whether the objects in the photos are known; all metrics of the group "truth" are then included.
        of: what the metrics can be measured of, as far as that is known. A group has no others.

    Raises:
        XcamError: there is no such metric, or one that is named needs what is not known: the objects in the photos,
            a model of objects, or their marks.
    """
    given = texts("metrics", sorted(names, key=str) if isinstance(names, set | frozenset) else names)
    wanted = {name.strip().lower() for name in given} - {""}
    known = {*METRICS, *GROUPS}
    if unknown := sorted(wanted - known):
        raise XcamError(
            f"There is no metric {', '.join(map(repr, unknown))}; there are {', '.join(METRICS)}, and the groups "
            f"{', '.join(GROUPS)}."
        )
    if truth:
        wanted.add(TRUTH)
    if beyond := next((name for name in METRICS if name in wanted and METRICS[name].of not in of), None):
        raise XcamError(f"The metric {beyond!r} needs {_NEEDED[METRICS[beyond].of]}; leave it out.")
    selected = tuple(
        metric.name
        for metric in METRICS.values()
        if metric.name in wanted or (metric.group in wanted and metric.of in of)
    )
    if not selected:
        raise XcamError(f"There is nothing to measure; choose among {', '.join((*GROUPS, *METRICS))}.")
    if not truth and (first := next((name for name in selected if METRICS[name].group == TRUTH), None)):
        raise XcamError(f"The metric {first!r} needs masks or boxes of what the photos show; give them with --truth.")
    return selected
