"""Names of the files that `explain` writes: as short as they can be, and never two the same.

A picture is called `<stem>.<method>.<layer>.<class id>.png`, method and layer only where there are several, and the raw
maps of a photo `<stem>.npz`. A class id has no dot, so two pictures can only meet where `<stem>.<method>.<layer>` of
one photo is that of another: `a` and `a.y` with the layers `y.x` and `x` are both `a.y.x`. So all of these are told
apart, and not the stems alone; and so that no file system makes one of two, by what is the same to all of them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

_LONGEST_STEM, _LONGEST_LAYER = 150, 60
"""Bytes. File systems take 255, and the rest is for numbers, the method, the class and the suffix."""
_CLASS_AND_SUFFIX = re.compile(r"\.\d+\.png\Z")


def stems(
    images: Sequence[Path], parts: Sequence[str] = ("",), *, taken: Collection[str] = (), done: Collection[Path] = ()
) -> list[str]:
    """A name per image, told apart by what is needed: the stem, then the extension, the folder, a number.

    The same images in the same order have the same names, whenever they are asked for.

    Args:
        images: the photos as they are called.
        parts: what a picture's name says beside the stem and the class, as `name_parts` gives them.
        taken: `places` of files that are there already, and stay;
        done: of these images, whose names are asked for only so that those of the others are the same as ever.
    """
    longer: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name,
        lambda path: f"{path.resolve().parent.name}.{path.name}",
    )
    names = [path.stem for path in images]
    for way in longer:
        count = Counter(place for name in names for place in _places_of(name, parts))
        names = [
            way(path) if any(count[place] > 1 for place in _places_of(name, parts)) else name
            for path, name in zip(images, names, strict=True)
        ]
    names = _numbered([_short(name, _LONGEST_STEM) for name in names], lambda name: _places_of(name, parts))
    todo = [n for n, image in enumerate(images) if image not in done] if taken else []
    free = _numbered([names[n] for n in todo], lambda name: _places_of(name, parts), taken)
    for n, name in zip(todo, free, strict=True):
        names[n] = name
    return names


def places(files: Iterable[str]) -> set[str]:
    """Where files of an earlier run lie, whatever their classes: of a picture, where those of the others would be."""
    return {folded(_CLASS_AND_SUFFIX.sub(".png", file)) for file in files}


def _places_of(stem: str, parts: Sequence[str]) -> list[str]:
    """Where the files that a photo may come to have would lie, whatever its classes."""
    return [folded(f"{stem}.npz"), *(folded(f"{'.'.join(filter(None, (stem, part)))}.png") for part in parts)]


def folded(name: str) -> str:
    """What is the same of two names that are one to some file system: that folds case, or composes accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def name_parts(methods: Sequence[str], layers: Sequence[str]) -> list[str]:
    """What a picture's name says of method and layer, for each of both: nothing where there is one of each."""
    told = methods if len(methods) > 1 else [""]
    return [".".join(filter(None, (method, part))) for method in told for part in layer_parts(layers)]


def layer_parts(layers: Sequence[str]) -> list[str]:
    """What a picture's name says of its layer: nothing for a single layer."""
    if len(layers) == 1:
        return [""]
    plain = [_short(re.sub(r"[^\w.-]+", "_", layer), _LONGEST_LAYER).strip("_.") or "layer" for layer in layers]
    return _numbered(plain, lambda name: [folded(name)])


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
    """The name's beginning, of so many bytes at most."""
    return os.fsencode(name)[:size].decode("utf-8", "ignore") if len(os.fsencode(name)) > size else name


def _numbered(
    names: Sequence[str], places_of: Callable[[str], Sequence[str]], taken: Collection[str] = ()
) -> list[str]:
    """The names, with a number behind those that would take a place that is taken."""
    used = set(taken)
    numbers: dict[str, int] = {}  # the next one to try: else thousands of photos of one name would take for ever
    result = []
    for name in names:
        candidate, number = name, numbers.get(folded(name), 2)
        while not used.isdisjoint(wanted := places_of(candidate)):
            candidate, number = f"{name}-{number}", number + 1
        numbers[folded(name)] = number
        used.update(wanted)
        result.append(candidate)
    return result
