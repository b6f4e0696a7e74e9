"""LLM-Streamline: drop the run of blocks across which the stream changes least (arXiv 2403.19135).

Takes the block similarity S [N, N] of `edgeprune.calibrate.lorp`, gives the run for any number to remove:

    s* = argmax over s of mean over tokens of cos(h_s, h_{s+n}), h_i the input of block i

As in the LoRP authors' comparison (234b525, `lib/layer_select.py`) runs end before the last block.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["streamline_blocks"]


def streamline_blocks(similarity: NDArray[np.float64], remove_count: int) -> list[int]:
    """Blocks to drop, ascending and adjoining; of equal runs the first; none when the run would reach the last one."""
    if not 0 < remove_count < len(similarity):
        return []
    first = int(np.argmax(np.diagonal(similarity, offset=remove_count)))
    return list(range(first, first + remove_count))
