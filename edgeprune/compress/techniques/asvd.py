"""`asvd`: SVD of weights scaled by the size of their inputs, ranks by the published search (arXiv 2312.05821).

Every site is measured alone at nine shares of its parameters; one threshold on the loss then decides for all sites
(`compress.asvd_sensitivity`). Sites that no share suits stay dense.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from edgeprune.compress.asvd_cache import known_sensitivities
from edgeprune.compress.asvd_sensitivity import SHARES, rank_at, shares_below
from edgeprune.compress.techniques.request import TOLERANCE, Request, needed, size, unreachable
from edgeprune.errors import UsageError
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import count_parameters

__all__ = ["plan", "threshold_recipe"]


def plan(request: Request) -> Recipe:
    """The ranks below the highest threshold that keeps at most the target.

    Raises:
        UsageError: the target is out of reach, or the model and its calibration are not at hand.
    """
    dense = count_parameters(request.spec)
    if request.target >= dense:
        return request.empty
    # What no measurement can change is refused before a thousand of them are made.
    smallest = _recipe(
        request, dict.fromkeys((site.name for block in request.spec.blocks for site in block.sites), SHARES[0])
    )
    if (stored := size(request, smallest)) > request.target + TOLERANCE * dense:
        raise unreachable(request, stored)
    loaded = needed(request, request.loaded, "the model's weights")
    stats = needed(request, request.stats, "the statistics of its calibration")
    if not stats.mean_absolute:
        raise UsageError("asvd needs the magnitudes of the sites' inputs; calibrate this model again.")
    return threshold_recipe(request, known_sensitivities(loaded, stats, request.cache, progress=request.progress))


def threshold_recipe(request: Request, losses: Mapping[str, tuple[float, ...]]) -> Recipe:
    """The largest model of at most the target that one threshold on measured losses gives; bisection.

    Args:
        request: for the target.
        losses: by site, at each of `SHARES`.
    """
    thresholds = sorted({loss for values in losses.values() for loss in values})
    low, high = 0, len(thresholds) - 1
    while low < high:  # the lower the threshold, the more parameters stay
        middle = (low + high) // 2
        if size(request, _recipe(request, shares_below(losses, thresholds[middle]))) <= request.target:
            high = middle
        else:
            low = middle + 1
    return _recipe(request, shares_below(losses, thresholds[low]))


def _recipe(request: Request, shares: Mapping[str, float | None]) -> Recipe:
    edits = []
    for site in (site for block in request.spec.blocks for site in block.sites):
        share = shares[site.name]
        if share is not None:
            edits.append(SiteEdit(name=site.name, rank=rank_at(site, share), method="asvd"))
    return replace(request.empty, sites=tuple(edits))
