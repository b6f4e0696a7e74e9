"""`RunReport`: one table with everything, each number marked measured or estimated."""

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.measurement import Check, ValidationReport
from edgeprune.schema.scores import CalibrationSummary

__all__ = ["BlockContrast", "BlockRow", "Forgotten", "Quantity", "ReportRow", "RunReport", "TextChange"]


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
    groups: str = ""
    """Key-value groups, such as `1 of 2`; empty in older reports."""


class TextChange(Record, frozen=True, kw_only=True):
    """One text before and after; None where it was not measured."""

    name: str
    dense_bits_per_byte: float | None
    bits_per_byte: float | None
    relative: float | None
    """bits_per_byte / dense_bits_per_byte - 1."""
    token_inflation: float | None
    """Tokens scored in it, recipe / dense; above one where its words are cut into more tokens."""


class BlockContrast(Record, frozen=True, kw_only=True):
    """Channels that left one block: what they did on the domain beside general text; None where it was not measured."""

    block: int
    kept_count: int
    dropped_count: int | None = None
    kept_contrast: float | None = None
    """Median over the channels that stay of their second moment on the domain / on general text."""
    dropped_contrast: float | None = None
    """The same over those that left; below the kept ones' where general text used them more."""
    general_count: int | None = None
    """Channels that left although they do more on general text than on the domain."""


class Forgotten(Record, frozen=True, kw_only=True):
    """What the recipe gave up outside the domain."""

    texts: tuple[TextChange, ...]
    channels: tuple[BlockContrast, ...]
    """Narrowed blocks; in the order of importance that calibration found in the dense model."""
    dropped_token_count: int
    coverage: float | None
    """Share of the tokens in the domain's selection text that are kept ones."""
    general_coverage: float | None
    """The same in general selection text."""
    general_token_inflation: float | None
    """Tokens for general selection text, with the trimmed tokenizer / with the full one."""


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
    forgotten: Forgotten | None = None
    """None in reports that were made without it."""
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    """What this report does not show."""
    created_at: str
    versions: dict[str, str]
