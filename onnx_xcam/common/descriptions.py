"""This module reads small JSON and YAML files (labels, preprocessing) within bounds, and executes nothing in them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import yaml

from onnx_xcam.common.files import open_file
from onnx_xcam.text import DEEPEST, check_depth, load_json

LARGEST_FILE = 64 << 20
"""The largest file that is read, in bytes; labels of 20,000 classes take 1 MB."""
_LARGEST_YAML = 4 << 20
"""The longest YAML text that is parsed, in characters; PyYAML takes some 10 seconds for it."""
FOUND_FILE, FOUND_YAML = 8 << 20, 512 << 10
"""The largest file, and the largest YAML file, that is read if nobody has named it, in bytes: about a second's work."""
DATA_SUFFIXES = (".json", ".yaml", ".yml")
"""The suffixes of files that hold data in JSON or YAML."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Loader(yaml.SafeLoader):
    """A _Loader refuses aliases: with them, a few lines could stand for billions of elements, or contain themselves.

    It refuses deep nesting while it reads, since what PyYAML does at each character grows with the depth.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported")
        if self._depth > DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def is_yaml(path: Path) -> bool:
    """Tell whether a file is YAML by the suffix of its name."""
    return path.suffix.lower() in (".yaml", ".yml")


def check_found(path: Path) -> int:
    """Make sure that a file which was found, and not named by the user, takes no more than a moment to read.

    Returns:
        Its size in bytes.

    Raises:
        OSError: there is no such file.
        ValueError: it is larger than `FOUND_FILE`, or than `FOUND_YAML` if it is YAML.
    """
    size, most = path.stat().st_size, FOUND_YAML if is_yaml(path) else FOUND_FILE
    if size > most:
        raise ValueError(f"it has more than {most >> 10} KiB, which are read only of a file that you name")
    return size


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, as Windows' shells write it.

    The text comes without its byte order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no such text, or larger than `LARGEST_FILE`.
    """
    with open_file(path) as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE >> 20} MiB")
    return data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")


def read_stated(path: Path, failure: type[Exception], missing: str) -> str:
    """Return the text of a file as `read_text` does, and raise `failure` with a sentence if it cannot be read.

    Args:
        path: the file.
        failure: the class of the error that is raised.
        missing: the words of the message where there is no such file.
    """
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise failure(f"{path}: {missing}") from error
    except UnicodeDecodeError as error:
        raise failure(
            f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        raise failure(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def load_description(text: str, suffix: str) -> Any:
    """Return the data of a text in JSON (suffix ".json") or YAML (any other suffix).

    Raises:
        ValueError: the text is not in that format, nested too deeply, or too large.
    """
    if suffix.lower() == ".json":
        return load_json(text)
    if len(text) > _LARGEST_YAML:
        raise ValueError(f"larger than {_LARGEST_YAML >> 20} MiB; write it as JSON")
    try:
        data = yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (yaml.YAMLError, LookupError, AttributeError, TypeError) as error:  # PyYAML: `!!int ''`, `!!timestamp x`
        raise ValueError(" ".join(str(error).split()) or "a value that is not of the stated type") from error
    check_depth(data)
    return data
