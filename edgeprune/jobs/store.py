"""`JobStore`: jobs and what happened to them, in one SQLite file in WAL mode.

Every change is one transaction, so a process killed at any moment leaves the state before or after it. A job's
`line_count` and `line_offset` say how far its `events.jsonl` has been taken in; they change in the transaction that
inserts those events, so none is taken in twice and none is left out. Several threads may use one store.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import DeviceError, UsageError
from edgeprune.jobs.lanes import Lane, lane_of
from edgeprune.jobs.lines import Lines
from edgeprune.jobs.states import check_transition
from edgeprune.schema.jobs import Job, JobEvent, JobRequest, JobState, StateChange, decode_job_event, encode_job_event

__all__ = ["JOURNAL_VERSION", "JobStore", "NoJobError"]

JOURNAL_VERSION = 1
"""`PRAGMA user_version` of the file; a newer one is refused."""

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, request BLOB NOT NULL, state TEXT NOT NULL, position INTEGER NOT NULL,
    created_s REAL NOT NULL, started_s REAL, finished_s REAL, exit_code INTEGER, error TEXT, run_folder TEXT,
    stage TEXT, done_fraction REAL, line_count INTEGER NOT NULL DEFAULT 0, line_offset INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, position);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (number, sequence)
) WITHOUT ROWID;
"""

_COLUMNS = (
    "number, request, state, created_s, started_s, finished_s, exit_code, error, run_folder, stage, done_fraction"
)


class NoJobError(UsageError):
    """There is no job of that id."""


class JobStore:
    """Jobs in the order they were submitted, each with its numbered history."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or create it.

        Raises:
            DeviceError: it is damaged, from a newer version, or cannot be written.
        """
        self.path = path
        self._lock = threading.RLock()
        self._requests = msgspec.json.Decoder(JobRequest)
        with self._translated():
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        run = self._connection.execute
        version = run("PRAGMA user_version").fetchone()[0]
        if version > JOURNAL_VERSION:
            raise DeviceError(
                f"The journal {self.path} has version {version}, this EdgePrune reads up to {JOURNAL_VERSION}; use the "
                "EdgePrune that wrote it, or move the file away."
            )
        run("PRAGMA journal_mode = WAL")
        # What survives a crash of the machine is in the job folders; WAL alone survives a crash of this process.
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA cache_size = -512")
        run("PRAGMA journal_size_limit = 4194304")
        if version < JOURNAL_VERSION:
            self._connection.executescript(_TABLES)
            run(f"PRAGMA user_version = {JOURNAL_VERSION}")

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        with self._lock:
            self._connection.close()

    def add(self, request: JobRequest, *, now_s: float) -> Job:
        """A new job at the end of the queue."""
        with self._transaction() as run:
            number = run(
                "INSERT INTO jobs (request, state, position, created_s) VALUES (?, 'queued', ?, ?)",
                (msgspec.json.encode(request), self._next_position(), now_s),
            ).lastrowid
            self._append(number, StateChange(state="queued", time_s=now_s))
            return self._job(number)

    def change(
        self,
        job_id: str,
        state: JobState,
        *,
        now_s: float,
        exit_code: int | None = None,
        error: str | None = None,
    ) -> Job:
        """Enter a state, with what it says of times, exit code and error.

        Raises:
            TransitionError: the state does not follow the one the job is in.
        """
        with self._transaction() as run:
            job = self.job(job_id)
            check_transition(job_id, job.state, state)
            values: dict[str, Any] = {"state": state}
            if state == "queued":
                values |= {"position": self._next_position(), "finished_s": None, "exit_code": None, "error": None}
            elif state == "running":
                values |= {"started_s": now_s}
            elif state != "cancelling":
                values |= {"finished_s": now_s, "exit_code": exit_code, "error": error}
            assigned = ", ".join(f"{name} = ?" for name in values)
            number = _number(job_id)
            run(f"UPDATE jobs SET {assigned} WHERE number = ?", (*values.values(), number))
            self._append(number, StateChange(state=state, time_s=now_s, exit_code=exit_code, error=error))
            return self._job(number)

    def take_in(self, job_id: str, read: Lines) -> None:
        """Take in lines of the job's `events.jsonl` that follow those taken in before.

        Raises:
            DeviceError: a line is missing between them.
        """
        number = _number(job_id)
        with self._transaction() as run:
            count = run("SELECT line_count FROM jobs WHERE number = ?", (number,)).fetchone()[0]
            last = None
            for line in read.lines:
                if line.line <= count:
                    continue
                if line.line != count + 1:
                    raise DeviceError(
                        f"The events of job {job_id} go from line {count} to {line.line}; somebody has edited them."
                    )
                count = line.line
                if line.run_folder is not None:
                    run("UPDATE jobs SET run_folder = ? WHERE number = ?", (line.run_folder, number))
                if line.event is not None:
                    last = line.event
                    self._append(number, line.event)
            run("UPDATE jobs SET line_count = ?, line_offset = ? WHERE number = ?", (count, read.offset, number))
            if last is not None:
                done = last.done_fraction
                run("UPDATE jobs SET stage = ?, done_fraction = ? WHERE number = ?", (last.stage, done, number))

    def offset(self, job_id: str) -> int:
        """Bytes of the job's `events.jsonl` that have been taken in."""
        with self._translated(), self._lock:
            row = self._connection.execute("SELECT line_offset FROM jobs WHERE number = ?", (_number(job_id),))
            return int(row.fetchone()[0])

    def job(self, job_id: str) -> Job:
        """One job.

        Raises:
            NoJobError: there is none of that id.
        """
        with self._translated(), self._lock:
            return self._job(_number(job_id), job_id)

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        with self._translated(), self._lock:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY number").fetchall()
        return [self._read(row) for row in rows]

    def next_queued(self, lane: Lane) -> Job | None:
        """The job whose turn it is in that lane."""
        with self._translated(), self._lock:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' ORDER BY position")
            return next((job for job in map(self._read, rows) if lane_of(job.request) == lane), None)

    def count(self, *states: JobState) -> int:
        """Jobs in these states."""
        marks = ", ".join("?" for _ in states)
        with self._translated(), self._lock:
            row = self._connection.execute(f"SELECT COUNT(*) FROM jobs WHERE state IN ({marks})", states)
            return int(row.fetchone()[0])

    def in_states(self, *states: JobState) -> list[Job]:
        """Jobs in these states, oldest first."""
        return [job for job in self.jobs() if job.state in states]

    def events(self, job_id: str, since: int, *, limit: int = 256) -> list[JobEvent]:
        """Entries after `since`, at most so many."""
        with self._translated(), self._lock:
            rows = self._connection.execute(
                "SELECT body FROM events WHERE number = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                (_number(job_id), since, limit),
            ).fetchall()
        return [decode_job_event(body) for (body,) in rows]

    def remove(self, job_id: str) -> None:
        """Forget a job and its history."""
        with self._transaction() as run:
            run("DELETE FROM events WHERE number = ?", (_number(job_id),))
            run("DELETE FROM jobs WHERE number = ?", (_number(job_id),))

    def _append(self, number: int | None, told: Any) -> None:
        run = self._connection.execute
        last = run("SELECT MAX(sequence) FROM events WHERE number = ?", (number,)).fetchone()[0]
        sequence = 1 + (last or 0)
        body = encode_job_event(JobEvent(sequence=sequence, event=told))
        run("INSERT INTO events (number, sequence, body) VALUES (?, ?, ?)", (number, sequence, body))

    def _next_position(self) -> int:
        return 1 + int(self._connection.execute("SELECT COALESCE(MAX(position), 0) FROM jobs").fetchone()[0])

    def _job(self, number: int | None, job_id: str | None = None) -> Job:
        row = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise NoJobError(f"There is no job {job_id}; `edgeprune jobs` lists those there are.")
        return self._read(row)

    def _read(self, row: tuple[Any, ...]) -> Job:
        number, request, *rest = row
        names = _COLUMNS.split(", ")[2:]
        values = dict(zip(names, rest, strict=True)) | {"id": _id(number)}
        return msgspec.convert(values | {"request": self._requests.decode(request)}, Job)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._translated(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what SQLite and the system refuse into sentences."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error)
            if "full" in text or "No space" in text:
                raise DeviceError(
                    f"The disk is full: the journal {self.path} cannot be written; free space and try again."
                ) from error
            if "malformed" in text or "not a database" in text:
                raise DeviceError(
                    f"The journal {self.path} is damaged ({text}); move it away, run folders are not touched."
                ) from error
            raise DeviceError(
                f"The journal {self.path} cannot be used ({text}); see that it can be written."
            ) from error


def _id(number: int) -> str:
    return f"j{number:05d}"


def _number(job_id: str) -> int:
    """The row of an id.

    Raises:
        NoJobError: no id of ours.
    """
    if len(job_id) < 16 and job_id.startswith("j") and job_id[1:].isascii() and job_id[1:].isdigit():
        number = int(job_id[1:])
        if _id(number) == job_id:
            return number
    raise NoJobError(f"There is no job {job_id[:40]!r}; `edgeprune jobs` lists those there are.")
