"""A Step records a node before it is one: what it is to do, and the values that it reads and makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx_xcam.surgery.builder.values import Value


@dataclass(frozen=True, eq=False)
class Step:
    """A node as it was asked for.

    Attributes:
        op: the operator.
        domain: its domain, None for the standard's own.
        attributes: of the node.
        inputs: the values that it reads, None where an optional one is left out.
        outputs: the values that it makes, None where one is left out.
        is_shared: whether an equal step may stand for it; not so for a copy of a node of the model.
    """

    op: str
    domain: str | None
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    is_shared: bool = True
