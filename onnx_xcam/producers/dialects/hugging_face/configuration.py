"""This module reads the `config.json` that transformers and Optimum write beside a model: labels, and perhaps a size.

The labels stand in `id2label`, by class id in text, or in `label2id`, the other way round; their number is the number
of classes (`PreTrainedConfig.num_labels` in `configuration_utils.py` of transformers). Where nobody gives labels,
`num_labels` there makes up LABEL_0, LABEL_1 and so on, which name nothing: files of labels go before them.
`image_size` is what a model was built for, not what its pictures are scaled to: it counts only where no image
processor's file lies beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.files import is_file
from onnx_xcam.errors import LabelsError
from onnx_xcam.labels.formats import from_data
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.hugging_face import processor
from onnx_xcam.producers.statement import Statement

_LABELS = frozenset({"id2label", "label2id"})
_MODEL = frozenset({"model_type", "architectures"})
_LARGEST_SIDE = 8192


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the configuration of a model of transformers that states labels or a size."""
    data = file.data
    if not isinstance(data, Mapping) or "pretrained_cfg" in data:  # timm's
        return False
    return bool(_LABELS & data.keys()) or (bool(_MODEL & data.keys()) and _size(data) is not None)


def read(file: DescriptionFile) -> Statement:
    """Return the labels of a configuration, and its size where no image processor's file lies beside it.

    What cannot be read of a configuration is passed over, with a remark.
    """
    remarks: list[str] = []
    labels = _labels(file.data, file.source, remarks)
    made_up: tuple[str, ...] = ()
    if labels is not None and labels == [f"LABEL_{index}" for index in range(len(labels))]:
        labels = None
        made_up = (
            f"{file.source}: its labels LABEL_0, LABEL_1, ... are made up by transformers, and name no classes.",
        )
    settings: dict[str, Any] = {}
    if not any(is_file(file.path.with_name(name)) for name in processor.FILES):
        size = _size(file.data)
        settings = {} if size is None else {"size": size}
    return Statement.of(file.source, settings, labels, remarks, made_up)


def _labels(data: Mapping[str, Any], source: str, remarks: list[str]) -> list[str] | None:
    """Return the labels by class id, with "" for ids that are left out, or None; add what is wrong to the remarks."""
    found = {key: _under(key, data, source, remarks) for key in ("id2label", "label2id")}
    labels, turned = found["id2label"], found["label2id"]
    if labels is None:
        return turned
    if turned is not None and sorted(labels) != sorted(turned) and len(turned) == len(labels):
        remarks.append(f"{source}: label2id names other labels than id2label, which is used.")
    count, stated = data.get("num_labels"), sum(label != "" for label in labels)
    if isinstance(count, int) and count not in (stated, len(labels)):
        remarks.append(f"{source}: num_labels is {count}, but id2label names {stated} classes, which are used.")
    return labels


def _under(key: str, data: Mapping[str, Any], source: str, remarks: list[str]) -> list[str] | None:
    """Return the labels under a key by class id, or None where there are none; add what is wrong to the remarks."""
    if not data.get(key):
        return None
    try:
        return from_data({key: data[key]}, f"{source}: {key}")
    except LabelsError as error:
        remarks.append(f"{error}; {key} is not used.")
        return None


def _size(data: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (height, width) of `image_size`, which may stand under `vision_config`, or None."""
    inner = data.get("vision_config")
    stated = data.get("image_size")
    if stated is None and isinstance(inner, Mapping):
        stated = inner.get("image_size")
    sides = tuple(stated) if isinstance(stated, (list, tuple)) else (stated, stated)
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 and all(map(_is_side, sides)) else None


def _is_side(value: Any) -> bool:
    """Tell whether a value is a number of pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_SIDE
