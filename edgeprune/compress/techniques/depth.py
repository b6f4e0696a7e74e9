"""What techniques that drop whole blocks share: of the sets of growing size, the one nearest to the target.

Whole blocks are a coarse menu: the nearest count wins, and only what lies beyond the last is refused.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.compress.techniques.request import Request, size, unreachable
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import block_parameter_count

__all__ = ["nearest_drop", "scored_drops"]


def scored_drops(request: Request, selector: str) -> list[tuple[int, ...]]:
    """Source indices of the sets that the selector named at calibration, ascending."""
    return [
        tuple(sorted(option.drop_blocks))
        for option in request.scores.depth
        if option.selector == selector and option.drop_blocks
    ]


def nearest_drop(request: Request, drops: Sequence[tuple[int, ...]]) -> Recipe:
    """The recipe whose size is nearest to the target; of equals the one that drops less.

    Raises:
        UsageError: dropping one more block than any set does would come nearer.
    """
    recipes = [request.empty, *(replace(request.empty, drop_blocks=drop) for drop in drops)]
    sizes = [size(request, recipe) for recipe in recipes]
    half_block = max(block_parameter_count(block) for block in request.spec.blocks) / 2
    if min(sizes) - request.target > half_block:
        raise unreachable(request, min(sizes))
    nearest = min(range(len(recipes)), key=lambda at: (abs(sizes[at] - request.target), len(recipes[at].drop_blocks)))
    return recipes[nearest]
