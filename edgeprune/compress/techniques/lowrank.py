"""`lowrank`: truncation in the eigenbasis of the outputs' covariance (arXiv 2604.01609), ranks by predicted loss.

Every rank is stored in the pivot form: in float32 it is the same matrix in rank^2 numbers less, so that for as many
parameters ranks are higher.
"""

from edgeprune.compress.techniques.ranks import rank_recipe
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Matrices of low rank that lose least of the sites' outputs on the calibration text.

    Raises:
        UsageError: the target is out of reach, or the scores lack the losses.
    """
    return rank_recipe(request, "lowrank", form="pivot")
