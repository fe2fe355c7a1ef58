"""This module instruments a model by the contract: the result is a message, bytes, or a file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Unpack

import onnx

from onnx_xcam import contract
from onnx_xcam.common.arguments import one_of, path
from onnx_xcam.contract import ExternalDataChoice
from onnx_xcam.errors import OutputError
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.result import write_result
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.instrumented import Instrumented, instrumented
from onnx_xcam.surgery.options import InstrumentOptions, divided, shows_options
from onnx_xcam.surgery.targets.analysis import analyse


@shows_options
def instrument(
    model: ModelLike, *, allow_folders: Folders = (), **options: Unpack[InstrumentOptions]
) -> onnx.ModelProto:
    """Add XGrad-CAM to a model.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed.
        layers: "auto" (of a classifier the last spatial feature map; of a detector the layers that carry the evidence
            together, whose maps are added up), a layer's name, or a list of names. A name is a tensor, a node, a
            PyTorch module path, or a part of one that fits only one layer.
        score: "auto" (the logits), or a tensor's name.
        method: the CAM method, one of `onnx_xcam.cams.methods.EMITTED`; "auto" is "xgrad-cam" for classifiers and
            "local-xgrad-cam" for detectors.
        emit: which outputs to add to the classes and scores: "map", "activations", "gradients", "heatmap", "status".
        class_input: how the classes are chosen at run time: "optional" (an input with a default, the top class),
            "required" (a plain input) or "fixed" (no input; `classes` says which).
        classes: the classes for class_input="fixed"; -1 is the top class, -2 the second best, and so on.
        relu: whether the map leaves out what speaks against the class; without, it is signed.
        fuse: of several layers, also emit one map of all, `xcam_fused`: their "mean", "max" or "product".
        picture: of a model with several image inputs, the one that is explained; "auto" is the first that the score
            depends on.
        task: what the model is for, "classification" or "detection"; "auto" recognises it.
        conf: of a detector, the probability that an object exceeds, 0..1; None is what the file states, or else 0.25.
        iou: of a detector, the overlap above which the worse of two boxes of one class is dropped, 0..1; None is what
            the file states, or else 0.45.
        objects: the objects for class_input="fixed"; -1 is the best one, -2 the second best, ..., and 0 or more a
            candidate itself.
        contrast: whether there is an input of classes that the explained ones are contrasted with: why this class and
            not that one.
        allow_folders: a folder, or several, in which the model's external data may lie besides the model's own. Without
            it, external data elsewhere (an absolute path, `..`, a link that leads there) are refused.

    Returns:
        The instrumented model (version 1 of the contract), with external data loaded if `model` is a path.

    Raises:
        XcamError: ModelError, ScoreError, LayerError, ClassError or UnsupportedOpError, as the case may be.
    """
    made = _made(Source(model, allow_folders=allow_folders), options)
    result = made.source.load()
    result.MergeFromString(made.tail)
    return result


@shows_options
def instrument_bytes(model: ModelLike, *, allow_folders: Folders = (), **options: Unpack[InstrumentOptions]) -> bytes:
    """Add XGrad-CAM to a model, and return it serialised: the original bytes and a tail.

    External data stays where it is and is not loaded. Arguments and errors are those of `instrument`.
    """
    return _made(Source(model, allow_folders=allow_folders), options).content()


@shows_options
def instrument_file(
    model: ModelLike,
    out: str | os.PathLike[str],
    *,
    external_data: ExternalDataChoice = "auto",
    allow_folders: Folders = (),
    **options: Unpack[InstrumentOptions],
) -> Metadata:
    """Add XGrad-CAM to a model from file to file: copy the file and append the tail, without loading the weights.

    Args:
        model: path, bytes or ModelProto, as for `instrument`; so are the options that are not listed here.
        out: the file to write.
        external_data: what becomes of weights that the model keeps in other files. "share": the result uses the same
            files, which must lie in its folder or below, since ONNX Runtime reads no others. "copy": they are copied
            beside the result. "inline": they are put into the result, which must stay below 2 GiB. "auto": "share" if
            the result finds them just as the original does, that is in the same folder, else "copy".

    Returns:
        The metadata of the instrumented model: layers, layouts, score, notes.

    Raises:
        OutputError: the result cannot be written, would overwrite the model or another file, or cannot have its weights
            as `external_data` demands.
        XcamError: what `instrument` raises.
    """
    one_of("external_data", external_data, contract.EXTERNAL_DATA_CHOICES)
    target = path("out", out, OutputError)
    made = _made(Source(model, allow_folders=allow_folders), options)
    note = write_result(made.source, target, made.tail, external_data)
    return replace(made.metadata, notes=(*made.metadata.notes, note)) if note else made.metadata


def _made(source: Source, options: InstrumentOptions) -> Instrumented:
    """Return the instrumented form of a model, given the options of `instrument`."""
    request, tail = divided(options)
    return instrumented(analyse(source, request), tail)
