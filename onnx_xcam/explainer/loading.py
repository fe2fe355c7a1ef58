"""From a model file to a session: instrument it if it is plain, and read off what the Explainer has to know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from onnx_xcam import contract
from onnx_xcam.comparison import compare_raised
from onnx_xcam.errors import LayerError, ModelError
from onnx_xcam.explainer.probabilities import ProbabilitySource, find_probabilities, stated_probabilities
from onnx_xcam.feeds import InputValue, OtherInputs, image_and_others
from onnx_xcam.runtime import Session, TensorInfo, open_session
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source


@dataclass(frozen=True)
class LoadedModel:
    """An instrumented model in a session.

    Attributes:
        name: the file's path in quotes, or "the model": for messages.
        path: None for a model that was given as bytes or as a ModelProto.
        files: its file and those that it keeps weights in; none for a model without a path.
        metadata: the JSON of `metadata_props["onnx_xcam"]`.
        image_input: the input that the pictures go to.
        others: what the other inputs are fed.
        class_count: C, or None where nothing tells it.
        fixed_classes: the model has no class input; what it explains was settled when it was instrumented.
        batch: the batch size that the model was exported with, or None for any.
        was_instrumented: the file was instrumented already.
        compared: for a model whose opset had to be raised, how its outputs before and after differ, as a sentence.
        skeleton: the instrumented graph without its weights, if it was made here: another's is not followed.
        class_memory: what was found out by it, for each shape of a batch.
    """

    session: Session
    name: str
    path: Path | None
    files: tuple[Path, ...]
    metadata: dict[str, Any]
    image_input: TensorInfo
    others: OtherInputs
    class_count: int | None
    probabilities: ProbabilitySource | None
    fixed_classes: bool
    batch: int | None
    was_instrumented: bool
    compared: str | None = None
    skeleton: bytes | None = None
    class_memory: dict[tuple[int, ...], int] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Names of the target layers' tensors."""
        return [str(name) for name in self.metadata["layers"]]

    def outputs(self, kind: contract.Emit) -> list[str]:
        """The outputs of this kind that the model has, one per layer (or none at all)."""
        there = {output.name for output in self.session.outputs}
        names = [contract.output_name(kind, index) for index in range(len(self.layers))]
        return [name for name in names if name in there]


def load_model(
    model: ModelLike,
    *,
    layers: str | Sequence[str],
    score: str,
    method: str,
    providers: str | Sequence[str] | None,
    threads: int | None,
    inputs: Mapping[str, InputValue] | None,
    allow_folders: Folders = (),
) -> LoadedModel:
    """Open a plain or an instrumented model for explaining.

    Raises:
        ModelError: not an ONNX model, or an instrumented one without `xcam_map`.
        LayerError: layers, a score or a method are asked of a model that was instrumented for others.
        InputError: no image-like input, or a value of another input is missing or wrong.
        and what the surgery and `open_session` raise.
    """
    given = Source(model, allow_folders=allow_folders)
    proto = given.skeleton()
    instrumented = contract.is_instrumented(output.name for output in proto.graph.output)
    if instrumented:
        _refuse_other_targets(proto, given.name, layers, score, method)
        session = _session_of(given, providers, threads)
        compared = skeleton = None
    else:
        from onnx_xcam.surgery import instrument_bytes  # noqa: PLC0415  - not needed for every model

        made = instrument_bytes(
            model, layers=layers, score=score, method=method, emit=("map", "status"), allow_folders=allow_folders
        )
        compared = compare_raised(given, inputs, made)
        skeleton = Source(made, given.path, allow_folders=allow_folders).skeleton().SerializeToString()
        content, folder = given.runnable(made)
        session = open_session(content, providers=providers, threads=threads, folder=folder)
    metadata = _metadata(session, given.name)
    image_input, others = image_and_others(session.inputs, session.optional_inputs, inputs)
    return LoadedModel(
        session=session,
        name=given.name,
        path=given.path,
        files=_files(given),
        metadata=metadata,
        image_input=image_input,
        others=others,
        class_count=_class_count(metadata, session),
        probabilities=stated_probabilities(metadata, (output.name for output in session.outputs))
        if "probabilities" in metadata
        else find_probabilities(proto.graph, metadata["score"]),
        fixed_classes=not any(
            info.name == contract.CLASS_INPUT for info in (*session.inputs, *session.optional_inputs)
        ),
        batch=image_input.shape[0] if isinstance(image_input.shape[0], int) else None,
        was_instrumented=instrumented,
        compared=compared,
        skeleton=skeleton,
    )


def _files(source: Source) -> tuple[Path, ...]:
    if source.path is None:
        return ()
    return (source.path, *sorted({reference.part.path for reference in source.references()}))


def _session_of(source: Source, providers: str | Sequence[str] | None, threads: int | None) -> Session:
    """A session of the model as it is; from its file, unless its external data lie where ONNX Runtime takes none."""
    if source.path and all(reference.inside for reference in source.references()):
        return open_session(source.path, providers=providers, threads=threads)
    content, folder = source.runnable(source.with_tail(b""))
    return open_session(content, providers=providers, threads=threads, folder=folder)


def _refuse_other_targets(
    proto: onnx.ModelProto, name: str, layers: str | Sequence[str], score: str, method: str
) -> None:
    """An instrumented model is used as it is; wanting something else of it is an error, not a silent no."""
    text = next((p.value for p in reversed(proto.metadata_props) if p.key == contract.METADATA_KEY), "{}")
    own = _json(text, name)
    asked = [layers] if isinstance(layers, str) else list(layers)
    what = None
    if asked != ["auto"] and asked != list(own.get("layers", [])):
        what = f"layers {', '.join(map(repr, asked))}"
    elif score not in ("auto", own.get("score")):
        what = f"the score {score!r}"
    elif method != own.get("method", method):
        what = f"the method {method!r}"
    if what:
        raise LayerError(
            f"{name} is instrumented already, for the layers {', '.join(map(repr, own.get('layers', [])))}, the score "
            f"{own.get('score')!r} and the method {own.get('method')!r}; it cannot give {what}. Use the original model."
        )


def _metadata(session: Session, name: str) -> dict[str, Any]:
    metadata = _json(session.metadata.get(contract.METADATA_KEY, "{}"), name)
    if not metadata.get("layers") or "score" not in metadata:
        raise ModelError(
            f"{name} has the outputs of an instrumented model but its metadata {contract.METADATA_KEY!r} does not say "
            "which layers and score; instrument the original model again."
        )
    there = {output.name for output in session.outputs}
    missing = [
        wanted
        for index in range(len(metadata["layers"]))
        if (wanted := contract.output_name("map", index)) not in there
    ]
    if missing:
        raise ModelError(
            f"{name} is instrumented without {missing[0]!r}; instrument the original model again with --emit map."
        )
    return metadata


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        return contract.parse_metadata(text)
    except (ValueError, json.JSONDecodeError) as error:
        raise ModelError(f"The metadata {contract.METADATA_KEY!r} of {name} cannot be read: {error}.") from error


def _class_count(metadata: Mapping[str, Any], session: Session) -> int | None:
    if isinstance(metadata.get("class_count"), int):
        return int(metadata["class_count"])
    # Another's model need not say it; a score of rank 1 may be one logit per image as well as one score per class.
    shape = next((output.shape for output in session.outputs if output.name == metadata["score"]), ())
    lengths = [length for length in shape[1:] if length != 1]
    if len(shape) > 1 and not lengths:
        return 2  # one logit, seen as two classes
    return lengths[0] if len(lengths) == 1 and isinstance(lengths[0], int) else None
