"""LoRP: which blocks to drop, exactly as published (arXiv 2605.27786; code at 234b525, `lib/layer_select.py`).

Takes the block similarity S [N, N] alone, gives the blocks for any number to remove. Corner cases follow the published
code: the first and last block are protected but stay members of their clusters; a cluster of one has redundancy minus
infinity and still gives its member in stage 1; in stage 2 a cluster with fewer than two remaining members has mean
minus infinity, and among equals the lowest-numbered cluster with a candidate gives.

    eq. (4)  S_ij = mean over tokens of cos(h_i, h_j), h_i the input of block i
    eq. (5)  S_off = 2 / (N (N - 1)) sum_{i<j} S_ij
    eq. (6)  RLS = -log2 S_off
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["cluster_blocks", "cluster_count", "lorp_blocks", "representation_locality"]

Array = NDArray[np.float64]


def representation_locality(similarity: Array) -> float | None:
    """RLS; None where the mean off-diagonal similarity is not positive, or there is one block only."""
    count = len(similarity)
    if count < 2:
        return None
    mean = float(similarity[np.triu_indices(count, k=1)].mean())  # eq. (5)
    return -math.log2(mean) if mean > 0 else None  # eq. (6)


def cluster_count(locality: float | None) -> int:
    """Number of clusters by RLS: 2 from 1.0 up, 3 from 0.7 up, else 4; undefined locality counts as high."""
    if locality is None or locality >= 1.0:
        return 2
    return 3 if locality >= 0.7 else 4


def cluster_blocks(similarity: Array, count: int) -> list[list[int]]:
    """Spectral clusters of the blocks, each ascending, ordered by their first block."""
    # Deferred: scikit-learn takes 1 s to import and nothing else in the stage needs it.
    from sklearn.cluster import SpectralClustering

    clustering = SpectralClustering(n_clusters=count, affinity="precomputed", assign_labels="kmeans", random_state=0)
    labels = clustering.fit_predict((similarity + 1) / 2)
    clusters: dict[int, list[int]] = {}
    for block, label in enumerate(labels.tolist()):
        clusters.setdefault(label, []).append(block)
    return list(clusters.values())


def lorp_blocks(similarity: Array, remove_count: int, clusters: list[list[int]]) -> list[int]:
    """Blocks to drop, ascending, at most `remove_count`."""
    protected = {0, len(similarity) - 1}
    candidates = [_candidates(similarity, cluster, protected) for cluster in clusters]
    removed: list[int] = []
    for queue in candidates:  # stage 1: the most redundant block of each cluster
        if queue and len(removed) < remove_count:
            removed.append(queue.pop(0))
    while len(removed) < remove_count and any(candidates):  # stage 2
        means = [_remaining_mean(similarity, cluster, removed) for cluster in clusters]
        best = max(
            (number for number, queue in enumerate(candidates) if queue), key=lambda number: (means[number], -number)
        )
        removed.append(candidates[best].pop(0))
    return sorted(removed)


def _candidates(similarity: Array, cluster: list[int], protected: set[int]) -> list[int]:
    """Blocks that may go, most redundant first; redundancy is computed once over the whole cluster."""
    redundancy = {
        block: float(np.mean([similarity[block, other] for other in cluster if other != block]))
        if len(cluster) > 1
        else -math.inf
        for block in cluster
    }
    return sorted((block for block in cluster if block not in protected), key=lambda block: -redundancy[block])


def _remaining_mean(similarity: Array, cluster: list[int], removed: list[int]) -> float:
    """Mean pairwise similarity of the members still there, protected ones included."""
    remaining = [block for block in cluster if block not in removed]
    if len(remaining) < 2:
        return -math.inf
    pairs = similarity[np.ix_(remaining, remaining)][np.triu_indices(len(remaining), k=1)]
    return float(pairs.mean())
