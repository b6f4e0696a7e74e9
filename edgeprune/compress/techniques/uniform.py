"""The same share of every site's parameters: the ranks of baselines that do not ask what each site is worth.

    rank = floor(kept * in * out / (in + out))                                          (1)

as in SVD-LLM (arXiv 2403.07378). Embedding, head and norms stay as
they are, so `kept` is lower than the fraction of the whole model that is asked for.
"""

from msgspec.structs import replace

from edgeprune.compress.techniques.request import TOLERANCE, Request, size, unreachable
from edgeprune.schema.recipe import RankMethod, Recipe, SiteEdit
from edgeprune.shapes import count_parameters

__all__ = ["uniform_recipe"]


def uniform_recipe(request: Request, method: RankMethod) -> Recipe:
    """Every site at one share of its parameters, the model at most as large as the target.

    Raises:
        UsageError: the target is out of reach.
    """
    sites = [site for block in request.spec.blocks for site in block.sites]
    dense = count_parameters(request.spec)
    weights = sum(site.in_features * site.out_features for site in sites)
    kept = (request.target - (dense - weights)) / weights
    if kept >= 1.0:
        return request.empty
    edits = []
    for site in sites:
        rank = int(kept * site.in_features * site.out_features / (site.in_features + site.out_features))  # eq. (1)
        edits.append(SiteEdit(name=site.name, rank=max(1, rank), method=method))
    recipe = replace(request.empty, sites=tuple(edits))
    if (stored := size(request, recipe)) > request.target + TOLERANCE * dense:
        raise unreachable(request, stored)
    return recipe
