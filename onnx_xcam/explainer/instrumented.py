"""This module reads the metadata of an instrumented model, and refuses requests that the model cannot meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import onnx

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.errors import LayerError, ModelError
from onnx_xcam.explainer.metadata_check import check_metadata
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime import Session
from onnx_xcam.surgery.targets.analysis import Request


class Wanted(TypedDict):
    """Wanted states what is requested of an instrumented model beside its layers and score."""

    method: str
    relu: bool
    fuse: Fusion | None


def _are_own(wanted: Sequence[str], own: Metadata) -> bool:
    """Tell whether the requested layers are those of an instrumented model, by any of their names."""
    every = [{tensor, *own.names_of(i)} for i, tensor in enumerate(own.layers)]
    return len(wanted) == len(every) and all(name in known for name, known in zip(wanted, every, strict=True))


def refuse_other_targets(proto: onnx.ModelProto, name: str, request: Request, wanted: Wanted) -> None:
    """Raise a LayerError if something else is requested of an instrumented model than it was instrumented for."""
    own = Metadata.from_props({entry.key: entry.value for entry in proto.metadata_props}, name)
    layers = [request.layers] if isinstance(request.layers, str) else list(request.layers)
    what = None
    if layers != ["auto"] and not _are_own(layers, own):
        what = f"layers {', '.join(map(repr, layers))}"
    elif request.score not in ("auto", own.score):
        what = f"the score {request.score!r}"
    elif wanted["method"] not in (AUTO_METHOD, own.method):
        what = f"the method {wanted['method']!r}"
    elif request.task not in ("auto", own.task):
        what = f"the task {request.task!r}"
    elif own.candidates and request.conf not in (None, own.candidates.conf):
        what = f"objects above the probability {request.conf:g} (it has {own.candidates.conf:g})"
    elif own.candidates and request.iou not in (None, own.candidates.iou):
        what = f"boxes that overlap by at most {request.iou:g}"
    elif not wanted["relu"] and own.relu:
        what = "signed maps"
    elif wanted["fuse"] not in (None, own.fuse):
        what = f"layers fused by their {wanted['fuse']}"
    if what:
        raise LayerError(
            f"{name} is instrumented already, for the layers {', '.join(map(repr, own.layers))}, the score "
            f"{own.score!r} and the method {own.method!r}; it cannot give {what}. Use the original model."
        )


def refuse_other_picture(own: str | None, picture: str, name: str) -> None:
    """Raise a LayerError if a model of several pictures was instrumented for another picture than this one."""
    if own not in (None, picture):
        raise LayerError(
            f"{name} was instrumented to explain the picture '{own}', but the picture goes to '{picture}' here: give "
            f"the value of '{picture}' with --input (inputs=), or instrument the original with --picture {picture}."
        )


def metadata_of(session: Session, name: str, graph: onnx.GraphProto | None, emit: Sequence[contract.Emit]) -> Metadata:
    """Return the metadata of an instrumented model.

    Args:
        session: the model's session.
        name: the model's name in messages.
        graph: the graph of a model that was given as an instrumented file, to check the metadata against; else None.
        emit: the outputs that are needed; the status may be missing.

    Raises:
        ModelError: the metadata are incomplete or contradict the model, or an output is missing.
    """
    metadata = Metadata.from_props(session.metadata, name)
    if not metadata.layers or not metadata.score:
        raise ModelError(
            f"{name} has the outputs of an instrumented model but its metadata {contract.METADATA_KEY!r} does not say "
            "which layers and score; instrument the original model again."
        )
    if graph is not None:
        check_metadata(metadata, graph, session.outputs, name)
    there = {output.name for output in session.outputs}
    for kind in (kind for kind in emit if kind != "status"):
        of_map = kind not in contract.OF_LAYERS and metadata.cut
        wanted = [contract.output_name(kind, index) for index in range(1 if of_map else len(metadata.layers))]
        if missing := [output for output in wanted if output not in there]:
            raise ModelError(
                f"{name} is instrumented without {missing[0]!r}; instrument the original again with --emit {kind}."
            )
    return metadata


def class_count_of(metadata: Metadata, session: Session) -> int | None:
    """Return the number of classes C from the metadata or the score's shape, or None if neither shows it."""
    if metadata.class_count is not None:
        return metadata.class_count
    # The metadata of a file that was instrumented before need not state it. A score of rank 1 does not show it either:
    # it may be one logit per image as well as one score per class.
    shape = next((output.shape for output in session.outputs if output.name == metadata.score), ())
    lengths = [length for length in shape[1:] if length != 1]
    if len(shape) > 1 and not lengths:
        return 2  # one logit, seen as two classes
    return lengths[0] if len(lengths) == 1 and isinstance(lengths[0], int) else None
