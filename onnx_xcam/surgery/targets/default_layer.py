"""The default layer of a score of the whole picture: the last spatial feature map that all evidence passes through.

A task whose evidence lies elsewhere, as that of a detector on several levels, has a default of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers


def last_bottleneck(layers: Layers) -> Layer:
    """The last spatial feature map that all evidence passes through and of which the score uses every position.

    That is before space is pooled or flattened away, and where only a class token is read in the end, before the last
    attention: behind it no other token has a gradient.

    Raises:
        LayerError: there is no spatial layer at all.
    """
    valued = _valued(layers)
    if not valued:
        raise LayerError(layers.why_none())
    informative = [layer for layer in valued if layers.is_wholly_used(layer)]
    suited = [layer for layer in informative if layer.bottleneck and not _is_pooled(layers, layer)]
    return _origin(layers, suited[-1] if suited else _last_of_trunk(layers, informative or valued))


def why_last_bottleneck(layers: Layers, layer: Layer) -> str:
    """Why the default layer is the default, and what it lacks, in words."""
    order = layers.graph.order
    later = [one for one in layers.candidates if order[one.name] > order[layer.name]]
    passed_over = [one for one in later if not layers.is_wholly_used(one)]
    used = layers.is_wholly_used(layer)
    parts = ["the last spatial feature map"]
    parts[0] += " of which the score uses every position" if used and passed_over and layer.bottleneck else ""
    if not layer.bottleneck:
        parts.append("no layer carries all that the score gets from the image, this one a part")
    if why_not := _passed_over(layers, layer):
        parts.append(f"another is passed over, since {why_not}")
    if not used:
        parts.append("the score uses only some of its positions, and there is no layer of which it uses all")
    elif _is_before_attention(layers, layer):
        parts.append("it lies before all attention, so what positions tell each other is not in it")
    return "; ".join([*parts, *layers.limits(layer)])


def _valued(layers: Layers) -> list[Layer]:
    """The candidates whose values the score is made of; others only say where something else is read."""
    needed = backward(layers.graph.uses, [layers.score], enters=_is_value).tensors
    return [layer for layer in layers.candidates if layer.name in needed]


def _is_value(node: gs.Node, name: str) -> bool:
    """Whether a node reads under a name what its result is made of, and not only where something is read."""
    places = traits(node).coordinates
    return not places or any(t.name == name and index not in places for index, t in enumerate(node.inputs))


def _last_of_trunk(layers: Layers, among: Sequence[Layer]) -> Layer:
    """The last of the layers that carry most, where none carries all: half as many paths as the busiest, or more.

    So it is the end of one of two trunks, and not a value within its last attention.
    """
    most = max(layers.through[layer.name] for layer in among)
    return [layer for layer in among if 2 * layers.through[layer.name] >= most][-1]


def _is_pooled(layers: Layers, layer: Layer) -> bool:
    """Whether this is an average of unknown size, which may have pooled space away."""
    return layer.op == "AveragePool" and not all(isinstance(dim, int) for dim in layers.sampled_space(layer))


def _is_before_attention(layers: Layers, layer: Layer) -> bool:
    """Whether the score gets what it gets by attention, several times, and a layer lies before that."""
    order = layers.graph.order
    found = [order[node.outputs[0].name] for node in layers.path.nodes if _is_attention(layers, node)]
    return len(found) > 1 and min(found) > order[layer.name]


def _is_attention(layers: Layers, node: gs.Node) -> bool:
    """Whether a product weighs with a softmax of what depends on the picture."""
    if node.op == "Attention":
        return True
    producer = layers.graph.producer
    maker = producer.get(node.inputs[0].name) if traits(node).axes in ("matmul", "einsum") else None
    while maker is not None and (_moves(maker) or traits(maker).casts or maker.op == "Where"):
        maker = producer.get(maker.inputs[-1 if maker.op == "Where" else 0].name)
    return maker is not None and maker.op == "Softmax"


def _passed_over(layers: Layers, layer: Layer) -> str | None:
    """Why the tensor that carries most of those that carry what a layer does not, or as much and later, is none."""
    order, carried = layers.graph.order, 0 if not layer.bottleneck else layers.paths
    found = [
        name
        for name in layers.displaced
        if name in layers.path.tensors
        and layers.through[name] >= carried
        and (order[name] > order[layer.name] or not layer.bottleneck)
    ]
    return layers.displaced[max(found, key=layers.through.__getitem__)] if found else None


def _origin(layers: Layers, layer: Layer) -> Layer:
    """The first tensor with the same values; for tokens, the feature map that was lined up."""
    producer = layers.graph.producer
    by_name = {candidate.name: candidate for candidate in layers.candidates}
    while _keeps_values(layers, layer) or (layer.layout == "NCT" and layer.op == "Transpose"):
        source = by_name.get(producer[layer.name].inputs[0].name)
        if source is None:
            break
        layer = source
    name = layer.name
    while layer.grid is not None and name in producer and _moves(producer[name]):
        name = producer[name].inputs[0].name
        if name in by_name and by_name[name].grid is None:
            return by_name[name]
    return layer


def _keeps_values(layers: Layers, layer: Layer) -> bool:
    """Whether the layer is its node's input unchanged: an Identity, or a pool of one pixel."""
    node = layers.graph.producer[layer.name]
    facts, attributes = traits(node), node.attrs
    if facts.values == Values.COPIED:
        return True
    numbers = [*attributes.get("kernel_shape", [2]), *attributes.get("strides", [1])]
    pools = facts.axes == "windowed" and facts.between
    return pools and all(n == 1 for n in numbers) and not any(attributes.get("pads", []))


def _moves(node: gs.Node) -> bool:
    """Whether a node moves all of its input's elements, and does nothing else."""
    return traits(node).values <= Values.REARRANGED
