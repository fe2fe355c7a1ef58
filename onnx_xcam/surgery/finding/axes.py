"""What an axis is made of, so that its meaning survives reshapes.

An axis is a sequence of atoms, outermost first, as the digits of a number are. Splitting an axis splits an atom into
an outer and an inner one; merging axes puts their atoms side by side, and two that belong together become one again.
So windows that are cut out of height and width and put back, heads that are cut out of channels, or a grid that is
lined up as tokens need no knowledge of windows, heads or tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from onnx_xcam.contract import Grid
from onnx_xcam.surgery.emission.shapes import Dim, Shape, known_size

UNKNOWN = "?"
PLACES = "P"
"""The role of places of the picture that make no grid any more: those of several maps, one after the other."""


Place: TypeAlias = "tuple[str, int]"
"""A tensor, and one of its axes."""


class Atom(NamedTuple):
    """`size` positions of an axis of `total`, `stride` apart: index // stride % size.

    Attributes:
        role: N, C, H, W, T (tokens of which some are no part of the grid), P (see PLACES) or "?".
        total, stride, size: see above; a whole axis has stride 1 and size = total.
        grid: of a T.
        places: where the size of a whole H or W can be read off at run time; of a T both.
    """

    role: str
    total: Dim
    stride: int
    size: Dim
    grid: Grid | None = None
    places: tuple[Place, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether this is all of the axis that it comes from."""
        return self.stride == 1 and self.size == self.total

    @property
    def outermost(self) -> bool:
        """Whether this counts the largest parts of the axis that it comes from."""
        return self.whole or (isinstance(self.size, int) and self.stride * self.size == self.total)

    def split(self, inner: int) -> tuple[Atom, Atom]:
        """The outer and the inner part, of `inner` positions."""
        assert isinstance(self.size, int)
        outer = self._replace(stride=self.stride * inner, size=self.size // inner)
        return outer, self._replace(size=inner)


Axis: TypeAlias = tuple[Atom, ...]
"""Empty for an axis of size 1 that means nothing."""
Axes: TypeAlias = tuple[Axis, ...]


def fresh(role: str, dim: Dim, *places: Place) -> Axis:
    """A whole axis."""
    return (Atom(role, dim, 1, dim, None, places),)


def unknown(shape: Shape) -> Axes:
    """The axes of a tensor of which nothing is known."""
    return tuple(fresh(UNKNOWN, dim) for dim in shape)


def tokens(grid: Grid, places: tuple[Place, ...] = ()) -> Axis:
    """The axis of a grid of known size, with the tokens that stand before and after it."""
    if grid.before or grid.after:
        size = grid.before + (grid.size or 0) + grid.after
        return (Atom("T", size, 1, size, grid, places),)
    return (*fresh("H", grid.height, *places[:1]), *fresh("W", grid.width, *places[1:]))


def is_unknown(axis: Axis) -> bool:
    """Whether nothing is known of an axis that a layout could be made of."""
    return all(atom.role in (UNKNOWN, PLACES) for atom in axis)


def is_place(atom: Atom) -> bool:
    """Whether the positions are those of rows and columns of the picture."""
    return atom.role in ("H", "W", "T", PLACES)


def _of_places(axes: Iterable[Axis], dim: Dim) -> Axis:
    """An axis of which nothing is known but whether its positions are places, and about how many of an image there are.

    Where its length depends on the number of images, it is the places of one.
    """
    found = [[atom for atom in axis if is_place(atom) and atom.size != 1] for axis in axes]
    if not any(found):
        return fresh(UNKNOWN, dim)
    if isinstance(dim, int):
        return fresh(PLACES, dim)
    counts = [known_size(atom.size for atom in atoms) for atoms in found if atoms]
    count = None if None in counts else sum(filter(None, counts))
    return (*fresh(UNKNOWN, None), *fresh(PLACES, count))


def role_of(axis: Axis) -> str:
    """One letter: N, C, H, W, T for a grid's tokens, "?" for anything else.

    Height and width may be coarser than they were (every second row, the others among the channels).
    """
    atoms = [atom for atom in axis if atom.size != 1] or list(axis)
    if atoms and all(atom.role == "C" for atom in atoms):
        return "C"
    if not all(atom.outermost if atom.role in "HW" else atom.whole for atom in atoms):
        return UNKNOWN
    roles = "".join(atom.role for atom in atoms).replace(PLACES, UNKNOWN)
    return "T" if roles == "HW" else roles if len(roles) == 1 else UNKNOWN


def roles_of(axes: Axes) -> str:
    """The letters of all axes."""
    return "".join(role_of(axis) for axis in axes)


def grid_of(axis: Axis) -> Grid | None:
    """The grid of an axis of tokens, None if the axis is none or the grid's size is not known."""
    if role_of(axis) != "T":
        return None
    sizes = [atom.size for atom in axis if atom.size != 1]
    if len(sizes) == 2 and isinstance(sizes[0], int) and isinstance(sizes[1], int):
        return Grid(sizes[0], sizes[1], 0, 0)
    return next((atom.grid for atom in axis if atom.grid), None)


def places_of(axis: Axis) -> tuple[Place, ...]:
    """Where height and width of a grid of tokens can be read off at run time; empty if nowhere.

    A grid that was made coarser since (its rows pooled in windows) has another size than stands there.
    """
    found = tuple(place for atom in axis if atom.size != 1 and atom.whole for place in atom.places)
    return found if len(found) == 2 else ()


def resized(axis: Axis, dim: Dim) -> Axis:
    """The axis with another size: images, channels, rows and columns stay what they are, all else is lost."""
    role = role_of(axis)
    return fresh(role, dim) if role in "NCHW" else _of_places([axis], dim)


def cut(axis: Axis, positions: np.ndarray | None, dim: Dim) -> Axis:
    """The axis with only these positions left (None for unknown ones); a grid must stay whole."""
    grid = grid_of(axis)
    if grid is None or positions is None or not len(positions) or (np.diff(positions) != 1).any():
        return resized(axis, dim)
    end = grid.before + (grid.size or 0)
    start, stop = int(positions[0]), int(positions[-1]) + 1
    if start > grid.before or stop < end:
        return fresh(UNKNOWN, dim)
    return tokens(grid._replace(before=grid.before - start, after=stop - end), places_of(axis))


def joined(parts: Sequence[Axis], dims: Sequence[Dim], dim: Dim) -> Axis:
    """One axis after the other: what stands beside a grid are further tokens."""
    roles = [role_of(part) for part in parts]
    if "T" in roles:
        at = roles.index("T")
        grid, others = grid_of(parts[at]), [*dims[:at], *dims[at + 1 :]]
        if grid is None or not all(isinstance(size, int) for size in others):
            return _of_places(parts, dim)
        before, after = sum(dims[:at]), sum(dims[at + 1 :])  # type: ignore[arg-type]
        return tokens(grid._replace(before=grid.before + before, after=grid.after + after), places_of(parts[at]))
    role = next((role for role in roles if role in "NCHW"), UNKNOWN)
    return fresh(role, dim) if role != UNKNOWN else _of_places(parts, dim)


# --- reshape ----------------------------------------------------------------------------------------------------------


def regrouped(axes: Axes, shape: Shape) -> Axes:
    """The axes after a reshape to `shape`.

    Axes are matched from both ends, as far as sizes are known; what one axis is left with in between is its own.
    """
    atoms = [atom for axis in axes for atom in axis]
    left, atoms = _matched(atoms, shape, outer=True)
    right, atoms = _matched(atoms[::-1], shape[len(left) :][::-1], outer=False)
    found, rest = [_merged(axis[::-1]) for axis in right[::-1]], tuple(atoms[::-1])
    missing = shape[len(left) : len(shape) - len(right)]
    if len(missing) == 1:
        return (*map(_merged, left), _merged(rest) or fresh(UNKNOWN, missing[0]), *found)
    if not missing and any(atom.size != 1 for atom in rest):
        return unknown(shape)
    return (*map(_merged, left), *unknown(missing), *found)


def _matched(atoms: list[Atom], dims: Sequence[Dim], *, outer: bool) -> tuple[list[Axis], list[Atom]]:
    """As many axes of these sizes as can be had, and the atoms that are left."""
    found = []
    for dim in dims:
        taken = _taken(atoms, dim, outer=outer)
        if taken is None:
            break
        axis, atoms = taken
        found.append(axis)
    return found, atoms


def _taken(atoms: list[Atom], dim: Dim, *, outer: bool) -> tuple[Axis, list[Atom]] | None:
    """The first atoms that make up an axis of size `dim`, and the rest; None if they don't."""
    if not isinstance(dim, int) or dim <= 1:
        if atoms and dim is not None and atoms[0].size == dim:
            return (atoms[0],), atoms[1:]
        return ((), atoms) if dim == 1 else None
    axis: list[Atom] = []
    rest, missing = list(atoms), dim
    while missing > 1:
        atom = rest.pop(0) if rest else None
        if atom is None or not isinstance(atom.size, int) or atom.size < 1:
            return None
        if atom.size % missing == 0 and atom.size > missing:
            parts = atom.split(atom.size // missing) if outer else atom.split(missing)[::-1]
            atom = parts[0]
            rest.insert(0, parts[1])
        if missing % atom.size:  # type: ignore[operator]
            return None
        axis.append(atom)
        missing //= atom.size  # type: ignore[operator]
    return tuple(axis), rest


def _merged(atoms: Iterable[Atom]) -> Axis:
    """Atoms side by side, with those that belong together made one."""
    result: list[Atom] = []
    for atom in atoms:
        last = result[-1] if result else None
        if (
            last is not None
            and (last.role, last.total, last.grid, last.places) == (atom.role, atom.total, atom.grid, atom.places)
            and isinstance(last.size, int)
            and isinstance(atom.size, int)
            and last.stride == atom.stride * atom.size
        ):
            result[-1] = atom._replace(size=last.size * atom.size)
        else:
            result.append(atom)
    return tuple(result)
