"""This module follows a graph's edges: what depends on tensors, what they depend on, and what lies between two of them.

An edge is a tensor that a node reads or makes. `enters(node, name)` says whether a tensor that a node reads counts for
the node's results, and `leaves(node, name)` whether a tensor that it makes counts as a result; without them every edge
counts. The order of the nodes does not matter, and each node is visited once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from onnx_xcam.surgery.ir.uses import Uses

N = TypeVar("N")
Edges: TypeAlias = Callable[[N, str], bool]
"""A function of this type says whether an edge of a node counts, by the tensor's name."""


@dataclass(frozen=True)
class Part(Generic[N]):
    """A Part is the part of a graph that was reached.

    Attributes:
        uses: the graph's nodes and what they read and make.
        positions: the positions of the nodes that were passed, ascending.
        tensors: the tensors that were reached, including those from which the search started.
    """

    uses: Uses[N]
    positions: tuple[int, ...]
    tensors: frozenset[str]

    @property
    def nodes(self) -> list[N]:
        """Return the nodes that were passed, in the order of the graph."""
        return [self.uses.nodes[position] for position in self.positions]


def _every(_node: object, _name: str) -> bool:
    """Tell that every edge counts."""
    return True


def forward(uses: Uses[N], starts: Iterable[str], *, enters: Edges[N] = _every, leaves: Edges[N] = _every) -> Part[N]:
    """Return the nodes that depend on one of the tensors, and all that these nodes make."""
    met: set[str] = set()
    return _part(uses, walk_forward(uses, starts, enters=enters, leaves=leaves, met=met), met)


def backward(uses: Uses[N], ends: Iterable[str], *, enters: Edges[N] = _every, leaves: Edges[N] = _every) -> Part[N]:
    """Return the nodes that the tensors depend on, and all that these nodes read."""
    met: set[str] = set()
    return _part(uses, walk_backward(uses, ends, enters=enters, leaves=leaves, met=met), met)


def between(
    uses: Uses[N],
    starts: Iterable[str],
    ends: Iterable[str],
    *,
    enters: Edges[N] = _every,
    leaves: Edges[N] = _every,
) -> Part[N]:
    """Return the nodes and the tensors on any path from one of `starts` to one of `ends`."""
    ahead = forward(uses, starts, enters=enters, leaves=leaves)
    passed, reached, met = set(ahead.positions), ahead.tensors, set[str]()

    def comes_in(node: N, name: str) -> bool:
        return name in reached and enters(node, name)

    def goes_out(node: N, name: str) -> bool:
        return uses.maker[name] in passed and leaves(node, name)

    return _part(uses, walk_backward(uses, reached.intersection(ends), enters=comes_in, leaves=goes_out, met=met), met)


def walk_forward(
    uses: Uses[N],
    starts: Iterable[str],
    *,
    enters: Edges[N] = _every,
    leaves: Edges[N] = _every,
    met: set[str] | None = None,
) -> Iterator[int]:
    """Yield the positions of the nodes that `forward` passes, one by one; `met` collects the tensors on the way."""
    met = set() if met is None else met
    waiting, passed = list(dict.fromkeys(starts)), set[int]()
    met.update(waiting)
    while waiting:
        name = waiting.pop()
        for position in uses.readers.get(name, ()):
            node = uses.nodes[position]
            if position in passed or not enters(node, name):
                continue
            passed.add(position)
            yield position
            new = [made for made in uses.makes[position] if made not in met and leaves(node, made)]
            met.update(new)
            waiting += new


def walk_backward(
    uses: Uses[N],
    ends: Iterable[str],
    *,
    enters: Edges[N] = _every,
    leaves: Edges[N] = _every,
    met: set[str] | None = None,
) -> Iterator[int]:
    """Yield the positions of the nodes that `backward` passes, one by one; `met` collects the tensors on the way."""
    met = set() if met is None else met
    waiting, passed = list(dict.fromkeys(ends)), set[int]()
    met.update(waiting)
    while waiting:
        name = waiting.pop()
        position = uses.maker.get(name)
        if position is None or position in passed:
            continue
        node = uses.nodes[position]
        if not leaves(node, name):
            continue
        passed.add(position)
        yield position
        new = [read for read in dict.fromkeys(uses.reads[position]) if read not in met and enters(node, read)]
        met.update(new)
        waiting += new


def _part(uses: Uses[N], positions: Iterable[int], met: set[str]) -> Part[N]:
    """Return the part of a graph that a walk passes; the walk fills `met` with the tensors."""
    passed = tuple(sorted(positions))  # the walk fills `met`
    return Part(uses, passed, frozenset(met))
