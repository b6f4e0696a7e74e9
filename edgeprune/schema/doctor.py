"""`DoctorReport`: what this installation can do, and the one command that mends what it cannot."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["DoctorCheck", "DoctorReport", "FamilyStatus"]


class DoctorCheck(Record, frozen=True, kw_only=True):
    """One thing looked at."""

    name: str
    status: Literal["ok", "missing", "broken"]
    """`missing` is an optional part not installed; `broken` must be mended."""
    detail: str
    command: str | None = None
    """The one command that mends it."""


class FamilyStatus(Record, frozen=True, kw_only=True):
    """One `model_type` and whether it can be compressed."""

    model_type: str
    status: Literal["supported", "refused"]
    family: str | None
    """Our family file that reads it; None when refused."""
    reason: str
    """Why it is refused, or why not the first engine builds its graph; empty when there is nothing to explain."""
    engine: str | None = None
    """What builds its graph: `mobius` from its own modules, `wired` from the decoder EdgePrune wires; None if refused.
    """


class DoctorReport(Record, frozen=True, kw_only=True):
    """All checks."""

    schema_version: int = SCHEMA_VERSION
    is_healthy: bool
    checks: tuple[DoctorCheck, ...]
    families: tuple[FamilyStatus, ...] = ()
