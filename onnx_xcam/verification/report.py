"""This module holds the report of `check`, as data and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from onnx_xcam.text import printable
from onnx_xcam.trials.exactness import ProcessorCheck
from onnx_xcam.verification.influence import RowsCheck
from onnx_xcam.verification.layer import LayerCheck, mark
from onnx_xcam.verification.products import NodeCheck
from onnx_xcam.verification.unchanged import OutputCheck


@dataclass(frozen=True)
class CheckReport:
    """A CheckReport holds the results of `check` for one model.

    Attributes:
        model: the name of the model.
        outputs: the results for the original outputs.
        nodes: the results for the differentiated nodes.
        layers: the results for the layers.
        notes: notes on the model and on what was assumed.
        rows: whether images of a run influence each other; None for a model that takes one image at a time.
        processor: whether this processor adds up products of 8-bit integers exactly; None for a model without such
            products. Inexact sums are a warning, because the instrumented model itself is right.
    """

    model: str
    outputs: list[OutputCheck]
    nodes: list[NodeCheck]
    layers: list[LayerCheck]
    notes: list[str]
    rows: RowsCheck | None = None
    processor: ProcessorCheck | None = None

    @property
    def passed(self) -> bool:
        """Tell whether everything was proved."""
        parts: list[OutputCheck | NodeCheck | LayerCheck] = [*self.outputs, *self.nodes, *self.layers]
        return all(part.passed for part in parts) and (self.rows is None or self.rows.passed)

    @property
    def warnings(self) -> list[str]:
        """Return the warnings, which state what deserves attention although no check failed."""
        warnings = [layer.warning for layer in self.layers] + [self.rows.warning if self.rows else None]
        if self.processor and self.processor.changes_answers:
            warnings.insert(0, self.processor.text())
        return [warning for warning in warnings if warning]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "warnings": self.warnings, "passed": self.passed}

    def text(self) -> str:
        """Return the report as text for people."""
        verdict = "all checks passed" if self.passed else "FAILED"
        lines = [f"{self.model}: {verdict}{', but see the warning' if self.warnings else ''}", *self.notes, ""]
        for out in self.outputs:
            lines.append(f"{mark(out.passed)} {out.text()}")
        if self.processor:
            lines.append(f"{'warning:' if self.processor.changes_answers else mark(True)} {self.processor.text()}")
        worst = max((node.error for node in self.nodes if node.error is not None), default=0.0)
        passed = sum(node.passed for node in self.nodes)
        lines.append(
            f"{mark(passed == len(self.nodes))} gradient: {passed} of {len(self.nodes)} differentiated nodes pass the "
            f"float64 dot-product test (worst relative error {worst:.1e})"
        )
        for node in self.nodes:
            if not node.passed:
                lines.append(f"      {node.op} '{node.node}': {node.problem or f'relative error {node.error:.1e}'}")
        lines += [line for layer in self.layers for line in layer.lines()]
        lines += self.rows.lines() if self.rows else []
        return "\n".join(printable(line) for line in lines)
