"""`lorp`: whole blocks from clusters of similar representations (arXiv 2605.27786)."""

from edgeprune.compress.techniques.depth import nearest_drop, scored_drops
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The number of blocks that comes nearest, chosen as published.

    Raises:
        UsageError: the target is out of reach.
    """
    return nearest_drop(request, scored_drops(request, "lorp"))
