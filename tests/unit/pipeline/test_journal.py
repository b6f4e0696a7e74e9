"""The journal: every event on disk, stamped, with the time left."""

from pathlib import Path

import msgspec
import pytest

from edgeprune.errors import Cancelled
from edgeprune.pipeline.journal import Journal
from edgeprune.schema.events import Event, NullProgress


class Listener(NullProgress):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_events_are_stamped_written_and_passed_on(tmp_path: Path) -> None:
    now = [100.0]
    listener = Listener()
    journal = Journal(tmp_path / "events.jsonl", listener, clock=lambda: now[0])
    journal.emit(Event(kind="stage_started", stage="search"))
    now[0] = 110.0
    journal.emit(Event(kind="stage_advanced", stage="search", done_fraction=0.25))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Event) for line in lines] == listener.events
    assert listener.events[1].time_s == 110.0
    assert listener.events[1].remaining_s == pytest.approx(30.0)


def test_time_left_is_unknown_until_something_is_done(tmp_path: Path) -> None:
    listener = Listener()
    journal = Journal(tmp_path / "events.jsonl", listener, clock=lambda: 5.0)
    journal.emit(Event(kind="stage_started", stage="search"))
    journal.emit(Event(kind="stage_advanced", stage="search", done_fraction=0.0))
    assert listener.events[1].remaining_s is None


def test_cancelling_raises_at_the_next_question(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl", NullProgress())
    journal.raise_if_cancelled()
    journal.cancel()
    with pytest.raises(Cancelled, match="resumes"):
        journal.raise_if_cancelled()


def test_a_line_that_a_kill_cut_short_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path, NullProgress()).emit(Event(kind="noted", stage="a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"noted","sta')
    Journal(path, NullProgress()).emit(Event(kind="noted", stage="b"))
    assert path.read_bytes().startswith(whole)
    assert [msgspec.json.decode(line, type=Event).stage for line in path.read_bytes().splitlines()] == ["a", "b"]
