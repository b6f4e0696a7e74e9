"""What prices take of every resource, read once for each price: many columns share one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.budget import Budget
from edgeprune.search.objective import TIMED
from edgeprune.search.problem import Price

__all__ = ["Paid", "compared", "of_columns"]


class Paid(NamedTuple):
    """Of one price; a time that is not known is None."""

    disk_bytes: float
    loading_high_bytes: float
    running_high_bytes: float
    decode_streaming_s: float | None
    decode_cached_s: float | None
    prefill_streaming_s: float | None
    prefill_cached_s: float | None
    working_set_bytes: float
    device_bytes: float

    @classmethod
    def of(cls, price: Price) -> "Paid":
        """Read a price."""
        return cls(
            disk_bytes=float(price.disk_bytes),
            loading_high_bytes=price.loading_high_bytes,
            running_high_bytes=price.running_high_bytes,
            decode_streaming_s=price.decode_high_s(0.0),
            decode_cached_s=price.decode_high_s(1.0),
            prefill_streaming_s=price.prefill_high_s(0.0),
            prefill_cached_s=price.prefill_high_s(1.0),
            working_set_bytes=float(price.working_set_bytes),
            device_bytes=price.device_bytes,
        )


def of_columns(prices: Sequence[Price | None]) -> tuple[dict[str, NDArray[np.float64]], frozenset[str]]:
    """Resource -> amounts [columns], 0 where there is no price or it does not tell; and the resources all tell of."""
    places: dict[int, int] = {}
    # The first row stands for columns without a price.
    found: list[Sequence[float | None]] = [[0.0] * len(Paid._fields)]
    rows = np.zeros(len(prices), dtype=np.int64)
    for position, price in enumerate(prices):
        if price is None:
            continue
        if id(price) not in places:
            places[id(price)] = len(found)
            found.append(Paid.of(price))
        rows[position] = places[id(price)]
    table = np.array(found, dtype=np.float64)
    told = frozenset(name for name, column in zip(Paid._fields, table.T, strict=True) if not np.isnan(column).any())
    amounts = np.nan_to_num(table)[rows]
    return dict(zip(Paid._fields, amounts.T.copy(), strict=True)), told


def compared(budget: Budget) -> tuple[int, ...]:
    """Positions in `Paid` of what decides between options under a budget: what it may limit, and time for ties."""
    is_timed = budget.latency_s is not None or budget.objective in TIMED
    has_prefill = budget.first_token_s is not None or budget.objective == "request"
    left_out: set[str] = set()
    if not (is_timed or has_prefill):
        left_out |= {"decode_cached_s", "working_set_bytes"}
    if not has_prefill:
        left_out |= {"prefill_streaming_s", "prefill_cached_s"}
    if budget.device_memory_bytes is None:
        left_out.add("device_bytes")
    return tuple(position for position, name in enumerate(Paid._fields) if name not in left_out)
