"""Ranks of every site shared out by predicted loss: what `laser`, `lowrank` and their kin have in common."""

from msgspec.structs import replace

from edgeprune.compress.techniques.request import Request, array, fit, rank_menus
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import RankMethod, Recipe, SiteEdit

__all__ = ["rank_recipe"]


def rank_recipe(request: Request, method: RankMethod, *, form: SiteForm = "factors") -> Recipe:
    """The ranks of least predicted loss at the target, read from `rank_loss/<method>/<site>`, stored in that form.

    Raises:
        UsageError: the scores lack the method's losses, or the target is out of reach.
    """
    sites = [site for block in request.spec.blocks for site in block.sites]
    losses = {site: array(request, f"rank_loss/{method}/{site.name}") for site in sites}
    ranks, menus = rank_menus(losses, form)
    edits = [
        SiteEdit(name=site.name, rank=options[option], method=method, form=form)
        for site, options, option in zip(sites, ranks, fit(request, menus), strict=True)
        if option < len(options)
    ]
    return replace(request.empty, sites=tuple(edits))
