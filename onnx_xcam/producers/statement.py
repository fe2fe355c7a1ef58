"""A Statement holds what one source says about a model's pictures and its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from onnx_xcam.errors import XcamError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.text import LONGEST_QUOTE, printable

GROUPS: Mapping[str, tuple[str, ...]] = {
    "size": ("size",),
    "geometry": (
        "resize",
        "crop_fraction",
        "resize_size",
        "crop_first",
        "size_rounding",
        "offset_rounding",
        "align",
        "pad_value",
    ),
    "interpolation": ("interpolation", "antialias"),
    "values": ("scale", "mean", "std", "white", "window"),
    "channels": ("channels", "bands", "show_bands"),
    "layout": ("layout",),
}
"""The settings of `Preprocess` in groups.

A source that states one setting of a group settles the whole group, and the others of it have their defaults: half a
mean from one file and half from another would be nobody's preprocessing."""

Evidence = Literal["argument", "metadata", "file", "graph"]
"""The kinds of sources, the strongest first: what the user says, the model's metadata, files beside it, its graph."""


METADATA = "the model's metadata"
"""What messages call the `metadata_props` of a model as a source."""


@dataclass(frozen=True)
class Statement:
    """A Statement holds what one source says: an argument, a file, an entry of the metadata, or the graph.

    Attributes:
        source: where it stands, as a part of a sentence: "'config.json' beside the model", "the model's metadata".
        settings: the settings of `Preprocess` that it states, by name, in their final types; others are not stated.
        labels: the labels of the classes by id, or None; ids that are left out have the label "".
        remarks: what it says that is not followed, as whole sentences that name file and key.
        evidence: the kind of source.
        binding: whether a size or a number of labels that does not fit the model is an error, since the user stated
            it; what is not binding gives way to the model.
        own: whether it is written in our own settings, for onnx_xcam: meant to go before what producers' files say.
        label_remarks: why labels that it should hold are not read, as whole sentences; told where there are no others.
        refusal: the error that says why the source cannot be followed, or None. It is raised where nothing stronger
            states the same.
        at_sizes: settings that hold instead for models whose input has another size, one mapping for each such "size";
            a group that a mapping states settings of is that of the mapping alone.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()
    evidence: Evidence = "file"
    binding: bool = False
    own: bool = False
    refusal: XcamError | None = None
    label_remarks: tuple[str, ...] = ()
    at_sizes: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        source: str,
        settings: Mapping[str, Any] | None = None,
        labels: Sequence[str] | None = None,
        remarks: Sequence[str] = (),
        label_remarks: Sequence[str] = (),
        *,
        at_sizes: Sequence[Mapping[str, Any]] = (),
    ) -> Statement:
        """Return a statement with settings that are checked and brought into their final types.

        Raises:
            PreprocessError: a setting is unknown or its value impossible; the message names key, value and source.
        """
        names = None if labels is None else tuple(labels)
        checked = check_fields(settings or {}, source)
        others = tuple(check_fields(one, source) for one in at_sizes)
        return cls(source, checked, names, _cut(remarks), label_remarks=_cut(label_remarks), at_sizes=others)

    @classmethod
    def whole(cls, source: str, preprocess: Preprocess) -> Statement:
        """Return a statement of all settings but those that a preprocessing leaves open (None)."""
        given = {name: getattr(preprocess, name) for names in GROUPS.values() for name in names}
        left_open = {name for name in ("size", "layout") if given[name] is None}
        return cls(source, {name: value for name, value in given.items() if name not in left_open})

    def at(self, size: tuple[int | None, int | None]) -> Statement:
        """Return what holds for a model whose input has a (height, width), None for an open side; see `at_sizes`."""
        if self.settings.get("size") == size:
            return self
        for one in self.at_sizes:
            if one["size"] == size:
                replaced = {name for names in GROUPS.values() if not one.keys().isdisjoint(names) for name in names}
                kept = {name: value for name, value in self.settings.items() if name not in replaced}
                return replace(self, settings={**kept, **one})
        return self

    def states(self, group: str) -> bool:
        """Tell whether the source states a setting of a group of `GROUPS`."""
        return any(name in self.settings for name in GROUPS[group])

    def group(self, group: str) -> dict[str, Any]:
        """Return the settings of a group that the source states."""
        return {name: self.settings[name] for name in GROUPS[group] if name in self.settings}


def _cut(sentences: Sequence[str]) -> tuple[str, ...]:
    """Return sentences that may quote a file, each safe to show and cut where it is too long."""
    return tuple(printable(sentence, LONGEST_QUOTE) for sentence in sentences)
