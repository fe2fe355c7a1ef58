"""This module settles a model's preprocessing and labels from all that is said about them, group by group.

For each group of settings the strongest source that states it is followed. What nobody states is assumed. A statement
that the model cannot follow, such as another size or another number of labels, gives way to the model, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnx_xcam.errors import InputError, LabelsError
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.preprocess import Preprocess, by
from onnx_xcam.producers.assume import assumed
from onnx_xcam.producers.describe import NAMES, means_the_same, told
from onnx_xcam.producers.fit import BY_CHANNEL, MODEL_INPUT, check_counts, gives_way, makes_as_many
from onnx_xcam.producers.settle_labels import SettledLabels, settle_labels
from onnx_xcam.producers.settled import Origin, Settled
from onnx_xcam.producers.statement import GROUPS, Statement

_MERGED = ("geometry", "interpolation", "values", "channels")
"""The groups that are taken as they are stated; size and layout depend on the model's shape."""
_NEEDED = ("geometry", "values")
"""Where these groups are stated, a source that cannot be followed does not matter."""


def input_spec(
    name: str, dtype: Any, shape: tuple[int | str | None, ...], statements: Sequence[Statement]
) -> InputSpec:
    """Return the description of an image input; a stated layout decides where the shape leaves it open.

    Args:
        name: the input's name.
        dtype: its element type, as NumPy takes it.
        shape: its dimensions: numbers, symbols, None for unknown.
        statements: all that is said, the strongest first.

    Raises:
        InputError: the input takes no pictures, or the user states a layout that it cannot have.
    """
    first = _first(statements, "layout")
    if first is not None:
        try:
            return InputSpec.from_shape(name, dtype, shape, first.settings["layout"])
        except InputError:
            if first.binding:
                raise
    return InputSpec.from_shape(name, dtype, shape)


def settle(
    statements: Sequence[Statement],
    spec: InputSpec,
    class_count: int | None,
    *,
    is_number: bool = False,
    whole: bool = False,
) -> Settled:
    """Settle a model's preprocessing and labels.

    Args:
        statements: all that is said, the strongest first.
        spec: the image input.
        class_count: the number of classes, or None where it is unknown.
        is_number: whether the model's score is a number, for which a single label names no class.
        whole: whether the model looks at the whole picture, as detectors do, which matters where nothing is stated.

    Raises:
        PreprocessError: the user states a size or a layout that the model does not take; or a source that cannot be
            followed is the only one that states the preprocessing.
        LabelsError: the user states labels of another number than the classes; or a source with labels cannot be
            followed, and no other states them.
    """
    statements = [one.at((spec.height, spec.width)) for one in statements]
    labels = settle_labels(statements, class_count, is_number=is_number)
    _raise_refusals(statements)
    return _Merge(statements, spec, whole).settled(labels)


def _first(statements: Sequence[Statement], group: str) -> Statement | None:
    """Return the strongest statement of a group, or None."""
    return next((one for one in statements if one.states(group)), None)


def _is_doubt(followed: Statement | None, other: Statement) -> bool:
    """Tell whether a statement against the one that is followed is told unasked; see `Origin.doubts`."""
    deliberate = followed is not None and (followed.evidence == "argument" or (followed.own and not other.own))
    return other.evidence == "graph" or not deliberate


def _raise_refusals(statements: Sequence[Statement]) -> None:
    """Raise the first refusal for which nothing stronger makes up."""
    for index, statement in enumerate(statements):
        if statement.refusal is None:
            continue
        stronger = statements[:index]
        if isinstance(statement.refusal, LabelsError):
            made_up = any(one.labels is not None for one in stronger)
        else:
            made_up = all(_first(stronger, group) is not None for group in _NEEDED)
        if not made_up:
            raise statement.refusal


@dataclass
class _Merge:
    """A _Merge takes each group of settings from the strongest statement of it, and notes what contradicts that."""

    statements: Sequence[Statement]
    spec: InputSpec
    whole: bool
    origins: dict[str, Origin] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    given_way: list[Statement] = field(default_factory=list)

    def settled(self, labels: SettledLabels) -> Settled:
        """Return the preprocessing with the origins of its groups, and the labels."""
        size = self._size()
        layout = self._layout()
        chosen = {group: _first(self.statements, group) for group in _MERGED}
        self.given_way = [one for one in self.statements if gives_way(one, self.spec)]
        chosen["values"] = _first([one for one in self.statements if one not in self.given_way], "values")
        self._remarks(chosen)
        settings = self._channels(chosen["channels"])
        base = assumed(self.spec, size.of_input, whole=self.whole)
        for group in _MERGED:
            if group != "channels":
                settings |= self._group(group, chosen[group], base, size, settings["channels"])
        for group in ("values", "geometry"):
            check_counts(chosen[group], {name: settings.get(name) for name in GROUPS[group]}, self.spec)
        preprocess = Preprocess(**settings, size=size.stated, layout=layout)
        self._note_given_way(preprocess)
        for group in _MERGED:
            self._contradictions(group, chosen[group], preprocess, size)
        origins = {group: self.origins[group] for group in GROUPS} | {
            "labels": Origin(labels.kind, labels.source, labels.contradictions, labels.doubts)
        }
        return Settled(
            self.spec,
            size.of_input,
            preprocess,
            labels.labels,
            origins,
            tuple(self.remarks),
            labels.remarks,
            whole=self.whole,
        )

    def _remarks(self, chosen: Mapping[str, Statement | None]) -> None:
        """Note the remarks of the sources that are followed, and of those that might have been followed."""
        followed = [one for one in chosen.values() if one is not None]
        needs_more = any(chosen[group] is None for group in _NEEDED)
        for statement in self.statements:
            says_nothing = not statement.settings and statement.labels is None
            if any(statement is one for one in followed) or (says_nothing and needs_more):
                self.remarks += statement.remarks

    def _size(self) -> _Size:
        """Settle the size of a prepared picture: the model's own sides, else stated ones, else the default."""
        fixed = (self.spec.height, self.spec.width)
        first = _first(self.statements, "size")
        stated = None if first is None else first.settings["size"]
        if first is not None and stated is not None and not _fits(fixed, stated):
            if first.binding:
                Preprocess(size=stated).input_size(self.spec)  # raises the error that names both sizes
            stated = None if None not in fixed else tuple(f or s for f, s in zip(fixed, stated, strict=True))
        of_input = Preprocess(size=stated).input_size(self.spec)
        if None not in fixed:
            origin = Origin("model", MODEL_INPUT)
        elif first is None:
            origin = Origin("assumed")
        else:
            origin = Origin(first.evidence, first.source)
        says = f"{MODEL_INPUT} is fixed to" if origin.kind == "model" else f"{origin.source} says"
        sentences = {
            f"{one.source} says size {by(one.settings['size'])}, but {says} {by(of_input)}, which is used.": one
            for one in self.statements
            if one.settings.get("size") not in (None, of_input)
        }
        # Where the model leaves no choice, only what would have been followed is told unasked.
        doubts = [told for told, one in sentences.items() if one is first or _is_doubt(first, one)]
        self.origins["size"] = replace(origin, contradictions=tuple(sentences), doubts=tuple(doubts))
        return _Size(of_input, stated)

    def _layout(self) -> Any:
        """Settle the layout: what the shape shows, else what is stated."""
        first = _first(self.statements, "layout")
        if first is None:
            self.origins["layout"] = Origin("model", MODEL_INPUT)
            return None
        stated, own = first.settings["layout"], self.spec.layout
        if stated == own or first.binding:
            self.origins["layout"] = Origin(first.evidence, first.source)
            return stated
        sentence = f"{first.source} says layout {stated}, but {MODEL_INPUT} is {own}, which is used."
        self.origins["layout"] = Origin("model", MODEL_INPUT, (sentence,), (sentence,))
        return None

    def _channels(self, statement: Statement | None) -> dict[str, Any]:
        """Settle the order of the channels: as stated, unless the model takes another number of channels."""
        if statement is None:
            # One channel leaves no choice.
            self.origins["channels"] = Origin("model", MODEL_INPUT) if self.spec.channels == 1 else Origin("assumed")
            return {"channels": "GRAY" if self.spec.channels == 1 else "RGB"}
        self.origins["channels"] = Origin(statement.evidence, statement.source)
        settings: dict[str, Any] = {"channels": "RGB", **statement.group("channels")}
        if statement.binding or makes_as_many(settings, self.spec):
            return settings
        needed = {1: "GRAY", 3: "RGB"}.get(self.spec.channels)
        sentence = (
            f"{statement.source} says channels {Preprocess(**settings).order()}, but {MODEL_INPUT} has "
            f"{self.spec.channels}; {needed or 'the order of the file'} is used."
        )
        self.origins["channels"] = Origin("model", MODEL_INPUT, (sentence,), (sentence,))
        return {"channels": needed or "RGB"}

    def _group(
        self, group: str, statement: Statement | None, base: Preprocess, size: _Size, channels: str
    ) -> dict[str, Any]:
        """Return the settings of a group as they are stated, else as they are assumed."""
        if statement is None:
            self.origins[group] = Origin("assumed")
            return {name: getattr(base, name) for name in GROUPS[group]}
        self.origins[group] = Origin(statement.evidence, statement.source)
        return self._stated(group, statement, size, channels)

    def _stated(self, group: str, statement: Statement, size: _Size, channels: str) -> dict[str, Any]:
        """Return the settings of a group that a statement makes, fitted to the size and the channels of the model."""
        settings = _in_order(statement.group(group), statement, channels)
        if group == "geometry":
            return _at_size(settings, statement.settings.get("size"), size.of_input)
        return settings

    def _note_given_way(self, preprocess: Preprocess) -> None:
        """Note the values that an input of whole numbers cannot carry, and what it gets instead."""
        count = self.spec.channels
        sentences = tuple(
            f"{one.source} says values {told('values', Preprocess(**one.group('values')), count)}, but {MODEL_INPUT} "
            f"holds {self.spec.dtype}, which cannot carry them; it gets {told('values', preprocess, count)}."
            for one in self.given_way
        )
        origin = self.origins["values"]
        self.origins["values"] = replace(origin, contradictions=sentences, doubts=sentences)

    def _contradictions(self, group: str, followed: Statement | None, preprocess: Preprocess, size: _Size) -> None:
        """Note the sources that state something else of a group than what is followed."""
        origin = self.origins[group]
        if followed is None:
            return
        sentences, doubts, count = list(origin.contradictions), list(origin.doubts), self.spec.channels
        for other in self.statements:
            if other.source == followed.source or not other.states(group):
                continue
            if group == "values" and other in self.given_way:
                continue  # which is told already
            said = Preprocess(**self._stated(group, other, size, preprocess.channels))
            if not means_the_same(group, preprocess, said, size.of_input):
                sentences.append(
                    f"{other.source} says {NAMES[group]} {told(group, said, count)}, but {followed.source} says "
                    f"{told(group, preprocess, count)}, which is followed."
                )
                doubts += sentences[-1:] if _is_doubt(followed, other) else []
        self.origins[group] = replace(
            origin, contradictions=tuple(dict.fromkeys(sentences)), doubts=tuple(dict.fromkeys(doubts))
        )


@dataclass(frozen=True)
class _Size:
    """A _Size holds the (height, width) of a prepared picture, and the size that the preprocessing states, or None."""

    of_input: tuple[int, int]
    stated: Any


def _fits(fixed: tuple[int | None, int | None], size: tuple[int, int]) -> bool:
    """Tell whether a size has the sides that a model fixes."""
    return all(side is None or side == stated for side, stated in zip(fixed, size, strict=True))


def _at_size(settings: dict[str, Any], stated: tuple[int, int] | None, size: tuple[int, int]) -> dict[str, Any]:
    """Return a resize rule for another size than it was stated for; the part of the photo stays the same."""
    resize = settings.get("resize_size")
    if resize is None or stated in (None, size):
        return settings
    scaled = tuple(max(1, r * new // old) for r, old, new in zip(resize, stated, size, strict=True))
    return settings | {"resize_size": scaled}


def _in_order(settings: dict[str, Any], statement: Statement, channels: str) -> dict[str, Any]:
    """Return settings with their numbers for each channel in the order of the channels that the model gets.

    Such numbers are stated in the order of the channels that their own source states, if it does. Where the model takes
    grey pictures, one number stands for equal ones.
    """
    ordered = dict(settings)
    own = statement.settings.get("channels", channels)
    for name, values in settings.items():
        if name not in BY_CHANNEL or not isinstance(values, tuple):
            continue
        if {own, channels} == {"RGB", "BGR"}:
            ordered[name] = values[::-1]
        elif channels == "GRAY" and len(set(values)) == 1 and not statement.binding:
            ordered[name] = values[0] if name == "pad_value" else values[:1]
    return ordered
