"""Names of the files that `explain` writes: as short as they can be, and never two the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path


def stems(images: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A name per image, told apart by what is needed: the stem, then the extension, the folder, a number.

    The same images in the same order have the same names, whenever they are asked for. Upper and lower case count as
    the same, as they do on some file systems. `taken` are names that stand for something else.
    """
    longer: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name,
        lambda path: f"{path.resolve().parent.name}.{path.name}",
    )
    names = [path.stem for path in images]
    for way in longer:
        count = Counter(name.casefold() for name in names)
        names = [way(path) if count[name.casefold()] > 1 else name for path, name in zip(images, names, strict=True)]
    return _numbered([_short(name, 150) for name in names], taken)


def beginnings(file: str) -> list[str]:
    """What a file's name may have been made of: `a.b.285.png` of `a`, `a.b` or `a.b.285`."""
    parts = file.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def layer_parts(layers: Sequence[str]) -> list[str]:
    """What a picture's name says of its layer: nothing for a single layer."""
    if len(layers) == 1:
        return [""]
    return _numbered([_short(re.sub(r"[^\w.-]+", "_", layer), 60).strip("_.") or "layer" for layer in layers])


def picture_name(stem: str, method: str, layer_part: str, class_id: int) -> str:
    """`cat.285.png`, or `cat.grad-cam.layer3.285.png` where there are several methods and layers."""
    return ".".join(part for part in (stem, method, layer_part, str(class_id), "png") if part)


def raw_names(method: str, layers: int) -> list[str]:
    """What --raw calls the maps of each layer: `map`, `map_1`; with the method before them where there are several."""
    return [(f"{method}." if method else "") + "map" + (f"_{layer}" if layer else "") for layer in range(layers)]


def raw_fused_name(names: Sequence[str]) -> str:
    """What it calls the map of all layers, given the names of theirs."""
    return names[0].removesuffix("map") + "fused"


def _short(name: str, size: int) -> str:
    """The name's beginning, of so many bytes at most: file systems take 255, and more is put behind it."""
    return os.fsencode(name)[:size].decode("utf-8", "ignore") if len(os.fsencode(name)) > size else name


def _numbered(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """The names, the second and later ones of a kind, and those that are taken, with a number behind."""
    used = {name.casefold() for name in taken}
    numbers: dict[str, int] = {}  # the next one to try: else thousands of photos of one name would take for ever
    result = []
    for name in names:
        candidate, number = name, numbers.get(name.casefold(), 2)
        while candidate.casefold() in used:
            candidate, number = f"{name}-{number}", number + 1
        numbers[name.casefold()] = number
        used.add(candidate.casefold())
        result.append(candidate)
    return result
