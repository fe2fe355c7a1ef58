"""Where a model comes from, and how the result is put together: the original bytes plus a tail.

Protobuf merges concatenated messages, so `original bytes + tail bytes` is the original model with the tail's nodes,
initializers, inputs, outputs and metadata added. The original part stays byte for byte what it was, and neither the
surgery nor the writing of the result reads the weights into memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import onnx
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from onnx_xcam.errors import ModelError, OutputError
from onnx_xcam.surgery import wire

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto


class Source:
    """A model as the caller gave it: a path, bytes or a ModelProto. It is never changed."""

    def __init__(self, model: ModelLike, path: Path | None = None, dropped_metadata: str | None = None) -> None:
        if not isinstance(model, (str, os.PathLike, bytes, onnx.ModelProto)):
            raise ModelError(
                f"A model is a path, bytes or an onnx.ModelProto, not {type(model).__name__}; give one of these."
            )
        self.model = model
        self.path = Path(model) if isinstance(model, (str, os.PathLike)) else path
        self._dropped = dropped_metadata

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return f"'{self.path}'" if self.path else "the model"

    def skeleton(self) -> onnx.ModelProto:
        """The model without its large weights; a copy that may be changed.

        Raises:
            ModelError: not an ONNX model, truncated, empty, or not readable.
        """
        if isinstance(self.model, onnx.ModelProto):
            return _require_graph(_proto_skeleton(self.model), self.name)
        with self._buffer() as data:
            return _require_graph(self._parse(wire.skeleton, data), self.name)

    def load(self) -> onnx.ModelProto:
        """The whole model, external data included, as a new object.

        Raises:
            ModelError: as `skeleton`, or external data that cannot be read.
        """
        if isinstance(self.model, onnx.ModelProto):
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
        else:
            with self._buffer() as data:
                model = self._parse(wire.load, data)
            self._load_external_data(model)
        for entry in [entry for entry in model.metadata_props if entry.key == self._dropped]:
            model.metadata_props.remove(entry)
        return model

    def _load_external_data(self, model: onnx.ModelProto) -> None:
        if self.path is None or not external_files(model):
            return
        try:
            load_external_data_for_model(model, str(self.path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"The external data of {self.name} cannot be read: {error}") from error

    def without_metadata(self, key: str) -> Source:
        """The same model without its metadata entry of this key, since a key must not occur twice."""
        return Source(self.model, self.path, key)

    def with_tail(self, tail: bytes) -> bytes:
        """The original bytes, followed by the tail."""
        with self._buffer() as data:
            return b"".join((*self._kept(data), tail))

    def write_with_tail(self, out: Path, tail: bytes) -> None:
        """Write the original, followed by the tail, and external data files where the folder is another one.

        Raises:
            OutputError: the file cannot be written, or it is the original itself.
        """
        if self.path and out.exists() and out.samefile(self.path):
            raise OutputError(f"'{out}' is the original model itself; give another name for the result.")
        with writing(out) as partial:
            if self._is_file and self.path and self._dropped is None:
                shutil.copyfile(self.path, partial)
                with partial.open("ab") as file:
                    file.write(tail)
            else:
                with self._buffer() as data, partial.open("wb") as file:
                    file.writelines((*self._kept(data), tail))

    def copy_external_data(self, skeleton: onnx.ModelProto, out: Path) -> None:
        """Copy the external data files beside a result `out` that is written to another folder.

        Raises:
            ModelError: a location leaves the model's folder, or the file is not there.
            OutputError: `out` or a different file of that name is there already.
        """
        copies = [self._external_copy(location, out) for location in sorted(external_files(skeleton))]
        for source, target in copies:
            if not target.exists():
                with writing(target) as partial:
                    shutil.copyfile(source, partial)

    def _external_copy(self, location: str, out: Path) -> tuple[Path, Path]:
        """Where a file of external data lies, and where it must lie for the result `out`."""
        if self.path is None:
            raise ModelError("The model keeps weights in external files but has no path; give the path of its file.")
        relative = Path(location)
        if relative.is_absolute() or ".." in relative.parts:
            raise ModelError(f"The external data '{location}' of {self.name} lies outside the model's folder.")
        source, target = self.path.parent / relative, out.parent / relative
        if not source.is_file():
            raise ModelError(f"The external data '{source}' of {self.name} is missing; put it back beside the model.")
        if target == out or (target.exists() and out.exists() and target.samefile(out)):
            raise OutputError(f"'{out}' is the name of the model's external data; give another name for the result.")
        if target.exists() and not target.samefile(source):
            raise OutputError(f"'{target}' exists already; write the result to an empty folder.")
        return source, target

    @property
    def _is_file(self) -> bool:
        return isinstance(self.model, (str, os.PathLike))

    def _kept(self, data: memoryview) -> list[memoryview]:
        return [data] if self._dropped is None else wire.without_metadata(data, self._dropped)

    @contextlib.contextmanager
    def _buffer(self) -> Iterator[memoryview]:
        """The serialised model; a file is mapped, not read."""
        if not self._is_file:
            yield memoryview(self.model if isinstance(self.model, bytes) else self.model.SerializeToString())  # type: ignore
            return
        with self._opened() as data, memoryview(data) as view:
            yield view

    @contextlib.contextmanager
    def _opened(self) -> Iterator[mmap.mmap]:
        assert self.path is not None
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise ModelError(f"{self.name} is empty; export the model again.")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield data
        except FileNotFoundError as error:
            raise ModelError(f"{self.name} does not exist; give the path of an ONNX model.") from error
        except OSError as error:
            raise ModelError(f"{self.name} cannot be read: {error.strerror or error}.") from error

    def _parse(self, how: Callable[[memoryview], onnx.ModelProto], data: memoryview) -> onnx.ModelProto:
        try:
            return how(data)
        except wire.WireError as error:
            raise ModelError(
                f"{self.name} is not an ONNX model or is damaged ({error}); export or download it again."
            ) from error


def external_files(model: onnx.ModelProto) -> set[str]:
    """The locations of the model's external data."""
    return {
        entry.value
        for tensor in model.graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        partial = Path(partial_name)
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _require_graph(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{name} is not an ONNX model, or has no nodes; give the path of an exported model.")
    graph = model.graph
    names = [thing.name for thing in (graph, *graph.input, *graph.output, *graph.initializer, *graph.value_info)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    if any(isinstance(text, bytes) for text in names):  # how protobuf hands out what is not UTF-8
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
    """A copy of a ModelProto without the values of its large initializers."""
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
    if hasattr(value, "extend"):
        getattr(target, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def _copy_tensor(tensor: onnx.TensorProto, copy: onnx.TensorProto) -> None:
    if tensor.ByteSize() <= wire.PAYLOAD_LIMIT:
        copy.CopyFrom(tensor)
        return
    copy.name, copy.data_type = tensor.name, tensor.data_type
    copy.dims.extend(tensor.dims)
    copy.external_data.extend(tensor.external_data)
    copy.data_location = onnx.TensorProto.EXTERNAL
