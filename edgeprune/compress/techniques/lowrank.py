"""`lowrank`: truncation in the eigenbasis of the outputs' covariance (arXiv 2604.01609), ranks by predicted loss."""

from edgeprune.compress.techniques.ranks import rank_recipe
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Factors that lose least of the sites' outputs on the calibration text.

    Raises:
        UsageError: the target is out of reach, or the scores lack the losses.
    """
    return rank_recipe(request, "lowrank")
