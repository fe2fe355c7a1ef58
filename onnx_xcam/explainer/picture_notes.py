"""This module says in a few sentences how pictures are preprocessed, who states it, and what is assumed."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.producers.assume import how_likely, takes_whole_numbers
from onnx_xcam.producers.describe import NAMES
from onnx_xcam.producers.settle_labels import origin_of
from onnx_xcam.producers.settled import Settled
from onnx_xcam.text import listed

_PARTS = ("geometry", "interpolation", "values", "channels")
"""The groups that a note on the preprocessing tells the source of; size and layout follow from the model."""
_LIKELY_WRONG = ("geometry", "values")
"""The groups that an assumption of which deserves a warning."""
_BY_WEIGHT = ("values", "channels", "geometry", "size", "layout", "interpolation")
"""The groups in the order in which a contradiction matters, since only the first one is told."""
_ADVICE = (
    "If the model wants another, state it with --preprocess (preprocess=), or in <model>.preprocess.json beside it."
)


def notes_on_pictures(settled: Settled) -> tuple[list[str], list[str]]:
    """Return a sentence on the preprocessing and who states it, as a note or as a warning, and other warnings.

    Returns:
        Notes on what is certain, and warnings on what was assumed or contradicted: at most two sentences in all, and
        one more on a size that is assumed.
    """
    notes: list[str] = []
    warnings: list[str] = []
    assumed = [group for group in _PARTS if settled.origins[group].kind == "assumed"]
    doubtful = [group for group in assumed if group in _LIKELY_WRONG] and not takes_whole_numbers(settled.spec)
    (warnings if doubtful else notes).append(_how(settled, assumed))
    if (doubt := doubt_on_pictures(settled)) is not None:
        warnings.append(f"Preprocessing: {doubt}")
    if settled.preprocess.size_is_assumed(settled.spec):
        height, width = settled.size
        warnings.append(
            f"Size: the model takes any size and no preprocessing states one; {height}x{width} is assumed. "
            "State it as size in the preprocessing."
        )
    return notes, warnings


def doubt_on_pictures(settled: Settled) -> str | None:
    """Return the weightiest sentence on what contradicts the preprocessing, or is not followed, or None."""
    doubts = _doubts(settled)
    return f"{doubts[0]}{_and_more(len(doubts) - 1)}" if doubts else None


def notes_on_labels(settled: Settled) -> tuple[list[str], list[str]]:
    """Return a sentence on the labels and where they come from, as a note or, if some do not fit, as a warning."""
    origin = settled.origins["labels"]
    none = "none known, classes are shown as numbers; give a file with --labels (labels=)"
    where = origin_of(origin.source) if settled.labels is not None else none
    doubts = [*settled.label_remarks, *origin.doubts]
    if not doubts:
        return [f"Labels: {where}."], []
    return [], [f"Labels: {where}. {doubts[0]}{_and_more(len(doubts) - 1)}"]


def _how(settled: Settled, assumed: Sequence[str]) -> str:
    """Return the sentence on how pictures are preprocessed, on who states it, and on what is assumed."""
    preprocess, spec = settled.preprocess, settled.spec
    sources: dict[str, list[str]] = {}
    for group in _PARTS:
        origin = settled.origins[group]
        if origin.kind not in ("assumed", "model"):
            sources.setdefault(origin.source, []).append(NAMES[group])
    if not sources:
        return _all_assumed(settled)
    who = listed([f"{_these(groups)}from {source}" for source, groups in sources.items()])
    if len(sources) == 1 and not assumed:
        who = f"from {next(iter(sources))}"
    sentence = f"Preprocessing: {preprocess.summary(spec)}; {who}"
    if assumed:
        sentence += f", {listed([NAMES[group] for group in assumed])} assumed"
    advice = f" {_ADVICE}" if any(group in _LIKELY_WRONG for group in assumed) else ""
    return f"{sentence}.{advice}"


def _all_assumed(settled: Settled) -> str:
    """Return the sentence for a model of which nothing states how pictures are preprocessed."""
    preprocess, spec = settled.preprocess, settled.spec
    if takes_whole_numbers(spec):
        return f"Preprocessing: {preprocess.summary(spec)}: nothing states it, and the input takes whole numbers."
    of_colours = "values 0..1" if settled.whole else "ImageNet's mean and standard deviation"
    what = {1: "grey values 0..1", 3: of_colours}.get(spec.channels, "values 0..1")
    known = how_likely(spec, settled.size, whole=settled.whole)
    right = "" if known is None else f", right for {known.whole} of {known.weights} published weights of this size"
    return f"Preprocessing: nothing states it, so {what} are assumed ({preprocess.geometry(spec)}){right}. {_ADVICE}"


def _these(groups: Sequence[str]) -> str:
    """Return the names of groups before their source; nothing where they are all."""
    return "" if len(groups) == len(_PARTS) else f"{listed(groups)} "


def _doubts(settled: Settled) -> list[str]:
    """Return the sentences on what contradicts the preprocessing, or is not followed, the weightiest first."""
    of_groups = (one for group in _BY_WEIGHT for one in settled.origins[group].doubts)
    return list(dict.fromkeys([*of_groups, *settled.remarks]))


def _and_more(count: int) -> str:
    """Return the words on further sentences, which `inspect` shows."""
    return f" (onnx-xcam inspect shows {count} more)" if count > 0 else ""
