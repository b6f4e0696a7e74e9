from pathlib import Path
from typing import Any

import pytest

from edgeprune.calibrate.documents import read_documents, split_paragraphs
from edgeprune.errors import CalibrationError


def render(messages: list[dict[str, Any]]) -> str:
    return " ".join(message["content"] for message in messages)


def test_reads_every_kind_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / "b.md").write_text("# head\n\nbody")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n\n{"messages": [{"role": "user", "content": "hi"}]}\n')
    (tmp_path / "note.log").write_text("ignored")
    assert read_documents([tmp_path], render=render) == ["plain", "# head\n\nbody", "one", "hi"]


def test_reads_parquet_columns(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"text": ["a", "b"], "n": [1, 2]}), tmp_path / "t.parquet")
    assert read_documents([tmp_path / "t.parquet"], render=render) == ["a", "b"]
    parquet.write_table(arrow.table({"n": [1]}), tmp_path / "u.parquet")
    with pytest.raises(CalibrationError, match="no column `text` or `messages`"):
        read_documents([tmp_path / "u.parquet"], render=render)
    (tmp_path / "v.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CalibrationError, match="not a readable parquet file"):
        read_documents([tmp_path / "v.parquet"], render=render)


def test_long_files_are_cut_at_paragraphs_and_lose_nothing() -> None:
    text = "\n\n".join(f"paragraph {number} " + "x" * 700 for number in range(9))
    pieces = split_paragraphs(text)
    assert "\n\n".join(pieces) == text
    assert all(len(piece) <= 2000 for piece in pieces)
    assert len(pieces) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"  \n\n", "is empty"),
        ("a.txt", b"ab\0cd", "is binary"),
        ("a.txt", b"caf\xe9", r"is not UTF-8 \(byte 3\)"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', "line 2 is not an object"),
        ("a.jsonl", b'{"text": "x"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1 has neither a `text` nor"),
        ("a.jsonl", b'{"messages": [{"content": "x"}]}\n', "line 1 has neither"),
        ("a.jsonl", b'{"text": "  "}\n', "holds no text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "line 1 is not JSON"),
        ("a.pdf", b"%PDF", "unknown kind"),
    ],
)
def test_refuses_what_is_no_text(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        read_documents([path], render=render)


def test_refuses_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="is missing"):
        read_documents([tmp_path / "none.txt"], render=render)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match=r"holds no \.jsonl, \.md, \.parquet, \.txt file"):
        read_documents([tmp_path / "empty"], render=render)
