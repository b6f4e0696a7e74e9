"""`Worker`: one child process that does a task at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

from edgeprune.runtime.executor.frames import Task, read_frame, write_frame
from edgeprune.runtime.executor.tasks import Reply
from edgeprune.runtime.isolate import child_environment

__all__ = ["Worker"]

_LAST_WORDS_BYTES = 4096
_PATIENCE_S = 5.0


class Worker:
    """A persistent child; its stderr goes to a file of which only the end is ever read."""

    def __init__(self, module: str, *, thread_count: int) -> None:
        """Start `python -m module` in a session of its own, so that its whole group can be ended."""
        with tempfile.TemporaryFile() as noise:
            self._noise = os.dup(noise.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env=child_environment(thread_count),
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._replies = self._process.stdout
        self._is_ended = False

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor that becomes readable when a reply is there or the child is gone."""
        return self._replies.fileno()

    def send(self, function: str, payload: bytes) -> None:
        """Hand over a task; a child that is gone shows when its reply is read."""
        with contextlib.suppress(OSError):
            write_frame(self._requests.fileno(), Task(function=function, payload=payload))

    def receive(self) -> Reply | None:
        """Wait for the reply to the task sent; None when the child is gone."""
        return read_frame(self.fileno(), Reply)

    def last_words(self) -> str:
        """How a child that is gone ended, and the last line of its stderr; ends what it left behind."""
        # Its pipes close a moment before it can be waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_PATIENCE_S)
        self._kill()
        code = self._process.wait()
        size = os.fstat(self._noise).st_size
        said = os.pread(self._noise, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        self.end()
        lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how}, its last line: {lines[-1][:300]}" if lines else how

    def end(self) -> None:
        """Kill the child and its group; a second call changes nothing."""
        if self._is_ended:
            return
        self._is_ended = True
        self._kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()
        os.close(self._noise)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
