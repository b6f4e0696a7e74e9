"""Main of a job's process: `python -m edgeprune.jobs.child FOLDER PARENT_PID WAKE_FD`.

It reads `request.json`, appends what happens to `events.jsonl` and then writes a byte to the pipe, so that the parent
need not look again and again; at the end it writes `result.json` and `ending.json`. It dies with its parent. Torch is
imported by the stages that need it, after the memory limit is set.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from msgspec.structs import replace

from edgeprune.artifacts import read_record, write_record
from edgeprune.errors import DeviceError, ExitCode, describe
from edgeprune.jobs.folder import Ending, JobFolder
from edgeprune.jobs.lines import LinesWriter
from edgeprune.jobs.memory_guard import put_limit
from edgeprune.runtime.parent import end_with_parent
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import JobRequest, RunJob

__all__ = ["main"]

_log = logging.getLogger(__name__)


class _Told:
    """A `Progress` that writes to the job's file and rings the parent's bell."""

    def __init__(self, lines: LinesWriter, bell: int) -> None:
        self._lines = lines
        self._bell = bell
        self.is_cancelled = False

    def emit(self, event: Event) -> None:
        self._lines.append(event=event if event.time_s is not None else replace(event, time_s=time.time()))
        self._ring()

    def opened(self, folder: Path) -> None:
        self._lines.append(run_folder=str(folder))
        self._ring()

    def cancel(self, signum: int, frame: FrameType | None) -> None:
        """Handler of SIGTERM, by which a cancellation arrives; once is enough."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.is_cancelled = True
        raise KeyboardInterrupt

    def raise_if_cancelled(self) -> None:
        """Cancellation raises KeyboardInterrupt in the main thread."""

    def _ring(self) -> None:
        # A full pipe has been heard; a closed one means that the parent is gone, and so are we in a moment.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._bell, b".")


def main(arguments: list[str]) -> int:
    """Do the job of a folder; gives the exit code that is also in `ending.json`."""
    folder, parent, bell = JobFolder(Path(arguments[0])), int(arguments[1]), int(arguments[2])
    end_with_parent(parent)
    os.set_inheritable(bell, False)
    os.set_blocking(bell, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = _locked(folder)
    lines = LinesWriter(folder.events)
    told = _Told(lines, bell)
    signal.signal(signal.SIGTERM, told.cancel)
    try:
        ending = _perform(folder, told)
    finally:
        lines.close()
    with contextlib.suppress(KeyboardInterrupt):  # too late to cancel
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        write_record(folder.ending, ending)
    except Exception as error:
        _log.error("edgeprune: %s", describe(error)[0])
        return int(ExitCode.RUNTIME)
    finally:
        os.close(lock)
    return ending.exit_code


def _perform(folder: JobFolder, told: _Told) -> Ending:
    try:
        request: JobRequest = read_record(folder.request, JobRequest)  # type: ignore[arg-type]
        _limit_memory(folder, request, told)
        from edgeprune.jobs.execute import execute  # the stages, after the limit is set
        from edgeprune.jobs.exit_code import exit_code_of

        result = execute(request, progress=told, opened=told.opened)
        write_record(folder.result, result)
        code = exit_code_of(result)
        return Ending(exit_code=int(code), error=_negative(result), has_result=True)
    except BaseException as error:
        # Libraries that are interrupted while they are loaded may raise an error that no longer tells why.
        sentence, code = describe(KeyboardInterrupt() if told.is_cancelled else error)
        is_defect = sentence.startswith("unexpected ")
        _log.error("edgeprune: %s", sentence, exc_info=error if is_defect else None)
        return Ending(exit_code=int(code), error=sentence)


def _negative(result: Any) -> str | None:
    """Why a valid answer is negative, where the record says it."""
    message = getattr(result, "message", "") or getattr(getattr(result, "infeasible", None), "message", "")
    return str(message) or None


def _limit_memory(folder: JobFolder, request: JobRequest, told: _Told) -> None:
    """Limit the memory of this process, and of every one it starts."""
    from edgeprune.pipeline.job_memory import limit_of
    from edgeprune.units import format_bytes

    limit = limit_of(request)
    if limit is None:
        return
    asked = request.request if isinstance(request, RunJob) else request
    count = max(1, getattr(asked, "worker_count", 1)) if request.memory_bytes is None else 1
    kind = put_limit(limit, count, folder.group)
    of_what = "of each process (RLIMIT_DATA)" if kind == "process" else f"of the whole job (control group, {kind})"
    held = limit if kind == "process" else limit * count
    told.emit(Event(kind="noted", stage="job", message=f"memory limit {format_bytes(held)} {of_what}"))


def _locked(folder: JobFolder) -> int:
    """The job's lock, held until the process ends; never inherited.

    Raises:
        DeviceError: another process works on the job.
    """
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DeviceError(f"Another process works on {folder.root}; wait until it has ended.") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    try:
        sys.exit(main(sys.argv[1:]))
    except msgspec.DecodeError as problem:
        _log.error("edgeprune: the job's events cannot be read (%s).", problem)
        sys.exit(int(ExitCode.RUNTIME))
