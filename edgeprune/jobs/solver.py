"""`SolverChild`: solves a calibrated run again and again, as fast as a slider moves, in a process of its own.

The process keeps the run's records, so an answer takes what the solver takes. A newer question makes older ones
return None: nobody waits for what nobody wants to see any more. Neither the run folder nor this process is touched.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError
from edgeprune.jobs.solver_frames import Answer, Question
from edgeprune.runtime.executor.frames import read_frame, write_frame
from edgeprune.runtime.isolate import child_environment
from edgeprune.schema.budget import Budget, BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import Lock

__all__ = ["SolverChild", "request_of"]

_PATIENCE_S = 5.0


class SolverChild:
    """A process that solves for one run; every method may be called from any thread."""

    def __init__(self, run: Path) -> None:
        """Start the process; the first answer waits until it has read the run's records.

        Args:
            run: a run folder whose calibration is finished.
        """
        self._run = run.absolute()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._newest = 0
        self._answer: Answer | None = None
        self._defect: Answer | None = None
        self._is_closed = False
        self._is_gone = False
        # The child dies with the thread that started it, so that thread is ours and stays.
        threading.Thread(target=self._serve, name=f"solver {run.name}", daemon=True).start()

    def solve(
        self,
        budget: Budget | BudgetRequest | None = None,
        *,
        context: int | None = None,
        locks: Sequence[Lock] | None = None,
    ) -> SearchResult | None:
        """Solve for limits; None when a newer question came, or the solver was closed.

        Args:
            budget: absolute limits, or limits as a user writes them; None keeps the run's.
            context: tokens; None keeps the run's.
            locks: choices that are fixed; None keeps the run's.

        Raises:
            UsageError: a limit, context or lock that cannot be used, or no calibrated run.
            DeviceError: the process ended.
        """
        asked = request_of(budget) if isinstance(budget, Budget) else budget
        with self._changed:
            self._newest += 1
            ticket = self._newest
            question = Question(
                ticket=ticket, budget=asked, context_tokens=context, locks=None if locks is None else tuple(locks)
            )
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._process is not None or self._is_over(ticket))
            if self._process is not None and not self._is_over(ticket):
                assert self._process.stdin is not None
                with contextlib.suppress(OSError):  # a process that is gone shows when its answer is read
                    write_frame(self._process.stdin.fileno(), question)
            self._changed.wait_for(lambda: self._is_over(ticket))
            if self._is_closed or ticket != self._newest:
                return None
            answer = self._defect or self._answer
            if answer is None or answer.ticket not in (0, ticket):
                raise DeviceError(f"The solver of {self._run} ended; open the run again.")
        if answer.result is not None:
            return answer.result
        kind: Any = getattr(errors, answer.error, DeviceError)
        assert issubclass(kind, EdgePruneError)
        raise kind(answer.message)

    def close(self) -> None:
        """End the process; whoever waits gets None."""
        with self._changed:
            self._is_closed = True
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            self._changed.notify_all()

    def _is_over(self, ticket: int) -> bool:
        is_answered = self._answer is not None and self._answer.ticket == ticket
        return is_answered or ticket != self._newest or self._is_closed or self._is_gone or self._defect is not None

    def _serve(self) -> None:
        with tempfile.TemporaryFile() as noise:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgeprune.jobs.solver_child", str(self._run), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                env=child_environment(None),
                start_new_session=True,
                bufsize=0,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        with self._changed:
            self._process = process
            if self._is_closed:
                process.kill()
            self._changed.notify_all()
        while (answer := read_frame(process.stdout.fileno(), Answer)) is not None:
            with self._changed:
                if answer.ticket == 0:
                    self._defect = answer
                self._answer = answer
                self._changed.notify_all()
        with self._changed:
            self._is_gone = True
            self._process = None
            self._changed.notify_all()
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_PATIENCE_S)


def request_of(budget: Budget) -> BudgetRequest:
    """Limits as a user would have written them; the memory limit gets its reserve back."""

    def absolute(value: float | None) -> Limit | None:
        return None if value is None else Limit(absolute=float(value))

    memory = None if budget.memory_bytes is None else budget.memory_bytes + budget.reserve_bytes
    return BudgetRequest(
        memory=absolute(memory),
        device_memory=absolute(budget.device_memory_bytes),
        latency=absolute(budget.latency_s),
        first_token=absolute(budget.first_token_s),
        disk=absolute(budget.disk_bytes),
        max_loss=budget.max_loss,
        max_general_loss=budget.max_general_loss,
        min_accuracy=budget.min_accuracy,
        reserve_bytes=budget.reserve_bytes,
        objective=budget.objective,
    )
