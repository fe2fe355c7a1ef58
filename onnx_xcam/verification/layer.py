"""This module holds the result of checking a layer: its map against the formula, and the score's change with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx_xcam.verification.slopes import FAR, FAR_BY_STEPS

SUM_TOLERANCE = 1e-4
"""How far the map and its formula, and their sums, may differ in float32, relative to the sum of magnitudes."""


@dataclass(frozen=True)
class LayerCheck:
    """A LayerCheck says how far a layer's map and gradient are from what they must be.

    Attributes:
        layer: the name of the layer's tensor.
        formula: the largest difference between the emitted map and the formula on the emitted A and G in float64,
            relative to the largest value of the map before the ReLU.
        conservation: the difference between the sum of the map before the ReLU and sum(G A), relative to the sum of
            |G A|; over the tokens of the grid where the layer holds tokens. None for a method that does not promise it.
        finite_difference: <G, d> and the score's own change, in float64, along the direction d in which they differ
            most. None where they were not compared.
        slope: the relative error of <G, d>, in which a rule whose result is wrong by a hundredth is detected.
        slope_passed: whether that error is within the tolerance.
        large_step: <G, d>, the score's own change and the relative error over a step of a hundredth, along the
            direction with the largest error. A large error is a warning: the gradient says little about what the score
            depends on.
        without_gradient: the nodes behind the layer that let no gradient pass.
        not_compared: why the score's own change was not compared, or None.
    """

    layer: str
    formula: float
    conservation: float | None
    finite_difference: tuple[float, float] | None
    slope: float | None = None
    slope_passed: bool = True
    large_step: tuple[float, float, float] | None = None
    without_gradient: list[str] = field(default_factory=list)
    not_compared: str | None = None

    @property
    def passed(self) -> bool:
        """Tell whether formula and conservation hold, and the score changes as the gradient says."""
        return self.formula <= SUM_TOLERANCE and (self.conservation or 0.0) <= SUM_TOLERANCE and self.slope_passed

    @property
    def warning(self) -> str | None:
        """Return a warning if a right gradient misses much of the score's change over a large step, else None."""
        far = FAR_BY_STEPS if self.without_gradient else FAR
        if not self.slope_passed or self.large_step is None or self.large_step[2] <= far:
            return None
        says, does, _ = self.large_step
        nodes = f" ({', '.join(self.without_gradient[:3])})" if self.without_gradient else ""
        return (
            f"if '{self.layer}' changes by a hundredth, the score changes by {does / 100:.3g} where the gradient says "
            f"{says / 100:.3g}: some ways from the layer to the score carry no gradient{nodes}, and the map lacks these"
        )

    def lines(self) -> list[str]:
        """Return the results as lines for people."""
        right = self.formula <= SUM_TOLERANCE
        lines = [f"{mark(right)} map of '{self.layer}': {self.formula:.1e} from its formula"]
        if self.conservation is not None:
            lines.append(
                f"{mark(self.conservation <= SUM_TOLERANCE)} conservation: sum(map before ReLU) and sum(G A) "
                f"differ by {self.conservation:.1e}"
            )
        return lines + self._slope_lines()

    def _slope_lines(self) -> list[str]:
        """Return the result on how the score changes with the layer, as lines for people."""
        if self.not_compared is not None:
            return [f"      slope of the score at '{self.layer}' not compared: {self.not_compared}"]
        if self.finite_difference is None or self.slope is None:
            return []
        says, does = self.finite_difference
        comparison = f"the gradient says {says:.6g}, the score changes by {does:.6g} (relative error {self.slope:.1e})"
        lines = [
            f"{mark(self.slope_passed)} slope of the score at '{self.layer}': along the worst direction {comparison}"
        ]
        return [*lines, *([f"warning: {self.warning}"] if self.warning else [])]


def mark(passed: bool) -> str:
    """Return the beginning of a line about something that was checked."""
    return "ok   " if passed else "FAIL "
