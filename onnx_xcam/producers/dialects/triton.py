"""This module reads the `config.pbtxt` of a model repository of NVIDIA Triton, which lies above the version folders.

It names the file of labels and the layout of an input; the format is `ModelConfig` of
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto. Values and sizes of pictures
are not a part of it.
"""

from __future__ import annotations

from typing import Any

from onnx_xcam.common.text_format import Block, blocks, load_text_format, texts
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.label_file import labels_or_remark
from onnx_xcam.producers.statement import Statement

_LAYOUTS = {"FORMAT_NCHW": "NCHW", "FORMAT_NHWC": "NHWC"}


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the configuration of a model: it has inputs, outputs, or a platform."""
    config = _config(file)
    return file.path.suffix == ".pbtxt" and bool({"input", "output", "platform", "backend"} & config.keys())


def read(file: DescriptionFile) -> Statement:
    """Return what the configuration states."""
    config = _config(file)
    layouts = {
        _LAYOUTS[name] for block in blocks(config, "input") for name in texts(block, "format") if name in _LAYOUTS
    }
    settings: dict[str, Any] = {"layout": layouts.pop()} if len(layouts) == 1 else {}
    named = [name for block in blocks(config, "output") for name in texts(block, "label_filename") if name]
    if not named:
        return Statement.of(file.source, settings)
    labels, remarks = labels_or_remark(file, "label_filename", named[0])
    return Statement.of(file.source, settings, labels, label_remarks=remarks)


def _config(file: DescriptionFile) -> Block:
    """Return the fields of a configuration; {} if the file is none."""
    try:
        return load_text_format(file.text)
    except ValueError:
        return {}


DIALECT = Dialect("NVIDIA Triton", ("config.pbtxt",), recognises, read)
