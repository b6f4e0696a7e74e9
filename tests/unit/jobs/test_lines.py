"""`events.jsonl` of a job: numbered lines, a torn end, a full disk."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgeprune.artifacts import repair_lines
from edgeprune.jobs.lines import LinesWriter, read_lines
from edgeprune.schema.events import Event


def event(message: str) -> Event:
    return Event(kind="noted", stage="test", message=message)


def test_a_second_writer_goes_on_with_the_next_number(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for name in ("a", "b"):
        writer = LinesWriter(path)
        writer.append(event=event(name))
        writer.append(run_folder=f"/runs/{name}")
        writer.close()
    read = read_lines(path, 0)
    assert [line.line for line in read.lines] == [1, 2, 3, 4]
    assert read.lines[3].run_folder == "/runs/b"
    assert read.offset == path.stat().st_size
    assert read_lines(path, read.offset).lines == []


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_line_is_not_read_and_cut_off_before_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    writer = LinesWriter(path)
    writer.append(event=event("whole"))
    whole = path.stat().st_size
    writer.append(event=event("torn"))
    writer.close()
    os.truncate(path, path.stat().st_size - cut)
    assert read_lines(path, 0).offset == whole
    again = LinesWriter(path)
    again.append(event=event("next"))
    again.close()
    read = read_lines(path, 0)
    assert [(line.line, line.event.message) for line in read.lines if line.event] == [(1, "whole"), (2, "next")]


def test_repair_finds_an_end_that_is_blocks_away(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"whole\n" + b"x" * 20_000)
    assert repair_lines(path) == 6
    assert path.read_bytes() == b"whole\n"
    path.write_bytes(b"x" * 9_000)
    assert repair_lines(path) == 0
    assert path.read_bytes() == b""
    assert repair_lines(tmp_path / "missing") == 0


def test_a_line_larger_than_a_piece_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = LinesWriter(path)
    writer.append(event=event("x" * 3_000_000))
    writer.append(event=event("y"))
    writer.close()
    first = read_lines(path, 0)
    rest = read_lines(path, first.offset)
    assert [len(line.event.message) for line in (*first.lines, *rest.lines) if line.event] == [3_000_000, 1]


def test_a_line_that_is_none_of_ours_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"line":1,"surprise":true}\n')
    with pytest.raises(msgspec.DecodeError):
        read_lines(path, 0)


FILL = """
import resource, sys
from pathlib import Path
from edgeprune.jobs.lines import LinesWriter
from edgeprune.schema.events import Event
writer = LinesWriter(Path(sys.argv[1]))
writer.append(event=Event(kind="noted", stage="test", message="fits"))
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    writer.append(event=Event(kind="noted", stage="test", message="x" * 400))
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    writer.append(event=Event(kind="noted", stage="test", message="fits again"))
    print("refused")
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY, reason="files are limited")
def test_a_line_that_did_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    lines = read_lines(path, 0).lines
    assert [(line.line, line.event.message) for line in lines if line.event] == [(1, "fits"), (2, "fits again")]
