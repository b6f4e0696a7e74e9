"""`lowrank`: truncation in the eigenbasis of the outputs' covariance (arXiv 2604.01609), ranks by predicted loss.

Unless another form is asked for, every rank is stored in the pivot form: in float32 it is the same matrix in rank^2
numbers less, so that for as many parameters ranks are higher. Factors are what integers round best, with right factors
shared (`shared`) they are the fewest products, and with few values a head (`head_rows`) there is no product more than
in the dense model.
"""

from edgeprune.compress.techniques.ranks import rank_recipe
from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.shared import shared_recipe
from edgeprune.compress.techniques.values import values_recipe
from edgeprune.schema.recipe import Recipe
from edgeprune.value_heads import HEAD_FORMS

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Matrices of low rank that lose least of the sites' outputs on the calibration text.

    Raises:
        UsageError: the target is out of reach, or the scores lack the losses.
    """
    if request.rank_form == "shared":
        return shared_recipe(request)
    if request.rank_form in HEAD_FORMS:
        return values_recipe(request)
    return rank_recipe(request, "lowrank", form=request.rank_form or "pivot")
