"""This module emits the part that is added to a model: from the score back to the layers, and the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam import contract
from onnx_xcam.cams.methods import AUTO_METHOD, Method, emitted_method
from onnx_xcam.contract import Emit, Layout
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.ends import inputs_behind
from onnx_xcam.surgery.analysis.signs import is_non_negative
from onnx_xcam.surgery.autodiff.backward import gradients
from onnx_xcam.surgery.autodiff.local.plan import Source, planned
from onnx_xcam.surgery.autodiff.local.sweep import Chosen, Windows, windows_of
from onnx_xcam.surgery.autodiff.vjp_model import new_emitter, tensor_info
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.broadcasting import expanded
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import IR_VERSION
from onnx_xcam.surgery.tail.cam import (
    Cam,
    emit_cam,
    emit_fused,
    emit_guided,
    emit_heatmap,
    emit_placed,
    emit_status,
    emit_sum,
)
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.target import Choosing, Selection, Target

_OF_LAYERS = ("activations", "gradients")
"""These outputs belong to a layer, and the others to a map, which may be the sum of several layers' maps."""


def method_for(target: Target, method: str) -> Method:
    """Return the CAM method of this name, or for "auto" the one that suits the target's scores.

    Raises:
        XcamError: no method has this name, or no model can compute it.
    """
    return emitted_method(target.default_method if method == AUTO_METHOD else method)


@dataclass(frozen=True)
class _Image:
    """An _Image says where height and width of the picture input are, and how large they are.

    Attributes:
        axes: the axes of height and width in the input, `[N, ...]`.
        size: height and width as parts of a shape.
        static: height and width as a static shape.
    """

    axes: tuple[int, int]
    size: list[shapes.Part]
    static: dims.Shape


class Tail:
    """A Tail builds the part that is added to a model.

    Args:
        graph: the model.
        target: the score table.
        layers: the layers that are explained.
        options: what is added.
        picture: the picture input that is explained, None if the model has only one.
        adds_up: whether the layers are a cut, so that no way through one leads to another and their maps are added up.
        window: which part of the input the layers of a cut cover, None for all of it.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        layers: Sequence[Layer],
        options: TailOptions,
        picture: str | None = None,
        *,
        adds_up: bool = False,
        window: contract.Window | None = None,
    ) -> None:
        self.graph = graph
        self.picture = picture
        self.target = target
        self.layers = layers
        self.options = options
        self.adds_up = adds_up
        self.window = window
        self.method = method_for(target, options.method)
        self.inputs = inputs_behind(graph, target.name)
        self.emitter: Emitter = new_emitter(graph, self.inputs)
        self.outputs: list[Value] = []

    def build(self) -> onnx.GraphProto:
        """Return the nodes, initializers, inputs and outputs to add."""
        options = self.options
        choosing = Choosing(
            class_input=options.class_input,
            classes=options.classes,
            objects=options.objects,
            contrast=options.contrast,
        )
        selection = self.target.select(self.graph, self.emitter, choosing)
        for name, value in selection.outputs.items():
            self._add(value, name)
        if options.emit or options.fuse:
            self._explain(selection)
        tail = export(self.emitter, [value.name for value in self.outputs], IR_VERSION)
        result = onnx.GraphProto(node=tail.node, initializer=tail.initializer)
        result.output.extend(tensor_info(value) for value in self.outputs)
        result.input.extend(tensor_info(choice.value) for choice in selection.inputs)
        if options.class_input == "optional":
            defaults = [(choice.default, choice.value.name) for choice in selection.inputs]
            result.initializer.extend(onnx.numpy_helper.from_array(*default) for default in defaults)
        return result

    def _add(self, value: Value, name: str) -> None:
        """Add a value to the outputs, under a name of the contract."""
        self.outputs.append(self.emitter.named(value, name))

    def _explain(self, selection: Selection) -> None:
        """Emit the outputs of each layer, and the fused map if it is asked for."""
        if not self.options.fuse and set(self.options.emit) == {"activations"}:
            for index, layer in enumerate(self.layers):  # no gradient rule is needed
                a = self._images_first(layer)
                self._add(a.cast(np.float32), contract.output_name("activations", index))
            return
        windows = self._windows(selection)
        if windows is not None:
            pairs = zip(self.layers, windows, strict=True)
            cams = [self._local_layer(index, *pair) for index, pair in enumerate(pairs)]
            self._of_cams(cams, None, selection)
            return
        names = [layer.name for layer in self.layers]
        seeds = {self.target.name: selection.seed}
        layer_gradients = gradients(
            self.graph, self.emitter, seeds, names, self.target.unclipped, stops=names if self.adds_up else ()
        )
        guided = None
        if self.method.is_guided:
            image = image_tensor(self.graph, self.target.name, self.picture)
            slopes = gradients(self.graph, self.emitter, seeds, [image.name], self.target.unclipped, guided=True)
            guided = slopes[image.name].transpose([0, *(image.order.index(axis) + 1 for axis in range(4))])
        cams = [
            self._layer(index, layer, layer_gradients[layer.name], guided, selection)
            for index, layer in enumerate(self.layers)
        ]
        self._of_cams(cams, guided, selection)

    def _of_cams(self, cams: Sequence[Cam], guided: Value | None, selection: Selection) -> None:
        """Emit the outputs of the sum of the layers' maps, and the fused map if it is asked for."""
        if self.adds_up:
            total = self._guided(emit_sum(cams, relu=self.options.relu, window=self.window), guided)
            for kind in dict.fromkeys(self.options.emit):
                if kind not in _OF_LAYERS:
                    self._add(self._of_map(kind, total, selection), contract.output_name(kind))
            cams = [total]
        if self.options.fuse:
            self._add(emit_fused(cams, self.options.fuse), contract.FUSED)

    def _windows(self, selection: Selection) -> Sequence[Windows] | None:
        """Emit the gradients in windows around the candidates; None where the scores need the whole pictures."""
        candidates, weights = selection.candidates, selection.weights
        if candidates is None or weights is None or not self.adds_up or self.method.is_guided:
            return None
        if any(layer.grid is not None for layer in self.layers):
            return None
        sources = [Source(layer.name, layer.layout) for layer in self.layers]
        plan = planned(self.graph, self.target.name, sources)
        if plan is None:
            return None
        chosen = Chosen(self.target.name, candidates, weights)
        return windows_of(self.graph, self.emitter, plan, chosen, self.target.unclipped)

    def _local_layer(self, index: int, layer: Layer, windows: Windows) -> Cam:
        """Emit the outputs of one layer of which the gradients are known in windows, and return its map."""
        a = self._images_first(layer)
        dense: Value | None = None
        if not self.method.is_local or "gradients" in self.options.emit:
            dense = windows.placed(windows.gradients.squeeze([0]))  # [N, K, C, h, w]
        for kind in dict.fromkeys(self.options.emit):
            if kind == "activations":
                self._add(a.cast(np.float32), contract.output_name(kind, index))
            elif kind == "gradients":
                assert dense is not None
                order = [0, 1, *("CHW".index(axis) + 2 for axis in layer.layout if axis != "N")]
                self._add(dense.cast(np.float32).transpose(order), contract.output_name(kind, index))
        assert self.method.formula is not None
        emit = partial(
            emit_cam,
            self.method.formula,
            grid=None,
            layout="NCHW",
            non_negative=is_non_negative(self.graph, layer.name),
            relu=False,
        )
        space = self._space(layer, a, contract.images_first(layer.layout))
        if self.method.is_local:
            g = windows.gradients
            size: list[shapes.Part] = [dim for dim in g.shape[-2:] if isinstance(dim, int)]
            return emit_placed(emit(windows.activations, g, space=size), windows.placed, space)
        assert dense is not None
        nchw = a.transpose([layer.layout.find(axis) for axis in "NCHW"])
        return emit(nchw, dense.transpose([1, 0, 2, 3, 4]), space=space)

    def _layer(self, index: int, layer: Layer, gradient: Value, guided: Value | None, selection: Selection) -> Cam:
        """Emit the outputs of one layer, and return its map; a member of a cut has none of a map."""
        layout = contract.images_first(layer.layout)
        a = self._images_first(layer)
        gradient = gradient.transpose([0, *(layer.layout.find(axis) + 1 for axis in layout)])
        assert self.method.formula is not None  # `emitted_method` has checked it
        cam = emit_cam(
            self.method.formula,
            a,
            gradient,
            layout=layout,
            grid=layer.grid,
            space=self._space(layer, a, layout),
            non_negative=is_non_negative(self.graph, layer.name),
            relu=self.options.relu and not self.adds_up,
        )
        if not self.adds_up:
            cam = self._guided(cam, guided)
        for kind in dict.fromkeys(self.options.emit):
            if kind == "activations":
                self._add(a.cast(np.float32), contract.output_name(kind, index))
            elif kind == "gradients":
                full = expanded(gradient, a).cast(np.float32)
                self._add(full.transpose([1, 0, *range(2, full.rank)]), contract.output_name(kind, index))
            elif not self.adds_up:
                self._add(self._of_map(kind, cam, selection), contract.output_name(kind, index))
        return cam

    def _guided(self, cam: Cam, guided: Value | None) -> Cam:
        """Return a map multiplied with the guided gradient of the input, if the method is a guided one."""
        if guided is None:
            return cam
        image = self._image("A guided map")
        return emit_guided(cam, guided, image.axes, image.size)

    def _images_first(self, layer: Layer) -> Value:
        """Emit the layer's activations with the axis of the images first."""
        a = forward_value(self.graph, self.emitter, layer.name, "The layer")
        return a.transpose([layer.layout.find(axis) for axis in contract.images_first(layer.layout)])

    def _space(self, layer: Layer, a: Value, layout: Layout) -> list[shapes.Part]:
        """Return height and width of the layer as parts of a shape."""
        if layer.grid is None:
            at = layout.find("H")
            return [shapes.dim_part(a, at), shapes.dim_part(a, at + 1)]
        if layer.grid.height is not None and layer.grid.width is not None:
            return [layer.grid.height, layer.grid.width]
        tensors = [(forward_value(self.graph, self.emitter, name, "The layer"), axis) for name, axis in layer.places]
        return [shapes.dim_part(tensor, axis) for tensor, axis in tensors]

    def _of_map(self, kind: Emit, cam: Cam, selection: Selection) -> Value:
        """Return one output of a map, which its kind names."""
        if kind == "map":
            return cam.map
        if kind == "status":
            return emit_status(cam, selection.scores, selection.exists)
        image = self._image("The heat map")
        return emit_heatmap(cam, image.size, (*cam.map.shape[:2], *image.static))

    def _image(self, what: str) -> _Image:
        """Return the picture input's height and width.

        Args:
            what: the thing that needs them, for the error message.

        Raises:
            LayerError: the model has no picture input.
        """
        name = self.picture or _image_input(self.graph, self.inputs)
        shape = self.graph.shape(name) if name else None
        axes = contract.picture_sides(shape) if shape else None
        if name is None or shape is None or axes is None:
            raise LayerError(
                f"{what} needs an image input [N,C,H,W] or [N,H,W,C] to take its size from; there is none."
            )
        image = self.emitter.forward(name, self.graph.dtype(name), shape)
        return _Image(axes, [shapes.dim_part(image, axis) for axis in axes], tuple(shape[axis] for axis in axes))


def _image_input(graph: Graph, inputs: Sequence[str]) -> str | None:
    """Return the first of these inputs that has the shape of a picture, None if none has."""
    return next((name for name in inputs if contract.picture_sides(graph.shape(name) or ()) is not None), None)


@dataclass(frozen=True)
class ImageTensor:
    """An ImageTensor is the first tensor with the picture's pixels that has a gradient.

    Attributes:
        name: the picture input itself; for an input of integers, what a Cast, a DequantizeLinear or a Transpose makes
            of it.
        order: for each axis of the tensor, the axis of the input that it is.
    """

    name: str
    order: tuple[int, ...]


def _keeps_pixels(node: gs.Node) -> bool:
    """Tell whether a node returns the pixels unchanged, at most as floats or with its axes transposed."""
    facts = traits(node)
    return facts.values == Values.COPIED or facts.casts or facts.dequantises or facts.axes == "transposed"


def image_tensor(graph: Graph, score: str, picture: str | None = None) -> ImageTensor:
    """Return the first tensor with a gradient that holds the picture that a score is made of.

    Args:
        graph: the model.
        score: the score tensor.
        picture: the picture input to take; None for the first.

    Raises:
        LayerError: there is none.
    """
    name, order = picture or _image_input(graph, inputs_behind(graph, score)), tuple(range(4))
    while name is not None and not graph.is_float(name) and name not in graph.quantised:
        readers = [node for node in graph.nodes if any(tensor.name == name for tensor in node.inputs)]
        passed = len(readers) == 1 and _keeps_pixels(readers[0])
        if passed and traits(readers[0]).axes == "transposed":
            order = tuple(order[axis] for axis in readers[0].attrs.get("perm", (3, 2, 1, 0)))
        name = str(readers[0].outputs[0].name) if passed else None
    if name is None:
        raise LayerError(
            "A guided map needs an image input [N,C,H,W] or [N,H,W,C] of floats, or of whole numbers that become "
            "floats at once; there is none. Choose another method."
        )
    return ImageTensor(name, order)
