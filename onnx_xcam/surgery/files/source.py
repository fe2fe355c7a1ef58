"""This module reads a model from where the caller has it, and puts results together: the original bytes plus a tail.

Protobuf merges concatenated messages, so `original bytes + tail bytes` is the original model with the tail's nodes,
initializers, inputs, outputs and metadata added. The original part stays byte for byte what it was, and neither the
surgery nor the writing of the result reads the weights into memory. A model that needs more than a tail, such as a
higher opset, is first changed to another source (see the package `normalise`).
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_xcam.common import arguments
from onnx_xcam.common.files import open_file
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.files import wire
from onnx_xcam.surgery.files.external import ExternalData, Folders, Reference, folders, kept_outside, relocate

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto


class Source:
    """A Source holds a model as the caller gave it, a path, bytes or a ModelProto, and never changes it.

    Args:
        model: the model.
        path: the file that a model given as bytes or ModelProto comes from; its folder holds the external data.
        allow_folders: folders besides the model's own in which its external data may lie.
        dropped_metadata: the key of metadata entries that are left out.
        tail: a serialised model whose nodes and initializers are added to the model's own.
    """

    def __init__(
        self,
        model: ModelLike,
        path: Path | None = None,
        *,
        allow_folders: Folders = (),
        dropped_metadata: str | None = None,
        tail: bytes = b"",
    ) -> None:
        if not isinstance(model, (str, os.PathLike, bytes, onnx.ModelProto)):
            raise ModelError(
                f"A model is a path, bytes or an onnx.ModelProto, not {type(model).__name__}; give one of these."
            )
        self.model = model
        self.path = arguments.path("model", model, ModelError) if isinstance(model, (str, os.PathLike)) else path
        self._allowed = folders(allow_folders)
        self._dropped = dropped_metadata
        self._tail = tail
        self._references: list[Reference] | None = None

    @property
    def name(self) -> str:
        """Return the model's name for messages."""
        return f"'{self.path}'" if self.path else "the model"

    @functools.cached_property
    def external(self) -> ExternalData | None:
        """Return the object that reads weights from other files, None for a model without a path."""
        return None if self.path is None else ExternalData(self.path.parent, self._allowed, self.name)

    def skeleton(self) -> onnx.ModelProto:
        """Return a copy of the model without its large weights; the caller may change it.

        Small tensors have their values, also those that lie in other files.

        Raises:
            ModelError: the model is no ONNX model, truncated, empty, or not readable, or its external data must not be
                read.
        """
        model = self._bare()
        outside = list(kept_outside(model))
        if self.external is None:
            self._references = None if outside else []
            return model
        self._references = [self.external.reference(tensor) for tensor in outside]
        for tensor, reference in zip(outside, self._references, strict=True):
            if len(reference.part) <= wire.PAYLOAD_LIMIT:
                self._fetch(self.external, tensor)
        return model

    def load(self, external: Callable[[onnx.TensorProto], bool] = lambda _: True) -> onnx.ModelProto:
        """Return the whole model as a new object.

        Args:
            external: a function that says which of the tensors in other files are read; the others stay there.

        Raises:
            ModelError: `skeleton` raises it, or external data cannot be read.
        """
        if isinstance(self.model, onnx.ModelProto):
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
        else:
            with self._buffer() as data:
                model = self._parse(wire.load, data)
        if self.external is not None:
            for tensor in filter(external, kept_outside(model)):
                self._fetch(self.external, tensor)
        for entry in [entry for entry in model.metadata_props if entry.key == self._dropped]:
            model.metadata_props.remove(entry)
        model.MergeFromString(self._tail)
        return model

    def stored(self, names: Collection[str]) -> dict[str, NDArray[Any]]:
        """Return the values of initializers and Constant nodes by name, without those that the model does not have.

        Raises:
            ModelError: `load` raises it.
        """
        graph = self.load(external=lambda tensor: tensor.name in names).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            held = [
                attribute.t for attribute in node.attribute if attribute.name == "value" and attribute.HasField("t")
            ]
            tensors.update((name, held[0]) for name in node.output[:1] if held and node.op_type == "Constant")
        kept = {name: tensors[name] for name in names if name in tensors}
        return {name: numpy_helper.to_array(tensor) for name, tensor in kept.items()}

    def fetch(self, tensor: onnx.TensorProto) -> None:
        """Read the values of a tensor of this model into the tensor, if they lie in another file and it has a path.

        Raises:
            ModelError: external data cannot be read.
        """
        if self.external is not None and tensor.data_location == onnx.TensorProto.EXTERNAL:
            self._fetch(self.external, tensor)

    def references(self) -> list[Reference]:
        """Return where the model's external data lie, tensor by tensor.

        Raises:
            ModelError: `skeleton` raises it, or the model has external data but no path.
        """
        if self._references is None:
            self.skeleton()
        if self._references is None:
            raise ModelError("The model keeps weights in external files but has no path; give the path of its file.")
        return self._references

    def runnable(self, content: bytes) -> tuple[bytes, Path | None]:
        """Return a model in a form that ONNX Runtime accepts, and the folder of its external data.

        ONNX Runtime refuses external data outside of the folder that it is given. Where the user has allowed other
        folders, the result is a folder above all of them, with the locations in the model changed accordingly.

        Args:
            content: the bytes of this model, with a tail or without.

        Raises:
            ModelError: `references` raises it, or the files lie on different drives.
        """
        references = self.references()
        if all(reference.inside for reference in references):
            return content, self.path.parent if self.path else None
        assert self.external is not None
        files = {reference.part.path for reference in references}
        try:
            above = Path(os.path.commonpath([file.parent for file in files]))
        except ValueError as error:
            raise ModelError(f"The external data of {self.name} lie on different drives; put them on one.") from error
        model = onnx.ModelProto.FromString(content)
        for tensor in kept_outside(model):
            file = self.external.reference(tensor).part.path
            relocate(tensor, file.relative_to(above).as_posix())
        return model.SerializeToString(), above

    def changed(self, model: onnx.ModelProto | bytes) -> Source:
        """Return a source of another model that has the same external data."""
        return Source(model, self.path, allow_folders=self._allowed, dropped_metadata=self._dropped)

    def without_metadata(self, key: str) -> Source:
        """Return a source of the same model without the metadata entry of this key, which a tail will add again."""
        return Source(self.model, self.path, allow_folders=self._allowed, dropped_metadata=key, tail=self._tail)

    def extended(self, tail: bytes) -> Source:
        """Return a source of the same model with the nodes and initializers of a serialised one added."""
        return Source(
            self.model,
            self.path,
            allow_folders=self._allowed,
            dropped_metadata=self._dropped,
            tail=self._tail + tail,
        )

    def with_tail(self, tail: bytes) -> bytes:
        """Return the original bytes, followed by the tail."""
        with self._buffer() as data:
            return b"".join((*self._kept(data), tail))

    @contextlib.contextmanager
    def pieces(self, change: wire.Change | None = None) -> Iterator[list[wire.Piece]]:
        """Give the pieces of the serialised model, in a context; a file is mapped, not read.

        Args:
            change: what replaces tensors that lie in other files; None leaves all of them as they are.
        """
        with self._buffer() as data:
            if change is None:
                yield list(self._kept(data))
            else:
                yield [piece for part in self._kept(data) for piece in wire.rewritten(part, change)]

    def _bare(self) -> onnx.ModelProto:
        """Return the model without its large weights, after a check that it has a sound graph."""
        if isinstance(self.model, onnx.ModelProto):
            model = _proto_skeleton(self.model)
        else:
            with self._buffer() as data:
                model = self._parse(wire.skeleton, data)
        model.MergeFromString(self._tail)
        return _require_graph(model, self.name)

    @staticmethod
    def _fetch(external: ExternalData, tensor: onnx.TensorProto) -> None:
        """Read a tensor's values from another file into the tensor."""
        tensor.raw_data = external.read(tensor)
        del tensor.external_data[:]
        tensor.ClearField("data_location")

    @property
    def _is_file(self) -> bool:
        """Tell whether the model was given as a path."""
        return isinstance(self.model, (str, os.PathLike))

    def _kept(self, data: memoryview) -> list[memoryview]:
        """Return the slices of the serialised model without the dropped metadata entry."""
        kept = [data] if self._dropped is None else wire.without_metadata(data, self._dropped)
        return [*kept, memoryview(self._tail)] if self._tail else kept

    @contextlib.contextmanager
    def _buffer(self) -> Iterator[memoryview]:
        """Give the serialised model, in a context; a file is mapped, not read."""
        if not self._is_file:
            yield memoryview(self.model if isinstance(self.model, bytes) else self._serialised())
            return
        with self._opened() as data:
            yield memoryview(data)

    def _serialised(self) -> bytes:
        """Return the bytes of a model that was given as a ModelProto.

        Raises:
            ModelError: the model is larger than a protobuf message can be.
        """
        assert isinstance(self.model, onnx.ModelProto)
        try:
            content: bytes = self.model.SerializeToString()
        except (EncodeError, ValueError) as error:
            raise ModelError(
                f"{self.name} is larger than the 2 GB that an ONNX file can hold; save it with external data, and give "
                "the path of that file."
            ) from error
        return content

    @contextlib.contextmanager
    def _opened(self) -> Iterator[mmap.mmap]:
        """Give the model's file mapped into memory, in a context.

        Raises:
            ModelError: the file is missing, empty, or not readable.
        """
        assert self.path is not None
        try:
            with open_file(self.path) as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise ModelError(f"{self.name} is empty; export the model again.")
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                try:
                    yield data
                finally:
                    # a traceback, for instance, may still hold parts of the map, which is closed when it lets them go
                    with contextlib.suppress(BufferError):
                        data.close()
        except FileNotFoundError as error:
            raise ModelError(f"{self.name} does not exist; give the path of an ONNX model.") from error
        except OSError as error:
            raise ModelError(f"{self.name} cannot be read: {error.strerror or error}.") from error

    def _parse(self, how: Callable[[memoryview], onnx.ModelProto], data: memoryview) -> onnx.ModelProto:
        """Return what `how` reads from the serialised model, or raise ModelError where it is damaged."""
        try:
            return how(data)
        except wire.WireError as error:
            raise ModelError(
                f"{self.name} is not an ONNX model or is damaged ({error}); export or download it again."
            ) from error


def _require_graph(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model, or raise ModelError if it has no nodes, names that are no text, or one name for two tensors."""
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{name} is not an ONNX model, or has no nodes; give the path of an exported model.")
    graph = model.graph
    names = [thing.name for thing in (graph, *graph.input, *graph.output, *graph.initializer, *graph.value_info)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    if any(isinstance(text, bytes) for text in names):  # protobuf gives text that is not UTF-8 as bytes
        raise ModelError(f"{name} is damaged: it holds names that are not text; export or download it again.")
    for kind, values in (("weights", graph.initializer), ("inputs", graph.input)):
        counts = Counter(value.name for value in values)
        if twice := [text for text, count in counts.items() if count > 1 and text]:
            raise ModelError(
                f"{name} holds several {kind} of one name, '{twice[0]}', and does not say which one counts; "
                "export it again."
            )
    return model


def _proto_skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a ModelProto without the values of its large initializers."""
    result = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        _copy_field(result, field.name, value)
    result.graph.name = model.graph.name
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(result.graph, field.name, value)
    for tensor in model.graph.initializer:
        _copy_tensor(tensor, result.graph.initializer.add())
    return result


def _copy_field(target: object, name: str, value: object) -> None:
    """Copy the value of a protobuf field, which may be repeated, a message, or a scalar."""
    if hasattr(value, "extend"):
        getattr(target, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def _copy_tensor(tensor: onnx.TensorProto, copy: onnx.TensorProto) -> None:
    """Copy a tensor into an empty one, without its values if it is large."""
    if _byte_size(tensor) <= wire.PAYLOAD_LIMIT:
        copy.CopyFrom(tensor)
    else:
        wire.strip(copy, tensor)


def _byte_size(tensor: onnx.TensorProto) -> int:
    """Return the serialised size of a tensor in bytes; at least 2 GB where protobuf cannot write it."""
    try:
        return int(tensor.ByteSize())
    except EncodeError:
        return 1 << 31
