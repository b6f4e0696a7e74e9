"""Ranks of every site shared out by predicted loss: what `laser`, `lowrank` and their kin have in common."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.compress.allocate import Menu, merged
from edgeprune.compress.techniques.request import Request, array, fit, rank_menus
from edgeprune.schema.model import SiteForm, SiteSpec
from edgeprune.schema.recipe import RankMethod, Recipe, SiteEdit

__all__ = ["own_ranks", "rank_edit", "rank_recipe"]


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


def own_ranks(request: Request, sites: Sequence[SiteSpec], form: SiteForm) -> tuple[Menu, list[list[SiteEdit]]]:
    """What sites may become together, each by itself, and the edits of each option.

    Raises:
        UsageError: the scores lack the losses of `lowrank`.
    """
    ranks, menus = rank_menus({site: array(request, f"rank_loss/lowrank/{site.name}") for site in sites}, form)
    menu, picks = merged(menus)
    edits = [
        [
            rank_edit(site, options[at], form)
            for site, options, at in zip(sites, ranks, pick, strict=True)
            if at < len(options)
        ]
        for pick in picks
    ]
    return menu, edits


def rank_edit(site: SiteSpec, rank: int, form: SiteForm) -> SiteEdit:
    """A rank of least loss on the domain."""
    return SiteEdit(name=site.name, rank=rank, method="lowrank", form=form)
