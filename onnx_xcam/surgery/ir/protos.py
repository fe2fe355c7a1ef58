"""What every part of the surgery asks of ONNX's own messages: an operator's domain, and the graphs inside a node."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

STANDARD = ("", "ai.onnx")
"""Names of the domain of the standard operators."""
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def is_standard(domain: str | None) -> bool:
    """Whether a domain is that of the standard operators; onnx_graphsurgeon may have None for it."""
    return domain is None or domain in STANDARD


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
