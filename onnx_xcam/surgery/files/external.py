"""This module locates weights in files beside the model (external data), and decides which files may be read.

A model is untrusted input, and its external data names files. Only regular files in the model's own folder, or in
folders that the user allows by name, are read. Links are followed first, and the file that they lead to must lie there.

Format: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn, TypeAlias

import onnx
from onnx import TensorProto

from onnx_xcam.common.arguments import is_listed, path, short_repr
from onnx_xcam.common.files import open_file
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.files.wire import FilePart, is_stripped

Folders: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""The path of one folder, or the paths of several."""

_LARGEST = (1 << 63) - 1
_BITS = {
    **dict.fromkeys(("UINT8", "INT8", "BOOL", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **{"COMPLEX128": 128, "FLOAT8E8M0": 8, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2},
}
"""The bits of an element by the name of its type; strings cannot lie in another file."""


@dataclass(frozen=True)
class Reference:
    """A Reference says in which file, and where in it, the bytes of a tensor lie.

    Attributes:
        location: the location as the model gives it.
        part: the file, with all links followed, and the bytes in it.
        inside: whether the location is a plain relative path and the file lies in the model's folder, as ONNX Runtime
            requires.
    """

    location: str
    part: FilePart
    inside: bool


class ExternalData:
    """An ExternalData object finds and reads the files in which a model keeps its weights.

    Args:
        folder: the folder of the model file, as the caller named it.
        allowed: further folders in which the weights may lie, as the user named them.
        model: the model's name for messages.

    Raises:
        ModelError: an allowed folder does not exist, or is no folder.
    """

    def __init__(self, folder: Path, allowed: Sequence[Path], model: str) -> None:
        self.folder = folder
        self._home = folder.resolve()
        self._allowed = [_real_folder(path) for path in allowed]
        self._model = model
        self._files: dict[str, tuple[Path, int]] = {}

    def reference(self, tensor: TensorProto) -> Reference:
        """Return where a tensor's bytes lie.

        Args:
            tensor: a tensor with its data outside of the model file.

        Raises:
            ModelError: the entry is malformed, or the file is missing, not allowed, no regular file, or too short.
        """
        fields = self._fields(tensor)
        location = fields.get("location", "")
        if not location:
            self._refuse(tensor, "are said to lie in another file, but not in which")
        file, size = self._file(location)
        needed = self._size(tensor)
        offset = self._number(tensor, "offset", fields)
        length = self._number(tensor, "length", fields) or needed
        if length != needed:
            self._refuse(tensor, f"take {needed} bytes, but {length} are set aside for them in '{location}'")
        if offset + needed > size:
            self._refuse(tensor, f"reach to byte {offset + needed} of '{location}', which has only {size}")
        inside = is_plain(location) and file.is_relative_to(self._home)
        return Reference(location, FilePart(file, offset, needed), inside)

    def read(self, tensor: TensorProto) -> bytes:
        """Return a tensor's bytes.

        Raises:
            ModelError: `reference` raises it, or the file cannot be read.
        """
        reference = self.reference(tensor)
        try:
            with open_file(reference.part.path) as file:
                file.seek(reference.part.offset)
                content = file.read(reference.part.length)
        except OSError as error:
            self._unreadable(reference.location, error)
        if len(content) != reference.part.length:
            self._refuse(tensor, f"are cut off: '{reference.location}' became shorter while it was read")
        return content

    def _fields(self, tensor: TensorProto) -> dict[str, str]:
        """Return the entries that say where a tensor's data lie, each given once and as text."""
        fields: dict[str, str] = {}
        for entry in tensor.external_data:
            # protobuf gives text that is not UTF-8 as bytes
            if isinstance(entry.key, bytes) or isinstance(entry.value, bytes):
                self._refuse(tensor, "are said to lie in another file by a name that is not text")
            if entry.key in fields:
                self._refuse(tensor, f"have two entries '{entry.key}' for where they lie")
            fields[entry.key] = entry.value
        return fields

    def _number(self, tensor: TensorProto, key: str, fields: dict[str, str]) -> int:
        """Return an entry that is a number of bytes, 0 where it is not given."""
        text = fields.get(key, "0")
        if not re.fullmatch("[0-9]{1,19}", text) or int(text) > _LARGEST:
            self._refuse(tensor, f"have the {key} {text[:40]!r} in '{fields['location']}', which is no number of bytes")
        return int(text)

    def _size(self, tensor: TensorProto) -> int:
        """Return how many bytes a tensor of this shape and type has."""
        kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in _KNOWN_TYPES else ""
        if kind not in _BITS:
            self._refuse(tensor, "have a type that cannot be kept in another file")
        if any(dim < 0 for dim in tensor.dims):
            self._refuse(tensor, f"have the impossible shape {list(tensor.dims)}")
        return -(-math.prod(int(dim) for dim in tensor.dims) * _BITS[kind] // 8)

    def _file(self, location: str) -> tuple[Path, int]:
        """Return the file at a location, with all links followed, and its size in bytes."""
        if location not in self._files:
            try:
                real = (self.folder / location).resolve(strict=True)
                self._require_allowed(location, real)
                with open_file(real) as file:
                    self._files[location] = real, os.fstat(file.fileno()).st_size
            except (OSError, ValueError, RuntimeError) as error:  # ValueError: a null character; RuntimeError: a loop
                self._require_allowed(location, Path(os.path.normpath(self._home / location.replace("\0", ""))))
                self._unreadable(location, error)
        return self._files[location]

    def _require_allowed(self, location: str, real: Path) -> None:
        """Raise ModelError if a file lies neither in the model's folder nor in an allowed one."""
        own = [self._home] if is_plain(location) else []
        if not any(real.is_relative_to(folder) for folder in (*own, *self._allowed)):
            raise ModelError(
                f"The external data '{location}' of {self._model} lies outside the model's folder, in "
                f"'{real.parent}'; if you trust the model, allow that folder: --allow-folder (allow_folders in Python)."
            )

    def _unreadable(self, location: str, error: Exception) -> NoReturn:
        """Raise a ModelError that says why a file of external data cannot be read."""
        where = f"The external data '{location}' of {self._model}"
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise ModelError(f"{where} is missing; put it back beside the model.") from error
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"{where} cannot be read: {why}.") from error

    def _refuse(self, tensor: TensorProto, what: str) -> NoReturn:
        """Raise a ModelError that says what is wrong with the entries of a tensor."""
        name = f"The weights '{tensor.name}'" if tensor.name else "The values of a constant"
        raise ModelError(f"{name} of {self._model} {what}; the file is damaged: export or download it again.")


_KNOWN_TYPES = frozenset(TensorProto.DataType.values())


def is_plain(location: str) -> bool:
    """Tell whether a location is a relative path without `..` on POSIX systems and on Windows."""
    kinds = (PurePosixPath(location), PureWindowsPath(location))
    return not any(path.anchor or ".." in path.parts for path in kinds)


def relocate(tensor: TensorProto, location: str) -> None:
    """Give a tensor's external data another location."""
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location


def kept_outside(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield the tensors of a model, or of its skeleton, with their data in other files, also those in subgraphs."""
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL and not is_stripped(tensor):
            yield tensor


def folders(given: Folders) -> tuple[Path, ...]:
    """Return the paths of the option `allow_folders`, which takes one folder or several.

    Raises:
        ModelError: the option holds something that is no path.
    """
    several = (given,) if isinstance(given, (str, os.PathLike)) else given
    listed = is_listed(several) or isinstance(several, set | frozenset)
    if not listed or not all(isinstance(folder, (str, os.PathLike)) for folder in several):
        raise ModelError(f"allow_folders takes the path of a folder, or a list of them, not {short_repr(given)}.")
    return tuple(path("allow_folders", folder, ModelError) for folder in several)


def _real_folder(path: Path) -> Path:
    """Return a folder with all links followed, or raise ModelError if there is none."""
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"The folder '{path}' that is to be allowed cannot be found; correct its name.") from error
    if not real.is_dir():
        raise ModelError(f"'{path}', which is to be allowed, is no folder; name the folder that the file lies in.")
    return real


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all tensors that a model holds, in its graph and its functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Yield all tensors that a graph holds, as initializers or in its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    """Yield all tensors in the attributes of nodes, also in those of subgraphs."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for pair in (*sparse, *attribute.sparse_tensors):
                yield from (pair.values, pair.indices)
            graph = [attribute.g] if attribute.HasField("g") else []
            for body in (*graph, *attribute.graphs):
                yield from _graph_tensors(body)
