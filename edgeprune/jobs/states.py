"""The states of a job, and which may follow which.

A job is queued, runs, and succeeds, fails, is cancelled or is interrupted. Cancelling a running job takes a moment,
which is a state of its own. `resume` queues again what did not succeed.
"""

import msgspec

from edgeprune.errors import UsageError
from edgeprune.schema.jobs import JobState

__all__ = ["LIVE", "RESUMABLE", "TRANSITIONS", "TransitionError", "check_transition"]

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset(("running", "cancelled")),
    "running": frozenset(("succeeded", "failed", "interrupted", "cancelling")),
    # A job may end well before it notices that it should stop.
    "cancelling": frozenset(("cancelled", "succeeded", "failed", "interrupted")),
    "succeeded": frozenset(),
    "failed": frozenset(("queued",)),
    "cancelled": frozenset(("queued",)),
    "interrupted": frozenset(("queued", "cancelled")),
}
"""State -> states that may follow."""

LIVE: frozenset[JobState] = frozenset(("running", "cancelling"))
"""A process works on the job."""

RESUMABLE: frozenset[JobState] = frozenset(state for state, after in TRANSITIONS.items() if "queued" in after)

_ADVICE: dict[JobState, str] = {
    "queued": "it waits for its turn",
    "running": "it is being worked on",
    "cancelling": "it is about to stop",
    "succeeded": "submit the work again if you want it again",
    "failed": "resume it, or submit it again",
    "cancelled": "resume it, or submit it again",
    "interrupted": "resume it, or cancel it",
}


class TransitionError(UsageError):
    """A change of state that is not permitted."""


def check_transition(job_id: str, before: str, after: str) -> JobState:
    """Refuse what must not follow; gives the state to enter.

    Raises:
        TransitionError: `after` does not follow `before`, or is no state.
    """
    known = msgspec.convert(before, JobState)
    for state in TRANSITIONS[known]:
        if state == after:
            return state
    wanted = {"queued": "resumed", "cancelled": "cancelled", "cancelling": "cancelled"}.get(after, after)
    raise TransitionError(f"Job {job_id} is {before} and cannot be {wanted}: {_ADVICE[known]}.")
