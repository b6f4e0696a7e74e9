"""Main of the daemon: `python -m edgeprune.jobs.daemon`. One a user; imports neither torch nor textual nor numpy.

It holds two locks as long as it lives, so that a process id or a socket that a killed daemon left behind means
nothing. SIGTERM ends it: what runs is interrupted and can be resumed, what is queued stays queued.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import platformdirs
import uvicorn

from edgeprune import __version__
from edgeprune.errors import EdgePruneError, ExitCode, ProtocolError, UsageError, describe
from edgeprune.generate.listen import unix_socket
from edgeprune.jobs.app import build_app
from edgeprune.jobs.memory_guard import find_guard
from edgeprune.jobs.paths import RUNS_NAME
from edgeprune.jobs.places import RUNTIME_VARIABLE, Places
from edgeprune.jobs.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION
from edgeprune.jobs.queue import JobQueue
from edgeprune.jobs.states import LIVE
from edgeprune.jobs.store import JobStore
from edgeprune.schema.jobs import DaemonStatus

__all__ = ["KEPT_JOBS", "AlreadyRunsError", "main", "serve"]

KEPT_JOBS = 1_000
"""Jobs whose history is kept; older ones that are over are forgotten when the daemon starts."""

_CONNECTIONS = 256
_LONGEST_HEAD = 1 << 15
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""

_log = logging.getLogger(__name__)


class AlreadyRunsError(ProtocolError):
    """Another daemon of this user is there."""


class _Server(uvicorn.Server):
    """Sleeps until it is told to stop; uvicorn's own loop wakes ten times a second."""

    _told: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._told, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if not await self.on_tick(0):
            await self._told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None and self._told is not None:
            self._loop.call_soon_threadsafe(self._told.set)


def serve(places: Places) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        AlreadyRunsError: another daemon uses one of the folders.
        DeviceError: the journal is damaged, newer, or cannot be written.
        UsageError: a folder or the socket cannot be used.
    """
    places.make()
    with _held(places.lock, "socket"), _held(places.state / "journal.lock", "journal"):
        path = places.socket
        try:
            listening = unix_socket(path)
        except UsageError as error:
            raise UsageError(
                f"The daemon cannot listen on {path}: something else is there; move it away, or set "
                f"{RUNTIME_VARIABLE} to another folder."
            ) from error
        try:
            store = JobStore(places.journal)
            runs = Path(platformdirs.user_data_dir("edgeprune")) / RUNS_NAME
            guard = find_guard()
            queue = JobQueue(store, places.jobs, runs=runs, guard=guard)
            for job in [job for job in store.jobs() if job.is_over][:-KEPT_JOBS]:
                queue.forget(job.id)
            started_s = time.time()

            def status() -> DaemonStatus:
                return DaemonStatus(
                    protocol=PROTOCOL_VERSION,
                    version=__version__,
                    pid=os.getpid(),
                    started_s=started_s,
                    socket=str(path),
                    state_folder=str(places.state),
                    queued_count=store.count("queued"),
                    running_count=store.count(*sorted(LIVE)),
                    memory_guard=guard.kind,
                )

            config = uvicorn.Config(
                build_app(queue, status),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                headers=[(PROTOCOL_HEADER, str(PROTOCOL_VERSION))],
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=_LONGEST_HEAD,
            )
            server = _Server(config)
            queue.start()
            _log.info("daemon %s, process %d, listens on %s", __version__, os.getpid(), path)
            try:
                server.run(sockets=[listening])
            finally:
                queue.close()
                _log.info("daemon stopped")
        finally:
            listening.close()
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file with this process's id in it.

    Raises:
        AlreadyRunsError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyRunsError(
                f"A daemon runs already (process {holder or 'unknown'}) and holds the {what} {path}; "
                "`edgeprune daemon stop` ends it."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def main() -> int:
    """Run the daemon of this user; gives the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is none
    _share_arenas()
    signal.signal(signal.SIGTERM, _later)  # uvicorn raises it once more when it has stopped
    signal.signal(signal.SIGINT, _later)
    try:
        serve(Places.of_user())
    except (EdgePruneError, OSError) as error:
        sentence, code = describe(error)
        _log.error("edgeprune: %s", sentence)
        return int(code)
    return int(ExitCode.MET)


def _share_arenas() -> None:
    """Let all threads share two pools of memory: each thread's own would be memory that nobody uses again.

    Not by MALLOC_ARENA_MAX, which the jobs would inherit and measure less memory by. glibc only.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _later(signum: int, frame: FrameType | None) -> None:
    """Nothing: whatever runs at that moment is short, or uvicorn's."""


if __name__ == "__main__":
    sys.exit(main())
