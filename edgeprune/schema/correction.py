"""`Corrections`: what bundles measured on a device taught about its profile's predictions."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["CorrectedQuantity", "CorrectionFactor", "Corrections", "ProfileResidual", "Recalibration", "ResidualRow"]

CorrectedQuantity = Literal["decode", "prefill", "memory", "disk"]
"""Seconds per token, seconds for the prompt, model memory, bytes on disk. Bytes on disk do not depend on the device:
their residual is kept and shown, and corrects nothing."""


class ProfileResidual(Record, frozen=True, kw_only=True):
    """One measured quantity of one bundle beside what the uncorrected profile predicts."""

    bundle_hash: str
    """sha256 of the bundle's manifest; measuring the same bundle again replaces its residuals."""
    label: str
    quantity: CorrectedQuantity
    predicted: float
    """Seconds or bytes, by the profile without any correction."""
    measured: float
    parts: dict[str, float]
    """Family -> what it adds to the prediction; the rest of the prediction is not corrected."""
    measured_at: str


class CorrectionFactor(Record, frozen=True, kw_only=True):
    """What predictions of one family are multiplied by."""

    quantity: CorrectedQuantity
    family: str
    """`fp32`, `int8`, `int4` (kernels by the width of their weights) or `other` (attention, norms, nodes, session)."""
    value: float
    range_factor: float
    """Width of the corrected range / width of the profile's own: below one where measurements agree."""
    count: int
    """Measured bundles with a part in this family; with 0 the value is what the others have in common."""


class Corrections(Record, frozen=True, kw_only=True):
    """All factors, and the measurements they were fitted to."""

    factors: tuple[CorrectionFactor, ...]
    residuals: tuple[ProfileResidual, ...]
    updated_at: str
    """UTC time in ISO 8601."""


class ResidualRow(Record, frozen=True, kw_only=True):
    """One quantity of one bundle: predicted, measured, and predicted again by the recalibrated profile."""

    label: str
    quantity: CorrectedQuantity
    unit: str
    before: float
    measured: float
    error_before: float
    """(predicted - measured) / measured."""
    after: float
    error_after: float


class Recalibration(Record, frozen=True, kw_only=True):
    """What one recalibration did."""

    schema_version: int = SCHEMA_VERSION
    profile_name: str
    path: str
    """Where the recalibrated profile was written."""
    measured_at: str
    """`created_at` of the validation it was made from: another validation has nothing to do with it."""
    rows: tuple[ResidualRow, ...]
    factors: tuple[CorrectionFactor, ...]
    notes: tuple[str, ...] = ()
    """What may have disturbed the measurements, one sentence each."""
