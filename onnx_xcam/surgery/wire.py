"""Reading a serialised ModelProto without its weights.

A model file is mostly weights, and the surgery needs none of them. Protobuf's wire format is a flat list of
(tag, length, bytes) records, so a *skeleton* (the same message without the payload of its large tensors) can be cut out
of a memory-mapped file by copying the small records and skipping the large ones; `load` parses a whole model record
by record, so that its peak memory is the model and one tensor, not twice the model.

Format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: onnx.proto3.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

Buffer: TypeAlias = memoryview

PAYLOAD_LIMIT = 1 << 15
"""Tensors of up to this many bytes keep their values: shape tensors, index tables, scales. Larger ones are weights."""

MOST_RECORDS = 1_000_000
"""No model has a graph of so many nodes, weights and noted shapes; parsed, each takes some hundred bytes."""

_MUCH = 1 << 20
"""Records above this size are given back to the system once they are parsed."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_TENSOR_PAYLOAD = frozenset({4, 5, 6, 7, 9, 10, 11})  # float_data, int32_data, ..., raw_data, ...
_DATA_LOCATION_EXTERNAL = bytes([14 << 3 | _VARINT, onnx.TensorProto.EXTERNAL])


@dataclass(frozen=True)
class _Message:
    """Which fields of a message lead to tensors."""

    name: str
    fields: Mapping[int, _Message]


_TENSOR = _Message("TensorProto", {})
_GRAPH_FIELDS: dict[int, _Message] = {5: _TENSOR}
_GRAPH = _Message("GraphProto", _GRAPH_FIELDS)
_ATTRIBUTE = _Message("AttributeProto", {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH})
_GRAPH_FIELDS[1] = _Message("NodeProto", {5: _ATTRIBUTE})
_MODEL = _Message("ModelProto", {7: _GRAPH})
_GRAPH_FIELD, _METADATA_FIELD = 7, 14


class WireError(ValueError):
    """The bytes are no protobuf message, or they end too early."""


def skeleton(data: Buffer) -> onnx.ModelProto:
    """The model without the values of tensors larger than `PAYLOAD_LIMIT`; those are marked as external.

    Raises:
        WireError: the bytes are no ModelProto, or they end too early.
    """
    return _parse(b"".join(_stripped(data, _MODEL)))


def load(data: Buffer) -> onnx.ModelProto:
    """The whole model, parsed record by record.

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
                _forget(data)
    return model


def _forget(data: Buffer) -> None:
    """Give back the pages of a mapped file that were read: until then they count as this process's memory."""
    if isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        data.obj.madvise(mmap.MADV_DONTNEED)


def without_metadata(data: Buffer, key: str) -> list[Buffer]:
    """The slices of a serialised model that are left when its metadata entries of this key are taken out."""
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
    model = onnx.ModelProto()
    _merge(model, data)
    return model


def _merge(model: onnx.ModelProto, data: bytes) -> None:
    try:
        model.MergeFromString(data)
    except DecodeError as error:
        raise WireError(str(error)) from error


def _stripped(data: Buffer, message: _Message) -> Iterator[bytes | Buffer]:
    """The message's records, without the payload of large tensors below it."""
    for count, (field, start, body, end) in enumerate(_records(data)):
        if count > MOST_RECORDS:
            raise WireError(f"a {message.name} of more than {MOST_RECORDS} parts")
        child = message.fields.get(field)
        if child is None or end - body <= PAYLOAD_LIMIT:
            yield data[start:end]
            continue
        strip = _without_payload if child is _TENSOR else _stripped_bytes
        content = strip(data[body:end], child)
        yield _header(field, len(content))
        yield content


def _stripped_bytes(data: Buffer, message: _Message) -> bytes:
    return b"".join(_stripped(data, message))


def _without_payload(tensor: Buffer, _: _Message) -> bytes:
    kept = [tensor[start:end] for field, start, _, end in _records(tensor) if field not in _TENSOR_PAYLOAD]
    return b"".join((*kept, _DATA_LOCATION_EXTERNAL))


def _records(data: Buffer) -> Iterator[tuple[int, int, int, int]]:
    """The records of a message: field number, start of the record, start of its content, end."""
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
    out = bytearray([field << 3 | _LEN])
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)
