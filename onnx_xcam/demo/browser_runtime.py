"""This module finds the two files of ONNX Runtime for browsers that a page needs.

The files come from npm and are not kept in the repository: `tools/release/vendor_web.py` puts them into this package, a
wheel holds them, and other users name a folder. This module never downloads anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx_xcam.errors import DependencyError
from onnx_xcam.text import load_json

NPM_PACKAGE, NPM_VERSION = "onnxruntime-web", "1.30.0"
"""The package and its version that the page was tested with."""

FILES: Mapping[str, str] = {
    "ort.wasm.bundle.min.mjs": "ort.js",  # not every web server knows .mjs
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
"""The names of the files in the npm package, and in the page's folder `runtime`."""

LICENCE = "LICENSE-onnxruntime.txt"
VENDORED = Path(__file__).parent / "runtime"
"""The folder in this package that holds the files in a wheel."""


@dataclass(frozen=True)
class BrowserRuntime:
    """A BrowserRuntime says where the files of ONNX Runtime for browsers are.

    Attributes:
        folder: the folder that holds them.
        warning: a sentence if they are of another version than the page was tested with, else None.
    """

    folder: Path
    warning: str | None = None


def find_runtime(folder: Path | None) -> BrowserRuntime:
    """Find the folder that holds `FILES`.

    Args:
        folder: a folder that holds the files, the folder of the npm package, or one with that package in its
            `node_modules`; None means the files in this package.

    Raises:
        DependencyError: the files are missing; the message says how to get them.
    """
    install = f"`npm install --ignore-scripts {NPM_PACKAGE}@{NPM_VERSION}` in any folder and name it with --runtime"
    if folder is None:
        if _complete(VENDORED):
            return BrowserRuntime(VENDORED)
        raise DependencyError(
            "The page needs ONNX Runtime for browsers, which is not in this installation: run `python "
            f"-m tools.release.vendor_web` once in the source folder, or {install} DIR."
        )
    for candidate in (folder, folder / "dist", folder / "node_modules" / NPM_PACKAGE / "dist"):
        if _complete(candidate):
            return BrowserRuntime(candidate, _other_version(candidate))
    raise DependencyError(f"'{folder}' does not hold ONNX Runtime for browsers ({' and '.join(FILES)}); run {install}.")


def _complete(folder: Path) -> bool:
    """Tell whether a folder holds all of `FILES`."""
    return all((folder / name).is_file() for name in FILES)


def _other_version(folder: Path) -> str | None:
    """Return a warning if the npm package around a folder states another version than the page was tested with."""
    try:
        package = load_json((folder.parent / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, json.JSONDecodeError):
        return None
    version = package.get("version") if isinstance(package, dict) else None
    if version in (None, NPM_VERSION):
        return None
    return f"Runtime: {NPM_PACKAGE} {version} is used; the page was tested with {NPM_VERSION}."
