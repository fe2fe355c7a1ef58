"""This module follows positions of a picture through the graph: what the axes of the tensors behind a layer consist of.

An axis is a tuple of atoms, the last of which varies fastest: an axis of all anchors that a level `[N, A C, h, w]` has
may be (row, column, channel of size A). Reshape joins and divides axes, Transpose moves them; a form is known as long
as each position of a tensor depends on the same position alone, or on a few around it, of the tensors before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.dims import Dim, Shape, known_size
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard

Kind: TypeAlias = Literal["image", "channel", "row", "column", "candidate"]
_KINDS: Mapping[str, Kind] = {"N": "image", "C": "channel", "H": "row", "W": "column"}
_SOFTMAX_OF_ONE_AXIS = 13
"""Before this opset Softmax and its like work on all axes from theirs on."""


@dataclass(frozen=True)
class Atom:
    """An Atom is an axis that is not divided further.

    Attributes:
        kind: what its positions are; "channel" is everything that is no place: channels, classes, anchors of a cell.
        size: how many there are.
    """

    kind: Kind
    size: Dim


Axis: TypeAlias = tuple[Atom, ...]


def is_place(axis: Axis) -> bool:
    """Tell whether an axis has rows, columns or candidates in it."""
    return any(atom.kind in ("row", "column", "candidate") for atom in axis)


def same(a: Axis, b: Axis) -> bool:
    """Tell whether two axes of tensors of one level consist of the same atoms; places have one size, known or not."""
    return len(a) == len(b) and all(
        one.kind == other.kind and (one.size == other.size or one.kind in ("row", "column", "candidate"))
        for one, other in zip(a, b, strict=True)
    )


@dataclass(frozen=True)
class Form:
    """A Form says what the axes of a tensor consist of.

    Attributes:
        axes: the axes; one of size 1 has no atoms, unless it is that of the images.
        level: the number of the layer whose positions these are; None for the candidates of all levels.
    """

    axes: tuple[Axis, ...]
    level: int | None

    @property
    def places(self) -> list[int]:
        """Return the axes with places in them."""
        return [axis for axis, atoms in enumerate(self.axes) if is_place(atoms)]

    @property
    def is_readable(self) -> bool:
        """Tell whether windows can be cut out: images stand alone in front, places in axes next to each other."""
        atoms = [atom.kind for axis in self.axes for atom in axis]
        places = self.places
        alone = bool(self.axes) and [atom.kind for atom in self.axes[0]] == ["image"] and atoms.count("image") == 1
        whole = [kind for kind in atoms if kind in ("row", "column", "candidate")]
        known = whole in (["row", "column"], ["candidate"]) and all(
            isinstance(atom.size, int) for axis in places for atom in self.axes[axis] if atom.kind == "channel"
        )
        return alone and known and places == list(range(places[0], places[-1] + 1))

    def same_places(self, other: Form) -> bool:
        """Tell whether the places of two forms are the same ones in the same axes."""
        alike = self.level == other.level and self.places == other.places
        return alike and all(same(self.axes[axis], other.axes[axis]) for axis in self.places)


def of_layer(layout: str, shape: Shape, level: int) -> Form | None:
    """Return the form of a layer; None if its positions are tokens."""
    if sorted(layout) != sorted(_KINDS) or len(shape) != len(layout):
        return None
    return _form([[Atom(_KINDS[axis], size)] for axis, size in zip(layout, shape, strict=True)], level)


def _form(axes: Sequence[Sequence[Atom]], level: int | None) -> Form | None:
    """Return a form without atoms of size 1 that are no images; None if windows cannot be cut out of such a tensor."""
    kept = [tuple(atom for atom in axis if atom.kind != "channel" or atom.size != 1) for axis in axes]
    form = Form(tuple(kept), level)
    return form if form.is_readable else None


def form_behind(graph: Graph, node: gs.Node, forms: Mapping[str, Form], name: str) -> Form | None:
    """Return the form of an output of a node; None if its places are not those of the node's inputs.

    Args:
        graph: the model.
        node: the node.
        forms: the known forms, by name.
        name: the output.
    """
    shape = graph.shape(name)
    if not is_standard(node.domain) or shape is None or not node.inputs:
        return None
    facts = traits(node)
    if facts.elementwise == "all":
        return _broadcast(graph, node, forms, len(shape))
    if facts.axes == "concatenated":
        return _concatenated(node, forms, shape)
    first = forms.get(str(node.inputs[0].name))
    if first is None or any(str(tensor.name) in forms for tensor in node.inputs[1:]):
        return None
    return _behind_first(graph, node, first, shape)


def _behind_first(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind a node of which only the first input has places."""
    facts = traits(node)
    if facts.elementwise == "first":
        return first if _parameters_fit(graph, node, first) else None
    if facts.values == Values.RESHAPED:
        axes = regrouped([atom for axis in first.axes for atom in axis], shape)
        return None if axes is None else _form(axes, first.level)
    if facts.along_axis and facts.axes in ("kept", "first kept"):
        one = facts.axes == "kept" and graph.opset >= _SOFTMAX_OF_ONE_AXIS
        return first if _works_on_channels(node, first, int(facts.default_axis or 0), one) else None
    known = _OTHERS.get(facts.axes)
    return None if known is None else known(graph, node, first, shape)


def _broadcast(graph: Graph, node: gs.Node, forms: Mapping[str, Form], rank: int) -> Form | None:
    """Return the form behind an operator that works element by element and broadcasts its inputs."""
    axes: list[Axis] = [()] * rank
    known = [forms[str(t.name)] for t in node.inputs if str(t.name) in forms]
    if not known or any(form.level != known[0].level for form in known):
        return None
    for form in known:
        for axis, atoms in enumerate(form.axes, rank - len(form.axes)):
            wider = _wider(axes[axis], atoms)
            if wider is None:
                return None
            axes[axis] = wider
    for tensor in node.inputs:
        name = str(tensor.name)
        if name and name not in forms:
            shape = graph.shape(name)
            if shape is None or len(shape) > rank:
                return None
            for axis, dim in enumerate(shape, rank - len(shape)):
                if dim == 1 or axes[axis] == (Atom("channel", dim),):
                    continue
                if axes[axis] and not (all(a.kind == "channel" for a in axes[axis]) and _size(axes[axis]) == dim):
                    return None
                axes[axis] = axes[axis] or (Atom("channel", dim),)
    return _form(axes, known[0].level)


def _wider(a: Axis, b: Axis) -> Axis | None:
    """Return the axis that two broadcast to; None if they are different ones."""
    if not a or not b or same(a, b):
        return a or b
    if [atom.kind for atom in (*a, *b)] == ["image", "image"] and 1 in (a[0].size, b[0].size):
        return b if a[0].size == 1 else a
    alike = all(atom.kind == "channel" for atom in (*a, *b)) and _size(a) is not None and _size(a) == _size(b)
    return a if alike else None


def operands(graph: Graph, node: gs.Node, forms: Mapping[str, Form]) -> dict[str, Form]:
    """Return the forms of operands that have a number for each place of the others, as grids of offsets have."""
    known = max((forms[str(t.name)] for t in node.inputs if str(t.name) in forms), key=lambda f: len(f.axes))
    result: dict[str, Form] = {}
    for tensor in node.inputs:
        shape = graph.shape(str(tensor.name)) if tensor.name else None
        if shape is None or str(tensor.name) in forms or len(shape) > len(known.axes):
            continue
        sizes = [*[1] * (len(known.axes) - len(shape)), *shape]
        if sizes[0] == 1 and all(_has_size(known.axes[axis], sizes[axis]) for axis in known.places):
            axes = [atoms if axis in known.places else (Atom("channel", size),)
                    for axis, (atoms, size) in enumerate(zip(known.axes, sizes, strict=True))]  # fmt: skip
            form = _form([(Atom("image", 1),), *axes[1:]], known.level)
            result |= {} if form is None else {str(tensor.name): form}
    return result


def _has_size(axis: Axis, size: Dim) -> bool:
    """Tell whether the length of an axis is known to be this."""
    return size is not None and size == (axis[0].size if len(axis) == 1 else _size(axis))


def _size(axis: Axis) -> int | None:
    """Return the length of an axis, None if it is not a number."""
    return known_size([atom.size for atom in axis])


def _parameters_fit(graph: Graph, node: gs.Node, first: Form) -> bool:
    """Tell whether the parameters of a node are numbers, or go along an axis without places."""
    if all(known_size(graph.shape(str(t.name)) or (None,)) == 1 for t in node.inputs[1:] if t.name):
        return True
    axis = int(node.attrs.get("axis", 1)) % len(first.axes)
    return not node.attrs.get("block_size", 0) and axis > 0 and not is_place(first.axes[axis])


def _works_on_channels(node: gs.Node, first: Form, default: int, one: bool) -> bool:
    """Tell whether a node that works along an axis, or from it on, leaves images and places apart."""
    axis = int(node.attrs.get("axis", default)) % len(first.axes)
    worked = [axis] if one else range(axis, len(first.axes))
    return axis > 0 and not any(is_place(first.axes[a]) for a in worked)


@dataclass(frozen=True)
class Reach:
    """A Reach says how far windows reach beyond their position.

    Attributes:
        before: how many rows and columns before it.
        after: how many rows and columns behind it.
    """

    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    def __add__(self, other: Reach) -> Reach:
        """Return how far windows of windows reach."""
        return Reach(_added(self.before, other.before), _added(self.after, other.after))

    def __or__(self, other: Reach) -> Reach:
        """Return how far the larger windows reach."""
        return Reach(_largest(self.before, other.before), _largest(self.after, other.after))

    @property
    def size(self) -> tuple[int, int]:
        """Return the rows and columns of a window."""
        return self.before[0] + 1 + self.after[0], self.before[1] + 1 + self.after[1]


def _added(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Return the sums of two pairs."""
    return a[0] + b[0], a[1] + b[1]


def _largest(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Return the larger numbers of two pairs."""
    return max(a[0], b[0]), max(a[1], b[1])


def reach_of(graph: Graph, node: gs.Node) -> Reach | None:
    """Return how far the windows of a convolution reach that keeps the size of its pictures; None for any other."""
    kernel = (graph.shape(str(node.inputs[1].name)) or ())[2:]
    if len(kernel) != 2 or any(step != 1 for step in node.attrs.get("strides") or [1]):
        return None
    steps = node.attrs.get("dilations") or (1, 1)
    extra = [(size - 1) * step for size, step in zip(kernel, steps, strict=True) if isinstance(size, int)]
    if len(extra) < len(kernel):
        return None
    auto, pads = node.attrs.get("auto_pad", "NOTSET"), list(node.attrs.get("pads") or [0] * 4)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begin = [total - total // 2 if auto == "SAME_LOWER" else total // 2 for total in extra]
        pads = [*begin, *(total - one for total, one in zip(extra, begin, strict=True))]
    elif auto == "VALID":
        pads = [0] * 4
    if any(pads[i] + pads[i + 2] != extra[i] for i in range(2)) or min(pads) < 0:
        return None
    return Reach((pads[0], pads[1]), (pads[2], pads[3]))


def _convolved(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind a convolution that keeps the size of its pictures."""
    if not traits(node).weighted or traits(node).coordinates:
        return None
    if [[atom.kind for atom in axis] for axis in first.axes[2:]] != [["row"], ["column"]]:
        return None
    return None if reach_of(graph, node) is None else _resized(first, {1: shape[1]})


def _resized(first: Form, sizes: Mapping[int, Dim]) -> Form | None:
    """Return a form with other numbers of channels; None if an axis has images or places, and another size."""
    axes: list[Axis] = list(first.axes)
    for axis, size in sizes.items():
        if any(atom.kind != "channel" for atom in axes[axis]):
            return None
        axes[axis] = (Atom("channel", size),)
    return _form(axes, first.level)


# --- movements --------------------------------------------------------------------------------------------------------


def regrouped(atoms: Sequence[Atom], shape: Shape) -> list[list[Atom]] | None:
    """Return atoms, in their order, grouped as the axes of a shape; None if that is not clear.

    One axis whose size is unknown takes what the others leave.
    """
    if 0 in shape:
        return None
    front, rest = _taken([atom for atom in atoms if atom.kind != "channel" or atom.size != 1], list(shape))
    if len(front) == len(shape):
        return front if not rest else None
    back, rest = _taken(rest[::-1], list(shape[: len(front) - 1 if front else None : -1]))
    if len(front) + len(back) == len(shape):
        return None if rest else [*front, *(group[::-1] for group in back[::-1])]
    if len(front) + len(back) != len(shape) - 1:
        return None
    return [*front, rest[::-1], *(group[::-1] for group in back[::-1])]


def _taken(atoms: Sequence[Atom], sizes: Sequence[Dim]) -> tuple[list[list[Atom]], list[Atom]]:
    """Return the groups of the first sizes as far as they are clear, and the atoms that are left."""
    groups: list[list[Atom]] = []
    rest = list(atoms)
    for size in sizes:
        found = _group(rest, size)
        if found is None:
            break
        groups.append(found[0])
        rest = found[1]
    return groups, rest


def _group(atoms: list[Atom], size: Dim) -> tuple[list[Atom], list[Atom]] | None:
    """Return the first atoms that make up this size and the others, dividing channels; None if that is not clear."""
    if atoms and size is not None and atoms[0].size == size:
        return atoms[:1], atoms[1:]
    if not isinstance(size, int):
        return None
    group: list[Atom] = []
    left, rest = size, list(atoms)
    while left > 1:
        if not rest or not isinstance(rest[0].size, int) or not rest[0].size:
            return None
        head = rest.pop(0)
        assert isinstance(head.size, int)
        if left % head.size == 0:
            group.append(head)
            left //= head.size
        elif head.kind == "channel" and head.size % left == 0:
            group.append(Atom("channel", left))
            rest.insert(0, Atom("channel", head.size // left))
            left = 1
        else:
            return None
    return group, rest


def _transposed(_: Graph, node: gs.Node, first: Form, __: Shape) -> Form | None:
    """Return the form behind a Transpose."""
    perm = node.attrs.get("perm") or range(len(first.axes))[::-1]
    return _form([first.axes[int(axis)] for axis in perm], first.level)


def _cut(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind an operator that takes a part of the channels."""
    before = graph.shape(str(node.inputs[0].name)) or ()
    if len(node.inputs) > 4 and node.inputs[4].name:
        steps = graph.constants.get(str(node.inputs[4].name))
        if steps is None or (steps < 1).any():  # positions in reverse are others, although there are as many
            return None
    changed = {axis: size for axis, size in enumerate(shape) if size is None or size != before[axis]}
    touched = {axis for axis in first.places if axis in changed}
    return None if touched else _resized(first, changed)


def _gathered(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind a Gather of channels."""
    axis = int(node.attrs.get("axis", 0)) % len(first.axes)
    behind = len(shape) - len(first.axes) + 1
    if str(node.inputs[1].name) not in graph.constants or any(atom.kind != "channel" for atom in first.axes[axis]):
        return None
    picked = [[Atom("channel", size)] for size in shape[axis : axis + behind]]
    return _form([*first.axes[:axis], *picked, *first.axes[axis + 1 :]], first.level)


def _dropped(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind a reduction over channels."""
    listed = node.attrs.get("axes")
    if listed is None and len(node.inputs) > 1:
        listed = graph.constants.get(str(node.inputs[1].name))
    axes = [] if listed is None else [int(axis) % len(first.axes) for axis in listed]
    if not axes or any(atom.kind != "channel" for axis in axes for atom in first.axes[axis]):
        return None
    one: Axis = ()
    kept = [one if axis in axes else atoms for axis, atoms in enumerate(first.axes)]
    if len(shape) < len(kept):
        kept = [atoms for axis, atoms in enumerate(kept) if axis not in axes]
    return _form(kept, first.level)


def _multiplied(graph: Graph, node: gs.Node, first: Form, shape: Shape) -> Form | None:
    """Return the form behind a product with a matrix of weights."""
    weights = str(node.inputs[1].name)
    if not graph.is_constant(weights) or len(graph.shape(weights) or ()) != 2:
        return None
    return _resized(first, {len(shape) - 1: shape[-1]})


def _per_channel(_: Graph, node: gs.Node, first: Form, __: Shape) -> Form | None:
    """Return the form behind an operator with parameters for each channel."""
    return first if traits(node).same_place and len(first.axes) > 1 and not is_place(first.axes[1]) else None


def _concatenated(node: gs.Node, forms: Mapping[str, Form], shape: Shape) -> Form | None:
    """Return the form behind a Concat, of channels or of the places of all levels.

    What is joined to channels may have no form, such as zeros: the gradient passes it by.
    """
    known = [forms[str(t.name)] for t in node.inputs if str(t.name) in forms]
    axis = int(node.attrs["axis"]) % len(shape)
    if not known:
        return None
    if len(known) == len(node.inputs) and all(is_place(form.axes[axis]) for form in known):
        return joined(known, axis, shape[axis])
    return _resized(known[0], {axis: shape[axis]}) if all(form.same_places(known[0]) for form in known) else None


def joined(known: Sequence[Form], axis: int, size: Dim) -> Form | None:
    """Return the form of the places of several levels one behind another; None if a level comes twice."""
    levels = [form.level for form in known]
    if None in levels or len(set(levels)) < len(levels) or any(form.places != [axis] for form in known):
        return None
    axes = list(known[0].axes)
    if any([*form.axes[:axis], *form.axes[axis + 1 :]] != [*axes[:axis], *axes[axis + 1 :]] for form in known):
        return None
    axes[axis] = (Atom("candidate", size),)
    return _form(axes, None)


_Behind: TypeAlias = Callable[[Graph, gs.Node, Form, Shape], Form | None]
_OTHERS: Mapping[str, _Behind] = {
    "cut": _cut,
    "dropped": _dropped,
    "gathered": _gathered,
    "matmul": _multiplied,
    "per channel": _per_channel,
    "transposed": _transposed,
    "windowed": _convolved,
}
"""This table maps an operator's effect on axes to the function that follows them."""
