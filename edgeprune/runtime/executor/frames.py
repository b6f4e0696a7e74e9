"""Frames on a pipe: eight bytes of length, then a record in MessagePack."""

import os
from typing import TypeVar

import msgspec

__all__ = ["Task", "read_frame", "write_frame"]

T = TypeVar("T")

_LENGTH_BYTES = 8
_READ_BYTES = 1 << 20


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of work on its way to a worker."""

    function: str
    payload: bytes


def write_frame(descriptor: int, record: msgspec.Struct) -> None:
    """Write a record whole.

    Raises:
        OSError: nobody reads any more.
    """
    body = msgspec.msgpack.encode(record)
    rest = memoryview(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_frame(descriptor: int, kind: type[T]) -> T | None:
    """Read a record; None when the writer is gone, also in the middle of a frame."""
    head = _read_exactly(descriptor, _LENGTH_BYTES)
    body = None if head is None else _read_exactly(descriptor, int.from_bytes(head, "big"))
    return None if body is None else msgspec.msgpack.decode(body, type=kind)


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    pieces = []
    while count:
        try:
            piece = os.read(descriptor, min(count, _READ_BYTES))
        except OSError:
            return None
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
