"""This module finds what the axes of each tensor mean: images, channels, height, width, tokens, and where they lie.

Convolution and pooling fix the meaning of their axes (N, C, then space), and so does an input that is plainly a
picture; from there it spreads forward through operators that keep, permute, split or merge axes. Names of tensors are
not used.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_xcam.contract import IMAGE_CHANNELS, LAYOUTS, Grid, Layout, lacks_images
from onnx_xcam.surgery.analysis.reachability import forward, walk_forward
from onnx_xcam.surgery.axes.axes import (
    Axes,
    Axis,
    Place,
    at_of,
    by_of,
    grid_at,
    grid_of,
    is_adrift,
    is_unknown,
    places_of,
    role_of,
    roles_of,
    unknown,
)
from onnx_xcam.surgery.axes.effects import left_over
from onnx_xcam.surgery.axes.known_axes import KnownAxes, placed
from onnx_xcam.surgery.axes.places import At, edges, in_order, is_whole, listed
from onnx_xcam.surgery.axes.table import rule_of
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits


def axis_roles(graph: Graph) -> dict[str, Axes]:
    """Return the axes of the images that go in and of every float tensor of known rank that a node makes.

    Tensors before the first weights are the picture itself, scaled or cut up, and are left out, except for those that a
    convolution reads.
    """
    known_axes = KnownAxes(graph)
    known_axes.by_name.update(_pictures(graph))
    _follow(known_axes)
    behind = _behind(graph)
    return {name: axes for name, axes in known_axes.by_name.items() if name in behind}


def _follow(known_axes: KnownAxes) -> None:
    """Follow the axes through all nodes."""
    graph = known_axes.graph
    for node in graph.nodes:
        rule = rule_of(node)
        with Diagnosed(node):
            for index, out in enumerate(node.outputs):
                shape = graph.shape(out.name)
                if not shape or not (graph.is_float(out.name) or out.name in graph.quantised):
                    continue
                axes = rule(known_axes, node, index, shape)
                known = axes if axes is not None and len(axes) == len(shape) else unknown(shape)
                known_axes.by_name[out.name] = left_over(known_axes, node, known, shape)


def _behind(graph: Graph) -> frozenset[str]:
    """Return the inputs of operators on images and all behind these; without such operators, all behind weights."""
    on_images = [node for node in graph.nodes if traits(node).reads_images]
    first = on_images or [node for node in graph.nodes if traits(node).weighted]
    made = [out.name for node in first for out in node.outputs]
    read = {node.inputs[0].name for node in on_images if node.inputs}
    return forward(graph.uses, made).tensors | read


def _pictures(graph: Graph) -> dict[str, Axes]:
    """Return the axes of inputs that are plainly images: with 1, 3 or 4 channels on one side and not on the other."""
    pictures = {}
    for name in graph.input_names:
        shape = graph.shape(name)
        if graph.is_constant(name) or shape is None:
            continue
        if lacks_images(shape):
            pictures[name] = placed("CHW", name, shape)
        if len(shape) != 4:
            continue
        first, last = (shape[axis] in IMAGE_CHANNELS for axis in (1, 3))
        if first != last:
            pictures[name] = placed("NCHW" if first or _is_read_as_nchw(graph, name) else "NHWC", name, shape)
    return pictures


def _is_read_as_nchw(graph: Graph, name: str) -> bool:
    """Tell whether a convolution or pool reads an input with its axes unmoved, so that the last one is its width."""

    def enters(node: gs.Node, read: str) -> bool:
        return not traits(node).reads_images or node.inputs[0].name == read

    def leaves(node: gs.Node, _made: str) -> bool:
        return traits(node).axes in ("kept", "first kept")

    passed = walk_forward(graph.uses, [name], enters=enters, leaves=leaves)
    return any(traits(graph.nodes[position]).reads_images for position in passed)


def layout_of(axes: Axes | None) -> Layout | None:
    """Return the layout of these axes, None if it is not one of the contract's or its token grid is not known."""
    roles = roles_of(axes or ())
    layout = next((known for known in LAYOUTS if known == roles), None)
    return None if layout is not None and "T" in layout and token_grid(axes) is None else layout


def token_grid(axes: Axes | None) -> Grid | None:
    """Return the grid behind the axis of tokens, None if there is none or its size is not known."""
    return grid_of(_token_axis(axes))


def grid_places(axes: Axes | None) -> tuple[Place, ...]:
    """Return where height and width of the grid behind the tokens can be read at run time; nothing if nowhere."""
    return places_of(_token_axis(axes))


def _token_axis(axes: Axes | None) -> Axis:
    """Return the axis of tokens, or an empty axis if there is none."""
    return next((axis for axis in axes or () if role_of(axis) == "T"), ())


def may_be_nchw(axes: Axes | None) -> bool:
    """Tell whether nothing that is known of four axes contradicts images, channels, height, width."""
    known = [is_unknown(axis) or role_of(axis) == role for axis, role in zip(axes or (), "NCHW", strict=False)]
    return all(known)


def displaced(axes: Axes | None) -> str | None:
    """Return why a map with these axes does not fit the picture as it is, as the end of a sentence; None if it does."""
    for axis in axes or ():
        if is_adrift(axis):
            return f"where its positions lie on the picture is lost behind the {by_of(axis)}"
        for name, at, count in _sides(axis):
            if at is None or not count:
                continue
            places = listed(at, count)
            if count > 1 and in_order(places[::-1]):
                return f"it is a mirror image of the picture's {name} (the {by_of(axis)})"
            if not in_order(places):
                return f"it does not hold the picture's {name} in its order (the {by_of(axis)})"
    return None


def window_of(axes: Axes | None) -> str | None:
    """Return which part of the picture a map with these axes covers, in words; None if all of it."""
    parts, by = [], ""
    for axis in axes or ():
        for name, at, count in _sides(axis):
            if at is not None and count and not is_whole(at, count):
                first, last = edges(at, count)
                parts.append(f"{100 * first:.0f} to {100 * last:.0f} % of the {name}")
                by = by or by_of(axis)
    return f"{' and '.join(parts)} (the {by})" if parts else None


def _sides(axis: Axis) -> list[tuple[str, At, int]]:
    """Return name, places and size of height and width, as far as an axis holds them."""
    role = role_of(axis)
    if role == "T":
        grid, (rows, columns) = grid_of(axis), grid_at(axis)[0]
        return [] if grid is None else [("height", rows, grid.height or 0), ("width", columns, grid.width or 0)]
    if role not in ("H", "W"):
        return []
    at = at_of(axis)
    return [("height" if role == "H" else "width", at, 0 if at is None else len(at))]
