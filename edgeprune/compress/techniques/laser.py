"""`laser`: plain SVD of the weights, ranks shared out by predicted loss (arXiv 2312.13558)."""

from edgeprune.compress.techniques.ranks import rank_recipe
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Factors by plain SVD.

    Raises:
        UsageError: the target is out of reach, or the scores lack the losses.
    """
    return rank_recipe(request, "laser")
