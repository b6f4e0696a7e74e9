"""`JobsClient`: what every front door works through, whether a daemon runs the jobs or this process does."""

from collections.abc import Iterator
from typing import Protocol

from edgeprune.schema.jobs import Job, JobEvent, JobRequest

__all__ = ["PROTOCOL_HEADER", "PROTOCOL_VERSION", "JobsClient"]

PROTOCOL_VERSION = 1
"""Of the requests on the socket; a daemon refuses another one by name."""

PROTOCOL_HEADER = "Edgeprune-Protocol"
"""Header of every request and answer that carries it."""


class JobsClient(Protocol):
    """Submits and follows jobs; every method may be called from any thread.

    All raise `ProtocolError` when the daemon cannot be reached or speaks another version, `UsageError` for a job
    that is not there, a request that cannot be used and a change of state that is not permitted, `DeviceError` when
    the journal cannot be written.
    """

    def submit(self, request: JobRequest) -> Job:
        """Queue a job; relative paths are made absolute from this process's folder."""

    def cancel(self, job_id: str) -> Job:
        """Take a queued job off the queue, or ask a running one to stop."""

    def resume(self, job_id: str) -> Job:
        """Queue an interrupted, failed or cancelled job again, in the same run folder; what is finished stays."""

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""

    def job(self, job_id: str) -> Job:
        """One job as it stands."""

    def events(self, job_id: str, since: int = 0, follow: bool = True) -> Iterator[JobEvent]:
        """History after entry `since`, then, when following, what happens until the job is over."""

    def result(self, job_id: str) -> bytes:
        """The result record as JSON, as the verb prints it with `--json`.

        Raises:
            UsageError: the job has no result.
        """

    def log(self, job_id: str) -> str:
        """What the job's processes wrote to stderr, the last 256 KiB of it."""

    def close(self) -> None:
        """Let go of connections; jobs go on where a daemon runs them."""
