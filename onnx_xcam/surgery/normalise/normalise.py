"""Old and unusual files, brought into the form that the surgery works on.

Only what cannot be appended takes this longer way, which needs the whole model in memory: an opset or IR version that
is too old, model-local functions, and detours on the way from the image to an output that have no gradient as they are
but can be straightened: If nodes with a known condition, and sequences with known elements.
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
from onnx_xcam.surgery.normalise.inline_if import decided, inline_branches, rename
from onnx_xcam.surgery.normalise.inline_sequences import TAKERS, Rewrites, rewrite, unboxed
from onnx_xcam.text import listed, quoted

_ASSERTION = re.compile(r"^\S+:\d+: \w+: Assertion `.*?` failed: ")
"""Where in the converter's source something failed, before what failed."""
OLDEST_OPSET = 11
"""Range, GatherElements and ScatterElements exist from here on."""
OLDEST_IR = 4
"""Before, every initializer had to be listed as an input, and none could have a default."""


def modernised(source: Source) -> tuple[Source, onnx.ModelProto, list[str]]:
    """The source to append to, its skeleton, and sentences on what had to be changed first.

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
    """As `modernised`: local functions inlined, opset and IR version raised."""
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
    if not skeleton.functions and opset >= OLDEST_OPSET and skeleton.ir_version >= OLDEST_IR:
        return source, skeleton, notes
    # The converter of opsets would lose where external data lie.
    model = _with_one_domain(source.load(external=lambda _: opset < OLDEST_OPSET))
    if model.functions:
        model = _inlined(model, source.name)
        notes.append("Model: local functions were inlined.")
    if model.ir_version < OLDEST_IR:  # first: from here on the converter does not need the weights among the inputs
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
    """Whether a model (or its skeleton) is of an opset below the oldest one that can be explained as it is."""
    return any(entry.version < OLDEST_OPSET for entry in model.opset_import if is_standard(entry.domain))


def _opset(model: onnx.ModelProto, name: str) -> int:
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
    """The model, changed: its standard operators all go by the same name of their domain."""
    for node in model.graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    return model


def _inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with the bodies of its local functions in place of the calls; the model given is changed.

    The inliner passes over functions that import another version of a domain than the model does. Of a domain that has
    only local functions, which need no version, some exporters write another into each of them.
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
    """The model at the oldest opset that serves, and what was assumed."""
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
        said = f"{name} is too old to be explained as it is and could not be raised to opset {OLDEST_OPSET}"
        if foreign := foreign_operators(model):
            raise ModelError(f"{said}. {foreign.sentence()}") from error
        text = _ASSERTION.sub("", " ".join(str(error).split()))[:200]
        raise ModelError(f"{said} ({text}); export it again with a newer opset.") from error
    resized = [node for node in result.graph.node if node.op_type == "Resize"]
    before = [node.output[0] for node in model.graph.node if node.op_type in ("Upsample", "Resize")]
    if len(before) == len(resized):  # the converter keeps the order, but not these names
        _rename(result.graph, {node.output[0]: old for node, old in zip(resized, before, strict=True)})
    assumed = [_resize_as_before(result.graph, node, name) for node in resized]
    return result, [text for text in assumed if text]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        rename(node, names)
    for value in (*graph.value_info, *graph.output):
        value.name = names.get(value.name, value.name)


def _resize_as_before(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> str | None:
    """State what the converter leaves to new defaults: Upsample and Resize of opset 10 know only x_out = x_in * scale.

    Their nearest neighbour is, as ONNX Runtime has it, the one before where the picture grows and the one behind where
    it shrinks. What had to be assumed is returned as a sentence.
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
    """What can be straightened at once.

    Attributes:
        conditions: of If nodes, by their first output.
        rewrites: what does without sequences.
        notes: sentences on it.
    """

    conditions: dict[str, bool]
    rewrites: Rewrites
    notes: tuple[str, ...]

    def straighten(self, graph: onnx.GraphProto) -> None:
        """Change a graph, the skeleton's or the model's, in place."""
        inline_branches(graph, self.conditions)
        rewrite(graph, self.rewrites)


def _straightened(skeleton: onnx.ModelProto, source: Source) -> list[_Detours]:
    """Straighten the skeleton in place; what was done, in order: behind a branch more may be known than before."""
    done = []
    with Diagnosed(source):
        while (found := _detours(prepare(skeleton, source.name))) is not None:
            found.straighten(skeleton.graph)
            done.append(found)
    return done


def _detours(graph: Graph) -> _Detours | None:
    """What can be straightened of what lies on the way from the image to an output; None if nothing."""
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
    """The nodes that make these tensors, listed."""
    return listed(quoted(str(graph.producer[name].name or name) for name in outputs), rest="others")
