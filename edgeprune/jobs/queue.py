"""`JobQueue`: in each lane one job after another, each in a child process, everything that happens in the journal.

Each running job has a thread that starts the child, sleeps until the child has told something or is gone, and takes in
what it told. The thread lives as long as the child, which dies with it. Nothing here looks again and again.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgeprune.artifacts import read_record
from edgeprune.errors import DeviceError, EdgePruneError, ExitCode, UsageError, describe
from edgeprune.jobs.folder import Ending, JobFolder
from edgeprune.jobs.lanes import LANES, Lane
from edgeprune.jobs.lines import EventLine, read_lines
from edgeprune.jobs.memory_guard import Guard, forget_group
from edgeprune.jobs.outcome import outcome_of
from edgeprune.jobs.paths import check_request
from edgeprune.jobs.spawn import end_leftover, start_child
from edgeprune.jobs.states import LIVE
from edgeprune.jobs.store import JobStore
from edgeprune.schema.jobs import Job, JobEvent, JobRequest, JobState

__all__ = ["MAX_WAITING", "BusyError", "JobQueue"]

MAX_WAITING = 1_000
"""Jobs in the queue at most."""

_GRACE_S = 15.0
"""A job that was cancelled may take so long to stop by itself."""
_RETRY_S = 2.0
"""Between two attempts to write into a journal on a full disk."""
_GATHER_S = 0.03
"""Events that follow one another faster are taken in together."""
_LOG_BYTES = 1 << 18

_log = logging.getLogger(__name__)


class BusyError(UsageError):
    """Too many jobs wait already."""


class _Running:
    """A job that a thread works on."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.process: subprocess.Popen[bytes] | None = None
        self.is_cancelled = False
        self.killer: threading.Timer | None = None


class JobQueue:
    """Submits, runs and follows jobs; every method may be called from any thread."""

    def __init__(
        self,
        store: JobStore,
        folder: Path,
        *,
        runs: Path,
        concurrency: int = 1,
        clock: Callable[[], float] = time.time,
        child_module: str = "edgeprune.jobs.child",
        guard: Guard = Guard(),  # noqa: B008 - a tuple
    ) -> None:
        """Take over a journal; what a killed daemon left is settled here, and the queue goes on with `start`.

        Args:
            store: the journal.
            folder: where the jobs' own folders are.
            runs: where runs go whose request names no folder.
            concurrency: jobs of one lane at a time; they share the cores.
            clock: seconds since the epoch.
            child_module: its main does the work.
            guard: what the children's memory is limited by.
        """
        self.store = store
        self._folder = folder
        self._runs = runs
        self._concurrency = concurrency
        self._clock = clock
        self._child_module = child_module
        self._guard = guard
        self._changed = threading.Condition(threading.RLock())
        self._running: dict[str, _Running] = {}
        self._listeners: list[Callable[[], object]] = []
        self._is_closing = False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for job in store.in_states(*LIVE):
            end_leftover(self.folder_of(job.id))
            self._take_in(job.id)
            self._settle(job.id, None)

    def start(self) -> None:
        """Begin with what is queued."""
        self._kick()

    def close(self, *, grace_s: float = 5.0) -> None:
        """Stop working: what runs is interrupted, what is queued stays queued."""
        with self._changed:
            self._is_closing = True
            for entry in self._running.values():
                if entry.process is not None:
                    _send(entry.process, signal.SIGTERM)
            self._notify()
            self._changed.wait_for(lambda: not self._running, timeout=grace_s)
            for entry in self._running.values():
                if entry.process is not None:
                    _send(entry.process, signal.SIGKILL)
            self._changed.wait_for(lambda: not self._running, timeout=grace_s)
        self.store.close()

    def submit(self, request: JobRequest) -> Job:
        """Queue a job.

        Raises:
            UsageError: paths that cannot be used.
            BusyError: the queue is full.
            DeviceError: the journal cannot be written.
        """
        check_request(request)
        if request.runs is None:
            request = replace(request, runs=str(self._runs))
        with self._changed:
            if self.store.count("queued") >= MAX_WAITING:
                raise BusyError(f"{MAX_WAITING} jobs wait already; cancel some, or submit later.")
            job = self.store.add(request, now_s=self._clock())
            self._notify()
        self._kick()
        return self.store.job(job.id)

    def cancel(self, job_id: str) -> Job:
        """Take a job off the queue, or ask a running one to stop.

        Raises:
            TransitionError: the job is over.
        """
        with self._changed:
            job = self.store.job(job_id)
            if job.state == "cancelling":
                return job
            entry = self._running.get(job_id)
            if job.state == "running" and entry is not None:
                changed = self._change(job_id, "cancelling")
                entry.is_cancelled = True
                if entry.process is not None:
                    self._stop(entry, entry.process)
                return changed
            return self._change(job_id, "cancelled", exit_code=int(ExitCode.INTERRUPTED), error="Cancelled.")

    def resume(self, job_id: str) -> Job:
        """Queue a job again that did not succeed.

        Raises:
            TransitionError: it waits, runs or has succeeded.
        """
        with self._changed:
            self._change(job_id, "queued")
        self._kick()
        return self.store.job(job_id)

    def events(self, job_id: str, since: int = 0, follow: bool = True) -> Iterator[JobEvent]:
        """History after `since`; when following, until the job is over."""
        self.store.job(job_id)
        return self._events(job_id, since, follow)

    def _events(self, job_id: str, since: int, follow: bool) -> Iterator[JobEvent]:
        while True:
            with self._changed:
                is_over = self.store.job(job_id).is_over or self._is_closing
                batch = self.store.events(job_id, since)
                if not batch:
                    if is_over or not follow:
                        return
                    self._changed.wait()
                    continue
            yield from batch
            since = batch[-1].sequence

    def listen(self, told: Callable[[], object]) -> Callable[[], None]:
        """Call `told` after every change, from any thread; gives what ends it."""
        with self._changed:
            self._listeners.append(told)

        def end() -> None:
            with self._changed, contextlib.suppress(ValueError):
                self._listeners.remove(told)

        return end

    @property
    def is_closing(self) -> bool:
        """Whether nothing will happen any more."""
        return self._is_closing

    def result(self, job_id: str) -> bytes:
        """The result record as JSON.

        Raises:
            UsageError: there is none.
        """
        job = self.store.job(job_id)
        try:
            if job.state in ("succeeded",):
                return self.folder_of(job_id).result.read_bytes()
        except OSError as error:
            raise UsageError(f"The result of job {job_id} cannot be read ({error.strerror}).") from error
        why = f": {job.error}" if job.error else ""
        raise UsageError(f"Job {job_id} is {job.state} and has no result{why}")

    def log(self, job_id: str) -> str:
        """The end of what the job's processes wrote to stderr."""
        self.store.job(job_id)
        try:
            with self.folder_of(job_id).log.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LOG_BYTES))
                return stream.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def folder_of(self, job_id: str) -> JobFolder:
        """The files of a job."""
        return JobFolder(self._folder / job_id)

    def forget(self, job_id: str) -> None:
        """Remove a job that is over, with its files; run folders stay."""
        with self._changed:
            if not self.store.job(job_id).is_over:
                raise UsageError(f"Job {job_id} is not over; cancel it first.")
            self.store.remove(job_id)
        shutil.rmtree(self.folder_of(job_id).root, ignore_errors=True)

    def _kick(self) -> None:
        """Start what may start."""
        try:
            with self._changed:
                for lane in LANES:
                    while not self._is_closing and self._count(lane) < self._concurrency:
                        job = self.store.next_queued(lane)
                        if job is None:
                            break
                        self._start(job, lane)
        except (EdgePruneError, OSError) as error:
            _log.warning("the queue waits: %s", error)
            retry = threading.Timer(_RETRY_S, self._kick)
            retry.daemon = True
            retry.start()

    def _count(self, lane: Lane) -> int:
        return sum(entry.lane == lane for entry in self._running.values())

    def _start(self, job: Job, lane: Lane) -> None:
        # What an earlier attempt left must not be taken for this one's.
        folder = self.folder_of(job.id)
        folder.ending.unlink(missing_ok=True)
        forget_group(folder.group)
        folder.result.unlink(missing_ok=True)
        self._change(job.id, "running")
        self._running[job.id] = _Running(lane)
        threading.Thread(target=self._work, args=(job,), name=f"job {job.id}", daemon=True).start()

    def _work(self, job: Job) -> None:
        entry = self._running[job.id]
        code: int | str = "it could not be started"
        try:
            started = start_child(self.folder_of(job.id), job.request, module=self._child_module, guard=self._guard)
            try:
                with self._changed:
                    entry.process = started.process
                    if entry.is_cancelled:
                        self._stop(entry, started.process)
                    elif self._is_closing:
                        _send(started.process, signal.SIGTERM)
                while os.read(started.bell, 1 << 16):
                    self._patiently(lambda: self._take_in(job.id), forever=False)
                    time.sleep(_GATHER_S)
            finally:
                os.close(started.bell)
            code = started.process.wait()
        except Exception as error:  # the border of the thread: a job never leaves the queue standing
            _log.exception("job %s", job.id)
            code = describe(error)[0]
        if entry.killer is not None:
            entry.killer.cancel()
        self._patiently(lambda: self._take_in(job.id))
        self._patiently(lambda: self._settle(job.id, code))
        with self._changed:
            del self._running[job.id]
            self._changed.notify_all()
        self._kick()

    def _patiently(self, write: Callable[[], None], *, forever: bool = True) -> None:
        """Write into the journal, and wait for space on a full disk; what is written stands in the job's own files."""
        while True:
            try:
                write()
            except DeviceError as error:
                _log.warning("%s", error)
                if not forever or self._is_closing:
                    return
                time.sleep(_RETRY_S)
            else:
                return

    def _take_in(self, job_id: str) -> None:
        path = self.folder_of(job_id).events
        decoder = msgspec.json.Decoder(EventLine)
        while True:
            read = read_lines(path, self.store.offset(job_id), decoder=decoder)
            if not read.lines:
                return
            with self._changed:
                self.store.take_in(job_id, read)
                self._notify()

    def _settle(self, job_id: str, code: int | str | None) -> None:
        """Enter the state in which the child has ended; `code` is None when nobody saw it end."""
        job = self.store.job(job_id)
        folder = self.folder_of(job_id)
        try:
            ending = read_record(folder.ending, Ending)
        except EdgePruneError:
            ending = None
        exceeded = forget_group(folder.group)
        state, exit_code, error = outcome_of(job.state, ending, code, exceeded_memory=exceeded)
        self._change(job_id, state, exit_code=exit_code, error=error)

    def _change(self, job_id: str, state: JobState, *, exit_code: int | None = None, error: str | None = None) -> Job:
        with self._changed:
            job = self.store.change(job_id, state, now_s=self._clock(), exit_code=exit_code, error=error)
            self._notify()
            return job

    def _stop(self, entry: _Running, process: "subprocess.Popen[bytes]") -> None:
        _send(process, signal.SIGTERM)
        entry.killer = threading.Timer(_GRACE_S, _send, (process, signal.SIGKILL))
        entry.killer.daemon = True
        entry.killer.start()

    def _notify(self) -> None:
        self._changed.notify_all()
        for told in tuple(self._listeners):
            told()


def _send(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal a child, and with SIGKILL the processes of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
