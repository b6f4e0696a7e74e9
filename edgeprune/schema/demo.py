"""`DemoManifest`: what of the demo ships for a device without torch; `DemoReport`: what `edgeprune demo` answers."""

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record, Verdict
from edgeprune.schema.bundle import BundleFile
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.measurement import ValidationReport

__all__ = ["DemoFigure", "DemoManifest", "DemoReport"]


class DemoManifest(Record, frozen=True, kw_only=True):
    """`demo.json` beside the demo's shapes, scores and bundle."""

    schema_version: int = SCHEMA_VERSION
    files: tuple[BundleFile, ...]
    """Every file of the folder but this one."""
    model_hash: str
    """Of the demo model everything here was made from."""
    context_tokens: int
    seed: int
    dense_bits_per_byte: dict[str, float]
    """Text name -> the dense model's figure on it, computed by torch."""
    dense_accuracy: dict[str, float]
    """Question set -> the dense model's accuracy on it, computed by torch."""
    versions: dict[str, str]
    """Tool and library versions that made it."""


class DemoFigure(Record, frozen=True, kw_only=True):
    """One quantity of the shipped bundle."""

    name: str
    """`peak_rss_bytes`, `decode_s`, `bits_per_byte.domain`, `accuracy.rare` and the like."""
    unit: str
    dense: float | None
    """The dense model's."""
    dense_basis: Basis
    """`estimated` for this device, or `measured` by torch when the demo was made."""
    predicted: float | None
    """None where nothing predicts the quantity."""
    measured: float | None
    """None where it was not measured here."""
    relative_error: float | None
    """(predicted - measured) / measured; None when either is missing."""
    low: float | None = None
    """Lower end of the measured interval, for accuracies."""
    high: float | None = None


class DemoReport(Record, frozen=True, kw_only=True):
    """Everything `edgeprune demo` found out; nothing of it says how good EdgePrune is on a real model."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    """`not_met` when nothing fits the limits asked for; otherwise of the validation, or of the prediction without."""
    notice: str
    device_name: str
    context_tokens: int
    default: SearchResult | None
    """For the default budget; None when only the limits given were solved for."""
    asked: SearchResult | None
    """For the limits given; None when none were."""
    validation: ValidationReport | None
    """Of the shipped int4 bundle; None when it was not measured."""
    figures: tuple[DemoFigure, ...]
    """Of the shipped int4 bundle, predicted beside measured."""
    notes: tuple[str, ...] = ()
    took_s: dict[str, float]
    """Seconds spent to `profile`, `solve` and `validate`, those that were done, and the `total`."""
