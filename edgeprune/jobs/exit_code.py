"""The exit code that a result stands for: of the verb that prints it, and of the job that wrote it."""

from typing import Any

from edgeprune.errors import ExitCode
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.doctor import DoctorReport
from edgeprune.schema.fit import FitReport
from edgeprune.schema.run import LaserOutcome

__all__ = ["exit_code_of"]


def exit_code_of(result: Any) -> ExitCode:
    """Met is 0, a valid negative answer is 1, a measurement that is missing is 4.

    Records without a verdict are what was asked for, and met.
    """
    if isinstance(result, SearchResult):
        is_met = result.chosen is not None and result.predicted != "not_met"
        return ExitCode.MET if is_met else ExitCode.NOT_MET
    if isinstance(result, LaserOutcome):
        return ExitCode.MET if result.laser.sites else ExitCode.NOT_MET
    if isinstance(result, FitReport):  # predicted from shapes: nothing is left unmeasured by it
        return ExitCode.MET if result.verdict == "met" else ExitCode.NOT_MET
    if isinstance(result, DoctorReport):
        return ExitCode.MET if result.is_healthy else ExitCode.RUNTIME
    codes = {"met": ExitCode.MET, "not_met": ExitCode.NOT_MET, "unmeasured": ExitCode.RUNTIME}
    return codes[getattr(result, "verdict", "met")]
