"""What was measured of a case becomes a verdict, a line and a cell of the table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

EXACT, TOLERANCE, FACTOR = 1e-4, 1e-3, 3.0
VALUES_MATCH = 1e-4
"""A layer is found if PyTorch's values differ by at most this, relative to the largest, or by FACTOR times what its own
float32 values are off by."""
VANISHED = 1e-7
"""A gradient times its activations, largest values, that is smaller than this share of the largest logit."""


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    exporter: str
    batch: str
    layer: str


def case_of(record: dict[str, Any]) -> Case:
    """The case that a record is of."""
    return Case(record["model"], record["exporter"], record["batch"], record["layer"])


def is_done(record: dict[str, Any]) -> bool:
    """Whether a case need not be run again: it passed, or the model is not exported so."""
    return bool(record.get("passed")) or "not_exported" in record


def judge(result: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict to what was measured: "passed", and "failures" that say what is wrong."""
    if "not_exported" in result:
        return result
    failures = [*result.pop("failures", []), *result.pop("check_said", [])]
    if "errors" in result:
        bad = [
            f"image {n}: {ours:.1e} (the framework in float32 {theirs:.1e}, near-ties leave {rest:.1e})"
            for n, (ours, theirs, rest) in enumerate(
                zip(result["errors"], result["torch_errors"], result["rests"], strict=True)
            )
            if not (ours <= max(TOLERANCE, FACTOR * theirs) or rest <= EXACT)
        ]
        failures += ["gradient differs: " + ", ".join(bad)] if bad else []
        if result["match"] > max(VALUES_MATCH, FACTOR * result["torch_match"]):
            failures.append(f"no tensor there matches the layer: the closest is off by {result['match']:.1e}")
        if not result["strength"] > VANISHED:
            failures.append(f"the gradient vanishes: {result['strength']:.1e}")
        if not result["outputs"] <= 1e-6:
            failures.append(f"original outputs differ by {result['outputs']:.1e}")
        if not result["scores"] <= max(VALUES_MATCH, FACTOR * result["torch_scores"]):
            failures.append(f"scores differ from the framework's by {result['scores']:.1e}")
    return {"passed": not failures, "failures": failures, **result}


def name_of(case: Case) -> str:
    """A case as a text."""
    return f"{case.model} {case.exporter} {case.batch} {case.layer}"


def line(case: Case, result: dict[str, Any]) -> str:
    """A case in a line."""
    if "not_exported" in result:
        return f"---  {name_of(case)}: not exported: {result['not_exported']}"
    head = f"{'ok  ' if result['passed'] else 'FAIL'} {name_of(case)}"
    if "errors" in result:
        outputs = "bit-equal" if result["bit_equal"] else f"off by {result['outputs']:.1e}"
        head += (
            f": {max(result['errors']):.1e} (the framework in float32 {max(result['torch_errors']):.1e},"
            f" {max(result['rests']):.1e} with {sum(result['ties'])} near-ties decided alike)"
            f" at '{result['name']}' {result['op']} {result['shape']}, outputs {outputs},"
            f" surgery {result['seconds']:.2f} s, tail {result['tail'] / 1000:.1f} kB"
        )
    return "\n     ".join([head, *result["failures"]])


def summary(wanted: list[Case], records: dict[Case, dict[str, Any]]) -> int:
    """Print what failed and how far off the rest is; the number of failures."""
    real = [case for case in wanted if "not_exported" not in records.get(case, {})]
    failed = [case for case in real if not records.get(case, {}).get("passed")]
    print(f"\n{len(real) - len(failed)} of {len(real)} cases passed; {len(wanted) - len(real)} are not exported")
    for line_ in shares([records[case] for case in real if "errors" in records.get(case, {})]):
        print(line_)
    for case in failed:
        why = "; ".join(records[case]["failures"]) if case in records else "no result"
        print(f"  failed: {name_of(case)}: {why}")
    return len(failed)


def near_ties(record: dict[str, Any]) -> bool:
    """Whether a case is beyond the tolerance, but explained by near-ties."""
    return max(record["errors"]) > TOLERANCE and max(record["rests"]) <= EXACT


def shares(measured: list[dict[str, Any]]) -> list[str]:
    """How many of the measured cases reach what, in sentences."""
    if not measured:
        return []
    count = len(measured)
    close = sum(max(record["errors"]) <= EXACT for record in measured)
    near = sum(max(record["errors"]) <= TOLERANCE for record in measured)
    equal = sum(record["bit_equal"] for record in measured)
    ties = sum(near_ties(record) for record in measured)
    leaning = sum(max(record["errors"]) > TOLERANCE and not near_ties(record) for record in measured)
    found = [
        f"gradient within {EXACT:.0e} of float64 autograd in {close} of {count} cases, {TOLERANCE:.0e} in {near}",
        f"beyond that {ties} explained by near-ties to {EXACT:.0e}, {leaning} no farther off than float32 there",
        f"original outputs bit-equal in {equal} of {count} cases",
        f"surgery at most {max(record['seconds'] for record in measured):.2f} s, "
        f"inspect at most {max(record['inspect_seconds'] for record in measured):.2f} s",
    ]
    seconds = [record["check_seconds"] for record in measured if "check_seconds" in record]
    if seconds:
        passed = sum(record.get("check", False) for record in measured)
        median = statistics.median(seconds)
        found.append(f"check passed in {passed} of {len(seconds)} cases, {median:.1f} s (median), {max(seconds):.0f} s")
    return found


LEGEND = """\
Largest difference of `xcam_gradients` from the framework's float64 autograd, relative to the image's largest, worst
of {images} images and two classes; in parentheses what its own float32 autograd is off by. → what is left, where
the difference is above 1e-4, once float64 autograd starts from the layer's activations that ONNX Runtime had, with
[so many] near-ties of ReLU, Clip or MaxPool behind it, in all images together, decided as there.
{passed} of {count} cases pass; {absent} are not exported by the framework. Bold: failed.

"""


def table(wanted: list[Case], records: dict[Case, dict[str, Any]]) -> str:
    """The records as a Markdown table, a line for each model and exporter."""
    columns = list(dict.fromkeys((case.layer, case.batch) for case in wanted))
    head = ["model", "exporter", *(f"{layer} layer, {batch}" for layer, batch in columns), "original outputs"]
    rows = [head, ["---"] * len(head)]
    for model, exporter in dict.fromkeys((case.model, case.exporter) for case in wanted):
        line_of = [records.get(Case(model, exporter, batch, layer)) for layer, batch in columns]
        rows.append([model, exporter, *(_cell(record) for record in line_of), _outputs_cell(line_of)])
    found = [records[case] for case in wanted if case in records]
    images = max((len(record.get("errors", ())) for record in found), default=0)
    absent = sum("not_exported" in record for record in found)
    passed = sum(record.get("passed", False) for record in found)
    legend = LEGEND.format(images=images, passed=passed, count=len(wanted) - absent, absent=absent)
    return legend + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _cell(record: dict[str, Any] | None) -> str:
    if record is None or "not_exported" in record:
        return "not run" if record is None else "not exported"
    if "errors" not in record:
        return "**failed**"
    text = f"{max(record['errors']):.0e} ({max(record['torch_errors']):.0e})"
    if max(record["errors"]) > EXACT:
        text += f" → {max(record['rests']):.0e} [{sum(record['ties'])}]"
    return text if record["passed"] else f"**{text}**"


def _outputs_cell(records: Iterable[dict[str, Any] | None]) -> str:
    measured = [record for record in records if record and "errors" in record]
    worst = max((record["outputs"] for record in measured), default=None)
    if worst is None:
        return "not run"
    return "bit-equal" if all(record["bit_equal"] for record in measured) else f"{worst:.0e}"
