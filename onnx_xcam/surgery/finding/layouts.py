"""What the axes of a tensor mean: images, channels, height, width, tokens.

Convolution and pooling fix the meaning of their axes (N, C, then space); from there it spreads forward through
operators that keep, permute, split or merge axes. Where there are none, as in a transformer whose patches are cut out
by reshapes, the images that go in are told by their number of channels. Nothing is read off names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.contract import IMAGE_CHANNELS, LAYOUTS, Grid, Layout
from onnx_xcam.surgery.emission.shapes import Dim, Shape, differ
from onnx_xcam.surgery.finding.axes import (
    UNKNOWN,
    Axes,
    Axis,
    Place,
    cut,
    fresh,
    grid_of,
    is_unknown,
    joined,
    places_of,
    regrouped,
    resized,
    role_of,
    roles_of,
    unknown,
)
from onnx_xcam.surgery.graphs.cuts import ints, positions
from onnx_xcam.surgery.graphs.graph import Graph
from onnx_xcam.surgery.graphs.soundness import Following

_WINDOWED = frozenset({"MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Conv"})
_PER_PIXEL = frozenset({"BatchNormalization", "InstanceNormalization"})
_IMAGES = frozenset({"ConvTranspose", "LRN", "DepthToSpace", "SpaceToDepth", "Upsample", "GridSample"})
_WEIGHTED = frozenset({"MatMul", "Gemm", "Einsum"})
_LOSES_AXES = frozenset({"GatherND", "OneHot", "Col2Im", "LSTM", "GRU", "RNN"})


def axis_roles(graph: Graph) -> dict[str, Axes]:
    """The axes of every float tensor of known rank that some node makes, and of the images that go in."""
    return _Propagation(graph).run()


def layout_of(axes: Axes | None) -> Layout | None:
    """The layout that these axes make, None if it is none of the contract's or the grid of its tokens is not known."""
    roles = roles_of(axes or ())
    layout = next((known for known in LAYOUTS if known == roles), None)
    return None if layout is not None and "T" in layout and token_grid(axes) is None else layout


def token_grid(axes: Axes | None) -> Grid | None:
    """The grid behind the axis of tokens, None if there is none or its size is not known."""
    return grid_of(_token_axis(axes))


def grid_places(axes: Axes | None) -> tuple[Place, ...]:
    """Where height and width of the grid behind the tokens can be read off at run time; empty if nowhere."""
    return places_of(_token_axis(axes))


def _token_axis(axes: Axes | None) -> Axis:
    """The axis of tokens, empty if there is none."""
    return next((axis for axis in axes or () if role_of(axis) == "T"), ())


def may_be_nchw(axes: Axes | None) -> bool:
    """Whether nothing that is known of four axes speaks against images, channels, height, width."""
    known = [is_unknown(axis) or role_of(axis) == role for axis, role in zip(axes or (), "NCHW", strict=False)]
    return all(known)


_Rule: TypeAlias = Callable[["_Propagation", gs.Node, int, Shape], "Axes | None"]


class _Propagation:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[str, Axes] = {}

    def run(self) -> dict[str, Axes]:
        if any(node.op in _WINDOWED | _IMAGES | _PER_PIXEL for node in self.graph.nodes):
            return self._spread()
        self.found.update(_pictures(self.graph))
        return self._behind_weights(self._spread())

    def _behind_weights(self, roles: dict[str, Axes]) -> dict[str, Axes]:
        """The axes of what some weights have made: what comes before is the picture itself, scaled or cut up."""
        made: set[str] = set()
        for node in self.graph.nodes:
            if node.op in _WEIGHTED or any(tensor.name in made for tensor in node.inputs):
                made.update(out.name for out in node.outputs)
        return {name: axes for name, axes in roles.items() if name in made}

    def _spread(self) -> dict[str, Axes]:
        for node in self.graph.nodes:
            with Following(node):
                self._step(node)
        return self.found

    def _step(self, node: gs.Node) -> None:
        rule = _RULES.get(node.op, _kept)
        for index, out in enumerate(node.outputs):
            shape = self.graph.shape(out.name)
            if not shape or not (self.graph.is_float(out.name) or out.name in self.graph.quantised):
                continue
            axes = rule(self, node, index, shape)
            self.found[out.name] = axes if axes is not None and len(axes) == len(shape) else unknown(shape)

    def axes(self, node: gs.Node, index: int) -> Axes | None:
        """The axes of an input, None if its rank is not known."""
        if len(node.inputs) <= index:
            return None
        name = node.inputs[index].name
        if name not in self.found:
            shape = self.graph.shape(name)
            return None if shape is None else unknown(shape)
        return self.found[name]

    def dims(self, node: gs.Node, index: int) -> Shape:
        """The shape of an input whose rank is known."""
        return self.graph.shape(node.inputs[index].name) or ()


# --- images -----------------------------------------------------------------------------------------------------------


def _image_axes(p: _Propagation, node: gs.Node, shape: Shape) -> Axes | None:
    """The axes of an operator's input as it reads them; what was not known is known from here on."""
    axes = p.axes(node, 0)
    if len(shape) != 4 or (axes is not None and len(axes) != 4):
        return None
    if axes is None:
        return tuple(fresh(role, None) for role in "NCHW")
    dims = p.dims(node, 0)
    if all(is_unknown(axis) for axis in axes):
        axes = _placed("NCHW", node.inputs[0].name, dims)
        p.found[node.inputs[0].name] = axes
    return tuple(fresh(r, d) if is_unknown(a) else a for r, a, d in zip("NCHW", axes, dims, strict=True))


def _pictures(graph: Graph) -> dict[str, Axes]:
    """The axes of inputs that are plainly images, as one side has 1, 3 or 4 channels and the other has not."""
    found = {}
    for name in graph.input_names:
        shape = graph.shape(name)
        if graph.is_constant(name) or shape is None or len(shape) != 4:
            continue
        first, last = (shape[axis] in IMAGE_CHANNELS for axis in (1, 3))
        if first != last:
            found[name] = _placed("NCHW" if first else "NHWC", name, shape)
    return found


def _placed(roles: str, name: str, shape: Shape) -> Axes:
    """Whole axes with these roles, whose sizes can be read off the tensor `name`."""
    return tuple(fresh(role, dim, (name, axis)) for axis, (role, dim) in enumerate(zip(roles, shape, strict=True)))


def _images(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    if len(shape) != 4:
        return _kept(p, node, index, shape)
    _image_axes(p, node, shape)
    return _placed("NCHW", node.outputs[index].name, shape)


def _per_pixel(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    return _image_axes(p, node, shape) or _kept(p, node, index, shape)


def _windowed(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Convolution and pooling read four axes as N, C, H, W; an axis that is known to be another stays no H or W."""
    axes = _image_axes(p, node, shape)
    if axes is None:
        return _kept(p, node, index, shape)
    n, c, *space = axes
    channels = fresh("C", shape[1]) if node.op == "Conv" or role_of(c) == "C" else c
    if _is_pointwise(p, node):
        return (n, channels, *space)
    out = node.outputs[index].name
    seen = [
        fresh(role if _leads(axis, role) else UNKNOWN, dim, (out, at))
        for at, role, axis, dim in zip((2, 3), "HW", space, shape[2:], strict=True)
    ]
    return (n, channels, *seen)


def _leads(axis: Axis, role: str) -> bool:
    """Whether neighbours on the axis are neighbours in height (or width), be it at another resolution."""
    first = next((atom for atom in axis if atom.size != 1), axis[0] if axis else None)
    return first is not None and first.role == role and first.outermost


def _is_pointwise(p: _Propagation, node: gs.Node) -> bool:
    kernel: Sequence[Dim] = node.attrs.get("kernel_shape") or (
        p.dims(node, 1)[2:] if node.op == "Conv" and len(node.inputs) > 1 else [None]
    )
    numbers = [*kernel, *node.attrs.get("strides", [1])]
    return all(number == 1 for number in numbers) and not any(node.attrs.get("pads", []))


# --- movement ---------------------------------------------------------------------------------------------------------


def _transposed(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    axes = p.axes(node, 0)
    if axes is None or len(axes) != len(shape):
        return None
    perm = node.attrs.get("perm") or list(range(len(axes)))[::-1]
    return tuple(axes[axis] for axis in perm)


def _reshaped(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    axes = p.axes(node, 0)
    return None if axes is None else regrouped(axes, shape)


def _squeezed(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Squeeze, and reductions that drop their axes."""
    axes, dims = p.axes(node, 0), p.dims(node, 0)
    if axes is None:
        return None
    dropped = ints(p.graph, node, 1, "axes")
    if node.op == "Squeeze" and dropped is None:
        dropped = [axis for axis, dim in enumerate(dims) if dim == 1]
    if node.op != "Squeeze" and (dropped is None or len(axes) == len(shape)):
        return _kept(p, node, index, shape)
    gone = {axis % len(axes) for axis in dropped or []}
    return tuple(a for axis, a in enumerate(axes) if axis not in gone)


def _unsqueezed(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    axes, added = p.axes(node, 0), ints(p.graph, node, 1, "axes")
    if axes is None or added is None or len(axes) + len(added) != len(shape):
        return None
    new, old = {axis % len(shape) for axis in added}, iter(axes)
    return tuple(() if axis in new else next(old) for axis in range(len(shape)))


def _cut(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    axes, taken = p.axes(node, 0), positions(p.graph, node, index)
    if axes is None or taken is None or len(axes) != len(shape):
        return None
    return tuple(cut(a, taken[axis], shape[axis]) if axis in taken else a for axis, a in enumerate(axes))


def _gathered(p: _Propagation, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    axes, indices = p.axes(node, 0), p.graph.shape(node.inputs[1].name)
    if axes is None or indices is None:
        return None
    if len(indices) == 1:
        return _cut(p, node, index, shape)
    axis = int(node.attrs.get("axis", 0)) % len(axes)
    return (*axes[:axis], *unknown(indices), *axes[axis + 1 :])


def _concatenated(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    along = int(node.attrs.get("axis", 1)) % len(shape)
    operands = [p.axes(node, i) for i in range(len(node.inputs))]
    known = [axes for axes in operands if axes is not None and len(axes) == len(shape)]
    if len(known) != len(operands):
        return None
    dims = [p.dims(node, i)[along] for i in range(len(operands))]
    end = joined([axes[along] for axes in known], dims, shape[along])
    return tuple(end if axis == along else _first_known([axes[axis] for axes in known]) for axis in range(len(shape)))


def _first_known(axes: Sequence[Axis]) -> Axis:
    return next((axis for axis in axes if not is_unknown(axis)), axes[0])


# --- products ---------------------------------------------------------------------------------------------------------


def _product(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Rows mean what they mean on the left, columns what they mean on the right; a weight makes channels."""
    left, right = p.axes(node, 0), p.axes(node, 1)
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    rows = left[-1] if node.attrs.get("transA") else left[-2]
    columns = right[-2] if node.attrs.get("transB") else right[-1]
    if len(right) == 2 and is_unknown(columns) and role_of(left[-1]) in ("C", UNKNOWN):
        columns = fresh("C", shape[-1])
    lead = []
    for back in range(len(shape), 2, -1):
        candidates = [axes[-back] for axes in (left, right) if len(axes) >= back and axes[-back] != ()]
        lead.append(_first_known(candidates) if candidates else fresh(UNKNOWN, shape[-back]))
    return (*lead, rows, columns)


def _einsum(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Each letter means what it means in the first operand that knows."""
    terms, _arrow, result = str(node.attrs["equation"]).replace(" ", "").partition("->")
    letters: dict[str, Axis] = {}
    for index, term in enumerate(terms.split(",")):
        axes = p.axes(node, index)
        if axes is None or len(axes) != len(term):
            return None
        letters.update({letter: a for letter, a in zip(term, axes, strict=True) if is_unknown(letters.get(letter, ()))})
    if not all(letter in letters for letter in result) or len(result) != len(shape):
        return None
    return tuple(letters[letter] for letter in result)


# --- everything else --------------------------------------------------------------------------------------------------


def _kept(p: _Propagation, node: gs.Node, _: int, shape: Shape) -> Axes | None:
    """Each axis means what it means in the first input of this rank that knows; for operators that keep axes."""
    if node.op in _LOSES_AXES:
        return None
    result = list(unknown(shape))
    for index in range(len(node.inputs)):
        axes = p.axes(node, index)
        if axes is None or len(axes) != len(shape):
            continue
        for at, (axis, before, dim) in enumerate(zip(axes, p.dims(node, index), shape, strict=True)):
            if is_unknown(result[at]) and not (before == 1 and dim != 1 and len(node.inputs) > 1):
                result[at] = axis if before == dim or not differ(before, dim) else resized(axis, dim)
    return tuple(result)


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_WINDOWED, _windowed),
    **dict.fromkeys(_PER_PIXEL, _per_pixel),
    **dict.fromkeys(_IMAGES, _images),
    **dict.fromkeys(("Reshape", "Flatten"), _reshaped),
    **dict.fromkeys(("Slice", "Split"), _cut),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), _squeezed),
    "Transpose": _transposed,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Gather": _gathered,
    "Concat": _concatenated,
    "Einsum": _einsum,
}
