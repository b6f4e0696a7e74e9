"""`RunReport`: one table with everything, each number marked measured or estimated."""

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.measurement import Check, ValidationReport
from edgeprune.schema.scores import CalibrationSummary

__all__ = ["BlockRow", "Quantity", "ReportRow", "RunReport"]


class Quantity(Record, frozen=True, kw_only=True):
    """One number of the table."""

    name: str
    """`disk_bytes`, `peak_rss_bytes`, `decode_s`, `bits_per_byte.domain`, `accuracy.<set>` and the like."""
    value: float | None
    unit: str
    basis: Basis
    predicted: float | None = None
    relative_error: float | None = None
    """(predicted - measured) / measured; None when either is missing."""
    low: float | None = None
    """Lower end of the measured interval, for accuracies."""
    high: float | None = None


class ReportRow(Record, frozen=True, kw_only=True):
    """One model of the table: dense, int8, int4 or recipe."""

    label: str
    quantities: tuple[Quantity, ...]


class BlockRow(Record, frozen=True, kw_only=True):
    """What was removed from one block."""

    index: int
    is_dropped: bool
    kept_fraction: float
    """Stored parameters / dense parameters of the block."""
    bytes_kept_fraction: float
    """Stored bytes / float32 bytes of the dense block."""
    sites: dict[str, str]
    """Role -> such as `rank 64 int4_b32_a4`."""
    channels: str
    """Such as `512 of 704`."""


class RunReport(Record, frozen=True, kw_only=True):
    """All that a reader of the run needs."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    checks: tuple[Check, ...]
    model_name: str
    model_hash: str
    license: str | None
    device_name: str
    budget: Budget
    context_tokens: int
    rows: tuple[ReportRow, ...]
    blocks: tuple[BlockRow, ...]
    vocabulary: str
    """Such as `5,120 of 8,192 tokens`."""
    search: SearchResult
    validation: ValidationReport
    calibration: CalibrationSummary
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    """What this report does not show."""
    created_at: str
    versions: dict[str, str]
