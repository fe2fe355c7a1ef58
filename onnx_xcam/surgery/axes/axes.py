"""This module says what an axis is made of, so that its meaning survives reshapes.

An axis is a sequence of atoms, outermost first, like the digits of a number. Splitting an axis splits an atom into an
outer and an inner one; merging axes puts their atoms side by side, and two that belong together become one again. So
windows that are cut out of height and width and put back, attention heads that are cut out of channels, or a grid that
is flattened to tokens need no code that knows of windows, heads or tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.contract import Grid
from onnx_xcam.surgery.axes.places import (
    MOST,
    At,
    alike,
    at_indices,
    coarser,
    listed,
    packed,
    padded,
    stretched,
    taken,
)
from onnx_xcam.surgery.ir.dims import Dim, Shape, known_size

UNKNOWN = "?"
"""The role of an axis of which nothing is known."""
PLACES = "P"
"""The role of places of the picture that no longer form a grid, as those of several maps one after the other."""
REGIONS = "R"
"""The role of an axis that counts regions of the pictures, of which a picture has any number."""
GONE = "~"
"""The role of rows or columns with a lost position on the picture, since an operator leaves it open.

The next convolution does not restore it, but a sum with a map of known places does (a residual connection).
"""
LOST = "!"
"""The role of an axis of which even the meaning is lost; it is restored as `GONE` is."""
MIXED = "#"
"""The role of rows or columns that hold several places of the picture at once, such as a map plus its mirror image."""
ADRIFT = (GONE, LOST, MIXED)
"""These are the roles of axes with a lost or ambiguous position on the picture."""


Place: TypeAlias = "tuple[str, int]"
"""The name of a tensor, and one of its axes."""


class Atom(NamedTuple):
    """An Atom is a part of an axis: `size` positions of an axis of `total`, `stride` apart: index // stride % size.

    Attributes:
        role: N, C, H, W, T (tokens of which some are not part of the grid), P (see PLACES), R (regions), "?", or one of
            `ADRIFT`.
        total: the length of the axis that the atom comes from.
        stride: the distance of neighbouring positions; a whole axis has stride 1 and size = total.
        size: the number of positions.
        grid: the grid of a T.
        places: where the size of a whole H or W can be read at run time; for a T, where both can.
        at: where the `total` positions lie on the picture, see places.py; for a T, where its grid's rows and columns
            lie.
        by: the operator that changed where they lie, for messages.
        further: the further grids of a T, as of several maps one after the other, of which `grid` is the first.
    """

    role: str
    total: Dim
    stride: int
    size: Dim
    grid: Grid | None = None
    places: tuple[Place, ...] = ()
    at: At | tuple[At, At] = None
    by: str = ""
    further: tuple[Grid, ...] = ()

    @property
    def whole(self) -> bool:
        """Tell whether the atom is all of the axis that it comes from."""
        return self.stride == 1 and self.size == self.total

    @property
    def outermost(self) -> bool:
        """Tell whether the atom counts the largest parts of the axis that it comes from."""
        return self.whole or (isinstance(self.size, int) and self.stride * self.size == self.total)

    def split(self, inner: int) -> tuple[Atom, Atom]:
        """Return the outer and the inner part of the atom, the inner one with `inner` positions."""
        assert isinstance(self.size, int)
        outer = self._replace(stride=self.stride * inner, size=self.size // inner)
        return outer, self._replace(size=inner)


Axis: TypeAlias = tuple[Atom, ...]
"""The atoms of an axis, outermost first; none for an axis of size 1 without a meaning."""
Axes: TypeAlias = tuple[Axis, ...]
"""The axes of a tensor."""


def fresh(role: str, dim: Dim, *places: Place, at: At | bool = None, by: str = "") -> Axis:
    """Return a whole axis; if `at` is False, the position on the picture is not known and the axis is lost."""
    if isinstance(at, bool):
        return lost(dim, by)
    return (Atom(role, dim, 1, dim, None, places, at, by),)


def lost(dim: Dim, by: str, role: str = GONE) -> Axis:
    """Return an axis with a position on the picture that an operator leaves open; one of size 1 lies nowhere."""
    return () if dim == 1 else (Atom(role, dim, 1, dim, by=by),)


def lost_again(axis: Axis, dim: Dim, by: str) -> Axis:
    """Return a lost axis that is made from another one; if that was lost before, the role and the operator stay."""
    role = next((atom.role for atom in axis if atom.role in ADRIFT), GONE)
    return lost(dim, by_of(axis) or by, role)


def unknown(shape: Shape) -> Axes:
    """Return the axes of a tensor of which nothing is known."""
    return tuple(fresh(UNKNOWN, dim) for dim in shape)


def tokens(grid: Grid, places: tuple[Place, ...] = (), at: tuple[At, At] = (None, None), by: str = "") -> Axis:
    """Return the axis of a grid of known size, with the tokens that stand before and after it."""
    if grid.before or grid.after:
        size = grid.before + (grid.size or 0) + grid.after
        return (Atom("T", size, 1, size, grid, places, at if any(at) else None, by),)
    rows, columns = fresh("H", grid.height, *places[:1], at=at[0], by=by), places[1:]
    return (*rows, *fresh("W", grid.width, *columns, at=at[1], by=by))


def grid_at(axis: Axis) -> tuple[tuple[At, At], str]:
    """Return where the rows and the columns of a grid of tokens lie, and the operator that changed that."""
    atoms = [atom for atom in axis if atom.size != 1]
    by = next((atom.by for atom in atoms if atom.by), "")
    if len(atoms) == 2:
        rows, columns = (at_of((atom,)) for atom in atoms)
        return (rows, columns), by
    at: Any = atoms[0].at if atoms else None
    return (None, None) if at is None else at, by


def at_of(axis: Axis) -> At:
    """Return where the positions of a whole axis of height or width lie, or those of its outermost part."""
    atom = next((atom for atom in axis if atom.size != 1), None)
    if atom is None or atom.at is None or atom.role not in "HW":
        return None
    at: Any = atom.at
    if atom.whole:
        return at  # type: ignore[no-any-return]
    assert isinstance(atom.total, int) and isinstance(atom.size, int)
    return coarser(at, atom.total, atom.size, atom.stride)


def by_of(axis: Axis) -> str:
    """Return the operator that changed where an axis lies on the picture, "" if none has."""
    return next((atom.by for atom in axis if atom.by), "")


def is_adrift(axis: Axis) -> bool:
    """Tell whether an axis, or a part of it, is lost or mixed."""
    return any(atom.role in ADRIFT for atom in axis)


def is_spatial(axis: Axis) -> bool:
    """Tell whether an axis contains space of the picture, known or lost."""
    return any(atom.role in ("H", "W", "T", *ADRIFT) and atom.size != 1 for atom in axis)


def is_extent(axis: Axis) -> bool:
    """Tell whether an axis spans the picture: as rows, columns, tokens or lost ones, and not within windows."""
    known = [atom for atom in axis if atom.size != 1]
    return any(atom.role in ("T", *ADRIFT) or (atom.role in ("H", "W") and atom.outermost) for atom in known)


def agreed(parts: Sequence[Axis], by: str) -> Axis:
    """Return the meaning of an axis that several operands share: that of the first operand for which it is known.

    If the operands lie differently on the picture, the axis holds several places at once.
    """
    if len(parts) == 1:
        return parts[0]
    if mixed := [axis for axis in parts if any(atom.role == MIXED for atom in axis)]:
        return mixed[0]
    known = [axis for axis in parts if not is_unknown(axis) and not is_adrift(axis)]
    if not known:
        return next((axis for axis in parts if is_adrift(axis)), next(iter(parts), ()))
    first = next((axis for axis in known if not any(atom.at for atom in axis)), known[0])
    return (
        first
        if all(_lie_alike(first, other) for other in known)
        else lost(size_of(first), f"{by}, where maps meet that lie on the picture differently", MIXED)
    )


def _lie_alike(one: Axis, other: Axis) -> bool:
    """Tell whether two axes lie on the picture in the same way, as far as that is known."""
    if {role_of(one), role_of(other)} == {"H", "W"}:
        return False  # rows of one meet columns of the other, which was turned by 90 degrees
    if [atom.role for atom in one] != [atom.role for atom in other]:
        return True  # their meanings differ, and then the first operand's counts
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a.at != b.at]
    return all(
        a.total != b.total or not isinstance(a.total, int) or a.role == "T" or alike(a.at, b.at, a.total)  # type: ignore[arg-type]
        for a, b in pairs
    ) and not any(a.role == "T" for a, b in pairs)


def size_of(axis: Axis) -> Dim:
    """Return the length of an axis, None if it is not known."""
    size = 1
    for atom in axis:
        if not isinstance(atom.size, int):
            return atom.size if len(axis) == 1 else None
        size *= atom.size
    return size


def is_unknown(axis: Axis) -> bool:
    """Tell whether nothing is known of an axis that a layout could be made of."""
    return all(atom.role in (UNKNOWN, PLACES) for atom in axis)


def is_place(atom: Atom) -> bool:
    """Tell whether an atom's positions are those of rows and columns of the picture."""
    return atom.role in ("H", "W", "T", PLACES, GONE, MIXED)


def _of_places(axes: Iterable[Axis], dim: Dim) -> Axis:
    """Return an axis of which only the number of places of the picture is known, if it has any.

    If the axis' length depends on the number of images, the places are those of one image.
    """
    places = [[atom for atom in axis if is_place(atom) and atom.size != 1] for axis in axes]
    if not any(places):
        return fresh(UNKNOWN, dim)
    if isinstance(dim, int):
        return fresh(PLACES, dim)
    counts = [known_size(atom.size for atom in atoms) for atoms in places if atoms]
    count = None if None in counts else sum(filter(None, counts))
    return (*fresh(UNKNOWN, None), *fresh(PLACES, count))


def role_of(axis: Axis) -> str:
    """Return the role of an axis as one letter: N, C, H, W, T for a grid's tokens, R, "?" for anything else.

    Height and width may be coarser than they were, as with every second row while the others are among the channels.
    """
    atoms = [atom for atom in axis if atom.size != 1] or list(axis)
    if is_adrift(axis):
        return UNKNOWN
    if atoms and all(atom.role == "C" for atom in atoms):
        return "C"
    if not all(atom.outermost if atom.role in "HW" else atom.whole for atom in atoms):
        return UNKNOWN
    roles = "".join(atom.role for atom in atoms).replace(PLACES, UNKNOWN)
    return "T" if roles == "HW" else roles if len(roles) == 1 else UNKNOWN


def roles_of(axes: Axes) -> str:
    """Return the roles of all axes as one string."""
    return "".join(role_of(axis) for axis in axes)


def grid_of(axis: Axis) -> Grid | None:
    """Return the grid of an axis of tokens, None if the axis has none or the grid's size is not known."""
    if role_of(axis) != "T":
        return None
    sizes = [atom.size for atom in axis if atom.size != 1]
    if len(sizes) == 2 and isinstance(sizes[0], int) and isinstance(sizes[1], int):
        return Grid(sizes[0], sizes[1], 0, 0)
    return next((atom.grid for atom in axis if atom.grid), None)


def grids_of(axis: Axis) -> tuple[Grid, ...]:
    """Return all grids of an axis of tokens, one after the other; nothing if it has none of known size."""
    grid = grid_of(axis)
    return () if grid is None else (grid, *(one for atom in axis for one in atom.further))


def places_of(axis: Axis) -> tuple[Place, ...]:
    """Return where height and width of a grid of tokens can be read at run time; nothing if nowhere.

    A grid that became coarser (its rows pooled in windows) has another size than the tensors there.
    """
    places = tuple(place for atom in axis if atom.size != 1 and atom.whole for place in atom.places)
    return places if len(places) == 2 else ()


def resized(axis: Axis, dim: Dim, by: str = "") -> Axis:
    """Return the axis resampled to another size; images, channels, regions, rows and columns keep their meaning."""
    role = role_of(axis)
    if is_adrift(axis):
        return lost_again(axis, dim, by)
    if role not in ("H", "W"):
        return fresh(role, dim) if role in ("N", "C", REGIONS) else _of_places([axis], dim)
    size, at = size_of(axis), at_of(axis)
    stays: At | bool = None if at is None else False  # an even spread stays even, whatever the lengths are
    if isinstance(size, int) and isinstance(dim, int):
        stays = stretched(at, size, dim)
    return fresh(role, dim, at=stays, by=by_of(axis) or by)


def at_places(axis: Axis, indices: NDArray[np.float64] | None, dim: Dim, by: str) -> Axis:
    """Return an axis of height or width read at indices, which may lie between positions; None if unknown."""
    size = size_of(axis)
    if (
        indices is None
        or not isinstance(size, int)
        or not 0 < size <= MOST
        or is_adrift(axis)
        or role_of(axis) not in ("H", "W")
    ):
        return lost_again(axis, dim, by) if is_spatial(axis) else resized(axis, dim)
    return fresh(role_of(axis), dim, at=at_indices(at_of(axis), size, indices), by=by)


def cut(axis: Axis, positions: np.ndarray | None, dim: Dim, by: str = "") -> Axis:
    """Return the axis with only these positions left, in their order; None for unknown ones. A grid must stay whole."""
    size, role = size_of(axis), role_of(axis)
    if positions is not None and isinstance(size, int) and np.array_equal(positions, np.arange(size)):
        return axis
    if not is_spatial(axis) or role in ("N", "C"):
        return resized(axis, dim)
    by = by_of(axis) or by
    if positions is None or not isinstance(size, int) or not 0 < len(positions) <= MOST or size > MOST:
        return lost_again(axis, dim, by)
    if role in ("H", "W"):
        return fresh(role, dim, at=taken(at_of(axis), size, positions), by=by)
    return _cut_tokens(axis, positions, by) or lost_again(axis, dim, by)


def _cut_tokens(axis: Axis, positions: np.ndarray, by: str) -> Axis | None:
    """Return a grid of tokens after a cut that leaves it whole or reverses it, else None."""
    whole = all(atom.role in ("H", "W") and atom.whole for atom in axis)
    if whole and np.array_equal(positions, np.arange(size_of(axis) or 0)[::-1]):
        return tuple(atom._replace(at=_reversed(atom), by=by) for atom in axis)
    grid = grid_of(axis)
    if grid is None or (np.diff(positions) != 1).any():
        return None
    end = grid.before + (grid.size or 0)
    start, stop = int(positions[0]), int(positions[-1]) + 1
    if start > grid.before or stop < end:
        return None
    return tokens(grid._replace(before=grid.before - start, after=stop - end), places_of(axis), *grid_at(axis))


def _reversed(atom: Atom) -> At:
    """Return where the positions of an atom lie after they are reversed."""
    assert isinstance(atom.total, int)
    return packed(listed(at_of((atom,)), atom.total)[::-1])


def joined(parts: Sequence[Axis], dims: Sequence[Dim], dim: Dim, by: str = "") -> Axis:
    """Return the concatenation of axes; what stands beside a grid becomes further tokens."""
    roles = [role_of(part) for part in parts]
    if any(is_adrift(part) and "T" not in roles for part in parts):
        return lost_again(next(part for part in parts if is_adrift(part)), dim, by)
    if "T" in roles:
        at = roles.index("T")
        grid, others = grid_of(parts[at]), [*dims[:at], *dims[at + 1 :]]
        if grid is None or not all(isinstance(size, int) for size in others):
            return _of_places(parts, dim)
        before, after = sum(dims[:at]), sum(dims[at + 1 :])  # type: ignore[arg-type]
        whole = grid._replace(before=grid.before + before, after=grid.after + after)
        axis = tokens(whole, places_of(parts[at]), *grid_at(parts[at]))
        return tuple(atom._replace(further=_further_grids(parts, dims, at)) for atom in axis)
    role = next((role for role in roles if role in "NCHW" + REGIONS), UNKNOWN)
    if role == "N" and roles.count("N") > 1:
        return lost(dim, f"{by}, which puts several pictures, or views of one, into one batch", LOST)
    if role in ("H", "W"):
        return _lined_up(parts, dims, dim, by)
    return fresh(role, dim) if role in ("N", REGIONS) else _of_channels_or_places(parts, dim, role)


def _of_channels_or_places(parts: Sequence[Axis], dim: Dim, role: str) -> Axis:
    """Return the concatenation of channels, or of places and what else; channels and places are all places then.

    The anchors of several maps are such a mixture, where a map with a single place has channels only.
    """
    has_places = any(is_place(atom) and atom.size != 1 for part in parts for atom in part)
    return fresh("C", dim) if role == "C" and not has_places else _of_places(parts, dim)


def _further_grids(parts: Sequence[Axis], dims: Sequence[Dim], first: int) -> tuple[Grid, ...]:
    """Return the grids in concatenated tokens behind the first, with the tokens before and after each of them."""
    sizes = [size for size in dims if isinstance(size, int)]
    if len(sizes) < len(dims):
        return ()
    found = []
    for index, part in enumerate(parts):
        grids = grids_of(part) if index >= first else ()
        for grid in grids[index == first :]:
            before, after = sum(sizes[:index]), sum(sizes[index + 1 :])
            found.append(grid._replace(before=grid.before + before, after=grid.after + after))
    return tuple(found)


def _lined_up(parts: Sequence[Axis], dims: Sequence[Dim], dim: Dim, by: str) -> Axis:
    """Return the concatenation of rows below rows, or of columns beside columns."""
    roles = [role_of(part) for part in parts]
    if {"H", "W"} <= set(roles):
        return lost(dim, by)  # as in coordinate attention, which takes them apart again
    role = next(role for role in roles if role in ("H", "W"))
    own = [i for i, other in enumerate(roles) if other == role]
    sizes = [size for size in dims if isinstance(size, int)]
    if len(sizes) < len(dims) or sum(sizes) > MOST:
        return fresh(role, dim) if len(own) == 1 else lost(dim, by)
    return fresh(role, dim, at=_in_a_row([at_of(part) for part in parts], sizes, own), by=by)


def _in_a_row(parts: Sequence[At], sizes: Sequence[int], own: Sequence[int]) -> At | bool:
    """Return where concatenated rows or columns lie; parts that are not in `own` pad the others."""
    first, last = own[0], own[-1]
    if len(own) < last - first + 1:
        return False
    before, after = sum(sizes[:first]), sum(sizes[last + 1 :])
    rows = packed(np.concatenate([listed(parts[i], sizes[i]) for i in own]))
    if not before and not after:
        return rows
    return padded(rows, sum(sizes[i] for i in own), before, after)


# --- reshape ----------------------------------------------------------------------------------------------------------


def regrouped(axes: Axes, shape: Shape) -> Axes:
    """Return the axes after a reshape to `shape`.

    Axes are matched from both ends, as far as sizes are known; the atoms in between go to a single remaining axis.
    """
    atoms = [atom for axis in axes for atom in axis]
    left, atoms = _matched(atoms, shape, outer=True)
    right, atoms = _matched(atoms[::-1], shape[len(left) :][::-1], outer=False)
    ends, rest = [_merged(axis[::-1]) for axis in right[::-1]], tuple(atoms[::-1])
    missing = shape[len(left) : len(shape) - len(right)]
    if len(missing) == 1:
        return (*map(_merged, left), _merged(rest) or fresh(UNKNOWN, missing[0]), *ends)
    if not missing and any(atom.size != 1 for atom in rest):
        return unknown(shape)
    return (*map(_merged, left), *unknown(missing), *ends)


def _matched(atoms: list[Atom], dims: Sequence[Dim], *, outer: bool) -> tuple[list[Axis], list[Atom]]:
    """Return as many axes of these sizes as the atoms yield, and the remaining atoms."""
    matched = []
    for dim in dims:
        taken = _taken(atoms, dim, outer=outer)
        if taken is None:
            break
        axis, atoms = taken
        matched.append(axis)
    return matched, atoms


def _taken(atoms: list[Atom], dim: Dim, *, outer: bool) -> tuple[Axis, list[Atom]] | None:
    """Return the first atoms that make up an axis of size `dim`, and the rest; None if no atoms do."""
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
    """Return atoms side by side, with those merged that belong together."""
    result: list[Atom] = []
    for atom in atoms:
        last = result[-1] if result else None
        if (
            last is not None
            and last._replace(stride=1, size=1) == atom._replace(stride=1, size=1)
            and isinstance(last.size, int)
            and isinstance(atom.size, int)
            and last.stride == atom.stride * atom.size
        ):
            result[-1] = atom._replace(size=last.size * atom.size)
        else:
            result.append(atom)
    return tuple(result)
