"""The one way in: from a model to the instrumented model of the contract."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD, METHODS, emitted_method
from onnx_xcam.common.arguments import one_of, path
from onnx_xcam.common.operators import called
from onnx_xcam.contract import ClassInput, Emit, ExternalDataChoice
from onnx_xcam.errors import ModelError, OutputError, ShapeError, UnsupportedOpError
from onnx_xcam.metadata import Metadata, read_hints
from onnx_xcam.surgery.analysis.concrete_size import sample_of
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.analysis.foreign_operators import foreign_among, foreign_operators
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.backward import is_rectifier, way
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.result import write_result
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import QUANTISERS, is_standard, tensors_read
from onnx_xcam.surgery.normalise.normalise import modernised
from onnx_xcam.surgery.normalise.unsigned_activations import signed_pairs, with_unsigned
from onnx_xcam.surgery.tail.tail import Request, Tail, image_tensor
from onnx_xcam.surgery.targets.classification import Score, find_score
from onnx_xcam.surgery.targets.known_classifiers import known_of_logits
from onnx_xcam.surgery.targets.layers import Layer, Layers, resolve


def instrument(
    model: ModelLike,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = DEFAULT_METHOD,
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    relu: bool = True,
    fuse: Fusion | None = None,
    picture: str = "auto",
    allow_folders: Folders = (),
) -> onnx.ModelProto:
    """Add XGrad-CAM to a model.

    Args:
        model: path, bytes or ModelProto of a plain model; never changed.
        layers: "auto" (the last spatial feature map), a layer's name, or a list of names. A name is a tensor, a node, a
            PyTorch module path, or a part of one that fits only one layer.
        score: "auto" (the logits), or a tensor's name.
        method: the CAM method, one of `onnx_xcam.cams.methods.EMITTED`.
        emit: which outputs to add to the classes and scores: "map", "activations", "gradients", "heatmap", "status".
        class_input: how the classes are chosen at run time: "optional" (an input with a default, the top class),
            "required" (a plain input) or "fixed" (no input; `classes` says which).
        classes: the classes for class_input="fixed"; -1 is the top class, -2 the second best, and so on.
        relu: whether the map leaves out what speaks against the class; without, it is signed.
        fuse: of several layers, also emit one map of all, `xcam_fused`: their "mean", "max" or "product".
        picture: of a model with several image inputs, the one that is explained; "auto" is the first that the score
            depends on.
        allow_folders: a folder, or several, in which the model's external data may lie besides the model's own. Without
            it, external data elsewhere (an absolute path, `..`, a link that leads there) are refused.

    Returns:
        The instrumented model (version 1 of the contract), with external data loaded if `model` is a path.

    Raises:
        XcamError: ModelError, ScoreError, LayerError, ClassError or UnsupportedOpError, as the case may be.
    """
    plan = _planned(
        Source(model, allow_folders=allow_folders),
        Request(
            layers=layers,
            score=score,
            method=method,
            emit=emit,
            class_input=class_input,
            classes=classes,
            relu=relu,
            fuse=fuse,
            picture=picture,
        ),
    )
    result = plan.source.load()
    result.MergeFromString(plan.tail)
    return result


def instrument_bytes(
    model: ModelLike,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = DEFAULT_METHOD,
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    relu: bool = True,
    fuse: Fusion | None = None,
    picture: str = "auto",
    allow_folders: Folders = (),
) -> bytes:
    """`instrument`, serialised: the original bytes and a tail. External data stays where it is and is not loaded."""
    plan = _planned(
        Source(model, allow_folders=allow_folders),
        Request(
            layers=layers,
            score=score,
            method=method,
            emit=emit,
            class_input=class_input,
            classes=classes,
            relu=relu,
            fuse=fuse,
            picture=picture,
        ),
    )
    return plan.source.with_tail(plan.tail)


def instrument_file(
    model: ModelLike,
    out: str | os.PathLike[str],
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = DEFAULT_METHOD,
    emit: Sequence[Emit] = contract.DEFAULT_EMIT,
    class_input: ClassInput = "optional",
    classes: Sequence[int] | None = None,
    relu: bool = True,
    fuse: Fusion | None = None,
    picture: str = "auto",
    external_data: ExternalDataChoice = "auto",
    allow_folders: Folders = (),
) -> Metadata:
    """`instrument`, from file to file: copies the file and appends the tail; the weights are never read into memory.

    Args:
        model: as `instrument`, and so are the options but one.
        out: the file to write.
        external_data: what becomes of weights that the model keeps in other files. "share": the result uses the same
            files, which must lie in its folder or below, since ONNX Runtime reads no others. "copy": they are copied
            beside the result. "inline": they are put into the result, which must stay below 2 GiB. "auto": "share"
            where the result finds them just as the original does, that is in the same folder, else "copy".

    Returns:
        What was done: layers, layouts, score, notes.

    Raises:
        OutputError: the result cannot be written, would overwrite the model or another file, or cannot have its weights
            as `external_data` wants.
        and what `instrument` raises.
    """
    one_of("external_data", external_data, contract.EXTERNAL_DATA_CHOICES)
    target = path("out", out, OutputError)
    plan = _planned(
        Source(model, allow_folders=allow_folders),
        Request(
            layers=layers,
            score=score,
            method=method,
            emit=emit,
            class_input=class_input,
            classes=classes,
            relu=relu,
            fuse=fuse,
            picture=picture,
        ),
    )
    note = write_result(plan.source, target, plan.tail, external_data)
    return replace(plan.metadata, notes=(*plan.metadata.notes, note)) if note else plan.metadata


@dataclass(frozen=True)
class _Plan:
    source: Source
    tail: bytes
    metadata: Metadata


def _planned(source: Source, request: Request) -> _Plan:
    with Diagnosed(source, functools.partial(foreign_cause, source)):
        return _followed(source, request)


def foreign_cause(source: Source) -> str | None:
    """That a model has operators which nobody here knows, as a sentence, or None if it has not."""
    foreign = foreign_operators(source.skeleton())
    return foreign.sentence() if foreign else None


def _followed(source: Source, request: Request) -> _Plan:
    source, skeleton, notes = modernised(source)
    _refuse_twice(skeleton, source.name)
    tail, metadata = _tail(skeleton, source.name, notes, request)
    read = {name for node in tail.graph.node for name in tensors_read(node)}
    signed = read.intersection(pair.integers for pair in signed_pairs(skeleton))
    if signed:
        source = with_unsigned(source, signed)
        tail, metadata = _tail(source.skeleton(), source.name, notes, request)
    if any(p.key == contract.METADATA_KEY for p in skeleton.metadata_props):
        source = source.without_metadata(contract.METADATA_KEY)
    return _Plan(source, tail.SerializeToString(), metadata)


def _tail(
    skeleton: onnx.ModelProto, name: str, notes: Sequence[str], request: Request
) -> tuple[onnx.ModelProto, Metadata]:
    """What is to be appended to a model, and what is said about it."""
    graph = prepare(skeleton, name)
    props = {p.key: p.value for p in skeleton.metadata_props}
    hints = read_hints(props)
    sample = sample_of(skeleton, graph)
    score = find_score(graph, request.score, sample, labelled=hints.labels is not None)
    choice = Layers(graph, score.name, sample, request.picture)
    chosen = resolve(choice, request.layers)
    metadata = Metadata(
        layers=tuple(layer.shown for layer in chosen),
        layouts=tuple(layer.layout for layer in chosen),
        grids=tuple(layer.grid for layer in chosen),
        score=score.shown,
        method=emitted_method(request.method).name,
        relu=request.relu,
        fuse=request.fuse,
        notes=(
            *notes,
            *score.notes,
            *([choice.explained.note] if choice.explained.note else []),
            *(_said(choice, layer, request.layers) for layer in chosen),
            *_folded(graph, score),
            *_quantised(graph, chosen, score),
            *_guided(graph, score, request, choice.explained.name),
        ),
        class_count=score.count if isinstance(score.count, int) else None,
        activation=score.activation,
        probabilities=score.probabilities or _of_classifier(score, props, hints.labels),
        logits=score.logits,
        is_number=score.form == "logit" and score.probabilities is None,
        picture=choice.explained.name,
        names=_names(chosen, request.layers),
        preprocess=hints.preprocess,
        labels=hints.labels,
    )
    try:
        check_fusion(request.fuse, layers=len(chosen), relu=request.relu)
        tail = Tail(graph, score, chosen, request, choice.explained.name).build()
    except (UnsupportedOpError, ShapeError) as error:
        raise type(error)(f"{error} {_advice(choice, chosen)}".strip()) from error
    message = onnx.ModelProto(graph=tail)
    entry = message.metadata_props.add()
    entry.key, entry.value = contract.METADATA_KEY, metadata.to_json()
    return message, metadata


def _of_classifier(
    score: Score, props: Mapping[str, str], labels: Sequence[str] | None
) -> contract.Probabilities | None:
    """What tells probabilities of a model that says itself that it is a classifier."""
    count = score.count if isinstance(score.count, int) else None
    if score.logits is None or (labels is not None and count is not None and len(labels) != count):
        return None
    known = known_of_logits(score.logits.how, count, props, labels, {})
    return None if known is None or known.how == "none" else score.logits._replace(how=known.how)


def _refuse_twice(skeleton: onnx.ModelProto, name: str) -> None:
    graph = skeleton.graph
    names = {value.name for value in (*graph.input, *graph.output)}
    if contract.is_instrumented(names):
        raise ModelError(f"{name} is instrumented already; use it as it is, or instrument the original.")
    names.update(tensor.name for tensor in graph.initializer)
    names.update(output for node in graph.node for output in node.output)
    taken = sorted(n for n in names if n.startswith("xcam_"))
    if taken:
        raise ModelError(
            f"{name} has tensors named {', '.join(taken[:5])}, which those to be added would clash with; is it an "
            "instrumented model without its outputs? Instrument the original."
        )


def _names(chosen: Sequence[Layer], asked: str | Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What each layer is called beside its tensor: as it was asked for, its node, its module path."""
    wanted = [asked] if isinstance(asked, str) else asked
    return tuple(
        tuple(n for n in dict.fromkeys((one, layer.node, layer.path)) if n and n not in ("auto", layer.shown))
        for one, layer in zip(wanted, chosen, strict=True)
    )


def _said(choice: Layers, layer: Layer, asked: str | Sequence[str]) -> str:
    size = contract.shape_text(layer.shape)
    path = f", module '{layer.path}'" if layer.path else ""
    why = choice.reason(layer) if asked == "auto" else "; ".join(["as asked", *choice.limits(layer)])
    return f"Layer: '{layer.shown}' ({layer.op}{path}), {layer.layout} {size}{_tokens(layer)}, {why}."


def _folded(graph: Graph, score: Score) -> list[str]:
    """That a model makes one answer of all images of a run, as those of several crops, frames or tiles do."""
    images = [shape[0] for name in pictures(graph) if (shape := graph.shape(name))]
    if score.batch is not None and score.shape[score.batch] != 1:
        return []
    if not images or images[0] == 1:
        return []
    shown = contract.shape_text(score.shape)
    return [f"Batch: the score {shown} is one answer for all images of a run; each image is to be run alone."]


def _quantised(graph: Graph, chosen: Sequence[Layer], score: Score) -> list[str]:
    """What is to be known of a gradient through quantised values."""
    passed = way(graph, [layer.name for layer in chosen], [score.name]).nodes
    if not any(node.op in QUANTISERS for node in passed):
        return []
    return ["Quantised: the gradient passes where a value is rounded and stops where it is clipped (straight-through)."]


def _guided(graph: Graph, score: Score, request: Request, picture: str | None) -> list[str]:
    """What is to be known of guided backpropagation in this model."""
    if not emitted_method(request.method).is_guided:
        return []
    passed = way(graph, [image_tensor(graph, score.name, picture).name], [score.name]).nodes
    count = sum(is_rectifier(graph, node) for node in passed)
    if not count:
        return ["Guided: the model has no ReLU, so the guided gradient of the input is its plain gradient."]
    return [f"Guided: only what is positive of the gradient passes the model's {count} ReLUs."]


def _tokens(layer: Layer) -> str:
    if layer.grid is None:
        return ""
    height, width, before, after = layer.grid
    others = [f"{count} {where}" for count, where in ((before, "before"), (after, "after")) if count]
    return f" of {height or '?'} x {width or '?'} tokens" + (f" and others ({', '.join(others)})" if others else "")


def _advice(choice: Layers, chosen: Sequence[Layer]) -> str:
    """The nearest layer that works, as a sentence."""
    for layer in chosen:
        if not (missing := choice.unsupported(layer)):
            continue
        near = choice.nearest_that_works(layer)
        later = f"The nearest layer that works is '{near.shown}'." if near else "No later layer works either."
        if foreign := foreign_among(missing, choice.graph.opset):
            (domain, op), *_ = foreign.nodes
            return f"{later} {called(domain, op)} is no operator of ONNX but {foreign.origin()}."
        told = f"explain, compare and evaluate have methods that need no gradient: --method {_without_gradient()}."
        own = next((called(node.domain, node.op) for node in missing if not is_standard(node.domain)), None)
        return f"{later} Where ONNX Runtime has {own}, {told}" if own else f"{later} {told[0].upper()}{told[1:]}"
    return ""


def _without_gradient() -> str:
    """The methods that run whatever lies behind the layer, as a choice."""
    *first, last = [m.name for m in METHODS.values() if not m.is_emitted and "gradients" not in m.needs]
    return f"{', '.join(first)} or {last}"
