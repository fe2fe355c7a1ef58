"""This module holds the rules of what operators do to axes: which they keep, move, cut, resample or lose.

A rule returns the axes of an output. An operator's row in ir/op_traits.py names its effect, and `table.py` maps the
effect to the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnx_xcam.surgery.analysis.picked_positions import ints, positions
from onnx_xcam.surgery.axes.axes import (
    LOST,
    UNKNOWN,
    Axes,
    Axis,
    agreed,
    at_places,
    cut,
    fresh,
    is_adrift,
    is_extent,
    is_spatial,
    is_unknown,
    joined,
    lost,
    lost_again,
    regrouped,
    resized,
    role_of,
    size_of,
    unknown,
)
from onnx_xcam.surgery.axes.known_axes import KnownAxes, label
from onnx_xcam.surgery.axes.places import MOST, drawn_from
from onnx_xcam.surgery.ir.dims import Dim, Shape, differ
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits

# --- axes that stay, and axes that end --------------------------------------------------------------------------------


def kept(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that keeps them, each as the inputs of this rank that know it agree."""
    candidates: list[list[Axis]] = [[] for _ in shape]
    for index in range(len(node.inputs)):
        axes = p.axes(node, index)
        if axes is None or len(axes) != len(shape):
            continue
        for at, (axis, before, dim) in enumerate(zip(axes, p.dims(node, index), shape, strict=True)):
            if not (before == 1 and dim != 1 and len(node.inputs) > 1):
                candidates[at].append(
                    axis if before == dim or not differ(before, dim) else resized(axis, dim, label(node))
                )
    return tuple(
        agreed(parts, label(node)) if parts else axis for parts, axis in zip(candidates, unknown(shape), strict=True)
    )


def first_kept(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of the first input for the first output; of other outputs nothing is known."""
    axes = p.axes(node, 0)
    if index or axes is None or len(axes) != len(shape):
        return ended(p, node, index, shape)
    pairs = zip(axes, p.dims(node, 0), shape, strict=True)
    return tuple(axis if not differ(before, dim) else resized(axis, dim, label(node)) for axis, before, dim in pairs)


def ended(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return lost axes for a result that depends on a picture: their meaning is not known and not restored."""
    if not any(out.name in p.image_dependent for out in node.outputs):
        return None
    return tuple(lost(dim, label(node), LOST) for dim in shape)


def either(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of an If, if every branch makes its result element by element from one tensor outside."""
    branches = [value for value in node.attrs.values() if isinstance(value, gs.Graph)]
    results = [_through_branch(p, branch, branch.outputs[index].name) for branch in branches]
    known = [axes for axes, dims in filter(None, results) if dims == shape]
    if not branches or len(known) < len(branches):
        return ended(p, node, index, shape)
    return tuple(agreed([axes[axis] for axes in known], label(node)) for axis in range(len(shape)))


def _through_branch(p: KnownAxes, branch: gs.Graph, name: str) -> tuple[Axes, Shape] | None:
    """Return axes and shape of the outer tensor that a branch makes its result from element by element, else None."""
    made = {out.name: inner for inner in branch.nodes for out in inner.outputs}
    while (inner := made.get(name)) is not None:
        if len(inner.inputs) != 1 or traits(inner).axes != "kept":
            return None
        name = inner.inputs[0].name
    shape = p.graph.shape(name)
    return (p.by_name[name], shape) if name in p.by_name and shape is not None else None


def made(_p: KnownAxes, _node: gs.Node, _index: int, _shape: Shape) -> Axes | None:
    """Return nothing: the result holds no places of a picture."""
    return None


def reordered(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that picks or sorts values along one axis, which is lost if it is spatial."""
    axes = first_kept(p, node, 0, shape)
    if axes is None or not axes or len(axes) != len(shape):
        return axes
    axis = int(node.attrs.get("axis", traits(node).default_axis)) % len(shape)
    return tuple(_reordered(a, shape[i], label(node)) if i == axis else a for i, a in enumerate(axes))


def _reordered(axis: Axis, dim: Dim, by: str) -> Axis:
    """Return a spatial axis as lost, and any other axis as it is."""
    return lost_again(axis, dim, by) if is_spatial(axis) else axis


def scattered(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a scatter: values that depend on a picture come to lie anywhere, others only overwrite."""
    axes = first_kept(p, node, index, shape)
    if axes is None or not p.depends_on_picture(node, 2):
        return axes
    return tuple(_reordered(axis, dim, label(node)) for axis, dim in zip(axes, shape, strict=True))


def spectrum(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a Fourier transform, with frequencies in place of positions on one axis."""
    axis = ints(p.graph, node, 2, "axis")
    axes = first_kept(p, node, index, shape)
    if axes is None or axis is None:
        return ended(p, node, index, shape)
    at = axis[0] % len(shape)
    return tuple(_reordered(a, shape[i], label(node)) if i == at else a for i, a in enumerate(axes))


def reversed_sequences(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a ReverseSequence, mirrored along time where whole sequences are reversed."""
    axes = first_kept(p, node, index, shape)
    time = int(node.attrs.get("time_axis", 0)) % len(shape)
    lengths, dim = p.graph.constants.get(node.inputs[1].name), shape[time]
    whole = lengths is not None and isinstance(dim, int) and bool((lengths == dim).all())
    taken = np.arange(dim)[::-1] if whole and isinstance(dim, int) else None
    return axes and tuple(cut(a, taken, dim, label(node)) if i == time else a for i, a in enumerate(axes))


def tiled(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a Tile; copies beside each other have no place of their own."""
    axes, repeats = p.axes(node, 0), ints(p.graph, node, 1, "repeats")
    if axes is None or len(axes) != len(shape):
        return None
    dims = p.dims(node, 0)
    once = [
        repeats[i] == 1 if repeats and len(repeats) == len(shape) else not differ(dims[i], shape[i])
        for i in range(len(shape))
    ]
    return tuple(
        axis if once[i] else lost_again(axis, shape[i], label(node)) if is_spatial(axis) else resized(axis, shape[i])
        for i, axis in enumerate(axes)
    )


# --- movement ---------------------------------------------------------------------------------------------------------


def transposed(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a Transpose, in their new order."""
    axes = p.axes(node, 0)
    if axes is None or len(axes) != len(shape):
        return None
    perm = node.attrs.get("perm") or list(range(len(axes)))[::-1]
    return tuple(axes[axis] for axis in perm)


def reshaped(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a reshape, split and merged."""
    axes = p.axes(node, 0)
    return None if axes is None else regrouped(axes, shape)


def squeezed(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a Squeeze, or of a reduction that drops axes."""
    axes, dims = p.axes(node, 0), p.dims(node, 0)
    if axes is None:
        return None
    dropped = ints(p.graph, node, 1, "axes")
    squeezes = traits(node).values <= Values.RESHAPED
    if squeezes and dropped is None:
        dropped = [axis for axis, dim in enumerate(dims) if dim == 1]
    if not squeezes and (dropped is None or len(axes) == len(shape)):
        return kept(p, node, index, shape)
    gone = {axis % len(axes) for axis in dropped or []}
    return tuple(a for axis, a in enumerate(axes) if axis not in gone)


def unsqueezed(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of an Unsqueeze, with new ones of size 1."""
    axes, added = p.axes(node, 0), ints(p.graph, node, 1, "axes")
    if axes is None or added is None or len(axes) + len(added) != len(shape):
        return None
    new, old = {axis % len(shape) for axis in added}, iter(axes)
    return tuple(() if axis in new else next(old) for axis in range(len(shape)))


def taken_out(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a Slice or a Split."""
    axes, taken = p.axes(node, 0), positions(p.graph, node, index)
    if axes is None or taken is None or len(axes) != len(shape):
        return ended(p, node, index, shape) if axes is not None and any(map(is_spatial, axes)) else None
    return tuple(cut(a, taken[axis], shape[axis], label(node)) if axis in taken else a for axis, a in enumerate(axes))


def gathered(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a Gather, with those of the indices in place of the gathered axis."""
    axes, indices = p.axes(node, 0), p.graph.shape(node.inputs[1].name)
    if axes is None or indices is None:
        return None
    if len(indices) == 1:
        return taken_out(p, node, index, shape)
    axis = int(node.attrs.get("axis", 0)) % len(axes)
    return (*axes[:axis], *unknown(indices), *axes[axis + 1 :])


def concatenated(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a Concat; along the other axes, what the operands mean has to agree."""
    along = int(node.attrs.get("axis", 1)) % len(shape)
    operands = [p.axes(node, i) for i in range(len(node.inputs))]
    known = [axes for axes in operands if axes is not None and len(axes) == len(shape)]
    if len(known) != len(operands):
        return None
    dims = [p.dims(node, i)[along] for i in range(len(operands))]
    end = joined([axes[along] for axes in known], dims, shape[along], label(node))
    return tuple(
        end if axis == along else agreed([axes[axis] for axes in known], label(node)) for axis in range(len(shape))
    )


def padded_out(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a Pad, which crops with negative numbers."""
    axes, pads = p.axes(node, 0), ints(p.graph, node, 1, "pads")
    if axes is None or len(axes) != len(shape):
        return None
    chosen = ints(p.graph, node, 3, "axes") or list(range(len(shape)))
    before = None
    if pads is not None and len(pads) == 2 * len(chosen):
        before = dict(zip((axis % len(shape) for axis in chosen), pads, strict=False))
    dims, padded = p.dims(node, 0), []
    for i, axis in enumerate(axes):
        if not differ(dims[i], shape[i]) and (before is None or not before.get(i)):
            padded.append(axis)
            continue
        dim = shape[i]
        known = before is not None and isinstance(dim, int) and dim <= MOST
        indices = np.arange(dim, dtype=np.float64) - before.get(i, 0) if known else None  # type: ignore[union-attr,arg-type]
        padded.append(at_places(axis, indices, dim, label(node)))
    return tuple(padded)


def centred_out(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a CenterCropPad, which crops or pads the same amount before and after."""
    axes, dims = p.axes(node, 0), p.dims(node, 0)
    if axes is None or len(axes) != len(shape):
        return None
    return tuple(
        at_places(axis, _from_the_middle(before, dim), dim, label(node)) if differ(before, dim) else axis
        for axis, before, dim in zip(axes, dims, shape, strict=True)
    )


def _from_the_middle(before: Dim, dim: Dim) -> NDArray[np.float64] | None:
    """Return the indices that a CenterCropPad reads along an axis, None if the sizes are not known."""
    if not isinstance(before, int) or not isinstance(dim, int) or dim > MOST:
        return None
    start = (before - dim) // 2 if before > dim else -((dim - before) // 2)
    return np.arange(dim, dtype=np.float64) + start


def rescaled(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a Resize: rows and columns span the same picture, or a window of it."""
    if str(node.attrs.get("coordinate_transformation_mode", "")) != "tf_crop_and_resize":
        return kept(p, node, index, shape)
    axes, dims = p.axes(node, 0), p.dims(node, 0)
    window = p.graph.constants.get(node.inputs[1].name) if len(node.inputs) > 1 else None
    if axes is None or len(axes) != len(shape):
        return None
    chosen = [axis % len(shape) for axis in node.attrs.get("axes", range(len(shape)))]
    fits = window is not None and window.size == 2 * len(chosen)
    ends = dict(zip(chosen, np.reshape(window, (2, -1)).T.tolist(), strict=True)) if fits else {}  # type: ignore[arg-type]
    rescaled_axes = []
    for i, axis in enumerate(axes):
        before, dim = dims[i], shape[i]
        if i not in chosen or (i in ends and ends[i] == [0.0, 1.0]):
            rescaled_axes.append(resized(axis, dim, label(node)) if differ(before, dim) else axis)
        elif i not in ends or not isinstance(before, int) or not isinstance(dim, int) or dim > MOST:
            rescaled_axes.append(at_places(axis, None, dim, label(node)))
        else:
            first, last = ends[i]
            steps = np.arange(dim, dtype=np.float64) / max(1, dim - 1)
            rescaled_axes.append(at_places(axis, (first + steps * (last - first)) * (before - 1), dim, label(node)))
    return tuple(rescaled_axes)


# --- products ---------------------------------------------------------------------------------------------------------


def product(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of a matrix product: rows as on the left, columns as on the right; a weight makes channels."""
    left, right = p.axes(node, 0), p.axes(node, 1)
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    rows = left[-1] if node.attrs.get("transA") else left[-2]
    columns = right[-2] if node.attrs.get("transB") else right[-1]
    summed = left[-2] if node.attrs.get("transA") else left[-1]
    summed_right = right[-1] if node.attrs.get("transB") else right[-2]
    if len(right) == 2 and is_unknown(columns) and role_of(left[-1]) in ("C", UNKNOWN) and not is_extent(summed):
        columns = fresh("C", shape[-1])
    elif is_unknown(columns) and is_extent(summed) and not p.depends_on_picture(node, 1):
        columns = _drawn(p, node, 1, summed, shape[-1])
    if is_unknown(rows) and is_extent(summed_right) and not p.depends_on_picture(node, 0):
        rows = _drawn(p, node, 0, summed_right, shape[-2])
    lead = []
    for back in range(len(shape), 2, -1):
        candidates = [axes[-back] for axes in (left, right) if len(axes) >= back and axes[-back] != ()]
        lead.append(agreed(candidates, label(node)) if candidates else fresh(UNKNOWN, shape[-back]))
    return (*lead, rows, columns)


def _drawn(p: KnownAxes, node: gs.Node, weight: int, axis: Axis, dim: Dim) -> Axis:
    """Return the axis that a matrix of weights makes of one that spans the picture."""
    matrix = p.graph.constants.get(node.inputs[weight].name)
    if matrix is None or matrix.ndim != 2:
        return lost(dim, label(node), LOST)
    turned = bool(node.attrs.get("transB" if weight else "transA"))
    return _through(matrix.T if turned != (weight == 0) else matrix, axis, dim, label(node))


def _through(columns: NDArray[Any], axis: Axis, dim: Dim, by: str) -> Axis:
    """Return an axis times a matrix `[before, after]`: moved by a permutation or a resize, lost by any other matrix."""
    fits = columns.dtype.kind == "f" and len(columns) == size_of(axis) and role_of(axis) in ("H", "W")
    indices = drawn_from(columns) if fits else None
    return lost(dim, by, LOST) if indices is None else at_places(axis, indices, dim, by)


def einsum(p: KnownAxes, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Return the axes of an Einsum: each letter means what it means in the first operand for which it is known."""
    terms, _arrow, result = str(node.attrs["equation"]).replace(" ", "").partition("->")
    letters: dict[str, Axis] = {}
    for index, term in enumerate(terms.split(",")):
        axes = p.axes(node, index)
        if axes is None or len(axes) != len(term):
            return None
        letters.update({letter: a for letter, a in zip(term, axes, strict=True) if is_unknown(letters.get(letter, ()))})
    if not all(letter in letters for letter in result) or len(result) != len(shape):
        return None
    return tuple(
        _contracted(p, node, letters, letter) or lost(dim, label(node), LOST)
        for letter, dim in zip(result, shape, strict=True)
    )


def _contracted(p: KnownAxes, node: gs.Node, letters: Mapping[str, Axis], letter: str) -> Axis | None:
    """Return the axis of a result's letter; if only a weight that sums over space has it, it is made of that space."""
    terms = str(node.attrs["equation"]).replace(" ", "").partition("->")[0].split(",")
    own = [index for index, term in enumerate(terms) if letter in term]
    if not is_unknown(letters[letter]) or any(p.depends_on_picture(node, index) for index in own):
        return letters[letter]
    summed = [other for index in own for other in terms[index] if other != letter and is_extent(letters[other])]
    if not summed:
        return letters[letter]
    matrix = p.graph.constants.get(node.inputs[own[0]].name)
    if len(own) > 1 or len(terms[own[0]]) != 2 or matrix is None:
        return None
    columns = matrix.T if terms[own[0]][0] == letter else matrix
    return _through(columns, letters[summed[0]], columns.shape[1], label(node))


def left_over(p: KnownAxes, node: gs.Node, axes: Axes, shape: Shape) -> Axes:
    """Return the axes of a result; if nothing is known of them and an input's axis was lost, they are lost as well."""
    if not all(map(is_unknown, axes)):
        return axes
    before = [axis for index in range(len(node.inputs)) for axis in p.axes(node, index) or () if is_adrift(axis)]
    if not before:
        return axes
    by = next(atom.by for axis in before for atom in axis if atom.by)
    return tuple(lost(dim, by, LOST) for dim in shape)
