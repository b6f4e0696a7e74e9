"""The search's own space as named choices, for searchers that know nothing of its structure.

`full` has one choice for everything the solver chooses: parts to drop and their repair, vocabulary, table kernel,
channels and key-value groups of every block, rank, its form and kernel of every site. `roles` has one of each for all
sites of a role and all blocks, kinder to a searcher with few evaluations.
"""

import math
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import MLP_ROLES, BlockSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Drops, KeepChannels, KeepGroups, KeepTokens, Recipe, Repair, SiteEdit
from edgeprune.search.ladders import rank_ladder
from tests.bench.search_lab import Lab

__all__ = ["Pick", "recipe_from"]

Pick = Callable[[str, int], int]
"""Name of a choice and number of options -> the option taken; what random search and TPE implement."""
RANK_SHARES = 4
"""Steps of a rank's share of its ladder; one more step is no truncation."""
INSTEAD = "int8_b32_a4"
"""Of dynamic_int8 where activations have outliers."""


def recipe_from(lab: Lab, pick: Pick, *, space: str) -> Recipe:
    """Ask for every choice of a space and make the recipe."""
    scores, spec = lab.scores, lab.spec
    drops = [Drops(), *(option.drops for option in scores.depth)]
    dropped = drops[pick("drop", len(drops))]
    counts = [None, *(option.kept_count for option in scores.vocabulary if option.kept_count < spec.vocab_size)]
    kept = counts[pick("tokens", len(counts))]
    table = scores.kernels[pick("table", len(scores.kernels))]
    channels: list[KeepChannels] = []
    groups: list[KeepGroups] = []
    sites: list[SiteEdit] = []
    for position, block in enumerate(spec.blocks):
        widths = [None, *scores.channel_counts[position]]
        taken = widths[pick("channels" if space == "roles" else f"channels {block.index}", len(widths))]
        width = None if taken == block.intermediate_size else taken
        if width is not None and not dropped.lacks_mlp(block.index):
            channels.append(KeepChannels(block=block.index, kept_count=width, criterion=scores.channel_criterion))
        count = _groups(lab, position, pick, "groups" if space == "roles" else f"groups {block.index}")
        if count is not None and not dropped.lacks_attention(block.index):
            groups.append(KeepGroups(block=block.index, kept_count=count))
        for site in block.sites:
            name = site.role if space == "roles" else site.name
            edit = _edit(lab, _narrowed(site, block, width, count), pick, name)
            is_gone = dropped.lacks_mlp if site.role in MLP_ROLES else dropped.lacks_attention
            if not is_gone(block.index):
                sites.append(edit)
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=lab.workload.context_tokens,
        drop_blocks=dropped.blocks,
        drop_attention=dropped.attention,
        drop_mlp=dropped.mlp,
        repairs=tuple(Repair(block=block, rank=rank) for block, rank in dropped.repairs),
        keep_groups=tuple(groups),
        keep_tokens=None if kept is None else KeepTokens(kept_count=kept),
        keep_channels=tuple(channels),
        table_kernel=table,
        sites=tuple(sites),
        rounding=scores.rounding,
    )


def _edit(lab: Lab, site: SiteSpec, pick: Pick, name: str) -> SiteEdit:
    share = pick(f"rank {name}", RANK_SHARES + 1)
    kernel = _allowed(lab, site.name, pick(f"kernel {name}", len(lab.scores.kernels)))
    ladder: Sequence[int] = rank_ladder(site.in_features, site.out_features)
    form: SiteForm = "pivot" if pick(f"form {name}", 2) and parse_kernel(kernel).kind == "float" else "factors"
    if share == RANK_SHARES or not ladder:
        return SiteEdit(name=site.name, kernel=kernel)
    rank = ladder[round(share * (len(ladder) - 1) / (RANK_SHARES - 1))]
    return SiteEdit(name=site.name, kernel=kernel, rank=rank, form=form)


def _allowed(lab: Lab, site: str, position: int) -> str:
    """The kernel of that position, or where outliers forbid it the one that compression names instead."""
    kernel = lab.scores.kernels[position]
    return INSTEAD if math.isnan(lab.arrays[f"kernel_loss/{site}"][position]) else kernel


def _groups(lab: Lab, position: int, pick: Pick, name: str) -> int | None:
    counts = lab.scores.group_counts[position] if lab.scores.group_counts else ()
    return (None, *counts)[pick(name, len(counts) + 1)] if counts else None


def _narrowed(site: SiteSpec, block: BlockSpec, width: int | None, groups: int | None) -> SiteSpec:
    if site.role in MLP_ROLES:
        if width is None:
            return site
        assert width <= block.intermediate_size
        return replace(site, in_features=width) if site.role == "down" else replace(site, out_features=width)
    if groups is None:
        return site
    share = groups / block.num_kv_heads
    if site.role == "o":
        return replace(site, in_features=round(site.in_features * share))
    return replace(site, out_features=round(site.out_features * share))
