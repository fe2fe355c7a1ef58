"""This module reads ONNX's own messages: the domain of an operator, and the subgraphs of a node."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

STANDARD = ("", "ai.onnx")
"""These are the names of the domain of the standard operators."""
MICROSOFT = "com.microsoft"
"""This is the domain of ONNX Runtime's own operators."""
IR_VERSION = 8
"""The tail is built as a model of this IR version, and so is a part that becomes a model of its own."""


def is_standard(domain: str | None) -> bool:
    """Tell whether a domain is that of the standard operators; onnx_graphsurgeon may have None for it."""
    return domain is None or domain in STANDARD


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
