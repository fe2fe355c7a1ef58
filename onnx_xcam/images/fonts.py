"""This module finds a font for a text that is drawn into a picture.

Pillow brings one font of its own, which knows hardly more than ASCII; it writes what it can, so that most pictures look
the same everywhere. Other texts are written in a font that is installed, or that comes with OpenCV's wheel for Linux;
a character that no font at hand knows is written without its accent where that helps.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx_xcam.text import printable

INSTALLED = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "leelawui.ttf",
    "Nirmala.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "unifont.ttf",
)
"""Fonts of Linux, Windows and macOS that together know most scripts; Pillow looks for them where systems keep fonts."""
_UNKNOWN = "\uffff"
"""No font has a glyph for this code: it is drawn as what stands for a glyph that is missing."""
_LONGEST = 200
"""A text that is drawn has at most about so many characters."""


def written(text: str, size: int) -> tuple[Any, str] | None:
    """Return a font that knows all characters of a text, and the text as it can be written; None if there is none.

    Args:
        text: what is to be drawn; it is made printable, on one line.
        size: the height of the font in pixels.
    """
    safe = printable(text, _LONGEST)
    for wanted in dict.fromkeys((safe, _plain(safe))):
        for name in _all():
            if all(_knows(name, character) for character in set(wanted)):
                return load(name, size), wanted
    return None


def font_of(text: str, size: int) -> Any:
    """Return the font that knows most characters of a text; of several, the first."""
    characters, best, most = set(printable(text, _LONGEST)), None, -1
    for name in _all():
        known = sum(_knows(name, character) for character in characters)
        if known > most:
            best, most = name, known
        if most == len(characters):
            break
    return load(best, size)


def shortened(text: str, font: Any, room: float) -> str:
    """Return a text, or its beginning and an ellipsis where it is wider than `room` pixels."""
    if font.getlength(text) <= room:
        return text
    ellipsis = "..." if _missing(font, "…") else "…"
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + ellipsis) <= room else (low, middle - 1)
    return text[:low] + ellipsis


@functools.lru_cache(maxsize=64)
def load(name: str | None, size: int) -> Any:
    """Return a font by the name of its file, or Pillow's own, in a height in pixels."""
    fonts = importlib.import_module("PIL.ImageFont")
    return fonts.load_default(size) if name is None else fonts.truetype(name, size)


def _all() -> Iterator[str | None]:
    """Yield Pillow's own font, and then the names of the others, which are looked for only if they are needed."""
    yield None
    yield from _others()


@functools.cache
def _others() -> tuple[str, ...]:
    """Return the names of the fonts that are there besides Pillow's own."""
    return tuple(name for name in (*INSTALLED, *_of_opencv()) if _is_there(name))


def _is_there(name: str) -> bool:
    """Tell whether Pillow finds a font and can read it."""
    try:
        load(name, 12)
    except (OSError, ImportError):
        return False
    return True


def _of_opencv() -> Iterator[str]:
    """Yield the font that OpenCV's wheels for Linux bring along for their windows."""
    spec = importlib.util.find_spec("cv2")
    if spec is not None and spec.origin is not None:
        yield str(Path(spec.origin).parent / "qt" / "fonts" / "DejaVuSans.ttf")


@functools.lru_cache(maxsize=4096)
def _knows(name: str | None, character: str) -> bool:
    """Tell whether a font has a glyph for a character."""
    return character.isspace() or not _missing(load(name, 16), character)


def _missing(font: Any, character: str) -> bool:
    """Tell whether a character is drawn as what stands for a missing glyph: Pillow does not say what a font has."""
    drawn, unknown = font.getmask(character), font.getmask(_UNKNOWN)
    return drawn.size == unknown.size and bytes(drawn) == bytes(unknown)


def _plain(text: str) -> str:
    """Return a text without its accents, and with the usual signs of ASCII for typographic ones."""
    parts = unicodedata.normalize("NFKD", text)
    bare = "".join(character for character in parts if not unicodedata.combining(character))
    return bare.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xD7: "x"})
