"""Main of a solver's process: `python -m edgeprune.jobs.solver_child RUN PARENT_PID`, frames on stdin and stdout.

It reads a run's records once and then solves for what it is asked, the newest question only: those that came while it
was solving are answered by silence. Torch-free.
"""

import os
import queue
import sys
import threading
from pathlib import Path

from msgspec.structs import replace

from edgeprune import errors
from edgeprune.errors import EdgePruneError, describe
from edgeprune.jobs.solver_frames import Answer, Question
from edgeprune.pipeline.opening import need_stages, reopen_run
from edgeprune.pipeline.request import check_budget
from edgeprune.pipeline.run_solver import RunSolver
from edgeprune.pipeline.table import Run
from edgeprune.runtime.executor.frames import read_frame, write_frame
from edgeprune.runtime.parent import end_with_parent
from edgeprune.schema.events import Event

__all__ = ["main"]


class _Silent:
    """Nothing of a slider belongs into the run's own events."""

    def emit(self, event: Event) -> None:
        pass

    def raise_if_cancelled(self) -> None:
        pass


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    end_with_parent(int(arguments[1]))
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    try:
        run = reopen_run(Path(arguments[0]), _Silent())
        need_stages(run, "intake", "profile", "calibrate")
        solver = RunSolver(run)
    except Exception as error:  # the border of the process
        write_frame(replies, _refusal(0, error))
        return
    asked = run.request
    while True:
        question = questions.get()
        while not questions.empty():
            question = questions.get()
        run.request = replace(
            asked,
            recipe=None,
            budget=asked.budget if question.budget is None else question.budget,
            context_tokens=asked.context_tokens if question.context_tokens is None else question.context_tokens,
            locks=asked.locks if question.locks is None else question.locks,
        )
        write_frame(replies, _solved(solver, run, question.ticket))


def _solved(solver: RunSolver, run: Run, ticket: int) -> Answer:
    try:
        check_budget(run.request)
        return Answer(ticket=ticket, result=solver.solve(run))
    except Exception as error:  # the border of the process: the next question is answered all the same
        return _refusal(ticket, error)


def _refusal(ticket: int, error: Exception) -> Answer:
    name = errors.DeviceError.__name__
    if isinstance(error, EdgePruneError):
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
    return Answer(ticket=ticket, error=name, message=describe(error)[0])


def _listen(questions: "queue.SimpleQueue[Question]") -> None:
    while (question := read_frame(0, Question)) is not None:
        questions.put(question)
    os._exit(0)  # the main thread may be deep in the solver; there is nobody to tell


if __name__ == "__main__":
    main(sys.argv[1:])
