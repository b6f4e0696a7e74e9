"""The search's own space as named choices, for searchers that know nothing of its structure.

`full` has one choice for everything the solver chooses: blocks to drop, vocabulary, table kernel, channels of every
block, rank and kernel of every site. `roles` has one rank share, one kernel a role and one channel share for the whole
model: 18 choices, kinder to a searcher with few evaluations.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from edgeprune.schema.model import BlockSpec, SiteSpec
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.search.ladders import rank_ladder
from tests.bench.search_lab import Lab

__all__ = ["Pick", "recipe_from"]

Pick = Callable[[str, int], int]
"""Name of a choice and number of options -> the option taken; what random search and TPE implement."""
RANK_SHARES = 4
"""Steps of a rank's share of its ladder; one more step is no truncation."""


def recipe_from(lab: Lab, pick: Pick, *, space: str) -> Recipe:
    """Ask for every choice of a space and make the recipe."""
    scores, spec = lab.scores, lab.spec
    drops = [(), *(tuple(sorted(option.drop_blocks)) for option in scores.depth)]
    dropped = drops[pick("drop", len(drops))]
    counts = [None, *(option.kept_count for option in scores.vocabulary if option.kept_count < spec.vocab_size)]
    kept = counts[pick("tokens", len(counts))]
    table = scores.kernels[pick("table", len(scores.kernels))]
    channels: list[KeepChannels] = []
    sites: list[SiteEdit] = []
    for position, block in enumerate(spec.blocks):
        widths = [None, *scores.channel_counts[position]]
        taken = widths[pick("channels" if space == "roles" else f"channels {block.index}", len(widths))]
        width = None if taken == block.intermediate_size else taken
        if block.index not in dropped and width is not None:
            channels.append(KeepChannels(block=block.index, kept_count=width))
        for site in block.sites:
            name = site.role if space == "roles" else site.name
            edit = _edit(lab, _narrowed(site, block, width), pick, name)
            if block.index not in dropped:
                sites.append(edit)
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=lab.workload.context_tokens,
        drop_blocks=dropped,
        keep_tokens=None if kept is None else KeepTokens(kept_count=kept),
        keep_channels=tuple(channels),
        table_kernel=table,
        sites=tuple(sites),
    )


def _edit(lab: Lab, site: SiteSpec, pick: Pick, name: str) -> SiteEdit:
    share = pick(f"rank {name}", RANK_SHARES + 1)
    kernel = lab.scores.kernels[pick(f"kernel {name}", len(lab.scores.kernels))]
    ladder: Sequence[int] = rank_ladder(site.in_features, site.out_features)
    if share == RANK_SHARES or not ladder:
        return SiteEdit(name=site.name, kernel=kernel)
    rank = ladder[round(share * (len(ladder) - 1) / (RANK_SHARES - 1))]
    return SiteEdit(name=site.name, kernel=kernel, rank=rank)


def _narrowed(site: SiteSpec, block: BlockSpec, width: int | None) -> SiteSpec:
    if width is None or site.role not in ("gate", "up", "down"):
        return site
    assert width <= block.intermediate_size
    return replace(site, in_features=width) if site.role == "down" else replace(site, out_features=width)
