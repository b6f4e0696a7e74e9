"""Rows of a choice: forms of one model on one device, from a search and, where there is one, a validation."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts
from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.choice import ChoiceRow
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.scores import Scores
from edgeprune.search.quantities import limited, predicted_verdict
from edgeprune.validate.verdict import check_limits, overall

__all__ = ["Measured", "dense_bits", "is_pruned", "predicted_rows", "with_measurements"]

DOMAIN = "domain"


class Measured(NamedTuple):
    """One bundle of a model that was measured on this device."""

    entry: BundleMeasurement
    dense_bits_per_byte: float | None
    """Of the same model's dense bundle, for limits on loss."""


def is_pruned(recipe: Recipe) -> bool:
    """Whether a recipe gives up blocks, tokens, key-value groups, channels or ranks; bits alone are not pruning."""
    has_rank = any(edit.rank is not None for edit in recipe.sites)
    return (
        bool(recipe.drop_blocks or recipe.keep_channels or recipe.keep_groups)
        or recipe.keep_tokens is not None
        or has_rank
    )


def dense_bits(scores: Scores) -> float:
    """Bits-per-byte of the dense model on the domain's selection text."""
    by_name = {entry.text: entry.bits_per_byte for entry in scores.dense_losses}
    return by_name.get("domain.selection", scores.dense_losses[0].bits_per_byte)


def predicted_rows(model: str, spec: ModelSpec, scores: Scores, result: SearchResult) -> tuple[ChoiceRow, ...]:
    """The chosen recipe, plain int8, plain int4 and the dense model, as predicted."""
    forms = [*([] if result.chosen is None else [result.chosen]), *result.baselines, result.dense]
    bits = dense_bits(scores)
    return tuple(_row(model, spec, candidate, result.budget, bits) for candidate in forms)


def _row(model: str, spec: ModelSpec, candidate: Candidate, budget: Budget, bits: float) -> ChoiceRow:
    built = candidate.measured_relative_loss
    loss = candidate.relative_loss if built is None else built
    return ChoiceRow(
        model=model,
        label=candidate.label,
        is_pruned=is_pruned(candidate.recipe),
        dense_parameter_count=spec.parameter_count,
        recipe_hash=hash_parts(candidate.recipe),
        cost=candidate.cost,
        fits=predicted_verdict(candidate, budget),
        missed=_missed(candidate, budget),
        bits_per_byte=bits * (1.0 + loss),
        quality_basis="estimated",
    )


def _missed(candidate: Candidate, budget: Budget) -> tuple[str, ...]:
    found = []
    for quantity, limit in limited(budget):
        value = quantity.predicted(candidate)
        if value is not None and quantity.is_exceeded(value, limit):
            found.append(quantity.name)
    return tuple(found)


def with_measurements(
    rows: tuple[ChoiceRow, ...], measured: Mapping[tuple[str, str], Measured], *, budget: Budget, is_here: bool
) -> tuple[ChoiceRow, ...]:
    """Rows with what was measured of the same recipes of the same models.

    Args:
        rows: as predicted on one device.
        measured: (model, recipe hash) -> what was measured.
        budget: limits on that device.
        is_here: whether the device is the one that was measured on; quality holds on any, cost only here.
    """
    return tuple(
        row if found is None else _measured_row(row, found, budget=budget, is_here=is_here)
        for row in rows
        for found in [measured.get((row.model, row.recipe_hash))]
    )


def _measured_row(row: ChoiceRow, found: Measured, *, budget: Budget, is_here: bool) -> ChoiceRow:
    entry = found.entry
    bits = next((text.bits_per_byte for text in entry.texts if text.name == DOMAIN), None)
    if bits is not None:
        accuracy = entry.accuracy[0].accuracy if entry.accuracy else None
        row = replace(row, bits_per_byte=bits, quality_basis="measured", accuracy=accuracy)
    if not is_here:
        return row
    checks = check_limits(budget, entry, found.dense_bits_per_byte)
    verdict: Verdict = overall(checks)
    return replace(
        row,
        fits=verdict,
        missed=tuple(check.quantity for check in checks if check.verdict == "not_met"),
        measured_peak_bytes=entry.peak_rss_bytes,
        measured_decode_s=entry.decode_s,
        measured_disk_bytes=entry.disk_bytes,
    )
