"""Which state a child that is gone leaves its job in."""

import signal

import pytest

from edgeprune.jobs.folder import Ending
from edgeprune.jobs.outcome import outcome_of

RESULT = Ending(exit_code=1, error="nothing fits", has_result=True)
FAILURE = Ending(exit_code=3, error="no model")
INTERRUPTION = Ending(exit_code=130, error="interrupted")


@pytest.mark.parametrize(
    ("state", "ending", "code", "expected"),
    [
        ("running", RESULT, 1, ("succeeded", 1)),
        ("cancelling", RESULT, 1, ("succeeded", 1)),  # it was faster than the one who cancelled
        ("running", RESULT, None, ("succeeded", 1)),  # the daemon was killed after the work was done
        ("running", FAILURE, 3, ("failed", 3)),
        ("running", FAILURE, None, ("failed", 3)),
        ("cancelling", INTERRUPTION, 130, ("cancelled", 130)),
        ("cancelling", None, -signal.SIGKILL, ("cancelled", 130)),
        ("running", INTERRUPTION, 130, ("interrupted", None)),  # somebody else's SIGTERM, or the daemon's end
        ("running", None, -signal.SIGKILL, ("interrupted", None)),
        ("running", None, None, ("interrupted", None)),
        ("running", None, -signal.SIGSEGV, ("failed", 4)),
        ("running", None, 1, ("failed", 4)),
        ("running", None, "no process could be started", ("failed", 4)),
    ],
)
def test_the_last_word_of_the_child_counts_and_then_how_it_went(
    state: str, ending: Ending | None, code: int | str | None, expected: tuple[str, int | None]
) -> None:
    found, exit_code, error = outcome_of(state, ending, code)  # type: ignore[arg-type]
    assert (found, exit_code) == expected
    assert error


def test_a_job_beyond_its_group_s_memory_failed_and_says_so() -> None:
    found, exit_code, error = outcome_of("running", None, -signal.SIGKILL, exceeded_memory=True)
    assert (found, exit_code) == ("failed", 4)
    assert "more memory than its limit" in (error or "")
    assert outcome_of("cancelling", None, -signal.SIGKILL, exceeded_memory=True)[0] == "cancelled"
    assert outcome_of("running", RESULT, 0, exceeded_memory=True)[0] == "succeeded"
