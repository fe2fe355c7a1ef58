"""This module assembles a page as one file, with style and scripts inside, a security policy and escaped text.

The file holds everything that the page may load: the content security policy allows its own script and style by their
digests, pictures from `data:` and `blob:`, and nothing else. Even markup that slipped past the escaping could neither
run nor send anything.
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
"""The folder of the demo's scripts, of which pages share the one that draws a map."""

_PAGE = "page"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_IMPORT = re.compile(r"^import\s[^;]*?\sfrom\s+\"\./[\w.-]+\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const)", re.MULTILINE)
_ENDS = re.compile(r"</(?:script|style)|<!--", re.IGNORECASE)


def text(value: object) -> str:
    """Escape a value as text of the page: markup is shown as text, and control characters are spelled out."""
    return html.escape(printable(value))


def data_block(data: Any) -> str:
    """Return a script element that holds JSON as inert data: plain ASCII, without a `<` that could end the element."""
    stated = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{stated}</script>'


def data_url(kind: str, content: bytes) -> str:
    """Return a file as a data URL, `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def script_of(modules: Sequence[Path]) -> str:
    """Join ES modules to a single one; each must come after those that it imports.

    A module inside of a page cannot import another one, so the import lines are removed, and what a module exports
    becomes a name of the joined script. Two equal names are an error of the whole script.
    """
    parts = []
    for path in modules:
        source = path.read_text(encoding="utf-8")
        parts.append(f"// --- {path.name}\n" + _EXPORT.sub("", _IMPORT.sub("", source)))
    return _within("\n".join(parts))


def style_of(files: Sequence[Path]) -> str:
    """Join style sheets to a single one."""
    return _within("\n".join(path.read_text(encoding="utf-8") for path in files))


def page_parts(template: str, values: Mapping[str, str], *, style: str, script: str) -> tuple[str, str]:
    """Return the parts of a page before and after its content, which replaces `{{content}}`.

    Args:
        template: the name of a file in `web/`.
        values: the markup for each placeholder, escaped already.
        style, script: the style sheet and the script to put into the page.
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
    """Replace all placeholders of a template in one pass, so that placeholders within values are left as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _within(content: str) -> str:
    """Return a script or style sheet after checking that it cannot end the element that it is put into."""
    assert not _ENDS.search(content), "a script or style of ours would end its element"
    return content


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write a page to, which replaces `path` only if the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    with _draft_of(path) as draft:
        try:
            yield draft.file
        except OSError as error:
            if error.filename is None:  # with a filename, the error is about another file, such as a photo
                raise cannot_write(path, error, _PAGE) from error
            raise
        with writing_to(path, _PAGE):
            draft.place()


def check_writable(path: Path) -> None:
    """Check that a page can be written, before the work that fills it.

    Raises:
        OutputError: the page cannot be written.
    """
    with _draft_of(path):
        pass


@contextmanager
def _draft_of(path: Path) -> Iterator[Draft]:
    """Open the draft of a page, locked so that no other run writes the page meanwhile."""
    with ExitStack() as stack:
        with writing_to(path, _PAGE):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise OutputError(f"'{path}' is a folder; give the name of a file for the page.")
            stack.enter_context(held(path.with_name(f"{LOCK}.{path.name}"), f"the page '{path}'"))
            remove_abandoned(path.parent)
            draft = stack.enter_context(Draft(path))
        yield draft
