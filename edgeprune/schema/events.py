"""`Event`: what every stage tells while it works, and the `Progress` it tells it to."""

from typing import Literal, Protocol

from edgeprune.schema.base import Record

__all__ = ["Event", "EventKind", "NullProgress", "Progress"]

EventKind = Literal["stage_started", "stage_advanced", "stage_finished", "stage_skipped", "noted", "failed"]


class Event(Record, frozen=True, kw_only=True):
    """One thing that happened."""

    kind: EventKind
    stage: str
    message: str = ""
    done_fraction: float | None = None
    """In [0, 1]; None when unknown."""
    remaining_s: float | None = None
    time_s: float | None = None
    """Seconds since the epoch; filled in by whoever writes the journal."""


class Progress(Protocol):
    """Where a stage reports to, and asks whether it should stop."""

    def emit(self, event: Event) -> None:
        """Take one event; must not block for long."""

    def raise_if_cancelled(self) -> None:
        """Raise `edgeprune.errors.Cancelled` when the user has interrupted."""


class NullProgress:
    """A `Progress` that listens to nothing."""

    def emit(self, event: Event) -> None:
        """Drop the event."""

    def raise_if_cancelled(self) -> None:
        """Never cancel."""
