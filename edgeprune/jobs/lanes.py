"""`lane_of`: which jobs wait for one another.

What takes minutes and cores waits for its like; what somebody sits in front of, and takes seconds of one core, does not
wait for that.
"""

from typing import Literal

from edgeprune.schema.jobs import DoctorJob, ExplainJob, FitJob, GenerateJob, JobRequest, PlanJob

__all__ = ["LANES", "Lane", "lane_of"]

Lane = Literal["work", "answer"]

LANES: tuple[Lane, ...] = ("work", "answer")

_ANSWERS = (DoctorJob, ExplainJob, FitJob, GenerateJob, PlanJob)
"""They write nothing into a run folder, so they may run beside a job that does."""


def lane_of(request: JobRequest) -> Lane:
    """The lane a job runs in; each lane keeps the order of submission."""
    return "answer" if isinstance(request, _ANSWERS) else "work"
