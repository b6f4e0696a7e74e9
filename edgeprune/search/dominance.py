"""Options that another option of the same group beats in everything: no better recipe is lost with them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["undominated"]


def undominated(keys: NDArray[np.float64]) -> list[int]:
    """Positions of the rows of `keys` [options, criteria] that no other row beats or equals in every criterion.

    Less is better; of equal rows the first stays; positions ascend.
    """
    if len(keys) < 2:
        return list(range(len(keys)))
    beats = np.all(keys[:, None, :] <= keys[None, :, :], axis=2)
    # Equal rows beat each other: only the earlier one does.
    is_equal = beats & beats.T
    beats &= ~is_equal | np.triu(np.ones_like(beats), k=1)
    np.fill_diagonal(beats, val=False)
    return [int(position) for position in np.flatnonzero(~beats.any(axis=0))]
