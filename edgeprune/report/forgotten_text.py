"""Words for what a recipe forgot, shared by the report's forms."""

from edgeprune.schema.report import BlockContrast, Forgotten
from edgeprune.units import format_fraction

__all__ = ["CONTRAST_HEAD", "CONTRAST_TEXT", "contrast_values", "number_text", "tokens_text"]

CONTRAST_HEAD = ("channels kept", "left", "contrast of kept", "contrast of left", "left, used more by general text")
CONTRAST_TEXT = (
    "Contrast is the median of what a channel does on the domain / on general text, by calibration text and the dense "
    "model; below one, general text used it more."
)


def contrast_values(row: BlockContrast) -> tuple[float | None, ...]:
    """The numbers of a row, in the order of `CONTRAST_HEAD`."""
    return (row.kept_count, row.dropped_count, row.kept_contrast, row.dropped_contrast, row.general_count)


def number_text(value: float | None) -> str:
    """A count as it is, a ratio with three digits, `n/a` for None."""
    if value is None:
        return "n/a"
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def tokens_text(lost: Forgotten) -> str:
    """One sentence about the tokens that left."""
    if not lost.dropped_token_count:
        return "No token was dropped."
    sentence = f"{lost.dropped_token_count:,} tokens were dropped"
    if lost.coverage is None and lost.general_coverage is None:
        return f"{sentence}; what text they cover was not measured for this vocabulary."
    covered = [
        f"{format_fraction(share)} of the tokens in {name} text are kept ones"
        for name, share in (("domain", lost.coverage), ("general", lost.general_coverage))
        if share is not None
    ]
    sentence = f"{sentence}; {', '.join(covered)} (selection text)"
    if lost.general_token_inflation is None:
        return f"{sentence}."
    return f"{sentence}, and general text takes {lost.general_token_inflation:.3f} times as many tokens."
