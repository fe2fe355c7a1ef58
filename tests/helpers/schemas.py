"""Data held against the JSON Schemas of docs/schemas, by an own reading of the few words that they use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from helpers import ROOT

_TYPES = {"string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}
_KNOWN = {"$ref", "type", "enum", "anyOf", "properties", "required", "additionalProperties", "items", "prefixItems"}
_KNOWN |= {"minItems", "maxItems"}
_WORDS = {"$schema", "title", "description", "$defs"}


def load_schema(name: str) -> dict[str, Any]:
    """The schema in a file of docs/schemas."""
    return json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))


def problems(data: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong with the data, where; also a field that the schema does not name."""
    return list(_problems(data, schema, schema, "$"))


def _problems(data: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    unknown = schema.keys() - _KNOWN - _WORDS
    assert not unknown, f"a word that is not understood here: {unknown}"
    if "$ref" in schema:
        yield from _problems(data, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "enum" in schema and data not in schema["enum"]:
        yield f"{at}: {data!r} is none of {schema['enum']}"
    if "anyOf" in schema and all(list(_problems(data, one, root, at)) for one in schema["anyOf"]):
        yield f"{at}: {data!r} is of no kind that is allowed"
    kinds = schema.get("type", [])
    if kinds and not any(_is(data, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{at}: {data!r} is no {kinds}"
        return
    if isinstance(data, dict):
        yield from _of_object(data, schema, root, at)
    if isinstance(data, list):
        yield from _of_array(data, schema, root, at)


def _is(data: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        return isinstance(data, int if kind == "integer" else int | float) and not isinstance(data, bool)
    return isinstance(data, _TYPES[kind])


def _of_object(data: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    yield from (f"{at}: there is no {name!r}" for name in schema.get("required", []) if name not in data)
    named = schema.get("properties", {})
    for name, value in data.items():
        if name in named:
            yield from _problems(value, named[name], root, f"{at}.{name}")
        elif "additionalProperties" in schema:
            yield from _problems(value, schema["additionalProperties"], root, f"{at}.{name}")
        elif named:
            yield f"{at}: {name!r} is not in the schema"


def _of_array(data: list[Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(data) <= schema.get("maxItems", len(data)):
        yield f"{at}: {len(data)} items"
    firsts = schema.get("prefixItems", [])
    for n, value in enumerate(data):
        one = firsts[n] if n < len(firsts) else schema.get("items", {})
        yield from _problems(value, one, root, f"{at}[{n}]")
