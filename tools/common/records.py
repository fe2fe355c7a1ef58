"""Results are kept as lines of JSON, so that a later call need not measure again what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Record = dict[str, Any]


def read_records(path: Path, key: Callable[[Record], Key]) -> dict[Key, Record]:
    """The latest record of each key; none where the file is not there."""
    if not path.is_file():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {key(record): record for record in records}


def append_record(path: Path, record: Record) -> None:
    """Add a line to the records."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(record) + "\n")
