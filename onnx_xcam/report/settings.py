"""This module collects the settings with which a page was made, so that someone can make it again."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from onnx_xcam.common.files import sha256_of
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.report.assemble import text
from onnx_xcam.text import json_text

_PACKAGES = (
    "onnx-xcam",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "numpy",
    "pillow",
    "opencv-python",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class Settings:
    """A Settings says how a page was made.

    Attributes:
        model: the name of the model on the page.
        facts: names and values, in the order in which they are shown.
        command: the command line, as one line for a shell; "" if there is none.
        python: the lines of Python that do the same; "" if there are none.
        notes: sentences on what was assumed.
        warnings: sentences on what may be wrong.
    """

    model: str
    facts: tuple[tuple[str, str], ...]
    command: str = ""
    python: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_html(self) -> str:
        """Return the settings as markup: warnings, calls, facts, notes."""
        parts = [f'<p class="warning">{text(warning)}</p>' for warning in self.warnings]
        parts += [_listing(name, call) for name, call in (("Command", self.command), ("Python", self.python)) if call]
        rows = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in self.facts)
        parts.append(f"<dl>{rows}</dl>")
        if self.notes:
            items = "".join(f"<li>{text(note)}</li>" for note in self.notes)
            parts.append(f"<h3>What was assumed</h3><ul>{items}</ul>")
        return "".join(parts)


def settings_of(
    model: OpenModel,
    methods: Sequence[str],
    *,
    command: str = "",
    python: str = "",
    facts: Sequence[tuple[str, str]] = (),
) -> Settings:
    """Return the settings of explanations by a model.

    Args:
        model: the open model, with its layers, preprocessing and notes.
        methods: the CAM methods.
        command, python: the calls, as in `Settings`.
        facts: further names and values to show.
    """
    known = [
        ("Model", model.files[0].name if model.files else model.name),
        *([("Model's SHA-256", sha256_of(model.files[0]))] if model.files else []),
        *(("Weights file", path.name) for path in model.files[1:]),
        ("Method", ", ".join(methods)),
        *(("Layer", layer) for layer in model.layers),
        ("Score", model.score),
        ("Preprocessing", json_text(model.preprocess.to_dict())),
        *((f"Input {name}", f"{value.dtype} {list(value.shape)}") for name, value in model.inputs.items()),
        ("Provider", model.providers[0]),
        *facts,
        ("Versions", versions()),
        ("Made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    called = model.files[0].stem if model.files else model.name
    notes = tuple(note for note in model.notes if note not in model.warnings)
    return Settings(called, tuple(known), command, python, notes, model.warnings)


def versions() -> str:
    """Return the versions of Python and of the packages that affect the result, as text."""
    parts = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(parts)


def python_call(
    model: Path, photo: Path, methods: Sequence[str], options: Mapping[str, Any], wanted: Mapping[str, Any]
) -> str:
    """Return the Python lines that explain a photo.

    Args:
        model, photo: the files of the model and of the photo.
        methods: the CAM methods.
        options: further arguments of `Explainer`; those with their default are left out.
        wanted: further arguments of `explain`; those with their default are left out.
    """

    def arguments(first: Path, given: Mapping[str, Any]) -> str:
        stated = [f"{key}={_literal(value)}" for key, value in given.items() if _is_stated(value)]
        return ", ".join([_literal(first), *stated])

    method = methods[0] if len(methods) == 1 else list(methods)
    lines = [
        "import onnx_xcam",
        f"explainer = onnx_xcam.Explainer({arguments(model, {'method': method, **options})})",
        f"explanation = explainer.explain({arguments(photo, wanted)})",
    ]
    if len(methods) > 1:
        lines.append("explanations = [explanation.by(method) for method in explainer.methods]")
    return "\n".join(lines)


def _is_stated(value: Any) -> bool:
    """Tell whether an argument differs from the defaults, which are None, "auto" and empty."""
    return value is False or (bool(value) and value != "auto")


def _literal(value: Any) -> str:
    """Return a Python literal for a value: a path as a string, an array as nested lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(str(value) if isinstance(value, Path) else value)


def _listing(name: str, call: str) -> str:
    """Return lines of code under a heading, as markup."""
    lines = "\n".join(text(line) for line in call.splitlines())  # `text` would join them to one line
    return f'<h3>{name}</h3><pre tabindex="0" aria-label="{name}">{lines}</pre>'
