"""This module brings old and unusual files into the form that the surgery works on.

Most models stay as they are and only get a tail appended. Changes need the whole model in memory, and are made for an
opset or IR version that is too old, for model-local functions, for TensorRT's plugins behind boxes and scores, and for
nodes between the image and an output that have no gradient as they are but can be replaced: If nodes with a known
condition, and sequences with known elements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import EncodeError
from onnx import inliner, numpy_helper, version_converter

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path, image_tensors
from onnx_xcam.surgery.analysis.foreign_operators import foreign_operators
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import STANDARD, is_standard
from onnx_xcam.surgery.ir.verify import check_nodes, inlined_size, without_negative_sizes
from onnx_xcam.surgery.lowering.constants import stored_tensors
from onnx_xcam.surgery.normalise.cut_plugins import cut_plugins, has_plugins
from onnx_xcam.surgery.normalise.inline_if import decided, inline_branches, rename
from onnx_xcam.surgery.normalise.inline_sequences import TAKERS, Rewrites, rewrite, unboxed
from onnx_xcam.text import listed, quoted

_ASSERTION = re.compile(r"^\S+:\d+: \w+: Assertion `.*?` failed: ")
"""This pattern matches the place in the converter's source code that precedes its error messages."""
OLDEST_OPSET = 11
"""The operators Range, GatherElements and ScatterElements exist from this opset on."""
OLDEST_IR = 4
"""Before this IR version, every initializer had to be listed as an input, and no input could have a default."""


def normalised(source: Source) -> tuple[Source, onnx.ModelProto, list[str]]:
    """Return the source to append to, its skeleton, and sentences on what had to be changed.

    Raises:
        ModelError: the model is no ONNX model, is newer than the installed onnx, or cannot be converted.
    """
    source, skeleton, notes = _converted(source)
    if not any(node.op_type == "If" or node.op_type in TAKERS for node in skeleton.graph.node):
        return source, skeleton, notes
    detours = _straightened(skeleton, source)
    if not detours:
        return source, skeleton, notes
    model = source.load(external=lambda _: False)
    for detour in detours:
        detour.straighten(model.graph)
    changed = source.changed(model)
    return changed, changed.skeleton(), [*notes, *(note for detour in detours for note in detour.notes)]


def _converted(source: Source) -> tuple[Source, onnx.ModelProto, list[str]]:
    """Return the source with functions inlined and opset and IR version raised, its skeleton, and notes."""
    skeleton = _with_one_domain(source.skeleton())
    opset = _opset(skeleton, source.name)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{source.name} uses opset {opset}, but the installed onnx {onnx.__version__} knows opsets up to {newest}; "
            "upgrade onnx."
        )
    if opset < 1:
        raise ModelError(f"{source.name} states opset {opset}, which does not exist; the file is damaged.")
    check_nodes(skeleton, source.name)
    notes: list[str] = []
    plugins = has_plugins(skeleton)
    if not skeleton.functions and opset >= OLDEST_OPSET and skeleton.ir_version >= OLDEST_IR and not plugins:
        return source, skeleton, notes
    # Raising the opset loads external data, since onnx's converter would lose the references to them.
    model = _with_one_domain(source.load(external=lambda _: opset < OLDEST_OPSET))
    if plugins:
        notes += cut_plugins(model)
    if model.functions:
        model = _inlined(model, source.name)
        notes.append("Model: local functions were inlined.")
    if model.ir_version < OLDEST_IR:  # raised first, so that the converter accepts weights that are not inputs
        notes.append(f"Model: IR version raised from {model.ir_version} to {OLDEST_IR}.")
        model.ir_version = OLDEST_IR
        weights = {tensor.name for tensor in model.graph.initializer}
        plain = [value for value in model.graph.input if value.name not in weights]
        del model.graph.input[:]
        model.graph.input.extend(plain)
    if opset < OLDEST_OPSET:
        model, assumed = _raised(without_negative_sizes(model), source.name)
        notes += [f"Model: raised from opset {opset} to {OLDEST_OPSET}.", *assumed]
    changed = source.changed(model)
    skeleton = changed.skeleton()
    check_nodes(skeleton, source.name)
    return changed, skeleton, notes


def needs_raising(model: onnx.ModelProto) -> bool:
    """Tell whether a model (or its skeleton) has an opset below the oldest one that can be explained as it is."""
    return any(entry.version < OLDEST_OPSET for entry in model.opset_import if is_standard(entry.domain))


def _opset(model: onnx.ModelProto, name: str) -> int:
    """Return the opset of the standard operators.

    Raises:
        ModelError: the model imports none, or several.
    """
    versions = sorted({int(entry.version) for entry in model.opset_import if is_standard(entry.domain)})
    if not versions:
        raise ModelError(f"{name} does not import the standard ONNX operators; it cannot be explained.")
    if len(versions) > 1:
        raise ModelError(
            f"{name} imports the standard ONNX operators twice, opsets {listed([str(one) for one in versions])}; "
            "export it again with one."
        )
    return versions[0]


def _with_one_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, changed so that all standard operators have the same name of their domain."""
    for node in model.graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    return model


def _inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model with the bodies of its local functions in place of the calls; the given model is changed.

    The inliner skips functions that import another version of a domain than the model does. For a domain that has only
    local functions, which need no version, some exporters write another version into each function.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    own = {function.domain for function in model.functions} - set(STANDARD)
    for function in model.functions:
        for entry in function.opset_import:
            if entry.domain in own and entry.domain in versions:
                entry.version = versions[entry.domain]
    inlined_size(model, name)
    try:
        result = inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"The local functions of {name} cannot be inlined: {text}.") from error
    if result.functions:
        left = ", ".join(f"'{function.name}'" for function in result.functions[:3])
        raise ModelError(
            f"{len(result.functions)} local functions of {name} could not be inlined, among them {left}: they use "
            "another opset than the model; export it again with one opset."
        )
    return result


def _raised(model: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model at the oldest opset that serves, and notes on what was assumed.

    Raises:
        ModelError: the converter cannot convert it.
    """
    try:
        result = version_converter.convert_version(model, OLDEST_OPSET)
    except (
        RuntimeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        version_converter.ConvertError,
        EncodeError,  # above 2 GB
    ) as error:
        refusal = f"{name} is too old to be explained as it is and could not be raised to opset {OLDEST_OPSET}"
        if foreign := foreign_operators(model):
            raise ModelError(f"{refusal}. {foreign.sentence()}") from error
        text = _ASSERTION.sub("", " ".join(str(error).split()))[:200]
        raise ModelError(f"{refusal} ({text}); export it again with a newer opset.") from error
    resized = [node for node in result.graph.node if node.op_type == "Resize"]
    before = [node.output[0] for node in model.graph.node if node.op_type in ("Upsample", "Resize")]
    if len(before) == len(resized):  # the converter keeps the nodes' order, but not the names of their outputs
        _rename(result.graph, {node.output[0]: old for node, old in zip(resized, before, strict=True)})
    assumed = [_resize_as_before(result.graph, node, name) for node in resized]
    return result, [text for text in assumed if text]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors of a graph in place, by a table from old to new names."""
    for node in graph.node:
        rename(node, names)
    for value in (*graph.value_info, *graph.output):
        value.name = names.get(value.name, value.name)


def _resize_as_before(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> str | None:
    """State in a Resize what the converter leaves to new defaults; before, it meant x_out = x_in * scale.

    This is what Upsample and the Resize of opset 10 do. In ONNX Runtime, their nearest neighbour is the one before
    where the picture grows, and the one after where it shrinks.

    Returns:
        A note on what had to be assumed, None if nothing had.

    Raises:
        ModelError: the node grows on one axis and shrinks on another.
    """
    stored = stored_tensors(graph)
    nearest = not any(attribute.name == "mode" and attribute.s != b"nearest" for attribute in node.attribute)
    scales = numpy_helper.to_array(stored[node.input[2]]) if node.input[2] in stored else None
    shrinks = scales is not None and bool((scales < 1).any())
    if nearest and shrinks and scales is not None and (scales > 1).any():
        raise ModelError(
            f"{name} has a Resize ('{node.name or node.output[0]}') that grows on one axis and shrinks on another, "
            f"which opset {OLDEST_OPSET} cannot do in the same way; export it again with a newer opset."
        )
    node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    node.attribute.append(onnx.helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"))
    if nearest and scales is None:
        return f"Model: '{node.name or node.output[0]}' (Resize) is taken to enlarge; its scales are not in the file."
    return None


@dataclass(frozen=True)
class _Detours:
    """A _Detours holds the branches and sequences that can be replaced at once.

    Attributes:
        conditions: the conditions of If nodes, by the nodes' first outputs.
        rewrites: how to do without sequences.
        notes: sentences on what is replaced.
    """

    conditions: dict[str, bool]
    rewrites: Rewrites
    notes: tuple[str, ...]

    def straighten(self, graph: onnx.GraphProto) -> None:
        """Replace the branches and sequences of a graph, the skeleton's or the model's, in place."""
        inline_branches(graph, self.conditions)
        rewrite(graph, self.rewrites)


def _straightened(skeleton: onnx.ModelProto, source: Source) -> list[_Detours]:
    """Replace branches and sequences of the skeleton in place until none is left, and return them in order.

    Once a branch has replaced its If, more may be known of the nodes behind it than before.
    """
    done = []
    with Diagnosed(source):
        while (detours := _detours(prepare(skeleton, source.name))) is not None:
            detours.straighten(skeleton.graph)
            done.append(detours)
    return done


def _detours(graph: Graph) -> _Detours | None:
    """Return the branches and sequences before an output that can be replaced, None if there are none."""
    passed = differentiable_path(graph, image_tensors(graph), graph.output_names).nodes
    on_the_way = {str(out.name) for node in passed for out in node.outputs}
    conditions, rewrites = decided(graph), unboxed(graph).only(on_the_way)
    branches = conditions if on_the_way.intersection(conditions) else {}
    notes = []
    if branches:
        notes.append(
            f"Model: the branch that is always taken was put in place of If {_nodes_of(graph, list(branches))}."
        )
    if rewrites.instead:
        takers = _nodes_of(graph, list(rewrites.instead))
        notes.append(f"Model: the elements of sequences were put in place of the nodes that take them out, {takers}.")
    return _Detours(branches, rewrites, tuple(notes)) if notes else None


def _nodes_of(graph: Graph, outputs: Sequence[str]) -> str:
    """Return the names of the nodes that make these tensors, as a list in words."""
    return listed(quoted(str(graph.producer[name].name or name) for name in outputs), rest="others")
