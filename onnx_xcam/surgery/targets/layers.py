"""Target layers: which tensors can be one, which is the default, and which one a name means.

A candidate is a feature map whose axes are known to be images, channels and space: `[N,C,H,W]`, `[N,H,W,C]`, or tokens
`[N,T,C]`, `[N,C,T]` or `[T,N,C]` of a known grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_graphsurgeon as gs

from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import Grid, Layout, input_kind, shape_text
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.ends import makers
from onnx_xcam.surgery.analysis.foreign_operators import foreign_among
from onnx_xcam.surgery.autodiff.backward import Way, image_tensors, way
from onnx_xcam.surgery.axes.axes import Place, roles_of
from onnx_xcam.surgery.axes.layouts import (
    axis_roles,
    displaced,
    grid_places,
    layout_of,
    may_be_nchw,
    token_grid,
    window_of,
)
from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph, inputs_of
from onnx_xcam.surgery.targets.pictures import explained_picture
from onnx_xcam.surgery.targets.position_liveness import used_positions

_SAME_VALUES = frozenset({"Identity", "Dropout"})
_PRIME = 2**2203 - 1
_PICTURE_AXES = 4
_POOLS = frozenset({"AveragePool", "MaxPool"})
_COORDINATES: Mapping[str, frozenset[int]] = {
    "GridSample": frozenset({1}), "DeformConv": frozenset({2}), "RoiAlign": frozenset({1, 2}),
    "MaxRoiPool": frozenset({1}),
}  # fmt: skip
"""Inputs that say where something is read, and not what."""
_MOVES = _SAME_VALUES | {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Layer:
    """A tensor that can be a target layer.

    Attributes:
        name: the tensor.
        shown: what it is called outside; for a float that only the analysis has, the quantised tensor of the model.
        node: name of the node that makes it, "" if it has none; of a quantised one, of the node before quantisation.
        op: that node's operator.
        path: the module path that the exporter recorded, or "".
        shape: static shape.
        layout: what its axes mean.
        bottleneck: whether everything the score gets from the image passes through it.
        grid: where the picture's tokens stand, if it is a layer of tokens.
        places: where the grid's height and width are read off at run time, if they depend on the picture.
    """

    name: str
    shown: str
    node: str
    op: str
    path: str
    shape: Shape
    layout: Layout
    bottleneck: bool
    grid: Grid | None = None
    places: tuple[Place, ...] = ()

    @property
    def spatial(self) -> tuple[Dim, Dim]:
        """Height and width."""
        if self.grid is not None:
            return self.grid.height, self.grid.width
        at = self.layout.find("H")
        return self.shape[at], self.shape[at + 1]


class Layers:
    """The candidate layers of a model for one score, in topological order.

    Args:
        graph: the model.
        score: the score tensor.
        sample: the same graph with numbers for a symbolic height and width, if they are symbolic: what is counted or
            compared (tokens, windows, positions that are used) is looked at there.
        picture: the image input that is explained, or "auto".
    """

    def __init__(self, graph: Graph, score: str, sample: Graph | None = None, picture: str = "auto") -> None:
        self.graph = graph
        self.score = score
        self.sample = sample or graph
        self.explained = explained_picture(graph, picture, score)
        self.roles = axis_roles(self.sample)
        names = self.explained.names
        self.way = way(graph, image_tensors(graph, names), [score])
        self.used = used_positions(self.sample, way(self.sample, image_tensors(self.sample, names), [score]))
        self.through, self.paths = _paths(graph, self.way, score)
        self.candidates = [
            layer
            for node in ([] if self._takes_volumes() else graph.nodes)
            for out in node.outputs
            if (layer := self._candidate(out.name))
        ]

    def _takes_volumes(self) -> bool:
        """Whether what is explained is a volume or a video; layers of its slices or frames have no images as batch."""
        ranks = [len(self.graph.shape(name) or ()) for name in self.explained.names]
        return bool(ranks) and min(ranks) > _PICTURE_AXES

    def _candidate(self, name: str) -> Layer | None:
        shape, layout = self.graph.shape(name), layout_of(self.roles.get(name))
        if layout is not None and displaced(self.roles.get(name)) is not None:
            return None
        if name not in self.way.tensors or shape is None or layout is None or name == self.score:
            return None
        if not self.graph.is_float(name) or not self._is_outside(name):
            return None
        layer = self._layer(name, shape, layout, self.through[name] == self.paths)
        if layer.grid is not None and layer.grid.size is None and not layer.places:
            return None
        return None if 1 in layer.spatial or 1 in self._sampled_space(layer) else layer

    def _is_outside(self, name: str) -> bool:
        """Whether a tensor stands for one of the model, and not for the same one as a later tensor does."""
        return (name not in self.graph.inner or name in self.graph.stand_ins) and float_for(self.graph, name) == name

    def _maker(self, name: str) -> gs.Node:
        """The node that makes a tensor; of a dequantised one, the node whose result was quantised."""
        producer = self.graph.producer
        node = producer[name]
        for op in ("DequantizeLinear", "Clip", "QuantizeLinear"):
            integers = op != "Clip" or node.outputs[0].name in self.graph.quantised
            before = producer.get(node.inputs[0].name) if node.op == op and integers else None
            node = before or node
        return node

    def _layer(self, name: str, shape: Shape, layout: Layout, bottleneck: bool) -> Layer:
        node, shown = self._maker(name), self.graph.shown(name)
        path = self.graph.scopes.get(self.graph.order[node.outputs[0].name], "")
        grid, places = token_grid(self.roles.get(name)) if "T" in layout else None, tuple[Place, ...]()
        if grid is not None and not isinstance(shape[layout.find("T")], int):
            grid, places = grid._replace(height=None, width=None), grid_places(self.roles.get(name))
        return Layer(name, shown, str(node.name or ""), str(node.op), path, shape, layout, bottleneck, grid, places)

    def _sampled_space(self, layer: Layer) -> Shape:
        """Height and width as the sample has them, empty where they are not known and for tokens."""
        at = layer.layout.find("H")
        return (self.sample.shape(layer.name) or ())[at : at + 2] if at >= 0 else ()

    # --- the default ------------------------------------------------------------------------------------------------

    def default(self) -> Layer:
        """The last spatial feature map that all evidence passes through and of which the score uses every position.

        That is before space is pooled or flattened away, and where only a class token is read in the end, before the
        last attention: behind it no other token has a gradient.

        Raises:
            LayerError: there is no spatial layer at all.
        """
        if not self._looked_at:
            raise LayerError(self._nothing_spatial())
        informative = [layer for layer in self._looked_at if self.is_wholly_used(layer)]
        suited = [layer for layer in informative if layer.bottleneck and not self._is_pooled(layer)]
        return self._origin(suited[-1] if suited else self._carrying(informative or self._looked_at))

    @cached_property
    def _looked_at(self) -> list[Layer]:
        """The candidates whose values the score is made of; others only say where something else is read."""
        needed = {self.score}
        for node in reversed(self.graph.nodes):
            if any(out.name in needed for out in node.outputs):
                places = _COORDINATES.get(node.op, frozenset())
                needed.update(t.name for index, t in enumerate(inputs_of(node)) if index not in places)
        return [layer for layer in self.candidates if layer.name in needed]

    def _carrying(self, layers: Sequence[Layer]) -> Layer:
        """The last of the layers that carry most, where none carries all: half as many paths as the busiest, or more.

        So it is the end of one of two trunks, and not a value within its last attention.
        """
        most = max(self.through[layer.name] for layer in layers)
        return [layer for layer in layers if 2 * self.through[layer.name] >= most][-1]

    def carrying_most(self) -> list[Layer]:
        """The candidates that carry most, where none carries all."""
        most = max((self.through[layer.name] for layer in self.candidates), default=0)
        return [layer for layer in self.candidates if self.through[layer.name] == most]

    def reason(self, layer: Layer) -> str:
        """Why the default layer is the default, and what it lacks, in words."""
        order = self.graph.order
        passed_over = [c for c in self.candidates if order[c.name] > order[layer.name] and not self.is_wholly_used(c)]
        used = self.is_wholly_used(layer)
        said = ["the last spatial feature map"]
        said[0] += " of which the score uses every position" if used and passed_over and layer.bottleneck else ""
        if not layer.bottleneck:
            said.append("no layer carries all that the score gets from the image, this one a part")
        if why_not := self._passed_over(layer):
            said.append(f"another is passed over, since {why_not}")
        if not used:
            said.append("the score uses only some of its positions, and there is no layer of which it uses all")
        elif self._is_before_attention(layer):
            said.append("it lies before all attention, so what positions tell each other is not in it")
        return "; ".join([*said, *self.limits(layer)])

    def limits(self, layer: Layer) -> list[str]:
        """What is to be known of a layer's map whoever chose the layer, as parts of a sentence."""
        found = []
        if others := self.holds(layer):
            found.append(f"it holds {' and '.join(map(repr, others))} too")
        if window := window_of(self.roles.get(layer.name)):
            found.append(f"its map covers {window} but is stretched over the whole picture")
        return found

    def _is_before_attention(self, layer: Layer) -> bool:
        """Whether the score gets what it gets by attention, several times, and a layer lies before that."""
        found = [self.graph.order[node.outputs[0].name] for node in self.way.nodes if self._is_attention(node)]
        return len(found) > 1 and min(found) > self.graph.order[layer.name]

    def _is_attention(self, node: gs.Node) -> bool:
        """Whether a product weighs with a softmax of what depends on the picture."""
        if node.op == "Attention":
            return True
        maker = self.graph.producer.get(node.inputs[0].name) if node.op in ("MatMul", "Einsum") else None
        while maker is not None and maker.op in (*_MOVES, "Cast", "Where"):
            maker = self.graph.producer.get(maker.inputs[-1 if maker.op == "Where" else 0].name)
        return maker is not None and maker.op == "Softmax"

    def _passed_over(self, layer: Layer) -> str | None:
        """Why the tensor that carries most of those that carry what a layer does not, or as much and later, is none."""
        order, carried = self.graph.order, 0 if not layer.bottleneck else self.paths
        found = [
            name
            for name in self._displaced
            if name in self.way.tensors
            and self.through[name] >= carried
            and (order[name] > order[layer.name] or not layer.bottleneck)
        ]
        return self._displaced[max(found, key=self.through.__getitem__)] if found else None

    @cached_property
    def _displaced(self) -> dict[str, str]:
        """Feature maps that cannot be laid on the picture, and why."""
        found = {}
        for name, axes in self.roles.items():
            if name in self.graph.producer and len(axes) == 4 and (why := displaced(axes)):
                found[name] = why
        return found

    def holds(self, layer: Layer) -> list[str]:
        """The pictures beside the explained one that a layer is made of too."""
        return [name for name, tensors in self._of_others.items() if layer.name in tensors]

    @cached_property
    def _of_others(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(image_tensors(self.graph, [name])) for name in self.explained.others}

    def is_wholly_used(self, layer: Layer) -> bool:
        """Whether the score uses every position of the layer, as far as the graph tells."""
        used = self.used.get(layer.name)
        if used is None:
            return True
        if layer.grid is not None:
            tokens = used[layer.layout.find("T")]
            return tokens is None or bool(tokens[layer.grid.tokens].all())
        at = layer.layout.find("H")
        return used[at] is None and used[at + 1] is None

    def _is_pooled(self, layer: Layer) -> bool:
        """Whether this is an average of unknown size, which may have pooled space away."""
        return layer.op == "AveragePool" and not all(isinstance(dim, int) for dim in self._sampled_space(layer))

    def _origin(self, layer: Layer) -> Layer:
        """The first tensor with the same values; for tokens, the feature map that was lined up."""
        by_name = {candidate.name: candidate for candidate in self.candidates}
        while self._keeps_values(layer) or (layer.layout == "NCT" and layer.op == "Transpose"):
            source = by_name.get(self.graph.producer[layer.name].inputs[0].name)
            if source is None:
                break
            layer = source
        name = layer.name
        while layer.grid is not None and name in self.graph.producer and self.graph.producer[name].op in _MOVES:
            name = self.graph.producer[name].inputs[0].name
            if name in by_name and by_name[name].grid is None:
                return by_name[name]
        return layer

    def _keeps_values(self, layer: Layer) -> bool:
        """Whether the layer is its node's input unchanged: an Identity, or a pool of one pixel."""
        if layer.op in _SAME_VALUES:
            return True
        attributes = self.graph.producer[layer.name].attrs
        numbers = [*attributes.get("kernel_shape", [2]), *attributes.get("strides", [1])]
        return layer.op in _POOLS and all(n == 1 for n in numbers) and not any(attributes.get("pads", []))

    def _nothing_spatial(self) -> str:
        graph = self.graph
        if foreign := foreign_among(makers(graph, self.score), graph.opset):
            return f"No spatial layer was found, since axes cannot be followed everywhere. {foreign.sentence()}"
        displaced_ones = [name for name in self._displaced if name in self.way.tensors]
        if displaced_ones and not self._takes_volumes():
            name = max(displaced_ones, key=self.through.__getitem__)
            return (
                f"No layer was found whose map can be laid on the picture '{self.explained.names[0]}'; that of "
                f"'{graph.shown(name)}' cannot, since {self._displaced[name]}."
            )
        names = [name for name in graph.input_names if not graph.is_constant(name)]
        if self._takes_volumes():
            names = [name for name in names if name in self.explained.names]
        shapes = {name: graph.shape(name) or () for name in names}
        kinds = {name: str(graph.dtype(name) or "?").replace("object", "string") for name in names}
        inputs = [f"'{name}' {kinds[name]} {shape_text(shapes[name])}" for name in names]
        takes = f"the model takes {', '.join(inputs) or 'nothing'}"
        what = [input_kind(shapes[name], kinds[name]) for name in names]
        if what and None not in what:
            return f"No spatial layer was found: {takes}, {what[0]}. Only classifiers of pictures are explained."
        return (
            "No spatial layer was found: looked for four-dimensional feature maps (convolution, pooling) and for "
            f"tokens of a known grid between the input and the score '{self.score}', found none; {takes}. "
            "Is this an image classifier?"
        )

    # --- by name ----------------------------------------------------------------------------------------------------

    def find(self, wanted: str) -> Layer:
        """The layer that a tensor name, node name, module path or unique part of one means.

        Raises:
            LayerError: unknown, ambiguous, not spatial, or the score does not depend on it.
        """
        name = self._exact(wanted)
        if name is None:
            name = self._by_part(wanted)
        return self._checked(float_for(self.graph, self.graph.same.get(name, name)), wanted)

    def _exact(self, wanted: str) -> str | None:
        graph = self.graph
        if wanted in graph.producer or wanted in graph.input_names:
            return wanted
        for node in graph.nodes:
            if node.name == wanted and node.outputs:
                return str(node.outputs[0].name)
        inside = [
            node
            for i, node in enumerate(graph.nodes)
            if (path := graph.scopes.get(i, "")) == wanted or path.startswith(wanted + ".")
        ]
        on_the_way = [node for node in inside if node.outputs[0].name in self.way.tensors]
        last = (on_the_way or inside)[-1:]
        return str(last[0].outputs[0].name) if last else None

    def _by_part(self, wanted: str) -> str:
        matches = [layer for layer in self.candidates if wanted and any(wanted in name for name in _names(layer))]
        if len(matches) == 1:
            return matches[0].name
        if matches:
            listed = ", ".join(f"'{_best_name(layer)}'" for layer in matches[-5:])
            raise LayerError(f"'{wanted}' fits {len(matches)} layers, among them {listed}; name one of them.")
        known = [name for layer in self.candidates for name in _names(layer)]
        raise LayerError(
            f"There is no layer '{wanted}'{suggestion(wanted, known)}; 'onnx-xcam inspect' lists the layers."
        )

    def _checked(self, name: str, wanted: str) -> Layer:
        shape = self.graph.shape(name)
        axes = self.roles.get(name)
        layout = layout_of(axes)
        if self._takes_volumes():
            raise LayerError(self._nothing_spatial())
        said = f"'{wanted}'" if self.graph.shown(name) == wanted else f"'{wanted}' (tensor '{name}')"
        if shape is None or (layout is None and (len(shape) != 4 or not may_be_nchw(axes))):
            listed = "unknown" if shape is None else f"{list(shape)}{self._why_not(name, shape)}"
            raise LayerError(f"{said} is not a spatial layer: its shape is {listed}{self._instead()}.")
        if why := displaced(axes):
            raise LayerError(f"A map of {said} cannot be laid on the picture: {why}{self._instead()}.")
        if not self.graph.is_float(name):
            raise LayerError(f"{said} holds {self.graph.dtype(name)} values, which have no gradient{self._instead()}.")
        if name not in self.graph.producer:
            raise LayerError(f"{said} is an input of the model, not a layer{self._instead()}.")
        if name not in self.way.tensors:
            if others := [other for other, tensors in self._of_others.items() if name in tensors]:
                raise LayerError(
                    f"{said} is made of {' and '.join(map(repr, others))}, not of '{self.explained.name}', the picture "
                    f"that is explained{self._instead()}."
                )
            raise LayerError(f"The score '{self.score}' does not depend on {said} by a gradient{self._instead()}.")
        layer = self._layer(name, shape, layout or "NCHW", False)
        if all(dim == 1 for dim in layer.spatial):
            raise LayerError(f"{said} is not a spatial layer any more: its shape is {list(shape)}{self._instead()}.")
        return layer

    def _why_not(self, name: str, shape: Shape) -> str:
        """What is known of axes that make no spatial layer."""
        if why := displaced(self.roles.get(name)):
            return f"; {why}"
        roles = roles_of(self.roles.get(name, ()))
        if len(shape) == 3 and "T" in roles:
            return f"; its axis {roles.find('T')} is a grid of tokens whose height and width are no fixed numbers"
        if len(shape) == 3:
            return ", and no height and width could be followed from the image to its axes"
        return f", and its axes are {', '.join(roles)} where N,C,H,W or N,H,W,C is needed" if len(shape) == 4 else ""

    def _instead(self) -> str:
        return f"; the default would be '{_best_name(self.default())}'" if self._looked_at else ""

    def works(self, layer: Layer) -> bool:
        """Whether every operator from the layer to the score has a rule."""
        return not self.unsupported(layer)

    def unsupported(self, layer: Layer) -> list[gs.Node]:
        """The nodes between a layer and the score that have no rule."""
        if not layer.bottleneck:
            return way(self.graph, [layer.name], [self.score]).unsupported()
        order = self.graph.order  # behind a bottleneck lies all that comes later
        return [n for n in self._missing if order[n.outputs[0].name] > order[layer.name]]

    @cached_property
    def _missing(self) -> list[gs.Node]:
        return self.way.unsupported()

    def nearest_that_works(self, layer: Layer) -> Layer | None:
        """The first candidate behind a layer from which the gradient can be computed."""
        order = self.graph.order
        later = [c for c in self.candidates if order[c.name] > order[layer.name] and c.bottleneck]
        return next((c for c in later if self.works(c)), None)


def _names(layer: Layer) -> list[str]:
    return [name for name in (layer.shown, layer.node, layer.path) if name]


def _best_name(layer: Layer) -> str:
    return layer.path or layer.shown


def _paths(graph: Graph, found: Way, score: str) -> tuple[dict[str, int], int]:
    """How many paths from the image to the score pass through each tensor, and how many there are.

    Their number may double with each node. Beyond 2**2203 it is counted modulo a prime: numbers that are equal still
    are, and others are not except by an accident that does not happen.
    """
    inside = found.tensors
    ahead: dict[str, int] = {}
    for node in found.nodes:
        known = sum(ahead.setdefault(t.name, 1) for t in node.inputs if t.name in inside) % _PRIME
        ahead.update({out.name: known for out in node.outputs if out.name in inside})
    behind: dict[str, int] = {score: 1}
    for node in reversed(found.nodes):
        onward = sum(behind.get(out.name, 0) for out in node.outputs if out.name in inside) % _PRIME
        for tensor in node.inputs:
            if tensor.name in inside:
                behind[tensor.name] = behind.get(tensor.name, 0) + onward
    return {name: ahead.get(name, 0) * behind.get(name, 0) % _PRIME for name in inside}, ahead.get(score, 0)


def resolve(layers: Layers, wanted: str | Sequence[str]) -> list[Layer]:
    """The layers asked for: "auto" for the default, a name, or several names.

    Raises:
        LayerError: as `Layers.find`; or none or the same one was named twice.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise LayerError(f"layers is a layer's name or a list of names, not {wanted!r}.")
    if not all(names) or not names:
        raise LayerError('No layer was named; use "auto" for the default.')
    found = [layers.default() if name == "auto" else layers.find(name) for name in names]
    seen = set()
    for layer in found:
        if layer.name in seen:
            raise LayerError(f"The layer '{layer.shown}' was named twice.")
        seen.add(layer.name)
    return found
