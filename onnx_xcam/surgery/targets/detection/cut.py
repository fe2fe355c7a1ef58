"""This module finds the cut of a detector: layers that together carry all evidence for its scores, each a part of it.

A score gets its evidence from one pyramid level, or from a memory that queries read. The member of a level is the last
layer through which everything passes that the level's scores get from the picture, and from which the boxes are made
too: what lies behind it belongs to the class branch alone. Logits, and what they are only moved into, are no members,
since a map of these would show the score itself.

A memory whose tokens are several grids, one after the other, is several members that share one tensor; where these
tokens are nothing but the positions of feature maps, the feature maps are taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs

from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.differentiable_path import active_inputs, differentiable_path, image_tensors
from onnx_xcam.surgery.analysis.mixing import mixed_behind
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.dims import Shape, known_size
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.default_layer import origin
from onnx_xcam.surgery.targets.detection.last_layers import last_layers, made_from
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.detection.spans import Span, origins
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers

_NAMED = 5
"""At most this many layers are named in an error."""
_APART = "classes and boxes have no layer in common that all evidence passes through, and this one is of the classes"
_UNUSED = "the scores use only some of its positions, and there is no layer of which they use all"
_BYPASSED = "some of what the scores get from the picture passes no layer at all"
_A_PART = "no layer carries all that its scores get from the picture, this one a part"


def cut_of(layers: Layers, reading: Reading) -> list[Layer]:
    """Return the members of the cut, finest first.

    Raises:
        LayerError: the scores, or those of a level, have no layer.
    """
    search = _Search(layers, reading)
    found = search.members(mixing=True)
    if found is None:
        found = search.members(mixing=False) or []
    members = [part for layer in dict.fromkeys(found) for part in search.parts(layer)]
    if not members:
        raise LayerError(_why_none(layers, layers.score))
    different = list({(member.name, member.grid): member for member in members}.values())
    if not any(member.lacks for member in different) and search.is_bypassed([member.name for member in different]):
        different = [replace(member, lacks=(_BYPASSED,)) for member in different]
    return sorted(different, key=lambda member: -(known_size(search.size(member)) or 0))


def why_cut(layers: Layers, layer: Layer) -> str:
    """Return why a layer is a member of the cut, and what it lacks, as a phrase for users."""
    first = "the last layer of its level that scores and boxes are made from"
    return "; ".join([first, *layer.lacks, *layers.limits(layer, cut_out=True)])


def _why_none(layers: Layers, made: str) -> str:
    """Return why there is no layer before a tensor with scores, and which ones can be named."""
    logits = last_layers(layers.path, layers.score).passed
    before = [layer for layer in layers.candidates if layer.name not in logits]
    if not before:
        return layers.why_none()
    known = ", ".join(f"'{layer.best_name}'" for layer in before[-_NAMED:])
    return (
        f"No layer lies between the picture and '{layers.graph.public_name(made)}', where scores of the detector come "
        f"from; name a layer of your own (--layer, layers=), among them {known}. 'onnx-xcam inspect' lists all."
    )


class _Search:
    """A _Search looks for the members of a cut.

    Attributes:
        layers: the layers of the score table.
        logits: the tensors of logits that are feature maps themselves.
        shared: the tensors that the boxes are made of.
    """

    def __init__(self, layers: Layers, reading: Reading) -> None:
        self.layers = layers
        graph, pictures = layers.graph, layers.explained.names
        last = last_layers(layers.path, layers.score)
        # Rows that are picked may have boxes and scores in one tensor; what scores alone are made of makes no box.
        boxes = [name for name in reading.box_tensors if name not in last.passed] or reading.box_tensors
        self.shared = made_from(differentiable_path(graph, image_tensors(graph, pictures), boxes), boxes)
        self._maps: dict[str, Layer | None] = {}
        self._last = last.outputs
        self.logits = frozenset(name for name in self._last if self.map(name) is not None)
        self._ends = [*self.logits, *self._read_for([name for name in self._last if name not in self.logits])]

    def map(self, name: str) -> Layer | None:
        """Return a tensor as a layer, of any size; None if no map can be made of it."""
        if name not in self._maps:
            self._maps[name] = self.layers.feature_map(name) if name in self.layers.graph.producer else None
        return self._maps[name]

    def size(self, layer: Layer) -> Shape:
        """Return height and width of a layer, as numbers where the sample has them."""
        return self.layers.sampled_space(layer) or layer.spatial

    def _read_for(self, scores: Sequence[str]) -> list[str]:
        """Return the feature maps from which scores of queries or regions, without places of their own, are read."""
        graph, inside = self.layers.graph, self.layers.path.tensors

        def enters(node: gs.Node, name: str) -> bool:
            return name in inside and name in active_inputs(node)

        part = backward(graph.uses, scores, enters=enters, leaves=lambda _, name: self.map(name) is None)
        return [name for name in part.tensors if name in inside and self.map(name) is not None]

    def levels(self) -> list[list[str]]:
        """Return the tensors that the scores are read from in groups, one for each size."""
        groups: dict[object, list[str]] = {}
        for name in sorted(self._ends, key=self.layers.graph.order.__getitem__):
            groups.setdefault(self.size(self._known(name)), []).append(name)
        return list(groups.values())

    def members(self, *, mixing: bool) -> list[Layer] | None:
        """Return the member of each level; None if one lies on the way from another one to that one's scores.

        Args:
            mixing: whether positions are to act on each other behind each member.

        Raises:
            LayerError: a level of the scores has no layer.
        """
        groups = self.levels()
        found = [self.last_before(ends, mixing=mixing) for ends in groups]
        names = {layer.name for layer in found}
        for layer, ends in zip(found, groups, strict=True):
            if mixing and layer.name not in differentiable_path(self.layers.graph, [layer.name], ends, names).tensors:
                return None
        return found

    def is_bypassed(self, members: Collection[str]) -> bool:
        """Tell whether scores get anything from the picture that passes none of some layers."""
        pictures = self.layers.explained.names
        around = differentiable_path(self.layers.graph, pictures, self._last, members).tensors
        return not around.isdisjoint(pictures)

    def last_before(self, ends: Collection[str], *, mixing: bool) -> Layer:
        """Return the last layer that carries all evidence of a level, or else most of it.

        Args:
            ends: the tensors of one size that the level's scores are read from.
            mixing: whether positions are to act on each other behind it, where there is such a layer.

        Raises:
            LayerError: there is none.
        """
        order = self.layers.graph.order
        through, paths = self.layers.counts.through(ends)
        ways = [name for name, count in through.items() if count and name in order and name not in self.logits]
        passed = [name for name in sorted(ways, key=order.__getitem__) if self._is_member(name, ends)]
        if mixing:
            mixed = mixed_behind(self.layers.path, ends if self.logits.issuperset(ends) else [self.layers.score])
            passed = [name for name in passed if name in mixed] or passed
        carrying = [name for name in passed if through[name] == paths]
        used = [name for name in carrying if self.layers.is_wholly_used(self._known(name))]
        if shared := [name for name in used if name in self.shared]:
            return self._earliest(shared[-1])
        if carrying:
            return replace(self._earliest((used or carrying)[-1]), lacks=(_APART if used else _UNUSED,))
        if not passed:
            raise LayerError(_why_none(self.layers, min(ends, key=order.__getitem__)))
        most = max(through[name] for name in passed)
        last = [name for name in passed if 2 * through[name] >= most][-1]
        return replace(self._earliest(last), lacks=(_A_PART,))

    def _known(self, name: str) -> Layer:
        """Return a tensor that is known to be a feature map as a layer."""
        layer = self.map(name)
        assert layer is not None
        return layer

    def _earliest(self, name: str) -> Layer:
        """Return the earliest layer with the same values as a feature map, at the same places."""
        layer = origin(self.layers, self._known(name))
        node = self.layers.graph.producer[layer.name]
        before = self.map(str(node.inputs[0].name)) if traits(node).values <= Values.REARRANGED else None
        same = before is not None and self.size(before) == self.size(layer)
        return self._earliest(before.name) if before is not None and same else layer

    def _is_member(self, name: str, ends: Collection[str]) -> bool:
        """Tell whether a tensor can be a member: a feature map that is not pooled more than its level."""
        layer = self.map(name)
        if layer is None or not self.parts(layer):
            return False
        least = min((side for end in ends for side in self.size(self._known(end)) if isinstance(side, int)), default=2)
        return least == 1 or 1 not in self.size(layer)

    def parts(self, layer: Layer) -> list[Layer]:
        """Return a layer in one part for each of its grids; none if their places among the tokens are not known."""
        at = layer.layout.find("T")
        grids = self.layers.grids(layer)
        if len(grids) < 2:
            return [layer]
        spans = [Span(layer.name, at, grid.before, grid.before + (grid.size or 0)) for grid in grids]
        behind = [origins(self.layers.sample, span) for span in spans]
        maps = [self.map(each[0].name) if len(each) == 1 else None for each in behind]
        own = [
            one for one, grid in zip(maps, grids, strict=True) if one and self.size(one) == (grid.height, grid.width)
        ]
        if len(own) == len(grids):
            return own
        return [replace(layer, grid=grid) for grid in grids] if isinstance(layer.shape[at], int) else []
