"""This module makes a model of the part behind a layer, for many masks of the layer's channels at once.

    xcam_a [1,...], other tensors [1,...], xcam_keep [B,C]  ->  the score of B images

Row b is the score of the one image with each channel c of the layer multiplied by `xcam_keep[b,c]`. The layer is fed
once and repeated B times inside. In a layer of tokens, only the tokens of the grid are multiplied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_xcam import contract
from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.autodiff.vjp_model import tensor_info
from onnx_xcam.surgery.axes.axes import Axes, roles_of
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import IR_VERSION, MICROSOFT
from onnx_xcam.surgery.normalise.inline_if import rename
from onnx_xcam.surgery.submodels.behind_layer import behind_layer, crossing, names_read_by, stored_for
from onnx_xcam.surgery.targets.layer import Layer

KEEP, OTHERS = "xcam_keep", "xcam_others"
"""The input `xcam_keep` is the mask, float32 `[B,C]`. The input `xcam_others`, float32 `[T]`, exists where tokens stand
beside the grid, and is 1 for each of these."""
_LAYER, _FED = "xcam_a", "xcam_fed"
"""The input `xcam_a` is the layer; inputs `xcam_fed_0`, ... are other tensors that are repeated for each mask."""


@dataclass(frozen=True)
class Fed:
    """A Fed is a tensor of the model that the part takes as an input.

    Attributes:
        name: the tensor.
        input: the part's input that takes it.
        images: the axis of its images, None if it has none or it is not known.
        lengths: whether it holds the lengths of another tensor, with the number of images at position `images`.
    """

    name: str
    input: str
    images: int | None
    lengths: bool = False


@dataclass(frozen=True)
class MaskedPart:
    """A MaskedPart is the part behind a layer as a model that takes masks.

    Attributes:
        model: the model, with the inputs `xcam_keep`, those of `fed`, and `xcam_others` where tokens stand beside the
            grid.
        fed: the model's tensors that the part takes: first the layer, or the integers that it is made of, then the
            tensors that bypass the layer. Only the first image's part of each is fed.
        others: whether `xcam_others` is an input as well.
        score: the only output, which has the contract's shape for B images.
        skeleton: the model without its large weights, serialised.
    """

    model: onnx.ModelProto
    skeleton: bytes
    fed: tuple[Fed, ...]
    others: bool
    score: str


def masked_part(
    graph: Graph,
    roles: Mapping[str, Axes],
    layer: Layer,
    score: str,
    *,
    weights: Mapping[str, onnx.TensorProto],
    foreign: Collection[str] = (),
    held: Collection[str] = (),
) -> MaskedPart:
    """Return the part behind a layer, for masks of the layer's channels.

    Args:
        graph: the whole model.
        roles: what the axes of its tensors mean.
        layer: the layer.
        score: the score tensor.
        weights: the model's initializers, by name.
        foreign: the outputs of quantisers that are ONNX Runtime's own and not the standard's.
        held: tensors that stay as they are: the other members of a cut.

    Raises:
        ShapeError: a shape that is needed is not known.
    """
    return _Cut(graph, roles, layer, score, held).masked(weights, foreign)


def tensors_of_part(graph: Graph, layer: str, score: str, held: Collection[str] = ()) -> set[str]:
    """Return the names of the tensors that the part behind a layer reads, and of those that it recomputes."""
    inside = {*behind_layer(graph, layer, score, held).positions}
    again = _made_again(graph, [layer]) | _made_again(graph, crossing(graph, inside) - {layer})
    return names_read_by(graph, inside | again)


class _Cut:
    """A _Cut holds the nodes of the part behind a layer, and those that recompute what the model does not output.

    Attributes:
        first: positions of the nodes that recompute the layer from what the model has.
        nodes: positions of all other nodes.
        source: the tensor that is fed for the layer.
        crossing: the other tensors that are fed.
    """

    def __init__(
        self, graph: Graph, roles: Mapping[str, Axes], layer: Layer, score: str, held: Collection[str]
    ) -> None:
        self.graph, self.roles, self.layer, self.score = graph, roles, layer, score
        inside = {*behind_layer(graph, layer.name, score, held).positions}
        self.first = _made_again(graph, [layer.name])
        self.nodes = inside | _made_again(graph, crossing(graph, inside) - {layer.name})
        for_layer = sorted(crossing(graph, self.first))
        if len(for_layer) > 1:
            raise ShapeError(
                f"The layer '{layer.public_name}' is made of several tensors at once; choose another layer."
            )
        self.source = for_layer[0] if for_layer else layer.name
        self.crossing = sorted(crossing(graph, self.nodes) - {self.source, layer.name})

    def masked(self, weights: Mapping[str, onnx.TensorProto], foreign: Collection[str]) -> MaskedPart:
        """Return the part as a model."""
        graph, name = self.graph, self.layer.name
        emitter = Emitter(graph.opset, graph.tensors.__contains__)
        keep = emitter.input(KEEP, np.float32, ("xcam_B", "xcam_C"))
        fed = [self._fed(self.source, self.source if self.first else _LAYER)]
        fed += [self._fed(n, f"{_FED}_{i}" if self._is_repeated(n) else n) for i, n in enumerate(self.crossing)]
        inputs = [keep, *(self._as_input(emitter, one) for one in fed)]
        a = emitter.forward(_LAYER, graph.dtype(name), graph.shape(name) or ()) if self.first else inputs[1]
        beside = list(zip(fed[1:], inputs[2:], strict=True))
        made = [emitter.named(self._masked(emitter, a, keep, inputs), name)]
        made += [
            emitter.named(_repeated_for_masks(value, one, keep), one.name)
            for one, value in beside
            if one.input != one.name
        ]
        first = [exported(graph.nodes[i]) for i in sorted(self.first)]
        for node in first:
            rename(node, {name: _LAYER})
        tail = export(emitter, [value.name for value in made], IR_VERSION)
        nodes = [*first, *tail.node, *(exported(graph.nodes[i]) for i in sorted(self.nodes))]
        for node in nodes:
            if node.output[0] in foreign:
                node.domain = MICROSOFT
        model = self._assembled(nodes, inputs, [*tail.initializer, *self._stored(nodes, weights)])
        return MaskedPart(model, _skeleton(model), tuple(fed), len(inputs) > 1 + len(fed), self.score)

    def _assembled(
        self, nodes: Sequence[onnx.NodeProto], inputs: Sequence[Value], stored: Sequence[onnx.TensorProto]
    ) -> onnx.ModelProto:
        """Return the model of these nodes, inputs and stored tensors."""
        fed = [tensor_info(value) for value in inputs]
        body = onnx.helper.make_graph(nodes, "behind_layer", fed, [self._output()], stored, value_info=self._ranks())
        domains = {"": self.graph.opset, **{node.domain: 1 for node in nodes if node.domain}}
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return onnx.helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION)

    def _masked(self, emitter: Emitter, a: Value, keep: Value, inputs: list[Value]) -> Value:
        """Emit the layer times the mask, `[B,...]` in the layer's own layout and dtype."""
        layout, grid = self.layer.layout, self.layer.grid
        order = [layout.find("N"), layout.find("C")]
        mask = keep if order[0] < order[1] else keep.transpose([1, 0])
        mask = mask.unsqueeze([axis for axis in range(len(layout)) if axis not in order])
        if grid is not None and (grid.before or grid.after):
            others = emitter.input(OTHERS, np.float32, ("xcam_T",))
            inputs.append(others)
            mask = mask.maximum(others.unsqueeze([axis for axis in range(3) if layout[axis] != "T"]))
        return a * mask.cast(a.dtype)

    def _as_input(self, emitter: Emitter, fed: Fed) -> Value:
        """Emit the input that takes a tensor of the model.

        Raises:
            ShapeError: the tensor's rank is not known.
        """
        shape = self.graph.shape(fed.name)
        if shape is None:
            raise ShapeError(
                f"The part behind '{self.layer.public_name}' needs the rank of '{fed.name}', which shape inference "
                "could not find; run the model through onnxslim or ONNX Runtime's symbolic shape inference first."
            )
        sizes = tuple(None if axis == fed.images and not fed.lengths else dim for axis, dim in enumerate(shape))
        return emitter.input(fed.input, self.graph.dtype(fed.name), sizes)

    def _output(self) -> onnx.ValueInfoProto:
        """Return the score as an output of unknown shape."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(self.graph.dtype(self.score) or np.dtype(np.float32))
        return onnx.helper.make_tensor_value_info(self.score, kind, None)

    def _ranks(self) -> list[onnx.ValueInfoProto]:
        """Return the ranks of the tensors inside, as far as they are known in the whole model.

        A tensor that is reshaped to computed lengths has no known rank in the part, which lacks the nodes that compute
        the lengths. Its lengths are left open, since they may differ with the number of images.
        """
        graph, ranks = self.graph, []
        for name in sorted(out.name for i in self.nodes | self.first for out in graph.nodes[i].outputs if out.name):
            shape, kind = graph.shape(name), graph.dtype(name)
            if shape is not None and kind is not None and name != self.score:
                dtype = onnx.helper.np_dtype_to_tensor_dtype(kind)
                ranks.append(onnx.helper.make_tensor_value_info(name, dtype, [None] * len(shape)))
        return ranks

    def _stored(
        self, nodes: Sequence[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]
    ) -> list[onnx.TensorProto]:
        """Return the constants that the nodes read, including those that other nodes of the model make."""
        made = {name for node in nodes for name in node.output}
        return stored_for(self.graph, names_read_by(self.graph, self.nodes | self.first) - made, weights)

    # --- axes ---------------------------------------------------------------------------------------------------------

    def _fed(self, name: str, given: str) -> Fed:
        """Return how a tensor of the model is fed, given the name of the part's input."""
        node = self.graph.producer.get(name)
        if node is None or node.op != "Shape":
            return Fed(name, given, self._images(name))
        axis = self._images(node.inputs[0].name)
        place = None if axis is None else axis - int(node.attrs.get("start", 0))
        length = (self.graph.shape(name) or (None,))[0]
        inside = place is not None and place >= 0 and (not isinstance(length, int) or place < length)
        return Fed(name, given, place if inside else None, lengths=True)

    def _images(self, name: str) -> int | None:
        """Return the axis of the images of a tensor, None if it has none or it is not known."""
        if name in (self.source, self.layer.name):
            return self.layer.layout.find("N")
        dims = self.graph.shape(name) or ()
        if name in self.graph.input_names and contract.image_axes(dims):
            return 0
        axis = roles_of(self.roles.get(name, ())).find("N")
        if axis >= 0:
            return axis
        symbol = (self.graph.shape(self.layer.name) or ())[self.layer.layout.find("N")]
        return dims.index(symbol) if isinstance(symbol, str) and symbol in dims else None

    def _is_repeated(self, name: str) -> bool:
        """Tell whether a tensor that bypasses the layer must be repeated for each mask, as broadcasting does not."""
        if self._images(name) is None or self._fed(name, name).lengths:
            return False
        readers = [self.graph.nodes[i] for i in self.nodes if name in self.graph.uses.reads[i]]
        return not all(traits(node).same_place or traits(node).axes == "matmul" for node in readers)


def _repeated_for_masks(value: Value, fed: Fed, keep: Value) -> Value:
    """Emit a tensor of one image repeated for each mask."""
    assert fed.images is not None
    return value.expand([shapes.dim_part(keep, 0) if axis == fed.images else 1 for axis in range(value.rank)])


def _skeleton(model: onnx.ModelProto) -> bytes:
    """Return the model without its large weights, serialised."""
    result: bytes = Source(model).skeleton().SerializeToString()
    return result


def _made_again(graph: Graph, names: Iterable[str]) -> set[int]:
    """Return the positions of the nodes that recompute these tensors from what the model outputs."""
    return {*backward(graph.uses, names, leaves=lambda _, made: _is_made(graph, made)).positions}


def _is_made(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is recomputed in the part, instead of being an output of the model.

    That holds for tensors that the model does not have, for floats from DequantizeLinear (as outputs, they would keep
    ONNX Runtime from computing on the integers), and for integers computed from lengths, which differ with the number
    of images.
    """
    node = graph.producer.get(name)
    if node is None or graph.is_constant(name):
        return False
    kind = graph.dtype(name)
    counts = kind is not None and kind.kind in "ib" and name not in graph.quantised and node.op not in ("Shape", "Size")
    return name in graph.inner or traits(node).dequantises or counts
