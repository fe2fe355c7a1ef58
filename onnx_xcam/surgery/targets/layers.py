"""This module finds the layers of a model that a map can be made of, and says what is known of each.

A candidate is a feature map whose axes are known to be images, channels and space: `[N,C,H,W]`, `[N,H,W,C]`, or tokens
`[N,T,C]`, `[N,C,T]` or `[T,N,C]` of a known grid. The module `default_layer.py` chooses the default, and
`layer_names.py` finds the layer that a name means.
"""

from __future__ import annotations

from functools import cached_property

import onnx_graphsurgeon as gs

from onnx_xcam.contract import Grid, Layout, Window, input_kind, shape_text
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path, image_tensors
from onnx_xcam.surgery.analysis.ends import makers
from onnx_xcam.surgery.analysis.foreign_operators import foreign_among
from onnx_xcam.surgery.analysis.path_counts import PathCounts
from onnx_xcam.surgery.analysis.position_liveness import used_positions
from onnx_xcam.surgery.autodiff.backward import unsupported
from onnx_xcam.surgery.axes.axes import Place, grids_of
from onnx_xcam.surgery.axes.layouts import axis_roles, displaced, grid_places, layout_of, token_grid, window_of
from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.pictures import explained_picture
from onnx_xcam.surgery.targets.window import window_of_layers

_PICTURE_AXES = 4
"""A picture input has this many axes, `[N,C,H,W]` or `[N,H,W,C]`; a volume or a video has more."""


class Layers:
    """Layers holds the candidate layers of a model for one score, in topological order.

    Args:
        graph: the model.
        score: the score tensor.
        sample: the same graph with numbers for a symbolic height and width, if they are symbolic: what is counted or
            compared (tokens, windows, positions that are used) is looked up there.
        picture: the image input that is explained, or "auto".
        only: the sentence that says what is explained, for a model without layers that takes no picture.
        doubt: the question whether such a model is what it was taken for, where it takes a picture.

    Attributes:
        explained: the picture that is explained.
        roles: what the axes of each tensor are made of.
        path: the nodes and tensors from the picture to the score.
        used: for each tensor, the positions of each axis that the score uses.
        counts: counts the paths from the picture.
        through: how many paths from the picture to the score pass through each tensor.
        paths: how many paths there are.
        candidates: the layers.
    """

    def __init__(
        self,
        graph: Graph,
        score: str,
        sample: Graph | None = None,
        picture: str = "auto",
        *,
        only: str = "",
        doubt: str = "",
    ) -> None:
        self.graph = graph
        self.score = score
        self.sample = sample or graph
        self._only, self._doubt = only, doubt
        self.explained = explained_picture(graph, picture, score)
        self.roles = axis_roles(self.sample)
        names = self.explained.names
        self.path = differentiable_path(graph, image_tensors(graph, names), [score])
        self.used = used_positions(
            self.sample, differentiable_path(self.sample, image_tensors(self.sample, names), [score])
        )
        self.counts = PathCounts(self.path)
        self.through, self.paths = self.counts.through([score])
        self.candidates = [
            layer
            for node in ([] if self.takes_volumes() else graph.nodes)
            for out in node.outputs
            if (layer := self._candidate(out.name))
        ]

    def takes_volumes(self) -> bool:
        """Tell whether a volume or a video is explained: layers of its slices or frames have no images as batch."""
        ranks = [len(self.graph.shape(name) or ()) for name in self.explained.names]
        return bool(ranks) and min(ranks) > _PICTURE_AXES

    def _candidate(self, name: str) -> Layer | None:
        """Return a tensor as a layer if a map can be made of it, else None."""
        layer = self.feature_map(name)
        return None if layer is None or 1 in layer.spatial or 1 in self.sampled_space(layer) else layer

    def feature_map(self, name: str) -> Layer | None:
        """Return a tensor on the way to the score as a layer, of any size; None if no map can be made of it."""
        shape, layout = self.graph.shape(name), layout_of(self.roles.get(name))
        if layout is not None and displaced(self.roles.get(name)) is not None:
            return None
        if name not in self.path.tensors or shape is None or layout is None or name == self.score:
            return None
        if not self.graph.is_float(name) or not self._is_outside(name):
            return None
        layer = self.layer(name, shape, layout, bottleneck=self.through[name] == self.paths)
        if layer.grid is not None and layer.grid.size is None and not layer.places:
            return None
        return layer

    def _is_outside(self, name: str) -> bool:
        """Tell whether a tensor stands for one of the file's tensors, and no later tensor stands for the same one."""
        return (name not in self.graph.inner or name in self.graph.stand_ins) and float_for(self.graph, name) == name

    def _maker(self, name: str) -> gs.Node:
        """Return the node that computes a tensor; for a dequantised one, the node before the quantiser."""
        producer = self.graph.producer
        node = producer[name]
        for is_passed in (_dequantises, self._clips_integers, _quantises):
            before = producer.get(node.inputs[0].name) if is_passed(node) else None
            node = before or node
        return node

    def _clips_integers(self, node: gs.Node) -> bool:
        """Tell whether a node clips quantised integers."""
        return traits(node).clips and node.outputs[0].name in self.graph.quantised

    def layer(self, name: str, shape: Shape, layout: Layout, *, bottleneck: bool) -> Layer:
        """Return the description of a tensor of this shape and layout as a layer."""
        node, public_name = self._maker(name), self.graph.public_name(name)
        path = self.graph.scopes.get(self.graph.order[node.outputs[0].name], "")
        grid, places = token_grid(self.roles.get(name)) if "T" in layout else None, tuple[Place, ...]()
        if grid is not None and not isinstance(shape[layout.find("T")], int):
            grid, places = grid._replace(height=None, width=None), grid_places(self.roles.get(name))
        return Layer(
            name, public_name, str(node.name or ""), str(node.op), path, shape, layout, bottleneck, grid, places
        )

    def sampled_space(self, layer: Layer) -> Shape:
        """Return height and width as the sample has them; nothing for tokens, or if they are not known."""
        at = layer.layout.find("H")
        return (self.sample.shape(layer.name) or ())[at : at + 2] if at >= 0 else ()

    # --- what is known of a layer -------------------------------------------------------------------------------------

    def carrying_most(self) -> list[Layer]:
        """Return the candidates that carry as many paths as any; they serve where no candidate carries all."""
        most = max((self.through[layer.name] for layer in self.candidates), default=0)
        return [layer for layer in self.candidates if self.through[layer.name] == most]

    @cached_property
    def window(self) -> Window | None:
        """Return which part of the picture the layers cover; None for all of it, or where only a run tells."""
        known = self.sample is self.graph
        return window_of_layers(self.graph, self.path.nodes, self.roles) if known else None

    def limits(self, layer: Layer, *, cut_out: bool = False) -> list[str]:
        """Return the limits of a layer's map, whoever chose the layer, as parts of a sentence.

        Args:
            layer: the layer.
            cut_out: whether the picture's part is cut out of the map where it is known.
        """
        limits = []
        if others := self.holds(layer):
            limits.append(f"it holds {' and '.join(map(repr, others))} too")
        window = window_of(self.roles.get(layer.name))
        if window and not (cut_out and self.window):
            limits.append(f"its map covers {window} but is stretched over the whole picture")
        return limits

    def grids(self, layer: Layer) -> tuple[Grid, ...]:
        """Return the grids of a layer of tokens, of which there are several if it is made of several maps."""
        at = layer.layout.find("T")
        axes = self.roles.get(layer.name, ())
        return grids_of(axes[at]) if at >= 0 and axes else ()

    def holds(self, layer: Layer) -> list[str]:
        """Return the names of the pictures beside the explained one that a layer depends on."""
        return self.others_behind(layer.name)

    def others_behind(self, name: str) -> list[str]:
        """Return the names of the pictures beside the explained one that a tensor depends on."""
        return [other for other, tensors in self._of_others.items() if name in tensors]

    @cached_property
    def _of_others(self) -> dict[str, frozenset[str]]:
        """Return the tensors that depend on each picture beside the explained one."""
        return {name: frozenset(image_tensors(self.graph, [name])) for name in self.explained.others}

    def is_wholly_used(self, layer: Layer) -> bool:
        """Tell whether the score uses every position of the layer, as far as the graph shows."""
        used = self.used.get(layer.name)
        if used is None:
            return True
        if layer.grid is not None:
            tokens = used[layer.layout.find("T")]
            return tokens is None or bool(tokens[layer.grid.tokens].all())
        at = layer.layout.find("H")
        return used[at] is None and used[at + 1] is None

    @cached_property
    def displaced(self) -> dict[str, str]:
        """Return the four-dimensional feature maps that cannot be laid on the picture, and why each cannot."""
        reasons = {}
        for name, axes in self.roles.items():
            if name in self.graph.producer and len(axes) == 4 and (why := displaced(axes)):
                reasons[name] = why
        return reasons

    # --- which operators have no gradient rule ------------------------------------------------------------------------

    def works(self, layer: Layer) -> bool:
        """Tell whether every operator from the layer to the score has a gradient rule."""
        return not self.unsupported(layer)

    def unsupported(self, layer: Layer) -> list[gs.Node]:
        """Return the nodes between a layer and the score that have no gradient rule."""
        if not layer.bottleneck:
            return unsupported(differentiable_path(self.graph, [layer.name], [self.score]))
        order = self.graph.order  # every later node of the path lies behind a bottleneck
        return [n for n in self._missing if order[n.outputs[0].name] > order[layer.name]]

    @cached_property
    def _missing(self) -> list[gs.Node]:
        """Return the nodes between the picture and the score that have no gradient rule."""
        return unsupported(self.path)

    def nearest_that_works(self, layer: Layer) -> Layer | None:
        """Return the first candidate behind a layer from which the gradient can be computed."""
        order = self.graph.order
        later = [c for c in self.candidates if order[c.name] > order[layer.name] and c.bottleneck]
        return next((c for c in later if self.works(c)), None)

    # --- why there is no layer ----------------------------------------------------------------------------------------

    def why_none(self) -> str:
        """Return why the model has no layer at all, in sentences."""
        graph = self.graph
        if foreign := foreign_among(makers(graph, self.score), graph.opset):
            return f"No spatial layer was found, since axes cannot be followed everywhere. {foreign.sentence()}"
        displaced_ones = [name for name in self.displaced if name in self.path.tensors]
        if displaced_ones and not self.takes_volumes():
            name = max(displaced_ones, key=self.through.__getitem__)
            return (
                f"No layer was found whose map can be laid on the picture '{self.explained.names[0]}'; that of "
                f"'{graph.public_name(name)}' cannot, since {self.displaced[name]}."
            )
        names = [name for name in graph.input_names if not graph.is_constant(name)]
        if self.takes_volumes():
            names = [name for name in names if name in self.explained.names]
        shapes = {name: graph.shape(name) or () for name in names}
        kinds = {name: str(graph.dtype(name) or "?").replace("object", "string") for name in names}
        inputs = [f"'{name}' {kinds[name]} {shape_text(shapes[name])}" for name in names]
        takes = f"the model takes {', '.join(inputs) or 'nothing'}"
        what = [input_kind(shapes[name], kinds[name]) for name in names]
        if what and None not in what:
            return f"No spatial layer was found: {takes}, {what[0]}. {self._only}".rstrip()
        return (
            "No spatial layer was found: looked for four-dimensional feature maps (convolution, pooling) and for "
            f"tokens of a known grid between the input and the score '{self.score}', found none; {takes}. {self._doubt}"
        ).rstrip()


def _dequantises(node: gs.Node) -> bool:
    """Tell whether a node is a DequantizeLinear."""
    return traits(node).dequantises


def _quantises(node: gs.Node) -> bool:
    """Tell whether a node quantises with a scale and a zero point that are its inputs."""
    return traits(node).quantises_as_told
