"""Which state may follow which, and what a refused change says."""

from typing import get_args

import pytest

from edgeprune.errors import UsageError
from edgeprune.jobs.states import LIVE, RESUMABLE, TRANSITIONS, check_transition
from edgeprune.schema.jobs import Job, JobState

STATES = get_args(JobState)
PERMITTED = {
    ("queued", "running"), ("queued", "cancelled"),
    ("running", "cancelling"), ("running", "succeeded"), ("running", "failed"), ("running", "interrupted"),
    ("cancelling", "cancelled"), ("cancelling", "succeeded"), ("cancelling", "failed"), ("cancelling", "interrupted"),
    ("interrupted", "queued"), ("interrupted", "cancelled"),
    ("failed", "queued"), ("cancelled", "queued"),
}  # fmt: skip


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_every_change_is_permitted_or_refused_with_a_sentence(before: str, after: str) -> None:
    if (before, after) in PERMITTED:
        assert check_transition("j00001", before, after) == after
        return
    with pytest.raises(UsageError, match=f"Job j00001 is {before} and cannot be"):
        check_transition("j00001", before, after)


def test_what_succeeded_stays_and_the_rest_can_be_resumed() -> None:
    assert TRANSITIONS["succeeded"] == frozenset()
    assert {"failed", "cancelled", "interrupted"} == RESUMABLE
    assert LIVE.isdisjoint(Job.FINAL)
