"""This module counts the paths from the picture to tensors behind it: what carries everything, and what a part.

The number of paths may double with each node, so it is counted modulo the prime 2**2203 - 1. Equal numbers stay equal,
and different ones become equal only by an accident too rare to happen.
"""

from __future__ import annotations

from collections.abc import Collection

from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath
from onnx_xcam.surgery.ir.uses import names_read

_PRIME = 2**2203 - 1
"""Numbers of paths are counted modulo this prime."""


class PathCounts:
    """A PathCounts counts paths that begin at the tensors from which a differentiable path starts.

    Args:
        path: the nodes and tensors between the picture and a score.
    """

    def __init__(self, path: DifferentiablePath) -> None:
        self._path = path
        self._reads = [[name for name in names_read(node) if name in path.tensors] for node in path.nodes]
        self._makes = [[out.name for out in node.outputs if out.name in path.tensors] for node in path.nodes]
        self._ahead: dict[str, int] = {}
        for reads, makes in zip(self._reads, self._makes, strict=True):
            known = sum(self._ahead.setdefault(name, 1) for name in reads) % _PRIME
            self._ahead.update(dict.fromkeys(makes, known))

    def through(self, ends: Collection[str]) -> tuple[dict[str, int], int]:
        """Return how many paths to one of some tensors pass through each tensor, and how many paths there are."""
        ends = frozenset(ends)
        behind = dict.fromkeys(ends, 1)
        for reads, makes in zip(reversed(self._reads), reversed(self._makes), strict=True):
            onward = sum(behind.get(name, 0) for name in makes) % _PRIME
            if onward:
                for name in reads:
                    behind[name] = behind.get(name, 0) + onward
        counts = {name: self._ahead.get(name, 0) * behind.get(name, 0) % _PRIME for name in self._path.tensors}
        return counts, sum(self._ahead.get(name, 0) for name in ends) % _PRIME
