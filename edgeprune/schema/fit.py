"""`FitReport`: which models fit a device, at which precision and how fast, from their configurations alone."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.estimate import Estimate

__all__ = ["FitModel", "FitReport", "FitRow", "SpeedBasis"]

SpeedBasis = Literal["kernel_table", "roofline"]
"""Times of kernels measured on the device, or memory bandwidth alone."""


class FitRow(Record, frozen=True, kw_only=True):
    """One model at one precision."""

    precision: str
    """`fp32`, `fp16`, `int8` or `int4`."""
    kernel: str
    """How every matrix and table is stored at that precision."""
    weights_bytes: int
    """Stored bytes of all tensors."""
    disk_bytes: int | None
    """Whole bundle; None where no bundle can be made yet."""
    peak_rss_bytes: Estimate
    """Predicted peak of the whole process; unknown where no family reads the model."""
    tokens_per_s: Estimate
    """Tokens decoded per second at the end of the context; unknown is None, never 0."""
    speed_basis: SpeedBasis | None
    """None where the speed is unknown."""
    prefill_s: Estimate
    """Seconds for a prompt that leaves room for the decoded tokens."""
    fits: Verdict
    """Whether every limit is met as predicted; `unmeasured` when the profile or the model cannot tell."""
    is_close: bool = False
    """A limit lies inside the range of its prediction, so that a measurement may say otherwise."""
    binding: tuple[str, ...] = ()
    """Limits it misses, or those that cannot be told: `memory`, `latency`, `first_token`, `disk`, `context`."""


class FitModel(Record, frozen=True, kw_only=True):
    """One model at every precision asked for, those that fit first."""

    name: str
    hub_id: str | None
    """None for a folder."""
    model_type: str
    license: str | None
    parameter_count: int
    context_tokens: int
    """Context it is priced at: the one asked for, at most the model's positions."""
    can_compress: bool
    """Whether EdgePrune can compress and export it today."""
    refusal: str | None
    """Why not; None where it can."""
    fits: Verdict
    """The best of its rows."""
    rows: tuple[FitRow, ...]


class FitReport(Record, frozen=True, kw_only=True):
    """All models, those that fit first, the larger ones before the smaller."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    """`met` when some model fits at some precision."""
    device_name: str
    device_basis: Basis
    device_is_saved: bool
    """False when only memory, bandwidth and the floor of this device were measured, for this answer."""
    floor_bytes: int
    """Memory of a process before any model."""
    floor_basis: Basis
    """`measured` on the device, or `estimated` where its profile has none."""
    context_tokens: int
    """Longest context priced."""
    budget: Budget
    models: tuple[FitModel, ...]
    notes: tuple[str, ...] = ()
    """What the figures rest on; one sentence each."""
