"""The only file that writes stdout: the result, as text or as one JSON object."""

import sys
from collections.abc import Sequence
from typing import Any

from edgeprune.artifacts import record_json

__all__ = ["table", "write_piece", "write_raw", "write_record_json", "write_text"]


def write_record_json(record: Any) -> None:
    """One JSON object with `schema_version` at its top."""
    sys.stdout.buffer.write(record_json(record))
    sys.stdout.buffer.flush()


def write_raw(data: bytes) -> None:
    """A record that is JSON already."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_text(text: str) -> None:
    """Text for people, ending in one newline."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def write_piece(text: str) -> None:
    """A part of a text as it comes, without a line's end."""
    sys.stdout.write(text)
    sys.stdout.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, the first left, the others right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
