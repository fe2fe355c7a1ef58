"""Names of the files that `explain` writes: as short as they can be, and never two the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path


def stems(images: Sequence[Path]) -> list[str]:
    """A name per image, told apart by what is needed: the stem, then the extension, the folder, a number.

    Upper and lower case count as the same, as they do on some file systems.
    """
    longer: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name,
        lambda path: f"{path.resolve().parent.name}.{path.name}",
    )
    names = [path.stem for path in images]
    for way in longer:
        count = Counter(name.casefold() for name in names)
        names = [way(path) if count[name.casefold()] > 1 else name for path, name in zip(images, names, strict=True)]
    return _numbered([_short(name, 150) for name in names])


def layer_parts(layers: Sequence[str]) -> list[str]:
    """What a picture's name says of its layer: nothing for a single layer."""
    if len(layers) == 1:
        return [""]
    return _numbered([_short(re.sub(r"[^\w.-]+", "_", layer), 60).strip("_.") or "layer" for layer in layers])


def picture_name(stem: str, layer_part: str, class_id: int) -> str:
    """`cat.285.png`, or `cat.layer3.285.png` where there are several layers."""
    return ".".join(part for part in (stem, layer_part, str(class_id), "png") if part)


def _short(name: str, size: int) -> str:
    """The name's beginning, of so many bytes at most: file systems take 255, and more is put behind it."""
    return os.fsencode(name)[:size].decode("utf-8", "ignore") if len(os.fsencode(name)) > size else name


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, the second and later ones of a kind with a number behind."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate.casefold())
        result.append(candidate)
    return result
