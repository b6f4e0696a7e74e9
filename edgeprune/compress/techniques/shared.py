"""Ranks of least predicted loss where sites that read one input may share their right factor.

For query, key and value, and for gate and up, [W_1; W_2; ...] of rank r in one pair of factors takes
r (in + sum of out) numbers, where pairs of their own take sum r_i (in + out_i). Which loses less depends on how far the
sites read the same directions, so it is decided for each group from the spectra (MoDeGPT, arXiv 2408.09632, and Basis
Sharing, arXiv 2410.03765, share across heads and blocks; here it is what reads one input): gate and up of a
14-million-parameter Llama lose alike or a few percent less when they share at equal numbers, its query, key and value
alike in outer blocks and up to twice as much in the middle ones. Shared ones are fewer products.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.calibrate.eigen import output_spectrum
from edgeprune.calibrate.output_weighting import output_root
from edgeprune.calibrate.rank_scores import loss_tails, lowrank_losses
from edgeprune.calibrate.site_weights import SiteWeight, site_weights
from edgeprune.compress.allocate import Menu
from edgeprune.compress.techniques.ranks import own_ranks, rank_edit
from edgeprune.compress.techniques.request import Request, array, fit, needed, rank_options
from edgeprune.schema.model import INPUT_ROLES, SiteForm, SiteSpec
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import site_parameter_count

__all__ = ["shared_losses", "shared_recipe"]

_Edits = list[SiteEdit]


def shared_recipe(request: Request) -> Recipe:
    """Ranks of every site at the target, right factors shared where that is predicted to lose less.

    Raises:
        UsageError: the target is out of reach, or statistics or scores are not at hand.
    """
    stats = needed(request, request.stats, "statistics of the inputs")
    loaded = needed(request, request.loaded, "the model")
    weights = {site.name: site for site in site_weights(loaded, stats)}
    menus, options = [], []
    for block in request.spec.blocks:
        for group in _groups(block.sites):
            request.progress.raise_if_cancelled()
            menu, edits = _menu(request, group, [weights[site.name] for site in group])
            menus.append(menu)
            options.append(edits)
    chosen = [edits[at] for edits, at in zip(options, fit(request, menus), strict=True)]
    return replace(request.empty, sites=tuple(edit for edits in chosen for edit in edits))


def shared_losses(sites: Sequence[SiteWeight]) -> NDArray[np.float64]:
    """[ranks + 1] what sites lose at every rank of one right factor / what they lose at that rank each by itself.

    At least one: a rank of all is at most that of each. One where none of them loses anything.
    """
    roots = output_root([site.output_gram for site in sites])
    stacked = torch.cat([site.weight.double() for site in sites])
    if roots is not None:
        stacked = roots.weigh(stacked)
    together = loss_tails(output_spectrum(stacked, sites[0].gram, 0).values).numpy()
    alone = np.zeros_like(together)
    for site in sites:
        losses = lowrank_losses(site.weight, site.gram, None if roots is None else site.output_gram).numpy()
        alone[: len(losses)] += losses[: len(together)]
    return np.divide(together, alone, out=np.ones_like(together), where=alone > 0.0).clip(min=1.0)


def _groups(sites: Sequence[SiteSpec]) -> Iterator[list[SiteSpec]]:
    """Sites that read one input together, all others alone."""
    taken: set[str] = set()
    for site in sites:
        if site.name not in taken:
            roles = next((roles for roles in INPUT_ROLES if site.role in roles), (site.role,))
            group = [other for other in sites if other.role in roles]
            taken |= {other.name for other in group}
            yield group


def _menu(request: Request, group: Sequence[SiteSpec], weights: Sequence[SiteWeight]) -> tuple[Menu, list[_Edits]]:
    """What a group may become, and the edits of each option."""
    menu, edits = own_ranks(request, group, "factors")
    costs, values = [*menu.costs], [*menu.losses]
    if len(group) > 1:
        losses = {site: array(request, f"rank_loss/lowrank/{site.name}") for site in group}
        ratio = shared_losses(weights)
        whole = replace(group[0], out_features=sum(site.out_features for site in group))
        forms: list[SiteForm] = ["factors" if site is group[0] else "shared" for site in group]
        for rank in rank_options(whole, "factors"):
            alone = sum(float(found[min(rank, len(found) - 1)]) for found in losses.values())
            together = [replace(site, rank=rank, form=form) for site, form in zip(group, forms, strict=True)]
            costs.append(sum(map(site_parameter_count, together)))
            values.append(alone * float(ratio[rank]))
            edits.append([rank_edit(site, rank, form) for site, form in zip(group, forms, strict=True)])
    return Menu(costs=np.array(costs), losses=np.array(values)), edits
