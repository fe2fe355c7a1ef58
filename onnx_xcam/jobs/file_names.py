"""This module names the files that `explain` writes: as short as possible, and never two the same.

A picture is called `<stem>.<method>.<layer>.<class id>.png`, with method and layer only where there are several, and
the raw maps of a photo `<stem>.npz`. That of an object has its rank before the class, `<stem>.<rank>-<class id>.png`,
and that of all objects is `<stem>.objects.png`. A class id has no dot, with a rank or without, so two pictures can
share a name only if `<stem>.<method>.<layer>` is the same for two photos: `a` with the layer `y.x` and `a.y` with the
layer `x` both give `a.y.x`. So these combinations are kept apart, and not the stems alone. Names are compared without
case and with composed accents, since some file systems take names that differ only in these for the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

_LONGEST_STEM, _LONGEST_LAYER = 150, 60
"""The longest stem and layer in bytes; file systems allow 255 in all, which leaves room for the other parts."""
_CLASS_AND_SUFFIX = re.compile(r"\.(?:\d+-)?\d+\.png\Z")
"""Matches the end of a picture's name, from the class id or the rank on."""
_ALL = "objects"
"""Stands in the name of the picture of all objects in place of a class."""


def stems(
    images: Sequence[Path], parts: Sequence[str] = ("",), *, taken: Collection[str] = (), done: Collection[Path] = ()
) -> list[str]:
    """Return a name for each image: its stem, with the extension, the folder and a number added where they are needed.

    The same images in the same order always have the same names.

    Args:
        images: the photos as they were named.
        parts: the parts of pictures' names between stem and class id, as `name_parts` returns them.
        taken: the `places` of existing files that stay.
        done: the images to which those files belong. They keep their part in the choice of names, so that the other
            images have the same names as in a run without earlier files.
    """
    longer: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name,
        lambda path: f"{path.resolve().parent.name}.{path.name}",
    )
    names = [path.stem for path in images]
    for lengthened in longer:
        count = Counter(place for name in names for place in _places_of(name, parts))
        names = [
            lengthened(path) if any(count[place] > 1 for place in _places_of(name, parts)) else name
            for path, name in zip(images, names, strict=True)
        ]
    names = _numbered([_short(name, _LONGEST_STEM) for name in names], lambda name: _places_of(name, parts))
    todo = [n for n, image in enumerate(images) if image not in done] if taken else []
    free = _numbered([names[n] for n in todo], lambda name: _places_of(name, parts), taken)
    for n, name in zip(todo, free, strict=True):
        names[n] = name
    return names


def places(files: Iterable[str]) -> set[str]:
    """Return the places of existing files; pictures that differ only in the class id have one place."""
    return {folded(_CLASS_AND_SUFFIX.sub(".png", file)) for file in files}


def _places_of(stem: str, parts: Sequence[str]) -> list[str]:
    """Return the places of all files that a photo with this stem may have, whatever its classes."""
    return [folded(f"{stem}.npz"), *(folded(f"{'.'.join(filter(None, (stem, part)))}.png") for part in parts)]


def folded(name: str) -> str:
    """Return a name in a form that is equal for names which some file system takes for one.

    Some file systems ignore case, and some store accents composed or decomposed.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def name_parts(methods: Sequence[str], layers: Sequence[str], *, of_objects: bool = False) -> list[str]:
    """Return the part of a picture's name for each method and layer; it is empty where there is one of each.

    Args:
        methods, layers: what is explained by, and where.
        of_objects: whether there are also pictures of all objects, which have a part of their own.
    """
    shown = methods if len(methods) > 1 else [""]
    parts = [".".join(filter(None, (method, part))) for method in shown for part in layer_parts(layers)]
    return [*parts, *(".".join(filter(None, (part, _ALL))) for part in parts if of_objects)]


def layer_parts(layers: Sequence[str]) -> list[str]:
    """Return the part of a picture's name for each layer; it is empty for a single layer."""
    if len(layers) == 1:
        return [""]
    plain = [_short(re.sub(r"[^\w.-]+", "_", layer), _LONGEST_LAYER).strip("_.") or "layer" for layer in layers]
    return _numbered(plain, lambda name: [folded(name)])


def picture_name(stem: str, method: str, layer_part: str, class_id: int, rank: int | None = None) -> str:
    """Return the name of a picture, such as `cat.285.png`, or `cat.grad-cam.layer3.285.png` with method and layer.

    That of an object has its rank from 1 before the class: `street.1-15.png`.
    """
    shown = str(class_id) if rank is None else f"{rank}-{class_id}"
    return ".".join(part for part in (stem, method, layer_part, shown, "png") if part)


def name_of_all(stem: str, method: str, layer_part: str) -> str:
    """Return the name of the picture of all objects, such as `street.objects.png`."""
    return ".".join(part for part in (stem, method, layer_part, _ALL, "png") if part)


def raw_names(method: str, layers: int) -> list[str]:
    """Return the names of the layers' maps in an .npz file: `map`, `map_1`, ..., after the method if it is given."""
    return [(f"{method}." if method else "") + "map" + (f"_{layer}" if layer else "") for layer in range(layers)]


def raw_fused_name(names: Sequence[str]) -> str:
    """Return the name of the fused map in an .npz file, given the names of the layers' maps."""
    return names[0].removesuffix("map") + "fused"


def _short(name: str, size: int) -> str:
    """Return the beginning of a name, of at most `size` bytes."""
    return os.fsencode(name)[:size].decode("utf-8", "ignore") if len(os.fsencode(name)) > size else name


def _numbered(
    names: Sequence[str], places_of: Callable[[str], Sequence[str]], taken: Collection[str] = ()
) -> list[str]:
    """Return the names, with a number added to each that would take an occupied place."""
    used = set(taken)
    numbers: dict[
        str, int
    ] = {}  # the next one to try: counting from 2 each time is slow for thousands of photos of one name
    result = []
    for name in names:
        candidate, number = name, numbers.get(folded(name), 2)
        while not used.isdisjoint(wanted := places_of(candidate)):
            candidate, number = f"{name}-{number}", number + 1
        numbers[folded(name)] = number
        used.update(wanted)
        result.append(candidate)
    return result
