"""This module knows the preprocessing of published weights by name: `timm:resnet50.a1_in1k`, `keras:ResNet50`.

The tables are made from the libraries by `tools/release/named_presets.py`; the libraries themselves are not needed. A
name is that of the library: `timm.create_model(NAME)`, `torchvision.models.get_weight(NAME)` or
`torchvision.models.get_model(NAME)`, and `keras.applications.NAME`. Keras states what happens to pixel values, and the
size of the input, but not how a picture gets that size: `keras.utils.load_img(path, target_size=...)` stretches it and
takes the nearest pixels, and so does a preset of Keras.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_xcam.common.suggestions import suggestion, suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.statement import Statement
from onnx_xcam.text import load_json

FOLDER = Path(__file__).parent / "tables"
"""Where the tables lie."""
LIBRARIES = ("timm", "torchvision", "keras")
"""The libraries with a table."""
_DEFAULT = "DEFAULT"
"""What torchvision calls the tag of the weights that are taken where none is named."""


@dataclass(frozen=True)
class Table:
    """A Table holds the preprocessing of all weights that a library publishes.

    Attributes:
        library: its name.
        version: the version that the table was made from.
        rows: the distinct preprocessings: "settings" of `Preprocess`, those "at_sizes" that a model may have
            instead, a "remark", or why it is "refused".
        weights: by architecture, by tag, the index of a row; the first tag is the default.
        aliases: other names of architectures, or of an architecture with a tag.
    """

    library: str
    version: str
    rows: tuple[Mapping[str, Any], ...]
    weights: Mapping[str, Mapping[str, int]]
    aliases: Mapping[str, str]

    def names(self) -> list[str]:
        """Return every name that the table knows: architectures, weights and aliases."""
        weights = [_joined(name, tag) for name, tags in self.weights.items() for tag in tags if tag]
        return [*self.weights, *weights, *self.aliases]


@functools.cache
def table(library: str) -> Table:
    """Return the table of a library of `LIBRARIES`."""
    data = load_json((FOLDER / f"{library}.json").read_text(encoding="utf-8"))
    return Table(data["library"], data["version"], tuple(data["rows"]), data["weights"], data["aliases"])


def is_name(spec: str) -> bool:
    """Tell whether a text begins with a library's name and a colon, as the names of published weights do."""
    library, colon, _ = spec.partition(":")
    return bool(colon) and library.lower() in LIBRARIES


def named(spec: str) -> Statement | None:
    """Return what published weights want, or None for a text that begins with no library's name and a colon.

    Args:
        spec: such as "timm:resnet50.a1_in1k", "timm:resnet50" (its default weights),
            "torchvision:ResNet50_Weights.IMAGENET1K_V2", "torchvision:resnet50" or "keras:ResNet50".

    Raises:
        PreprocessError: the library has no weights of that name, or they take what is not supported; the message
            says what is near.
    """
    if not is_name(spec):
        return None
    library, _, name = spec.partition(":")
    known = table(library.lower())
    architecture, tag = _resolved(name.strip(), known)
    row = known.rows[known.weights[architecture][tag]]
    full = f"{known.library}:{_joined(architecture, tag)}"
    source = f"the preset {full} (of {known.library} {known.version})"
    if "refused" in row:
        raise PreprocessError(f"{source} cannot be used: {row['refused']}")
    remarks = [f"{source}: {row['remark']}."] if "remark" in row else []
    remarks += _other_tags(known, architecture, tag) if not _names_a_tag(name, known) else []
    return Statement.of(source, row["settings"], remarks=remarks, at_sizes=row.get("at_sizes", ()))


def meant(text: str) -> list[str]:
    """Return the names of weights that a text may mean: with the library left out, or with another text before it."""
    name = text.rpartition(":")[2].strip()
    return [f"{library}:{name}" for library in LIBRARIES if name and _is_known(name, table(library))]


def _is_known(name: str, known: Table) -> bool:
    """Tell whether a library has weights of a name."""
    try:
        _resolved(name, known)
    except PreprocessError:
        return False
    return True


def _resolved(name: str, known: Table) -> tuple[str, str]:
    """Return the architecture and the tag that a name means, or raise a PreprocessError that names near ones."""
    architecture, tag = _split(name, known)
    tags = known.weights.get(architecture)
    if tags is None:
        where = f"{known.library} {known.version}"
        raise PreprocessError(f"{where} has no weights named {name!r}{suggestion(name, known.names())}")
    if tag in ("", _DEFAULT):
        return architecture, next(iter(tags))
    if tag not in tags:
        raise PreprocessError(
            f"{known.library} {known.version} has no weights {tag!r} of {architecture}{suggestion_of_few(tag, tags)}"
        )
    return architecture, tag


def _split(name: str, known: Table) -> tuple[str, str]:
    """Return an architecture and a tag, "" for none, as the table spells them; unknown ones as they are given."""
    head, _, tag = name.partition(".")
    spelt = (
        head if head in known.weights or head in known.aliases else _any_case(head, [*known.weights, *known.aliases])
    )
    architecture, _, own = known.aliases.get(spelt, spelt).partition(".")
    tag = tag or own
    tags = known.weights.get(architecture, {})
    return architecture, tag if tag in tags else _any_case(tag, [*tags, _DEFAULT])


def _any_case(name: str, names: list[str]) -> str:
    """Return the one name that differs in case only, else the name itself."""
    same = [one for one in names if one.lower() == name.lower()]
    return same[0] if len(set(same)) == 1 else name


def _names_a_tag(name: str, known: Table) -> bool:
    """Tell whether a name says which weights of an architecture are meant."""
    return bool(_split(name.strip(), known)[1])


def _other_tags(known: Table, architecture: str, tag: str) -> list[str]:
    """Return a remark where other weights of the architecture want another preprocessing."""
    tags = known.weights[architecture]
    others = [other for other, row in tags.items() if row != tags[tag]]
    if not others:
        return []
    example = _joined(architecture, others[0])
    return [
        f"{known.library} has {len(tags)} weights of {architecture}, of which {len(others)} want another preprocessing "
        f"than the default, {tag}; name yours, such as {known.library}:{example}."
    ]


def _joined(architecture: str, tag: str) -> str:
    """Return the name of weights as their library writes it."""
    return f"{architecture}.{tag}" if tag else architecture
