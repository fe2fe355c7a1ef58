"""This module reads the labels in a file that a description names, which lies beside the description."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from onnx_xcam.common.descriptions import check_found
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import LabelsError
from onnx_xcam.labels import load_labels
from onnx_xcam.producers.dialect import DescriptionFile


def labels_named(file: DescriptionFile, named: Any) -> list[str] | None:
    """Return the labels in the file that a description names, or None where there is none beside it.

    Only the last part of the name counts, so that no description leads out of its own folder.

    Raises:
        LabelsError: the file holds no labels, or is too large to be read unasked.
    """
    if not isinstance(named, str) or "\0" in named:
        return None
    name = PureWindowsPath(PurePosixPath(named).name).name
    path = file.path.with_name(name) if name else file.path
    if path == file.path or not is_file(file.path) or not is_file(path):
        return None
    try:
        check_found(path)
    except (OSError, ValueError) as error:
        raise LabelsError(f"{path}: cannot be read: {error}") from error
    return list(load_labels(path))


def first_labels_named(file: DescriptionFile, named: Iterable[Any]) -> list[str] | None:
    """Return the labels in the first file that a description names and that lies beside it, or None.

    Raises:
        LabelsError: as `labels_named`.
    """
    return next((labels for name in named if (labels := labels_named(file, name))), None)


def labels_or_remark(file: DescriptionFile, key: str, named: Any) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return the labels in the file that a key of a description names, and a remark if it names one that is not there.

    Raises:
        LabelsError: the file holds no labels.
    """
    labels = labels_named(file, named)
    if labels is not None or not named:
        return labels, ()
    return None, (f"{file.source}: {key} names {str(named)[:200]!r}, which does not lie beside it.",)
