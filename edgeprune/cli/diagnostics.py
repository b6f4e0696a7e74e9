"""The only file that writes stderr: progress, notes, and errors with their exit codes."""

import signal
import sys
import time
import traceback
from os import environ

from edgeprune.errors import ExitCode, describe
from edgeprune.schema.events import Event
from edgeprune.units import format_seconds

__all__ = ["TerminalProgress", "explain", "explain_signal", "note"]

_REDRAW_S = 0.2
_LOG_S = 60.0
"""Between lines of a stage that goes on, where lines stay."""


class TerminalProgress:
    """Progress on stderr: one line redrawn on a terminal; elsewhere a line per start and end, and one a minute."""

    def __init__(self) -> None:
        """Look at what stderr is."""
        self._redraws = sys.stderr.isatty() and "NO_COLOR" not in environ and environ.get("TERM") != "dumb"
        self._drawn = False
        self._last = 0.0
        self._started: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        """Show one event."""
        now = event.time_s if event.time_s is not None else time.time()
        if event.kind == "stage_started":
            self._started[event.stage] = now
            self._last = 0.0 if self._redraws else now
            self._line(f"{event.stage} ...")
        elif event.kind == "stage_finished":
            took = format_seconds(now - self._started.get(event.stage, now))
            self._line(f"{event.stage}: {event.message} ({took})", final=True)
        elif event.kind == "stage_skipped" or event.kind == "noted":
            self._line(f"{event.stage}: {event.message}", final=True)
        elif event.kind == "stage_advanced" and now - self._last >= (_REDRAW_S if self._redraws else _LOG_S):
            self._last = now
            done = "" if event.done_fraction is None else f" {event.done_fraction:4.0%}"
            left = "" if event.remaining_s is None else f", {format_seconds(event.remaining_s)} left"
            self._line(f"{event.stage}{done}{left}  {event.message}", final=not self._redraws)

    def raise_if_cancelled(self) -> None:
        """Interruption arrives as KeyboardInterrupt here."""

    def _line(self, text: str, *, final: bool = False) -> None:
        if self._redraws:
            sys.stderr.write(f"\r\x1b[2K{text[:200]}" + ("\n" if final else ""))
        elif final or text.endswith("..."):
            sys.stderr.write(text + "\n")
        self._drawn = self._redraws and not final
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._drawn:
            sys.stderr.write("\n")
            self._drawn = False


def note(text: str) -> None:
    """A remark that is not the result."""
    sys.stderr.write(text.rstrip("\n") + "\n")


def explain(error: BaseException) -> ExitCode:
    """Write one clear sentence for an error and give its exit code."""
    sentence, code = describe(error)
    if "EDGEPRUNE_DEBUG" in environ and sentence.startswith("unexpected "):
        note("".join(traceback.format_exception(error)))
    note(f"edgeprune: {sentence}")
    return code


def explain_signal(number: int) -> ExitCode:
    """The same for work that a signal ended before it could say anything."""
    if number in (signal.SIGINT, signal.SIGTERM):
        return explain(KeyboardInterrupt())
    why = "most likely because memory ran out" if number == signal.SIGKILL else "which is a defect"
    note(
        f"edgeprune: the work was ended by {signal.Signals(number).name}, {why}; finished stages are kept, the same "
        "command resumes."
    )
    return ExitCode.RUNTIME
