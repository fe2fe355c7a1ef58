"""This module makes the instrumented form of a model from its analysis: the appended tail, and the metadata."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from onnx_xcam import contract
from onnx_xcam.cams.fusion import check_fusion
from onnx_xcam.errors import ModelError, ShapeError, UnsupportedOpError
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.uses import names_read
from onnx_xcam.surgery.normalise.unsigned_activations import signed_pairs, with_unsigned
from onnx_xcam.surgery.notes import advice_on_missing_rules, notes_on
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.tail.tail import Tail, method_for
from onnx_xcam.surgery.targets.analysis import Analysis, diagnosed
from onnx_xcam.surgery.targets.layer_names import Chosen


@dataclass(frozen=True)
class Instrumented:
    """An Instrumented holds an instrumented model in two parts.

    Attributes:
        source: the normalised model.
        tail: what is appended to the source, serialised.
        metadata: what the instrumented model says of itself.
    """

    source: Source
    tail: bytes
    metadata: Metadata

    def content(self) -> bytes:
        """Return the whole model, serialised; weights in other files stay there."""
        return self.source.with_tail(self.tail)


def instrumented(analysis: Analysis, options: TailOptions) -> Instrumented:
    """Return the instrumented form of a model.

    Raises:
        XcamError: as `instrument`.
    """
    with diagnosed(analysis.given):
        _refuse_twice(analysis)
        tail, metadata = _tail(analysis, options)
        read = {name for node in tail.graph.node for name in names_read(node)}
        signed = read.intersection(pair.integers for pair in signed_pairs(analysis.skeleton))
        if signed:
            analysis = analysis.of(with_unsigned(analysis.plain_source, signed))
            tail, metadata = _tail(analysis, options)
        source = analysis.source
        if contract.METADATA_KEY in analysis.props:
            source = source.without_metadata(contract.METADATA_KEY)
        return Instrumented(source, tail.SerializeToString(), metadata)


def _refuse_twice(analysis: Analysis) -> None:
    """Raise ModelError if a model is instrumented already, or has tensors with names of the contract."""
    name, graph = analysis.plain_source.name, analysis.plain_skeleton.graph
    if analysis.is_instrumented:
        raise ModelError(f"{name} is instrumented already; use it as it is, or instrument the original.")
    names = {value.name for value in (*graph.input, *graph.output)}
    names.update(tensor.name for tensor in graph.initializer)
    names.update(output for node in graph.node for output in node.output)
    taken = sorted(n for n in names if n.startswith(contract.ADDED))
    if taken:
        raise ModelError(
            f"{name} has tensors named {', '.join(taken[:5])}, which those to be added would clash with; is it an "
            "instrumented model without its outputs? Instrument the original."
        )


def _tail(analysis: Analysis, options: TailOptions) -> tuple[onnx.ModelProto, Metadata]:
    """Return what is appended to a model, as a message, and its metadata."""
    chosen = [layer for layer, _ in analysis.chosen]
    metadata = _metadata(analysis, options)
    picture = analysis.layers.explained.name
    try:
        check_fusion(options.fuse, layers=1 if analysis.is_cut else len(chosen), relu=options.relu)
        tail = Tail(
            analysis.graph,
            analysis.target,
            chosen,
            options,
            picture,
            adds_up=analysis.is_cut,
            window=analysis.window,
        ).build()
    except (UnsupportedOpError, ShapeError) as error:
        raise type(error)(f"{error} {advice_on_missing_rules(analysis.layers, chosen)}".strip()) from error
    message = onnx.ModelProto(graph=tail)
    entry = message.metadata_props.add()
    entry.key, entry.value = contract.METADATA_KEY, metadata.to_json()
    return message, metadata


def _metadata(analysis: Analysis, options: TailOptions) -> Metadata:
    """Return the metadata of the instrumented model."""
    target, chosen = analysis.target, analysis.chosen
    return Metadata(
        layers=tuple(layer.public_name for layer, _ in chosen),
        layouts=tuple(layer.layout for layer, _ in chosen),
        grids=tuple(layer.grid for layer, _ in chosen),
        score=target.public_name,
        method=method_for(target, options.method).name,
        relu=options.relu,
        fuse=options.fuse,
        notes=notes_on(analysis, method_for(target, options.method)),
        class_count=target.class_count,
        activation=target.activation,
        probabilities=target.probabilities,
        logits=target.logits,
        is_number=target.is_number,
        picture=analysis.layers.explained.name,
        names=tuple(_other_names(one) for one in chosen),
        preprocess=analysis.hints.preprocess,
        labels=analysis.hints.labels,
        task=target.task,
        candidates=target.candidates,
        cut=tuple(analysis.member(layer) for layer, _ in chosen) if analysis.is_cut else (),
        window=analysis.window,
    )


def _other_names(chosen: Chosen) -> tuple[str, ...]:
    """Return a layer's names beside its tensor: the one it was asked for by, its node and its module path."""
    layer = chosen.layer
    names = dict.fromkeys((chosen.asked, layer.node, layer.path))
    return tuple(name for name in names if name and name not in ("auto", layer.public_name))
