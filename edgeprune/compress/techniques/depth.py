"""What techniques that drop whole blocks share: of the sets of growing size, the one nearest to the target.

Whole blocks are a coarse menu: the nearest count wins, and only what lies beyond the last is refused.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.compress.techniques.request import Request, size, unreachable
from edgeprune.schema.recipe import Drops, Recipe, Repair
from edgeprune.shapes import block_parameter_count

__all__ = ["Selector", "nearest_drop", "selected_drops"]

Selector: TypeAlias = Callable[[NDArray[np.float64], int], list[int]]
"""Similarity of block inputs [N, N] and a number of blocks to the positions to drop."""


def selected_drops(request: Request, selector: str, select: Selector) -> list[tuple[int, ...]]:
    """Source indices of the sets a selector names for 1, 2, ... blocks, ascending; a set with an end block is none.

    Every number of blocks where the similarities are at hand; otherwise those that calibration measured.

    Args:
        request: with statistics, or with scores alone.
        selector: as the scores call it.
        select: similarity [N, N] and a count to positions.
    """
    if request.stats is None:
        return [
            tuple(sorted(option.drop_blocks))
            for option in request.scores.depth
            if option.selector == selector and option.drop_blocks
        ]
    similarity = request.stats.block_similarity.numpy()
    indices = [block.index for block in request.spec.blocks]
    ends = {0, len(indices) - 1}
    drops = []
    for count in range(1, len(indices) - 1):
        positions = select(similarity, count)
        if len(positions) == count and not ends & set(positions):
            drops.append(tuple(sorted(indices[position] for position in positions)))
    return drops


def nearest_drop(request: Request, drops: Sequence[tuple[int, ...]]) -> Recipe:
    """The recipe whose size is nearest to the target; of equals the one that drops less.

    Raises:
        UsageError: dropping one more block than any set does would come nearer.
    """
    recipes = [request.empty, *(_dropping(request, drop) for drop in drops)]
    sizes = [size(request, recipe) for recipe in recipes]
    half_block = max(block_parameter_count(block) for block in request.spec.blocks) / 2
    if min(sizes) - request.target > half_block:
        raise unreachable(request, min(sizes))
    nearest = min(range(len(recipes)), key=lambda at: (abs(sizes[at] - request.target), len(recipes[at].drop_blocks)))
    return recipes[nearest]


def _dropping(request: Request, blocks: tuple[int, ...]) -> Recipe:
    repairs = Drops(blocks=blocks).repaired(request.repair_rank).repairs
    return replace(
        request.empty,
        drop_blocks=blocks,
        repairs=tuple(Repair(block=block, rank=rank) for block, rank in repairs),
        # An operator mends what is linear of a run; the blocks after it take over more, and no number is added.
        refit=bool(repairs),
    )
