"""Old and unusual files, brought into the form that the surgery works on.

Only what cannot be appended takes this longer way, which needs the whole model in memory: an opset or IR version that
is too old, and model-local functions.
"""

from __future__ import annotations

import onnx
from onnx import inliner, version_converter

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.source import Source

OLDEST_OPSET = 11
"""Range, GatherElements and ScatterElements exist from here on."""
OLDEST_IR = 4
"""Before, every initializer had to be listed as an input, and none could have a default."""


def modernised(source: Source) -> tuple[Source, onnx.ModelProto, list[str]]:
    """The source to append to, its skeleton, and sentences on what had to be changed first.

    Raises:
        ModelError: the model is no ONNX model, is newer than the installed onnx, or cannot be converted.
    """
    skeleton = source.skeleton()
    opset = _opset(skeleton, source.name)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"{source.name} uses opset {opset}, but the installed onnx {onnx.__version__} knows opsets up to {newest}; "
            "upgrade onnx."
        )
    notes: list[str] = []
    if not skeleton.functions and opset >= OLDEST_OPSET and skeleton.ir_version >= OLDEST_IR:
        return source, skeleton, notes
    model = source.load()
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
        model = _raised(model, source.name)
        notes.append(f"Model: raised from opset {opset} to {OLDEST_OPSET}.")
    changed = Source(model, path=source.path)
    return changed, changed.skeleton(), notes


def _opset(model: onnx.ModelProto, name: str) -> int:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise ModelError(f"{name} does not import the standard ONNX operators; it cannot be explained.")


def _inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with the bodies of its local functions in place of the calls; the model given is changed.

    The inliner passes over functions that import another version of a domain than the model does. Of a domain that has
    only local functions, which need no version, some exporters write another into each of them.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    own = {function.domain for function in model.functions} - {"", "ai.onnx"}
    for function in model.functions:
        for entry in function.opset_import:
            if entry.domain in own and entry.domain in versions:
                entry.version = versions[entry.domain]
    result = inliner.inline_local_functions(model)
    if result.functions:
        left = ", ".join(f"'{function.name}'" for function in result.functions[:3])
        raise ModelError(
            f"{len(result.functions)} local functions of {name} could not be inlined, among them {left}: they use "
            "another opset than the model; export it again with one opset."
        )
    return result


def _raised(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except (
        RuntimeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        version_converter.ConvertError,
    ) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{name} is too old to be explained as it is and could not be raised to opset {OLDEST_OPSET} ({text}); "
            "export it again with a newer opset."
        ) from error
