"""A job's `events.jsonl`: whole lines, numbered 1, 2, 3, ...; the child appends, the journal reads.

The file is the truth. A child writes a line before anybody is told of it, so a journal that was killed finds what it
missed here; a line that a kill or a full disk cut short has no end, is not counted, and is cut off before the next.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeprune.artifacts import repair_lines
from edgeprune.schema.base import Record
from edgeprune.schema.events import Event

__all__ = ["EventLine", "Lines", "LinesWriter", "read_lines"]

_READ_BYTES = 1 << 20


class EventLine(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One line: an event, or the run folder as soon as it is known."""

    line: int
    event: Event | None = None
    run_folder: str | None = None


class Lines(NamedTuple):
    """What a part of the file holds."""

    lines: list[EventLine]
    offset: int
    """Bytes up to the end of the last whole line read."""


def read_lines(path: Path, offset: int, *, decoder: "msgspec.json.Decoder[EventLine] | None" = None) -> Lines:
    """Whole lines from a byte on, at most about 1 MiB of them.

    Raises:
        msgspec.DecodeError: a whole line is none of ours.
        OSError: the file cannot be read; one that is missing is empty.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            piece = stream.read(_READ_BYTES)
            while b"\n" not in piece and (more := stream.read(_READ_BYTES)):
                piece += more
    except FileNotFoundError:
        return Lines([], offset)
    end = piece.rfind(b"\n") + 1
    decoder = decoder or msgspec.json.Decoder(EventLine)
    return Lines([decoder.decode(line) for line in piece[:end].splitlines()], offset + end)


class LinesWriter:
    """Appends lines; each is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Repair the end and go on with the next number."""
        self._size = repair_lines(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._line = 0
        offset = 0
        while (read := read_lines(path, offset)).lines:
            self._line, offset = read.lines[-1].line, read.offset

    def append(self, *, event: Event | None = None, run_folder: str | None = None) -> None:
        """Write one line.

        Raises:
            OSError: the disk is full; nothing of the line is left.
        """
        line = msgspec.json.encode(EventLine(line=self._line + 1, event=event, run_folder=run_folder)) + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._line += 1
        self._size += len(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
