"""ShortGPT: drop the blocks that change their input least (arXiv 2403.03853).

Takes the block similarity S [N, N] of `edgeprune.calibrate.lorp`, gives the blocks for any number to remove, one shot:

    eq. (1)  BI_i = 1 - mean over tokens of cos(h_i, h_{i+1}), h_i the input of block i

As in the LoRP authors' comparison (234b525, `lib/layer_select.py`) the last block, whose output is no block's input,
has no influence of its own and stays.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["block_influence", "shortgpt_blocks"]


def block_influence(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N - 1] float64: BI of every block but the last; 0 where a block changes nothing."""
    return 1.0 - np.diagonal(similarity, offset=1)  # eq. (1)


def shortgpt_blocks(similarity: NDArray[np.float64], remove_count: int) -> list[int]:
    """Blocks to drop, ascending: those of least influence, of equals the first; at most N - 1."""
    order = np.argsort(block_influence(similarity), kind="stable")
    return sorted(order[:remove_count].tolist())
