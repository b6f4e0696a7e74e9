"""Which files a graph would read: the external-data locations inside `model.onnx`, found without the onnx package.

A minimal reader of the protobuf wire format (https://protobuf.dev/programming-guides/encoding) that descends only
into the messages of onnx.proto in which a tensor can stand. The file is mapped, not read, so weights stored inline
cost nothing.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeprune.errors import ModelError

__all__ = ["external_locations"]

# message -> {field number: message in that field}; field numbers of onnx.proto (ONNX IR version 13)
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DEEPEST = 64
"""Nesting of subgraphs; beyond it a file is made to hurt."""


def external_locations(path: Path) -> frozenset[str]:
    """Locations of all external tensors, as written in the graph.

    Raises:
        ModelError: not a readable ONNX file.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = frozenset(_locations(mapped, 0, len(mapped), "model", 0))
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a readable ONNX graph ({error}); export the bundle again.") from error
    return found


def _locations(data: Any, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("graphs nested too deeply")
    children = _CHILDREN[message]
    for number, begin, stop in _fields(data, start, end):
        child = children.get(number)
        if child == "entry":
            entry = {key: data[first:last].decode("utf-8") for key, first, last in _fields(data, begin, stop)}
            if entry.get(1) == "location":
                yield entry.get(2, "")
        elif child is not None:
            yield from _locations(data, begin, stop, child, depth + 1)


def _fields(data: Any, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every length-delimited field; the others are skipped."""
    position = start
    while position < end:
        key, position = _varint(data, position, end)
        wire_type = key & 7
        if wire_type == 0:
            _, position = _varint(data, position, end)
        elif wire_type == 1:
            position += 8
        elif wire_type == 5:
            position += 4
        elif wire_type == 2:
            length, position = _varint(data, position, end)
            if length > end - position:
                raise ValueError("a field is longer than the file")
            yield key >> 3, position, position + length
            position += length
        else:
            raise ValueError(f"wire type {wire_type}")
    if position != end:
        raise ValueError("a field is longer than its message")


def _varint(data: Any, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("the file ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
