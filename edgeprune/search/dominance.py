"""Options that another option of the same group beats in everything: no better recipe is lost with them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["undominated"]

_Array = NDArray[np.float64]

SMALL = 64
"""Up to so many options every pair is compared at once."""
BLOCK = 256
"""Options compared at once with those kept before, where there are more."""


def undominated(keys: _Array) -> list[int]:
    """Positions of the rows of `keys` [options, criteria] that no other row beats or equals in every criterion.

    Less is better; of equal rows the first stays; positions ascend.
    """
    if len(keys) < 2:
        return list(range(len(keys)))
    if len(keys) <= SMALL:
        return [int(position) for position in np.flatnonzero(_unbeaten(keys))]
    # What beats a row has no larger sum, and is no later in this order where the sums are equal.
    spread = np.ptp(keys, axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)
    order = np.lexsort((*keys.T[::-1], (keys / scale).sum(axis=1)))
    kept, count = np.empty_like(keys), 0
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(order), BLOCK):
        places = order[start : start + BLOCK]
        rows = keys[places]
        first, step = 0, BLOCK // 8
        while first < count and len(rows):
            # A few of the smallest beat most of what is beaten at all.
            last = min(count, first + step)
            able = ~_covered(kept[first:last], rows)
            rows, places = rows[able], places[able]
            first, step = last, 4 * step
        able = _unbeaten(rows)
        rows, places = rows[able], places[able]
        kept[count : count + len(rows)] = rows
        count += len(rows)
        found.append(places)
    return [int(position) for position in np.sort(np.concatenate(found))]


def _covered(others: _Array, rows: _Array) -> NDArray[np.bool_]:
    """[rows] whether one of the others is no larger in any criterion."""
    beats = others[:, 0, None] <= rows[None, :, 0]
    for criterion in range(1, rows.shape[1]):
        beats &= others[:, criterion, None] <= rows[None, :, criterion]
    return np.asarray(beats.any(axis=0))


def _unbeaten(rows: _Array) -> NDArray[np.bool_]:
    """[rows] those that no other one of them beats; of equal ones the first."""
    beats = rows[:, 0, None] <= rows[None, :, 0]
    for criterion in range(1, rows.shape[1]):
        beats &= rows[:, criterion, None] <= rows[None, :, criterion]
    # Equal rows beat each other: only the earlier one does.
    is_equal = beats & beats.T
    beats &= ~is_equal | np.triu(np.ones_like(beats), k=1)
    np.fill_diagonal(beats, val=False)
    return np.asarray(~beats.any(axis=0))
