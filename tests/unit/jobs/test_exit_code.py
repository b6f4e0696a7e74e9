"""The exit code of a result, which the verb and the job share."""

from pathlib import Path
from typing import Any

import pytest

from edgeprune.errors import ExitCode
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.base import Record
from edgeprune.schema.budget import Budget
from edgeprune.schema.doctor import DoctorReport
from edgeprune.schema.fit import FitReport
from edgeprune.schema.plan import PlanReport


def plan(verdict: Any) -> Record:
    return PlanReport(verdict=verdict, device_name="d", context_tokens=64, budget=Budget(), rows=())


def fit(verdict: Any) -> Record:
    return FitReport(
        verdict=verdict, device_name="d", device_basis="estimated", device_is_saved=False, floor_bytes=1,
        floor_basis="estimated", context_tokens=64, budget=Budget(), models=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (plan("met"), ExitCode.MET),
        (plan("not_met"), ExitCode.NOT_MET),
        (plan("unmeasured"), ExitCode.RUNTIME),  # never met
        (fit("met"), ExitCode.MET),
        (fit("unmeasured"), ExitCode.NOT_MET),
        (DoctorReport(is_healthy=True, checks=()), ExitCode.MET),
        (DoctorReport(is_healthy=False, checks=()), ExitCode.RUNTIME),
        (Path("bundle"), ExitCode.MET),  # what was asked for, without a verdict
    ],
)
def test_a_result_stands_for_one_exit_code(result: object, code: ExitCode) -> None:
    assert exit_code_of(result) == code
