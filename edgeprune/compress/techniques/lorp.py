"""`lorp`: whole blocks from clusters of similar representations (arXiv 2605.27786)."""

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibrate.lorp import cluster_blocks, cluster_count, lorp_blocks, representation_locality
from edgeprune.compress.techniques.depth import nearest_drop, selected_drops
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The number of blocks that comes nearest, chosen as published.

    Raises:
        UsageError: the target is out of reach.
    """
    return nearest_drop(request, selected_drops(request, "lorp", _blocks))


def _blocks(similarity: NDArray[np.float64], remove_count: int) -> list[int]:
    count = min(cluster_count(representation_locality(similarity)), len(similarity) - 1)
    return lorp_blocks(similarity, remove_count, cluster_blocks(similarity, count))
