"""Write docs/schemas from the types of what is written, so that neither can disagree with the program.

python -m tools.release.schemas           # write them
python -m tools.release.schemas --check   # exit status 1 if they are not up to date
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from onnx_xcam.demo.settings import PageSettings
from onnx_xcam.metadata import MetadataJson
from onnx_xcam.records.evaluate import EvaluateLine, Summary
from onnx_xcam.records.explain import ExplainLine
from tools.common import command_line
from tools.common.folders import ROOT
from tools.common.generated import write_or_check

FOLDER = ROOT / "docs" / "schemas"
SCHEMAS: Mapping[str, tuple[str, Any]] = {
    "explain-results": ("A line of the results.jsonl of `onnx-xcam explain`", ExplainLine),
    "evaluate-results": ("A line of the results.jsonl of `onnx-xcam evaluate`", EvaluateLine),
    "evaluate-summary": ("The summary.json of `onnx-xcam evaluate`", Summary),
    "demo-model": ("The model.json of a page of `onnx-xcam demo`", PageSettings),
    "metadata": ('metadata_props["onnx_xcam"] of an instrumented model', MetadataJson),
}
"""The title and the type behind each file."""

_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}


def schema(title: str, kind: Any) -> dict[str, Any]:
    """The JSON Schema of a record; further records that it holds are in `$defs`."""
    further: dict[str, Any] = {}
    found = _record(kind, further)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **found,
        **({"$defs": dict(sorted(further.items()))} if further else {}),
    }


def texts() -> dict[Path, str]:
    """The text of each file."""
    return {
        FOLDER / f"{name}.schema.json": json.dumps(schema(title, kind), indent=2, ensure_ascii=False) + "\n"
        for name, (title, kind) in SCHEMAS.items()
    }


def field_docs(kind: Any) -> dict[str, str]:
    """What the docstrings of a record's type and of its bases say of its fields."""
    try:
        node = ast.parse(inspect.getsource(kind)).body[0]
    except (OSError, TypeError):  # made by a call, for a field that is called as a keyword is
        return {}
    assert isinstance(node, ast.ClassDef)
    found: dict[str, str] = {}
    for base in node.bases:
        assert isinstance(base, ast.Name)
        if base.id != "TypedDict":
            found |= field_docs(getattr(sys.modules[kind.__module__], base.id))
    name = ""
    for line in inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2].splitlines():
        if not line.startswith("        "):
            name, _, text = line.strip().partition(": ")
            found[name] = text
        else:
            found[name] += f" {line.strip()}"
    return found


def _record(kind: Any, further: dict[str, Any]) -> dict[str, Any]:
    hints, docs = get_type_hints(kind, include_extras=True), field_docs(kind)
    return {
        "description": " ".join(inspect.cleandoc(kind.__doc__).partition("\n\n")[0].split()),
        "type": "object",
        "properties": {name: {"description": docs[name], **_schema(hint, further)} for name, hint in hints.items()},
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
    }


def _schema(kind: Any, further: dict[str, Any]) -> dict[str, Any]:
    if is_typeddict(kind):
        if kind.__name__ not in further:
            further[kind.__name__] = {}
            further[kind.__name__] = _record(kind, further)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if kind is Any:
        return {}
    if get_origin(kind) is None:
        return {"type": _PLAIN[kind]}
    return _generic(get_origin(kind), get_args(kind), further)


def _generic(origin: Any, parts: tuple[Any, ...], further: dict[str, Any]) -> dict[str, Any]:
    if origin is Literal:
        return {"enum": list(parts)}
    several = [_schema(part, further) for part in parts]
    if origin in (Union, UnionType):
        if all(one.keys() == {"type"} for one in several):
            return {"type": [one["type"] for one in several]}
        return {"anyOf": several}
    found: dict[Any, dict[str, Any]] = {
        tuple: {"type": "array", "prefixItems": several, "minItems": len(several), "maxItems": len(several)},
        list: {"type": "array", "items": several[0]},
        dict: {"type": "object", "additionalProperties": several[-1]},
        NotRequired: several[0],
    }
    return found[origin]


def main() -> int:
    """Write the files, or only compare them."""
    return write_or_check(command_line.parser("tools.release.schemas", __doc__), lambda: texts().items())


if __name__ == "__main__":
    sys.exit(main())
