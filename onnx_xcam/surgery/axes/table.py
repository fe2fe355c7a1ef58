"""This module maps each effect on axes, which `OpTraits.axes` names, to its rule."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.axes import effects, image_effects
from onnx_xcam.surgery.axes.known_axes import Rule
from onnx_xcam.surgery.ir.op_facts import AxisEffect
from onnx_xcam.surgery.ir.op_traits import traits

EFFECTS: Mapping[AxisEffect, Rule] = {
    # four axes are images, channels, height and width
    "windowed": image_effects.windowed,
    "per channel": image_effects.per_pixel,
    "image": image_effects.images,
    "sampled": image_effects.sampled,
    "regions": image_effects.regions,
    # element by element, or within an axis without reordering it
    "kept": effects.kept,
    "first kept": effects.first_kept,
    "dropped": effects.squeezed,
    "reshaped": effects.reshaped,
    "transposed": effects.transposed,
    "unsqueezed": effects.unsqueezed,
    "cut": effects.taken_out,
    "gathered": effects.gathered,
    "branched": effects.either,
    "concatenated": effects.concatenated,
    "padded": effects.padded_out,
    "centred": effects.centred_out,
    "rescaled": effects.rescaled,
    "matmul": effects.product,
    "gemm": effects.product,
    "einsum": effects.einsum,
    "tiled": effects.tiled,
    "reversed": effects.reversed_sequences,
    "spectrum": effects.spectrum,
    "reordered": effects.reordered,
    "scattered": effects.scattered,
    # nothing of a picture's places is in the result
    "made": effects.made,
    # values are picked, sorted, counted, warped or handed through a program: they may lie anywhere
    "ended": effects.ended,
}
"""This table maps an effect on axes to the rule that follows axes through such an operator."""


def rule_of(node: gs.Node) -> Rule:
    """Return the rule that follows axes through a node."""
    return EFFECTS[traits(node).axes]
