"""A daemon of its own for a test, and ways to look at it from outside."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeprune.jobs.client import DaemonClient
from edgeprune.jobs.places import RUNTIME_VARIABLE, STATE_VARIABLE, Places
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import Job, JobEvent

__all__ = ["check_history", "daemon_places", "is_alive", "kill_daemon", "wait_for"]


@contextlib.contextmanager
def daemon_places() -> Iterator[Places]:
    """Folders for a daemon (short ones: a socket's path is), which is ended when the block is left."""
    root = Path(tempfile.mkdtemp(prefix="epd-")).resolve()
    places = Places(runtime=root / "r", state=root / "s")
    before = {name: os.environ.get(name) for name in (RUNTIME_VARIABLE, STATE_VARIABLE)}
    os.environ[RUNTIME_VARIABLE], os.environ[STATE_VARIABLE] = str(places.runtime), str(places.state)
    try:
        yield places
    finally:
        with contextlib.suppress(Exception):
            kill_daemon(places)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(root, ignore_errors=True)


def kill_daemon(places: Places) -> int | None:
    """SIGKILL to the daemon, and wait until it is gone; its process id, None where none ran."""
    try:
        pid = int(places.lock.read_text())
    except (OSError, ValueError):
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    wait_for(lambda: not is_alive(pid), "the daemon is gone")
    return pid


def is_alive(pid: int) -> bool:
    """Whether a process works still; one that only waits to be waited for does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = 120.0) -> None:
    """Wait for something that must come; the limit only ends a test that hangs."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def check_history(client: DaemonClient, places: Places, job: Job) -> list[JobEvent]:
    """The journal's history of a job: no gap, no duplicate, and event for event what the job's own file holds."""
    from edgeprune.jobs.lines import read_lines

    history = list(client.events(job.id, follow=False))
    assert [entry.sequence for entry in history] == list(range(1, len(history) + 1))
    path = places.jobs / job.id / "events.jsonl"
    lines, offset = [], 0
    while (read := read_lines(path, offset)).lines:
        lines += read.lines
        offset = read.offset
    assert [line.line for line in lines] == list(range(1, len(lines) + 1))
    told = [entry.event for entry in history if isinstance(entry.event, Event)]
    assert told == [line.event for line in lines if line.event is not None]
    return history
