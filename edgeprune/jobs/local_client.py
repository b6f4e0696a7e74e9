"""`LocalClient`: jobs in child processes of this process, without a daemon; they end when it does."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeprune.jobs.paths import RUNS_NAME, absolute_request
from edgeprune.jobs.queue import JobQueue
from edgeprune.jobs.store import JobStore
from edgeprune.schema.jobs import Job, JobEvent, JobRequest

__all__ = ["LocalClient"]


class LocalClient:
    """A `JobsClient` whose journal lives as long as it; `close` it, or wrap it in `contextlib.closing`."""

    def __init__(self, folder: Path | None = None, *, concurrency: int = 1) -> None:
        """Open a journal.

        Args:
            folder: keeps the journal and the jobs' files, for the next process too; None: a temporary one.
            concurrency: jobs at a time.
        """
        self._stack = contextlib.ExitStack()
        if folder is None:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeprune-jobs-")))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = JobStore(folder / "journal.sqlite")
        self._queue = JobQueue(store, folder / "jobs", runs=Path.cwd() / RUNS_NAME, concurrency=concurrency)
        self._stack.callback(self._queue.close)
        self._queue.start()

    def submit(self, request: JobRequest) -> Job:
        """See `JobsClient.submit`."""
        return self._queue.submit(absolute_request(request))

    def cancel(self, job_id: str) -> Job:
        """See `JobsClient.cancel`."""
        return self._queue.cancel(job_id)

    def resume(self, job_id: str) -> Job:
        """See `JobsClient.resume`."""
        return self._queue.resume(job_id)

    def jobs(self) -> list[Job]:
        """See `JobsClient.jobs`."""
        return self._queue.store.jobs()

    def job(self, job_id: str) -> Job:
        """See `JobsClient.job`."""
        return self._queue.store.job(job_id)

    def events(self, job_id: str, since: int = 0, follow: bool = True) -> Iterator[JobEvent]:
        """See `JobsClient.events`."""
        return self._queue.events(job_id, since, follow)

    def result(self, job_id: str) -> bytes:
        """See `JobsClient.result`."""
        return self._queue.result(job_id)

    def log(self, job_id: str) -> str:
        """See `JobsClient.log`."""
        return self._queue.log(job_id)

    def close(self) -> None:
        """Interrupt what runs and let go of the journal."""
        self._stack.close()
