"""A Dialect is the way in which one producer writes down a model's preprocessing or labels in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_xcam.common.descriptions import DATA_SUFFIXES, load_description, read_text
from onnx_xcam.producers.statement import Statement


@dataclass(frozen=True)
class DescriptionFile:
    """A DescriptionFile is a small file that describes a model.

    Attributes:
        path: where it lies.
        source: what messages call it, as a part of a sentence: "'labels.txt' beside the model".
        text: its whole content.
        data: what the text holds as JSON or YAML, by the file's suffix; None for any other file.
    """

    path: Path
    source: str
    text: str
    data: Any = None

    @classmethod
    def read(cls, path: Path, source: str) -> DescriptionFile:
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no text, too large, or not the JSON or YAML that its suffix says.
        """
        text = read_text(path)
        data = load_description(text, path.suffix) if path.suffix.lower() in DATA_SUFFIXES else None
        return cls(path, source, text, data)


@dataclass(frozen=True)
class Dialect:
    """A Dialect is one reader, with the names of the files that it is looked for in.

    Attributes:
        name: the producer, for messages and docs: "Hugging Face".
        files: the names of files beside a model, the most telling first; "{stem}" stands for the model's own name
            without its suffix.
        recognises: tells whether a file is written in this dialect, by its content; it never raises.
        read: returns what a recognised file states; raises a PreprocessError or a LabelsError, with one sentence that
            names file and key, for a file that is damaged, or says what cannot be followed.
    """

    name: str
    files: tuple[str, ...]
    recognises: Callable[[DescriptionFile], bool]
    read: Callable[[DescriptionFile], Statement]
