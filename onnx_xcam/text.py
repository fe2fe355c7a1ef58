"""This module shows, writes and reads text from untrusted files safely: labels, tensor names, metadata, file names.

A name can hold escape sequences that command a terminal, line ends, marks that turn the reading direction, or more text
than fits the screen; JSON and Python literals in metadata can be nested without end.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line and paragraph separators, marks of reading direction, and halves of surrogate pairs."""
_LONG_WORD = re.compile(r"\S{1001,}")
_LONGEST = 20_000
"""Longer texts are cut when they are shown, in characters."""
LONGEST_QUOTE = 1500
"""Sentences that quote files which describe a model are cut to so many characters."""
DEEPEST = 50
"""Data that are nested more deeply are refused."""
_LARGEST_LITERAL = 1 << 24
"""Longer Python literals are refused, in characters."""

_TOKEN = re.compile(
    r"""\s*(?: (?P<text> '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
        | (?P<number> [+-]?\d{1,18}(?![\w.]) )
        | (?P<sign> [][{}():,] ) )""",
    re.VERBOSE,
)


_ESCAPE = re.compile(r"\\(?:(?P<code>x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|.)")
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}


def printable(text: object, longest: int = _LONGEST) -> str:
    """Return the text on one line, safe to show: unsafe characters become escapes (`\\x1b`), long words are cut.

    A text of more than `longest` characters is cut, so that its beginning and its end are left.
    """
    safe = _UNSAFE.sub(lambda match: _spelled(match[0]), str(text))
    safe = _LONG_WORD.sub(lambda match: f"{match[0][:600]}…{match[0][-200:]}", safe)
    if len(safe) > longest:
        safe = f"{safe[: longest // 2]} … {safe[-longest // 4 :]}"
    return safe


def _spelled(character: str) -> str:
    """Return the escape of a character: `\\x1b` or `\\u202e`."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def listed(items: Sequence[str], most: int = 5, rest: str = "more") -> str:
    """Return items as a part of a sentence: `a`, `a and b`, or `a, b and 3 more` where there are more than `most`.

    Args:
        items: the items; `quoted` puts names in quotation marks.
        most: how many are named.
        rest: the word for the others: "more" or "others"; a single one of the latter is "another".
    """
    left = len(items) - most
    parts = list(items[:most])
    if left > 0:
        parts.append("another" if left == 1 and rest == "others" else f"{left} {rest}")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def quoted(names: Iterable[str]) -> list[str]:
    """Return names in the quotation marks of messages."""
    return [f"'{name}'" for name in names]


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return data as JSON that a console can show and UTF-8 can hold: unsafe characters are written as `\\u001b`.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def load_json(text: str) -> Any:
    """Return the data that a JSON text holds.

    Raises:
        ValueError: the text is no JSON, or nested too deeply.
    """
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_depth(data)
    return data


def check_depth(data: Any) -> None:
    """Make sure that plain data are not nested too deeply to be walked and shown.

    Raises:
        ValueError: they are nested in more than `DEEPEST` levels.
    """
    level = [data]
    for _ in range(DEEPEST):
        level = [
            child
            for item in level
            if isinstance(item, dict | list | tuple)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list | tuple)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def load_literal(text: str) -> Any:
    """Return the data of a Python literal of texts, whole numbers, lists, tuples and dicts, nested at most three deep.

    Ultralytics stores its labels in metadata as such a literal, and torch the scopes of a node. Nothing is evaluated.

    Raises:
        ValueError: the text is another kind of literal, or none.
    """
    if len(text) > _LARGEST_LITERAL:
        raise ValueError("too long")
    tokens = _tokens(text)
    value = _literal(tokens, next(tokens), 0)
    if next(tokens) != "":
        raise ValueError("more than one literal")
    return value


def _tokens(text: str) -> Iterator[Any]:
    """Yield the tokens of a literal: texts as 1-tuples, numbers as int, signs as str, and "" at the end."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"unexpected at position {at}")
        at = match.end()
        if match["text"] is not None:
            yield (_ESCAPE.sub(_unescaped, match["text"][1:-1]),)
        elif match["number"] is not None:
            yield int(match["number"])
        else:
            yield match["sign"]
    yield ""


def _unescaped(match: re.Match[str]) -> str:
    """Return the character that an escape in a literal stands for; an unknown escape stands for itself."""
    code = match["code"]
    if code is None:
        return _ESCAPES.get(match[0][1], match[0])
    if int(code[1:], 16) > sys.maxunicode:
        raise ValueError(f"there is no character {match[0]}")
    return chr(int(code[1:], 16))


def _literal(tokens: Iterator[Any], token: Any, level: int) -> Any:
    """Read the literal that begins with `token`, inside of `level` lists or dicts."""
    if isinstance(token, tuple):
        return token[0]
    if isinstance(token, int):
        return token
    if level > 2 or token not in ("{", "[", "("):
        raise ValueError("neither a text, a number nor a flat list")
    return _dict(tokens, level) if token == "{" else _list(tokens, {"[": "]", "(": ")"}[token], level)


def _list(tokens: Iterator[Any], close: str, level: int) -> list[Any]:
    """Read the items of a list or tuple up to its closing sign."""
    items = []
    token = next(tokens)
    while token != close:
        items.append(_literal(tokens, token, level + 1))
        token = next(tokens)
        if token == ",":
            token = next(tokens)
        elif token != close:
            raise ValueError("a comma is missing")
    return items


def _dict(tokens: Iterator[Any], level: int) -> Mapping[Any, Any]:
    """Read the items of a dict up to its closing brace."""
    items = {}
    token = next(tokens)
    while token != "}":
        if not isinstance(token, tuple | int):
            raise ValueError("a key is neither a text nor a number")
        key = token[0] if isinstance(token, tuple) else token
        if next(tokens) != ":":
            raise ValueError("a colon is missing")
        items[key] = _literal(tokens, next(tokens), level + 1)
        token = next(tokens)
        if token == ",":
            token = next(tokens)
        elif token != "}":
            raise ValueError("a comma is missing")
    return items
