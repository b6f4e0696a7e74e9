"""Ranks of least predicted loss where v and o of a block may keep few values a head.

A head of head_dim values that keeps r takes r / head_dim of the numbers of v and of o, at every r and without a product
more, where two ranks of their own have to stay below break-even; but all query heads of a group keep the same
directions. So it is decided for each block: by what o's outputs lose, in the nats that ranks are scored in.
"""

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from edgeprune.calibrate.rank_scores import lowrank_losses
from edgeprune.calibrate.site_weights import SiteWeight, site_weights
from edgeprune.compress.allocate import Menu
from edgeprune.compress.merged_values import merged_losses, value_bases
from edgeprune.compress.techniques.ranks import own_ranks, rank_edit
from edgeprune.compress.techniques.request import Request, array, fit, needed
from edgeprune.errors import UsageError
from edgeprune.schema.model import BlockSpec
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import site_parameter_count

__all__ = ["values_recipe"]

_Edits = list[SiteEdit]
_STEP = 8
"""Values of a head come by it where a head is at least four times as wide."""


def values_recipe(request: Request) -> Recipe:
    """Ranks of every site at the target in the pivot form, few values a head where that is predicted to lose less.

    Raises:
        UsageError: the target is out of reach, statistics or scores are not at hand, or v is no site of its own.
    """
    stats = needed(request, request.stats, "statistics of the inputs")
    loaded = needed(request, request.loaded, "the model")
    if not any(site.role == "v" for block in request.spec.blocks for site in block.sites):
        raise UsageError(
            f"Query, key and value of {request.spec.name} are one matrix, so values have no form of their own; leave "
            "--form out."
        )
    weights = {site.name: site for site in site_weights(loaded, stats) if site.name.endswith(".o")}
    menus, options = [], []
    for block in request.spec.blocks:
        request.progress.raise_if_cancelled()
        for menu, edits in _menus(request, block, weights):
            menus.append(menu)
            options.append(edits)
    chosen = [edits[at] for edits, at in zip(options, fit(request, menus), strict=True)]
    return replace(request.empty, sites=tuple(edit for edits in chosen for edit in edits))


def _menus(request: Request, block: BlockSpec, weights: dict[str, SiteWeight]) -> Iterator[tuple[Menu, list[_Edits]]]:
    """V and o together, every other site alone."""
    pair = [site for site in block.sites if site.role in ("v", "o")]
    for site in block.sites:
        if site not in pair:
            yield own_ranks(request, [site], "pivot")
    if pair:
        menu, edits = own_ranks(request, pair, "pivot")
        values, output = pair
        costs, losses = [*menu.costs], [*menu.losses]
        step = _STEP if block.head_dim >= 4 * _STEP else 1
        counts = range(step, block.head_dim, step)
        for kept, loss in zip(counts, _losses(request, weights[output.name], block, counts), strict=True):
            few = [
                rank_edit(values, kept * block.num_kv_heads, "head_rows"),
                rank_edit(output, kept * block.num_heads, "head_columns"),
            ]
            stored = [replace(site, rank=edit.rank, form=edit.form) for site, edit in zip(pair, few, strict=True)]
            costs.append(sum(map(site_parameter_count, stored)))
            losses.append(loss)
            edits.append(few)
        yield Menu(costs=np.array(costs), losses=np.array(losses)), edits


def _losses(request: Request, output: SiteWeight, block: BlockSpec, counts: range) -> list[float]:
    """Nats per token of a block, for each number of values kept of a head."""
    bases = value_bases(
        output.weight,
        output.gram,
        head_count=block.num_heads,
        group_count=block.num_kv_heads,
        output_gram=output.output_gram,
    )
    errors = merged_losses(output.weight, output.gram, counts, bases=bases, output_gram=output.output_gram)
    # In the scores' own nats, which were corrected by real edits: o without any rank loses as much either way.
    whole = float(lowrank_losses(output.weight, output.gram, output.output_gram)[0])
    nats = float(array(request, f"rank_loss/lowrank/{output.name}")[0])
    return [nats * error / whole if whole > 0.0 else 0.0 for error in errors]
