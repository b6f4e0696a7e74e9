"""Ranks forms of several models on one device: pure, from records to records.

A form that does not fit is never ranked, and one whose fit is unknown stands behind all that fit. Then figures that
were measured come before predicted ones, since they are of different texts; then bits-per-byte, which is comparable
across tokenizers; then accuracy, bytes on disk, parameters and name.
"""

from collections.abc import Sequence

from edgeprune.schema.choice import ChoiceRow

__all__ = ["advise", "rank_rows"]


def rank_rows(rows: Sequence[ChoiceRow]) -> tuple[ChoiceRow, ...]:
    """The best form of each model that fits or may fit, best first; rows without bits-per-byte are left out."""
    best: dict[str, ChoiceRow] = {}
    for row in sorted((row for row in rows if row.fits != "not_met" and row.bits_per_byte is not None), key=_key):
        best.setdefault(row.model, row)
    return tuple(best.values())


def advise(rows: Sequence[ChoiceRow]) -> tuple[str, ...]:
    """What the ranking says about pruning, one sentence for each larger model that would have to be pruned to fit.

    Compared are forms of the same basis: a larger model's best pruned form with a smaller model's best unpruned one.
    """
    found = []
    for large in rank_rows([row for row in rows if row.is_pruned]):
        whole = rank_rows(
            [
                row
                for row in rows
                if not row.is_pruned
                and row.dense_parameter_count < large.dense_parameter_count
                and row.quality_basis == large.quality_basis
                and row.fits == large.fits
            ]
        )
        if not whole or large.bits_per_byte is None or whole[0].bits_per_byte is None:
            continue
        small = whole[0]
        how = "measured" if large.quality_basis == "measured" else "predicted"
        assert small.bits_per_byte is not None  # rank_rows leaves out rows without
        pair = f"{small.bits_per_byte:.4f} bits per byte against {large.bits_per_byte:.4f}, {how}"
        if small.bits_per_byte < large.bits_per_byte:
            found.append(f"Do not prune {large.model}, take the smaller model: {small.model} {_form(small)} ({pair}).")
        else:
            found.append(f"Pruning {large.model} beats {small.model} {_form(small)} ({pair}).")
    return tuple(found)


def _form(row: ChoiceRow) -> str:
    return "with weight bits alone" if row.label == "recipe" else f"as plain {row.label}"


def _key(row: ChoiceRow) -> tuple[bool, bool, float, float, int, int, str, str]:
    assert row.bits_per_byte is not None  # left out before
    return (
        row.fits != "met",
        row.quality_basis != "measured",
        row.bits_per_byte,
        -(row.accuracy or 0.0),
        row.cost.disk_bytes,
        row.dense_parameter_count,
        row.model,
        row.label,
    )
