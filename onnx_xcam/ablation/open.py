"""This module opens channel ablation at some layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError

from onnx_xcam.ablation.batches import BatchSizes
from onnx_xcam.ablation.channel_ablation import ChannelAblation
from onnx_xcam.ablation.runner import Runner
from onnx_xcam.errors import ModelError
from onnx_xcam.runtime import Session, open_session
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.submodels.branches import fill_branches
from onnx_xcam.surgery.submodels.masked import MaskedPart, masked_part, tensors_of_part
from onnx_xcam.surgery.submodels.score_decomposition import decomposition_model
from onnx_xcam.surgery.targets.analysis import Analysis, Request, analyse, diagnosed
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.target import Target
from onnx_xcam.trials.exactness import arithmetic_for


def open_ablations(
    model: ModelLike,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    *,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    picture: str = "auto",
    allow_folders: Folders = (),
    exact: bool = False,
) -> list[ChannelAblation]:
    """Open channel ablation at some layers of a plain model, each in a session of its own.

    Args:
        model: path, bytes or ModelProto of a plain model; it is never changed.
        layers, score, picture, allow_folders: as for `instrument`.
        providers, threads, exact: as for `Explainer`.

    Returns:
        A ChannelAblation for each layer, in the order of `layers`.

    Raises:
        XcamError: as `instrument` and `open_session`.
        ModelError: the part behind a layer holds more than 2 GB.
    """
    request = Request(layers=layers, score=score, picture=picture)
    analysis = analyse(Source(model, allow_folders=allow_folders), request)
    return ablations_of(analysis, providers=providers, threads=threads, exact=exact)


def ablations_of(
    analysis: Analysis,
    *,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    exact: bool = False,
) -> list[ChannelAblation]:
    """Open channel ablation at the layers of an analysed model; see `open_ablations`."""
    source, graph, target, chosen = analysis.source, analysis.graph, analysis.target, analysis.chosen_layers
    with diagnosed(analysis.given):
        cuts = _cuts(analysis)
    score = target.name if target.name not in graph.inner and not graph.quantised else None
    steady = not graph.quantised and not any(graph.dtype(name) == np.float16 for name in graph.producer)
    arithmetic, _ = arithmetic_for(source, analysis.skeleton, providers, exact=exact)
    options = {"providers": providers, "threads": threads, "arithmetic": arithmetic}
    ablations = []
    for layer, cut in zip(chosen, cuts, strict=True):
        opened = partial(_session, name=source.name, layer=layer, options=options)
        runner = Runner(opened(cut.model), cut, target, layer.layout, layer.grid)
        sizes, decomposition = BatchSizes(runner, is_exact=steady), partial(_decomposition, opened, cut, layer, target)
        ablations.append(ChannelAblation(runner, sizes, layer, score, decomposition=decomposition, is_exact=steady))
    return ablations


def _cuts(analysis: Analysis) -> list[MaskedPart]:
    """Return the part behind each layer with its weights; only these weights are loaded from other files."""
    source, graph, chosen, score = analysis.source, analysis.graph, analysis.chosen_layers, analysis.target.name
    names = {layer.name for layer in chosen} if analysis.is_cut else set[str]()
    held = [names - {layer.name} for layer in chosen]
    read = set().union(
        *(tensors_of_part(graph, layer.name, score, others) for layer, others in zip(chosen, held, strict=True))
    )
    stored = source.load(external=lambda tensor: tensor.name in read).graph.initializer
    weights = {tensor.name: tensor for tensor in stored if tensor.name in read}
    foreign = {n.output[0] for n in analysis.skeleton.graph.node if n.domain and proto_traits(n).rounds}
    roles = analysis.layers.roles
    cuts = [
        masked_part(graph, roles, layer, score, weights=weights, foreign=foreign, held=others)
        for layer, others in zip(chosen, held, strict=True)
    ]
    for cut in cuts:
        fill_branches(cut.model.graph.node, source)
    return cuts


def _decomposition(
    opened: Callable[[onnx.ModelProto], Session], cut: MaskedPart, layer: Layer, target: Target
) -> tuple[Session, tuple[str, ...]]:
    """Open the part that decomposes the scores, and return its session and the names of its curved nodes."""
    with Diagnosed("the part behind the layer"):
        made = decomposition_model(cut, layer, target)
    return opened(made.model), made.curved


def _session(model: onnx.ModelProto, *, name: str, layer: Layer, options: Mapping[str, Any]) -> Session:
    """Open a session of a part, or raise a ModelError if the part is too large for a model in memory."""
    try:
        content: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"The part of {name} behind the layer '{layer.public_name}' is larger than the 2 GB that a model in memory "
            "can hold; choose a later layer."
        ) from error
    return open_session(content, **options)
