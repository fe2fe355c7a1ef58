"""This module cuts TensorRT's plugins for suppression off a model, whose boxes and scores become outputs instead.

No other runtime has these plugins. What they suppress by is kept in the metadata, so that objects are those that the
plugin would have kept. Sources: the READMEs of efficientNMSPlugin and batchedNMSPlugin of NVIDIA/TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from onnx_xcam.surgery.analysis.reachability import forward
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.ir.uses import Uses
from onnx_xcam.text import json_text, load_json, quoted

PLUGIN_KEY = "onnx_xcam.plugin"
"""The metadata have under this key what a plugin that was cut off suppressed by."""


@dataclass(frozen=True)
class Plugin:
    """A Plugin says how a plugin chose objects.

    Attributes:
        conf: the probability that an object exceeds.
        iou: the overlap above which the worse of two boxes of one class is dropped.
        centred: whether boxes are told as centre and size, and not as corners; None if the plugin does not say it.
        sigmoid: whether the plugin applies a sigmoid to the scores.
        background: the class that is no object, None if there is none.
    """

    conf: float
    iou: float
    centred: bool | None = None
    sigmoid: bool = False
    background: int | None = None


def has_plugins(model: onnx.ModelProto) -> bool:
    """Tell whether a model has a plugin for suppression among its nodes."""
    return any(_is_plugin(node) for node in model.graph.node)


def cut_plugins(model: onnx.ModelProto) -> list[str]:
    """Cut the plugins off a model, in place, and return sentences that say so."""
    uses = Uses(model.graph.node)
    plugins = [node for node in model.graph.node if _is_plugin(node)]
    behind = forward(uses, [name for node in plugins for name in node.output])
    gone = {name for node in (*plugins, *behind.nodes) for name in node.output}
    kept = [node for node in model.graph.node if not gone.intersection(node.output)]
    outputs = [value for value in model.graph.output if value.name not in gone]
    tables = dict.fromkeys(name for node in plugins for name in node.input[:2])
    have = {value.name for value in outputs}
    given = {value.name: value for value in model.graph.value_info}
    outputs += [given.get(name, onnx.ValueInfoProto(name=name)) for name in tables if name not in have]
    for field, values in ((model.graph.node, kept), (model.graph.output, outputs)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    model.metadata_props.add(key=PLUGIN_KEY, value=json_text(asdict(_settings(plugins[0]))))
    names = quoted(dict.fromkeys(node.op_type for node in plugins))
    return [
        f"Model: {', '.join(names)}, which only TensorRT has, was cut off; the boxes and scores that it reads are "
        "outputs in its place, and its thresholds are used."
    ]


def plugin_of(props: Mapping[str, str]) -> Plugin | None:
    """Return what a plugin that was cut off suppressed by, None if the metadata have no such entry."""
    text = props.get(PLUGIN_KEY)
    if text is None:
        return None
    try:
        return Plugin(**load_json(text))
    except (ValueError, TypeError):
        return None  # an entry of somebody else


def _is_plugin(node: onnx.NodeProto) -> bool:
    """Tell whether a node picks boxes by an operator that the standard does not have."""
    own = is_standard(node.domain) and onnx.defs.has(node.op_type)
    return proto_traits(node).picks_boxes and not own and len(node.input) >= 2


def _settings(node: onnx.NodeProto) -> Plugin:
    """Return what a plugin suppresses by."""
    known: dict[str, Any] = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if "score_threshold" in known or "iou_threshold" in known:
        background = int(known.get("background_class", -1))
        return Plugin(
            conf=_share(known.get("score_threshold"), 0.25),
            iou=_share(known.get("iou_threshold"), 0.5),
            centred=known.get("box_coding", 0) == 1,
            sigmoid=known.get("score_activation", 0) == 1,
            background=None if background < 0 else background,
        )
    background = int(known.get("backgroundLabelId", -1))
    return Plugin(
        conf=_share(known.get("scoreThreshold"), 0.25),
        iou=_share(known.get("iouThreshold"), 0.5),
        centred=False,
        background=None if background < 0 else background,
    )


def _share(value: Any, otherwise: float) -> float:
    """Return a threshold from 0 to 1, or another number where it is none."""
    return round(float(value), 6) if isinstance(value, float | int) and 0 <= value <= 1 else otherwise
