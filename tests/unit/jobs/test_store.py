"""The journal: order, history, exactly-once intake, refusals of SQLite in words."""

import sqlite3
from pathlib import Path

import pytest

from edgeprune.errors import DeviceError, UsageError
from edgeprune.jobs.lines import EventLine, Lines
from edgeprune.jobs.states import TransitionError
from edgeprune.jobs.store import JOURNAL_VERSION, JobStore, NoJobError
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import DoctorJob, RunJob, StateChange
from edgeprune.schema.run import RunRequest


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "journal.sqlite")


def lines(*numbers: int, offset: int) -> Lines:
    return Lines([EventLine(line=n, event=Event(kind="noted", stage="s", message=str(n))) for n in numbers], offset)


def messages(store: JobStore, job_id: str) -> list[str]:
    return [
        entry.event.state if isinstance(entry.event, StateChange) else entry.event.message
        for entry in store.events(job_id, 0)
    ]


def test_the_queue_keeps_its_order_and_a_resumed_job_goes_to_its_end(store: JobStore) -> None:
    first, second, third = (store.add(DoctorJob(), now_s=float(n)) for n in range(3))
    store.change(first.id, "cancelled", now_s=4.0)
    store.change(first.id, "queued", now_s=5.0)
    order = []
    while (job := store.next_queued("answer")) is not None:
        order.append(job.id)
        store.change(job.id, "running", now_s=6.0)
    assert order == [second.id, third.id, first.id]


def test_a_question_does_not_wait_for_work_and_work_not_for_a_question(store: JobStore) -> None:
    work, more_work = (store.add(RunJob(output=name), now_s=1.0) for name in "ab")
    question = store.add(DoctorJob(), now_s=2.0)
    found = store.next_queued("answer"), store.next_queued("work")
    assert [job and job.id for job in found] == [question.id, work.id]
    store.change(question.id, "running", now_s=3.0)
    store.change(work.id, "running", now_s=3.0)
    assert store.next_queued("answer") is None
    left = store.next_queued("work")
    assert left is not None
    assert left.id == more_work.id


def test_a_reopened_journal_knows_everything(tmp_path: Path, store: JobStore) -> None:
    request = RunJob(request=RunRequest(model="/m"), output="a", runs="/r")
    job = store.add(request, now_s=1.0)
    store.change(job.id, "running", now_s=2.0)
    store.take_in(job.id, lines(1, 2, offset=99))
    store.close()
    again = JobStore(tmp_path / "journal.sqlite")
    found = again.job(job.id)
    assert (found.request, found.state, found.started_s, found.stage) == (request, "running", 2.0, "s")
    assert again.offset(job.id) == 99
    assert messages(again, job.id) == ["queued", "running", "1", "2"]
    assert [entry.sequence for entry in again.events(job.id, 0)] == [1, 2, 3, 4]
    assert [entry.sequence for entry in again.events(job.id, 3)] == [4]


def test_lines_are_taken_in_once_and_a_gap_is_refused(store: JobStore) -> None:
    job = store.add(DoctorJob(), now_s=1.0)
    store.take_in(job.id, lines(1, 2, offset=10))
    store.take_in(job.id, lines(1, 2, 3, offset=15))
    assert messages(store, job.id) == ["queued", "1", "2", "3"]
    with pytest.raises(DeviceError, match="go from line 3 to 5"):
        store.take_in(job.id, lines(5, offset=30))
    assert store.offset(job.id) == 15


def test_a_forbidden_change_changes_nothing(store: JobStore) -> None:
    job = store.add(DoctorJob(), now_s=1.0)
    with pytest.raises(TransitionError):
        store.change(job.id, "succeeded", now_s=2.0)
    assert store.job(job.id).state == "queued"
    assert messages(store, job.id) == ["queued"]


@pytest.mark.parametrize("job_id", ["", "j00002", "j1", "1", "j-0001", "../../etc/passwd", "j" + "9" * 40, "j０0001"])
def test_an_id_that_is_none_is_refused(store: JobStore, job_id: str) -> None:
    store.add(DoctorJob(), now_s=1.0)
    with pytest.raises(NoJobError, match="There is no job"):
        store.job(job_id)


def test_a_newer_journal_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {JOURNAL_VERSION + 1}")
    connection.close()
    with pytest.raises(DeviceError, match=f"has version {JOURNAL_VERSION + 1}, this EdgePrune reads up to"):
        JobStore(path)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"this is a text and not a data base, and it is longer than a page header" * 20)
    with pytest.raises(DeviceError, match="is damaged"):
        JobStore(path)


def test_a_full_disk_is_told_and_what_was_written_stays(store: JobStore) -> None:
    job = store.add(DoctorJob(), now_s=1.0)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(1, 1000):
            store.take_in(job.id, lines(number, offset=number))

    with pytest.raises(DeviceError, match="The disk is full: the journal"):
        fill()
    taken = store.offset(job.id)
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.take_in(job.id, lines(taken + 1, offset=taken + 1))
    assert messages(store, job.id) == ["queued", *map(str, range(1, taken + 2))]


def test_a_removed_job_is_gone_and_its_number_is_not_given_again(store: JobStore) -> None:
    job = store.add(DoctorJob(), now_s=1.0)
    store.remove(job.id)
    with pytest.raises(UsageError):
        store.job(job.id)
    assert store.add(DoctorJob(), now_s=2.0).id > job.id
