"""`Journal`: a `Progress` that writes every event to `events.jsonl`, adds the time left, and passes it on."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgeprune.artifacts import repair_lines
from edgeprune.errors import Cancelled
from edgeprune.schema.events import Event, Progress

__all__ = ["Journal"]


class Journal:
    """Appends events as JSON lines; safe to call from several threads."""

    def __init__(self, path: Path, onward: Progress, *, clock: Callable[[], float] = time.time) -> None:
        """Append to `path` and forward each event to `onward`."""
        self._path = path
        self._is_whole = False
        self._onward = onward
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[str, float] = {}
        self._cancelled = threading.Event()

    def emit(self, event: Event) -> None:
        """Stamp, estimate the time left, write and forward one event."""
        now = self._clock()
        with self._lock:
            if event.kind == "stage_started":
                self._started[event.stage] = now
            remaining = event.remaining_s
            done = event.done_fraction
            if remaining is None and done is not None and 0.02 <= done < 1.0 and event.stage in self._started:
                elapsed = now - self._started[event.stage]
                remaining = elapsed * (1.0 - done) / done
            stamped = replace(event, time_s=now, remaining_s=remaining)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_whole:
                repair_lines(self._path)  # what a kill cut short is no event, and must not spoil the next
                self._is_whole = True
            with self._path.open("ab") as stream:
                stream.write(msgspec.json.encode(stamped) + b"\n")
        self._onward.emit(stamped)

    def cancel(self) -> None:
        """Make the next `raise_if_cancelled` raise."""
        self._cancelled.set()

    def raise_if_cancelled(self) -> None:
        """Raise when cancelled here or further on.

        Raises:
            Cancelled: the user interrupted.
        """
        if self._cancelled.is_set():
            raise Cancelled("Interrupted; finished stages are kept, the same command resumes.")
        self._onward.raise_if_cancelled()
