"""This module chooses the default layer: the last spatial feature map that all evidence for the score passes through.

It suits scores of the whole picture. A task with evidence elsewhere, such as a detector with several levels, chooses
its own default.
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
    """Return the last spatial feature map that all evidence passes through and that the score uses at every position.

    This layer lies before space is pooled or flattened away. Where the score reads only a class token in the end, it
    lies before the last attention, since behind that no other token has a gradient.

    Raises:
        LayerError: there is no spatial layer at all.
    """
    valued = _valued(layers)
    if not valued:
        raise LayerError(layers.why_none())
    informative = [layer for layer in valued if layers.is_wholly_used(layer)]
    suited = [layer for layer in informative if layer.bottleneck and not _is_pooled(layers, layer)]
    return origin(layers, suited[-1] if suited else _last_of_trunk(layers, informative or valued))


def why_last_bottleneck(layers: Layers, layer: Layer) -> str:
    """Return why the default layer is the default, and what it lacks, as a phrase for users."""
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
    """Return the candidates with values that the score is computed from, without those that only give coordinates."""
    needed = backward(layers.graph.uses, [layers.score], enters=_is_value).tensors
    return [layer for layer in layers.candidates if layer.name in needed]


def _is_value(node: gs.Node, name: str) -> bool:
    """Tell whether a node computes its result from the values of an input, and does not use it only as coordinates."""
    places = traits(node).coordinates
    return not places or any(t.name == name and index not in places for index, t in enumerate(node.inputs))


def _last_of_trunk(layers: Layers, among: Sequence[Layer]) -> Layer:
    """Return the last layer that carries at least half as many paths as the busiest one.

    It serves where no layer carries all paths. With two trunks, this is the end of one of them, and not a value inside
    its last attention.
    """
    most = max(layers.through[layer.name] for layer in among)
    return [layer for layer in among if 2 * layers.through[layer.name] >= most][-1]


def _is_pooled(layers: Layers, layer: Layer) -> bool:
    """Tell whether a layer is an average of unknown size, which may have pooled space away."""
    return layer.op == "AveragePool" and not all(isinstance(dim, int) for dim in layers.sampled_space(layer))


def _is_before_attention(layers: Layers, layer: Layer) -> bool:
    """Tell whether a layer lies before all attention of a model that has more than one attention."""
    order = layers.graph.order
    attentions = [order[node.outputs[0].name] for node in layers.path.nodes if _is_attention(layers, node)]
    return len(attentions) > 1 and min(attentions) > order[layer.name]


def _is_attention(layers: Layers, node: gs.Node) -> bool:
    """Tell whether a node is an attention: a product with a softmax of what depends on the picture."""
    if node.op == "Attention":
        return True
    producer = layers.graph.producer
    maker = producer.get(node.inputs[0].name) if traits(node).axes in ("matmul", "einsum") else None
    while maker is not None and (_moves(maker) or traits(maker).casts or maker.op == "Where"):
        maker = producer.get(maker.inputs[-1 if maker.op == "Where" else 0].name)
    return maker is not None and maker.op == "Softmax"


def _passed_over(layers: Layers, layer: Layer) -> str | None:
    """Return why the tensor that would be preferred to a layer cannot be laid on the picture, if there is one.

    A bottleneck competes with later tensors that carry all paths too, another layer with any: the busiest one counts.
    """
    order, carried = layers.graph.order, 0 if not layer.bottleneck else layers.paths
    rivals = [
        name
        for name in layers.displaced
        if name in layers.path.tensors
        and layers.through[name] >= carried
        and (order[name] > order[layer.name] or not layer.bottleneck)
    ]
    return layers.displaced[max(rivals, key=layers.through.__getitem__)] if rivals else None


def origin(layers: Layers, layer: Layer) -> Layer:
    """Return the earliest layer with the same values; for tokens, the feature map that was flattened into them."""
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
    """Tell whether a layer is a copy of its node's input, as that of an Identity or a pool of one pixel."""
    node = layers.graph.producer[layer.name]
    facts, attributes = traits(node), node.attrs
    if facts.values == Values.COPIED:
        return True
    numbers = [*attributes.get("kernel_shape", [2]), *attributes.get("strides", [1])]
    pools = facts.axes == "windowed" and facts.between
    return pools and all(n == 1 for n in numbers) and not any(attributes.get("pads", []))


def _moves(node: gs.Node) -> bool:
    """Tell whether a node rearranges all elements of its input and does nothing else."""
    return traits(node).values <= Values.REARRANGED
