"""`JobFolder`: the files of one job, and `Ending`, the last thing its child writes."""

from pathlib import Path

from edgeprune.schema.base import Record

__all__ = ["Ending", "JobFolder"]


class Ending(Record, frozen=True, kw_only=True):
    """How the child ended, in its own words; without this file it was killed."""

    exit_code: int
    error: str | None = None
    has_result: bool = False


class JobFolder:
    """Paths inside a job's folder."""

    def __init__(self, root: Path) -> None:
        """Name the folder; nothing is created."""
        self.root = root

    @property
    def request(self) -> Path:
        """`JobRequest`, as the child reads it."""
        return self.root / "request.json"

    @property
    def events(self) -> Path:
        """What the child told, see `jobs.lines`."""
        return self.root / "events.jsonl"

    @property
    def result(self) -> Path:
        """The result record."""
        return self.root / "result.json"

    @property
    def ending(self) -> Path:
        """`Ending`."""
        return self.root / "ending.json"

    @property
    def log(self) -> Path:
        """What the job's processes wrote to stderr."""
        return self.root / "log.txt"

    @property
    def group(self) -> Path:
        """Path of the control group the child is in; absent without one."""
        return self.root / "group"

    @property
    def lock(self) -> Path:
        """Held by the child as long as it lives; holds its process id."""
        return self.root / "lock"
