"""A plain bundle that does all the recipe does and loses less: what a user should take instead.

Takes what was measured of the recipe and of the dense, int8 and int4 bundles beside it. A recipe is chosen by predicted
and selected loss; where it gains next to nothing over fewer bits alone, the text that is reported on may say otherwise.
"""

from collections.abc import Mapping

from edgeprune.schema.budget import Budget
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.units import format_bytes
from edgeprune.validate.verdict import bits_per_byte, check_limits, overall

__all__ = ["better_plain"]

_PLAIN = ("dense", "int8", "int4")


def better_plain(
    budget: Budget,
    measurements: Mapping[str, BundleMeasurement],
    *,
    judged: str,
    dense_bits_per_byte: float | None,
    dense_general_bits_per_byte: float | None = None,
    is_memory_limit_missing: bool = False,
) -> str | None:
    """A sentence about the plain bundle of least loss that meets every limit and loses less; None where none does.

    Args:
        budget: the limits as they are judged by; with another objective than loss, a loss is no reason.
        measurements: by label.
        judged: label of the recipe's bundle.
        dense_bits_per_byte: of the dense model on the domain text.
        dense_general_bits_per_byte: the same on the general text.
        is_memory_limit_missing: the memory limit could not be measured, so nothing is known to meet it.
    """
    own = bits_per_byte(measurements[judged], "domain")
    if own is None or budget.objective != "loss":
        return None
    found: list[tuple[float, str]] = []
    for label in _PLAIN:
        entry = measurements.get(label)
        bits = None if entry is None or label == judged else bits_per_byte(entry, "domain")
        if entry is None or bits is None or bits >= own:
            continue
        checks = check_limits(
            budget,
            entry,
            dense_bits_per_byte,
            dense_general_bits_per_byte=dense_general_bits_per_byte,
            is_memory_limit_missing=is_memory_limit_missing,
        )
        if checks and overall(checks) == "met":
            found.append((bits, label))
    if not found:
        return None
    bits, label = min(found)
    return (
        f"{'Dense' if label == 'dense' else f'Plain {label}'} meets every limit too and loses less as measured: "
        f"{bits:.4f} bits-per-byte where the recipe has {own:.4f}, {format_bytes(measurements[label].disk_bytes)} on "
        f"disk where it has {format_bytes(measurements[judged].disk_bytes)}; take it instead, or allow less."
    )
