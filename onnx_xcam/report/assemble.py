"""A page as one file: its style and scripts put inside, its policy, and text that stays text.

Everything that a page may load is in the file: the policy allows its own script and style by their digests, pictures
from `data:` and `blob:`, and nothing else. So even what should slip past the escaping could neither run nor send.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import onnx_xcam
from onnx_xcam.common.files import Draft, cannot_write, remove_abandoned, writing_to
from onnx_xcam.common.locks import NAME as LOCK
from onnx_xcam.common.locks import held
from onnx_xcam.errors import OutputError
from onnx_xcam.text import printable

WEB = Path(__file__).parent / "web"
DEMO_WEB = Path(__file__).parents[1] / "demo" / "web"
"""What draws the map is the demo's: one file for both."""

_PAGE = "page"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_IMPORT = re.compile(r"^import\s[^;]*?\sfrom\s+\"\./[\w.-]+\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const)", re.MULTILINE)
_ENDS = re.compile(r"</(?:script|style)|<!--", re.IGNORECASE)


def text(value: object) -> str:
    """Anything as text of the page: markup in it is shown, not followed; what could turn or end a line is spelled."""
    return html.escape(printable(value))


def data_block(data: Any) -> str:
    """A script element with JSON that no script runs: plain ASCII, and without a sign that could end the element."""
    stated = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{stated}</script>'


def data_url(kind: str, content: bytes) -> str:
    """A file as an address: `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def script_of(modules: Sequence[Path]) -> str:
    """ES modules as a single one, each after those that it imports.

    A module inside of a page cannot import another one, so their import lines go, and what they export is simply
    there. Two names that are the same would be an error of the whole script.
    """
    parts = []
    for path in modules:
        source = path.read_text(encoding="utf-8")
        parts.append(f"// --- {path.name}\n" + _EXPORT.sub("", _IMPORT.sub("", source)))
    return _within("\n".join(parts))


def style_of(files: Sequence[Path]) -> str:
    """Style sheets as a single one."""
    return _within("\n".join(path.read_text(encoding="utf-8") for path in files))


def page_parts(template: str, values: Mapping[str, str], *, style: str, script: str) -> tuple[str, str]:
    """A page before and after the place of its content, `{{content}}`.

    Args:
        template: file in `web/`.
        values: markup for its places, escaped already.
        style, script: what goes inside.
    """
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    given = {
        **values,
        "policy": policy,
        "style": style,
        "script": script,
        "generator": text(f"onnx_xcam {onnx_xcam.__version__}"),
    }
    head, tail = (WEB / template).read_text(encoding="utf-8").split("{{content}}")
    return _filled(head, given), _filled(tail, given)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its places filled, at once: what a value holds is not looked at again."""
    return _PLACE.sub(lambda match: values[match[1]], template)


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _within(content: str) -> str:
    assert not _ENDS.search(content), "a script or style of ours would end its element"
    return content


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` as a whole when all went well, and else is gone.

    Raises:
        OutputError: it cannot be written.
    """
    with _draft_of(path) as draft:
        try:
            yield draft.file
        except OSError as error:
            if error.filename is None:  # else it is about another file: a photo, for instance
                raise cannot_write(path, error, _PAGE) from error
            raise
        with writing_to(path, _PAGE):
            draft.place()


def check_writable(path: Path) -> None:
    """Make sure, before the work that fills it, that a page can be written.

    Raises:
        OutputError: it cannot.
    """
    with _draft_of(path):
        pass


@contextmanager
def _draft_of(path: Path) -> Iterator[Draft]:
    """The draft of a page, which no other run writes meanwhile."""
    with ExitStack() as stack:
        with writing_to(path, _PAGE):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise OutputError(f"'{path}' is a folder; give the name of a file for the page.")
            stack.enter_context(held(path.with_name(f"{LOCK}.{path.name}"), f"the page '{path}'"))
            remove_abandoned(path.parent)
            draft = stack.enter_context(Draft(path))
        yield draft
