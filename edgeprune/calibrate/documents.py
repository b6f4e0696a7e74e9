"""Documents from the user's files: txt, md, jsonl and parquet, alone or in folders.

A jsonl line or a parquet row is one document. A txt or md file is cut at paragraph boundaries (blank lines) into
documents of at most about 2,000 characters, so that one long file still gives the three parts of the split enough
documents. Chat records are rendered by the caller's `render` function (see `chat.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import CalibrationError

__all__ = ["SUFFIXES", "Render", "expand_paths", "read_documents", "read_lines", "split_paragraphs"]

Render = Callable[[list[dict[str, Any]]], str]
"""Messages of one chat record -> text; raises CalibrationError when the model has no usable template."""

SUFFIXES = (".jsonl", ".md", ".parquet", ".txt")
"""Files that are read, by suffix in lower case."""
_PIECE_CHARACTERS = 2000


def read_documents(paths: Sequence[Path], *, render: Render) -> list[str]:
    """All documents of files and folders, in the order given, folders sorted by path; blank documents left out.

    Raises:
        CalibrationError: a path that is missing, empty, binary, not UTF-8, of another kind, or holds no document.
    """
    documents: list[str] = []
    for path in expand_paths(paths):
        found = [text for text in _read_file(path, render) if text.strip()]
        if not found:
            raise CalibrationError(f"{path} holds no text; give a file with text in it.")
        documents += found
    return documents


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the readable files below the folders, sorted.

    Raises:
        CalibrationError: a missing path, a file of another kind, or a folder without such files.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.suffix.lower() in SUFFIXES and item.is_file())
            if not inside:
                raise CalibrationError(f"The folder {path} holds no {', '.join(SUFFIXES)} file; name one with texts.")
            files += inside
        elif not path.exists():
            raise CalibrationError(f"{path} is missing; give a file or folder that exists.")
        elif path.suffix.lower() not in SUFFIXES:
            raise CalibrationError(f"{path} is of an unknown kind; give a file ending in {', '.join(SUFFIXES)}.")
        else:
            files.append(path)
    return files


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1.

    Raises:
        CalibrationError: missing, empty, binary or not UTF-8.
    """
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def split_paragraphs(text: str, limit: int = _PIECE_CHARACTERS) -> list[str]:
    """Cut a text at blank lines into pieces of at most `limit` characters; a longer paragraph stays whole."""
    pieces: list[str] = []
    current = ""
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        if not paragraph.strip():
            continue
        joined = f"{current}\n\n{paragraph}" if current else paragraph
        if current and len(joined) > limit:
            pieces.append(current)
            current = paragraph
        else:
            current = joined
    return [*pieces, current] if current else pieces


def _read_file(path: Path, render: Render) -> list[str]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, render)
    if suffix == ".jsonl":
        return [_json_document(line, f"{path} line {number}", render) for number, line in read_lines(path)]
    return split_paragraphs(_read_text(path))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CalibrationError(f"{path} is missing; give a file that exists.") from error
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read ({error.strerror}); give a readable text file.") from error
    if not data.strip():
        raise CalibrationError(f"{path} is empty; give a file with text in it.")
    if b"\0" in data:
        raise CalibrationError(f"{path} is binary, not text; give UTF-8 text.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path} is not UTF-8 (byte {error.start}); convert it to UTF-8.") from error


def _json_document(line: str, where: str, render: Render) -> str:
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise CalibrationError(f"{where} is not JSON ({error}); write one object a line.") from error
    if not isinstance(record, dict):
        raise CalibrationError(f'{where} is not an object; write {{"text": ...}} or {{"messages": [...]}}.')
    return _document(record, where, render)


def _document(record: dict[str, Any], where: str, render: Render) -> str:
    text = record.get("text")
    if isinstance(text, str):
        return text
    messages = record.get("messages")
    if isinstance(messages, list) and messages and all(_is_message(message) for message in messages):
        return render(messages)
    raise CalibrationError(f"{where} has neither a `text` nor a list `messages` of role and content; add one of them.")


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message


def _read_parquet(path: Path, render: Render) -> list[str]:
    try:
        # Deferred: 0.2 s and 60 MB that only parquet files need.
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise CalibrationError(f"{path} needs pyarrow; run pip install 'edgeprune[compress]'.") from error
    try:
        file = parquet.ParquetFile(path)
        columns = [name for name in ("text", "messages") if name in file.schema_arrow.names]
        if not columns:
            raise CalibrationError(f"{path} has no column `text` or `messages`; name the column with texts so.")
        rows = file.read(columns=columns[:1]).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise CalibrationError(f"{path} is not a readable parquet file ({error}); write it again.") from error
    return [_document(row, f"{path} row {number}", render) for number, row in enumerate(rows, start=1)]
