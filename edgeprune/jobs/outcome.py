"""In which state a job has ended: what its child wrote last, and how the process went."""

import signal

from edgeprune.errors import ExitCode
from edgeprune.jobs.folder import Ending
from edgeprune.schema.jobs import JobState

__all__ = ["outcome_of"]

_EXCEEDED = (
    "The job held more memory than its limit and was ended; finished stages are kept. Choose a smaller model or "
    "context, or fewer workers."
)


def outcome_of(
    state: JobState, ending: Ending | None, code: int | str | None, *, exceeded_memory: bool = False
) -> tuple[JobState, int | None, str | None]:
    """State, exit code and sentence for a child that is gone.

    Args:
        state: the job is in.
        ending: what the child wrote last; None when it was ended before that.
        code: exit code, or minus the signal; a sentence when it could not be started; None when nobody saw it end.
        exceeded_memory: whether the kernel ended a process of the job for exceeding the limit of its group.
    """
    if ending is not None:
        if ending.has_result:
            return "succeeded", ending.exit_code, ending.error
        if ending.exit_code != ExitCode.INTERRUPTED:
            return "failed", ending.exit_code, ending.error
    if state == "cancelling":
        return "cancelled", int(ExitCode.INTERRUPTED), "Cancelled; finished stages are kept."
    if isinstance(code, str):
        return "failed", int(ExitCode.RUNTIME), f"The job's process failed: {code}"
    if exceeded_memory:
        return "failed", int(ExitCode.RUNTIME), _EXCEEDED
    if ending is None and code is not None and code not in (-signal.SIGKILL, -signal.SIGTERM):
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return "failed", int(ExitCode.RUNTIME), f"The job's process ended with {how}; its log says more."
    who = "The daemon and the job's process were" if code is None else "The job's process was"
    return "interrupted", None, f"{who} ended while it ran; resume goes on with what is finished."
