"""This module reads and rewrites serialised models on the level of protobuf records, without reading the weights.

A model file is mostly weights, and the surgery needs none of them. Protobuf's wire format is a flat list of
(tag, length, bytes) records. So `skeleton` cuts the same message without the values of its large tensors out of a
memory-mapped file: it copies the small records and skips the large ones. `load` parses a whole model record by record,
so that its peak memory is the model and one tensor, not twice the model. `rewritten` replaces tensors that lie in other
files, and returns the result as pieces: slices of what did not change, and references to parts of files.

Format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: onnx.proto3.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

Buffer: TypeAlias = memoryview


@dataclass(frozen=True)
class FilePart:
    """A FilePart names `length` bytes from `offset` on in the file `path`."""

    path: Path
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


Piece: TypeAlias = bytes | memoryview | FilePart
"""A part of a serialised model: bytes in memory, a slice of a mapped file, or a part of another file."""
Change: TypeAlias = Callable[[onnx.TensorProto], list[Piece] | None]
"""A function that returns the pieces that replace a tensor with external data, None to leave it as it is."""

PAYLOAD_LIMIT = 1 << 15
"""The largest size in bytes of a tensor that keeps its values in a skeleton: shapes, index tables, scales."""

MOST_RECORDS = 1_000_000
"""The largest number of records in a graph. No real model has so many nodes, weights and shapes together, and each
takes some hundred bytes when it is parsed.
"""

_MUCH = 1 << 20
"""The size in bytes above which the memory of a mapped record is given back once it is parsed."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_TENSOR_PAYLOAD = frozenset({4, 5, 6, 7, 9, 10, 11})  # float_data, int32_data, ..., raw_data, ...
_RAW_DATA, _EXTERNAL_DATA = 9, 13
_DATA_LOCATION, _EXTERNAL = 14, onnx.TensorProto.EXTERNAL
_STRIPPED = "onnx_xcam"
"""The key of the entry in `external_data` that marks a tensor of a skeleton without its values."""
_DEEPEST = 100
"""The deepest nesting of messages that protobuf accepts."""


@dataclass(frozen=True)
class _Message:
    """A _Message lists the fields of a protobuf message that lead to tensors, by field number."""

    name: str
    fields: Mapping[int, _Message]


_TENSOR = _Message("TensorProto", {})
_GRAPH_FIELDS: dict[int, _Message] = {5: _TENSOR}
_GRAPH = _Message("GraphProto", _GRAPH_FIELDS)
_ATTRIBUTE = _Message("AttributeProto", {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH})
_GRAPH_FIELDS[1] = _Message("NodeProto", {5: _ATTRIBUTE})
_MODEL = _Message("ModelProto", {7: _GRAPH})

_SPARSE = _Message("SparseTensorProto", {1: _TENSOR, 2: _TENSOR})
_WHOLE_GRAPH_FIELDS: dict[int, _Message] = {5: _TENSOR, 15: _SPARSE}
_WHOLE_GRAPH = _Message("GraphProto", _WHOLE_GRAPH_FIELDS)
_WHOLE_NODE = _Message(
    "NodeProto",
    {
        5: _Message(
            "AttributeProto", {5: _TENSOR, 6: _WHOLE_GRAPH, 10: _TENSOR, 11: _WHOLE_GRAPH, 22: _SPARSE, 23: _SPARSE}
        )
    },
)
_WHOLE_GRAPH_FIELDS[1] = _WHOLE_NODE
_WHOLE_MODEL = _Message("ModelProto", {7: _WHOLE_GRAPH, 25: _Message("FunctionProto", {7: _WHOLE_NODE})})
"""The fields of a model that lead to tensors, with sparse tensors and local functions, which `_MODEL` leaves out."""
_GRAPH_FIELD, _METADATA_FIELD = 7, 14


class WireError(ValueError):
    """A WireError says that bytes are no protobuf message of the expected kind, or end too early."""


def skeleton(data: Buffer) -> onnx.ModelProto:
    """Return the model without the values of tensors larger than `PAYLOAD_LIMIT`, which are marked as external.

    Raises:
        WireError: the bytes are no ModelProto, or they end too early.
    """
    return _parse(b"".join(_stripped(data, _MODEL, 0)))


def strip(tensor: onnx.TensorProto, values: onnx.TensorProto) -> None:
    """Fill an empty tensor with all of another one but its values, and mark it as `skeleton` does."""
    tensor.name, tensor.data_type = values.name, values.data_type
    tensor.dims.extend(values.dims)
    outside = values.data_location == _EXTERNAL
    if outside:
        tensor.external_data.extend(values.external_data)
    tensor.MergeFromString(_mark(outside))


def is_stripped(tensor: onnx.TensorProto) -> bool:
    """Tell whether a tensor of a skeleton lacks values that the model file itself has."""
    return [entry.key for entry in tensor.external_data] == [_STRIPPED]


def load(data: Buffer) -> onnx.ModelProto:
    """Return the whole model, parsed record by record.

    Raises:
        WireError: the bytes are no ModelProto, or they end too early.
    """
    model = onnx.ModelProto()
    for field, start, body, end in _records(data):
        if field != _GRAPH_FIELD:
            _merge(model, bytes(data[start:end]))
            continue
        graph = data[body:end]
        for _, part_start, _, part_end in _records(graph):
            part = graph[part_start:part_end]
            _merge(model, b"".join((_header(_GRAPH_FIELD, len(part)), part)))
            if len(part) > _MUCH:
                forget(data)
    return model


def forget(data: bytes | Buffer) -> None:
    """Release the pages of a mapped file that were read, which until then count as memory of this process."""
    if isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        data.obj.madvise(mmap.MADV_DONTNEED)


def without_metadata(data: Buffer, key: str) -> list[Buffer]:
    """Return the slices of a serialised model without its metadata entries of this key."""
    kept, position = [], 0
    for field, start, body, end in _records(data):
        if field != _METADATA_FIELD:
            continue
        entry = onnx.StringStringEntryProto.FromString(bytes(data[body:end]))
        if entry.key == key:
            kept.append(data[position:start])
            position = end
    return [*kept, data[position:]]


def _parse(data: bytes) -> onnx.ModelProto:
    """Return the model that these bytes are, or raise WireError."""
    model = onnx.ModelProto()
    _merge(model, data)
    return model


def _merge(message: onnx.ModelProto | onnx.TensorProto, data: bytes | Buffer) -> None:
    """Add serialised fields to a message, or raise WireError."""
    try:
        message.MergeFromString(bytes(data))
    except DecodeError as error:
        raise WireError(str(error)) from error


def rewritten(data: Buffer, change: Change) -> list[Piece]:
    """Return the pieces of a model in which tensors with external data are replaced.

    Args:
        data: a serialised ModelProto, or complete records of one.
        change: the function that gives the replacement of a tensor; it gets the tensor without values.

    Raises:
        WireError: the bytes are no ModelProto, or they end too early.
    """
    return _rewritten(data, _WHOLE_MODEL, change, 0) or [data]


def inlined(tensor: onnx.TensorProto, part: FilePart) -> list[Piece]:
    """Return the pieces of a tensor with external data as one that holds its values itself."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    del copy.external_data[:]
    copy.ClearField("data_location")
    return [copy.SerializeToString(), _header(_RAW_DATA, len(part)), part]


def _rewritten(data: Buffer, message: _Message, change: Change, depth: int) -> list[Piece] | None:
    """Return the pieces of a message after the change, None if nothing in it changes."""
    _require_shallow(depth)
    pieces: list[Piece] = []
    position = 0
    for field, start, body, end in _records(data):
        child = message.fields.get(field)
        if child is None:
            continue
        inner = data[body:end]
        changed = _changed(inner, change) if child is _TENSOR else _rewritten(inner, child, change, depth + 1)
        if changed is not None:
            pieces += [data[position:start], _header(field, sum(map(len, changed))), *changed]
            position = end
    return [*pieces, data[position:]] if pieces else None


def _changed(tensor: Buffer, change: Change) -> list[Piece] | None:
    """Return the pieces of a tensor with external data after the change, None if it stays as it is."""
    records = list(_records(tensor))
    if not _is_outside(tensor, records):
        return None
    proto = onnx.TensorProto()
    for field, start, _, end in records:
        if field not in _TENSOR_PAYLOAD:
            _merge(proto, tensor[start:end])
    return change(proto)


def _stripped(data: Buffer, message: _Message, depth: int) -> Iterator[bytes | Buffer]:
    """Yield the records of a message without the values of large tensors in it."""
    _require_shallow(depth)
    for count, (field, start, body, end) in enumerate(_records(data)):
        if count > MOST_RECORDS:
            raise WireError(f"a {message.name} of more than {MOST_RECORDS} parts")
        child = message.fields.get(field)
        if child is None or end - body <= PAYLOAD_LIMIT:
            yield data[start:end]
            continue
        inner = data[body:end]
        content = _without_payload(inner) if child is _TENSOR else b"".join(_stripped(inner, child, depth + 1))
        yield _header(field, len(content))
        yield content


def _require_shallow(depth: int) -> None:
    """Raise WireError if messages are nested more deeply than protobuf accepts."""
    if depth > _DEEPEST:
        raise WireError("its parts are nested too deeply")


def _without_payload(tensor: Buffer) -> bytes:
    """Return a serialised tensor without its values, marked as external."""
    records = list(_records(tensor))
    outside = _is_outside(tensor, records)
    dropped = _TENSOR_PAYLOAD if outside else _TENSOR_PAYLOAD | {_EXTERNAL_DATA}
    kept = [tensor[start:end] for field, start, _, end in records if field not in dropped]
    return b"".join((*kept, _mark(outside)))


def _is_outside(tensor: Buffer, records: Sequence[tuple[int, int, int, int]]) -> bool:
    """Tell whether a tensor is stated to have its data in another file; the last statement counts."""
    stated = [_varint(tensor, body)[0] for field, _, body, _ in records if field == _DATA_LOCATION]
    return bool(stated) and stated[-1] == _EXTERNAL


def _mark(outside: bool) -> bytes:
    """Return the serialised fields that mark a tensor as external and, unless it lies `outside` anyway, as stripped."""
    mark = onnx.TensorProto(data_location=_EXTERNAL)
    if not outside:
        mark.external_data.add(key=_STRIPPED, value="")
    content: bytes = mark.SerializeToString()
    return content


def _records(data: Buffer) -> Iterator[tuple[int, int, int, int]]:
    """Yield the records of a message: field number, start of the record, start of its content, end.

    Raises:
        WireError: the bytes are no records, or they end too early.
    """
    position, size = 0, len(data)
    while position < size:
        start = position
        tag, position = _varint(data, position)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise WireError("invalid field number")
        if kind == _VARINT:
            body = position
            _, position = _varint(data, position)
        elif kind == _LEN:
            length, body = _varint(data, position)
            position = body + length
        elif kind in (_I64, _I32):
            body = position
            position += 8 if kind == _I64 else 4
        else:
            raise WireError(f"invalid wire type {kind}")
        if position > size:
            raise WireError("the data ends too early")
        yield field, start, body, position


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    """Return the variable-length number at a position, and the position behind it, or raise WireError."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise WireError("the data ends too early" if position >= len(data) else "invalid number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _header(field: int, length: int) -> bytes:
    """Return the tag and the length with which a record of so many bytes begins."""
    out = bytearray([field << 3 | _LEN])
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)
