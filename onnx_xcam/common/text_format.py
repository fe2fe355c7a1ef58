"""This module reads Protocol Buffers' text format (`key: value`, `key { ... }`), of small files and without a schema.

The format is described at https://protobuf.dev/reference/protobuf/textformat-spec/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' ) | (?P<word> [\w.+-]+ )
        | (?P<sign> [][{}<>:;,] )""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")
_CLOSING = {"{": "}", "<": ">"}
_DEEPEST = 20

Value: TypeAlias = "str | Block"
"""A value: a text, number or name as it is written, without quotation marks; or a block."""
Block: TypeAlias = "dict[str, list[Value]]"
"""The fields of a message, each with all its values, since any field may be repeated."""


def load_text_format(text: str) -> Block:
    """Return the fields of a message in text format.

    Raises:
        ValueError: the text is not in that format, or nested too deeply.
    """
    tokens = _tokens(text)
    return _block(tokens, "", 0)


def texts(block: Block, key: str) -> list[str]:
    """Return the values of a field that are no blocks."""
    return [value for value in block.get(key, []) if isinstance(value, str)]


def blocks(block: Block, key: str) -> list[Block]:
    """Return the values of a field that are blocks."""
    return [value for value in block.get(key, []) if not isinstance(value, str)]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind ("value" or "sign") and the text of each token, and ("sign", "") at the end."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"unexpected at position {at}")
        at = match.end()
        if match["text"] is not None:
            yield "value", _ESCAPED.sub(r"\1", match["text"][1:-1])
        elif match["word"] is not None:
            yield "value", match["word"]
        elif match["sign"] is not None:
            yield "sign", match["sign"]
    yield "sign", ""


def _block(tokens: Iterator[tuple[str, str]], close: str, depth: int) -> Block:
    """Read the fields of a message up to the sign that closes it."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    fields: Block = {}
    while True:
        kind, key = next(tokens)
        if kind == "sign" and key in (",", ";"):
            continue
        if kind == "sign":
            if key != close:
                raise ValueError(f"unexpected {key!r}" if key else "a brace is missing")
            return fields
        fields.setdefault(key, []).extend(_values(tokens, depth))


def _values(tokens: Iterator[tuple[str, str]], depth: int) -> list[Value]:
    """Read what stands behind a key: a value, a block, or a list of one of them."""
    kind, token = next(tokens)
    if (kind, token) == ("sign", ":"):
        kind, token = next(tokens)
    if kind == "value":
        return [token]
    if token in _CLOSING:
        return [_block(tokens, _CLOSING[token], depth + 1)]
    if token != "[":
        raise ValueError(f"unexpected {token!r} behind a key")
    values: list[Value] = []
    while (follows := next(tokens)) != ("sign", "]"):
        kind, token = follows
        if kind == "value":
            values.append(token)
        elif token in _CLOSING:
            values.append(_block(tokens, _CLOSING[token], depth + 1))
        elif token != ",":
            raise ValueError(f"unexpected {token!r} in a list" if token else "a bracket is missing")
    return values
