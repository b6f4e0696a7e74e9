"""`RunList`: the run folders found in one place."""

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict

__all__ = ["RunEntry", "RunList"]


class RunEntry(Record, frozen=True, kw_only=True):
    """One run folder."""

    name: str
    """Of the folder, inside the place that was looked into."""
    model: str | None
    """As it was asked for; None for the demo."""
    stages: tuple[str, ...]
    """Finished stages, in the order they ended."""
    verdict: Verdict | None
    """Of the last report; None where none was made."""
    size_bytes: int
    """All files; a file linked into the folder counts for its link alone."""
    finished_at: str | None
    """UTC time of the last finished stage in ISO 8601; None where none has finished."""


class RunList(Record, frozen=True, kw_only=True):
    """What `runs list` answers."""

    schema_version: int = SCHEMA_VERSION
    folder: str
    runs: tuple[RunEntry, ...]
    """The last finished first."""
