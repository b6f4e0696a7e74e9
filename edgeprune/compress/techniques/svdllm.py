"""`svdllm`: SVD of Cholesky-whitened weights (arXiv 2403.07378), one share of every site's parameters."""

from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.uniform import uniform_recipe
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """Factors of every site.

    Raises:
        UsageError: the target is out of reach.
    """
    return uniform_recipe(request, "svdllm")
