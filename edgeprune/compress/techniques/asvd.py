"""`asvd`: SVD of weights scaled by the size of their inputs (arXiv 2312.05821), one share of every site's parameters.

The published search, which measures the model at nine ranks of each matrix alone, is left out: it takes a thousand
evaluations on a model of sixteen blocks.
"""

from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.uniform import uniform_recipe
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Factors of every site.

    Raises:
        UsageError: the target is out of reach.
    """
    return uniform_recipe(request, "asvd")
