"""This module defines the step, which records what a node is to do before the node is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx_xcam.surgery.builder.values import Value


@dataclass(frozen=True, eq=False)
class Step:
    """A Step records an operator with the values that it reads and makes.

    Attributes:
        op: the operator.
        domain: the operator's domain, None for the standard's own.
        attributes: the attributes of the node.
        inputs: the values that it reads, None where an optional one is left out.
        outputs: the values that it makes, None where one is left out.
        is_shared: whether an equal step may take its place; False for a copy of a node of the model.
    """

    op: str
    domain: str | None
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    is_shared: bool = True
