"""What techniques that thin out attention beside the FFN share: the key-value groups of every block and their sizes.

A group leaves whole, so sizes jump by it. Groups are decided together with the channels, by one measure of both; the
channels are then chosen once more so that they fill what the groups leave.
"""

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.calibrate.group_criteria import output_channels
from edgeprune.compress.techniques.request import Request, needed
from edgeprune.compress.techniques.widths import channel_parameter_count
from edgeprune.schema.model import BlockSpec
from edgeprune.schema.recipe import GroupCriterion, KeepGroups, Recipe
from edgeprune.shapes import site_parameter_count, with_groups

__all__ = [
    "Groups",
    "block_outputs",
    "dropped_parameter_count",
    "group_parameter_count",
    "movable_parameter_count",
    "share_groups",
    "thinned",
    "threshold_groups",
]

Groups = Mapping[int, int]
"""Block -> key-value groups kept, of the blocks that can give any up."""


def block_outputs(request: Request) -> dict[int, Channels]:
    """The columns of o of every block that can give up groups.

    Raises:
        UsageError: only scores are at hand.
    """
    stats = needed(request, request.stats, "the statistics of its calibration")
    loaded = needed(request, request.loaded, "the model's weights")
    modules = dict(zip(loaded.block_indices, loaded.adapter.blocks(loaded.model), strict=True))
    found = {}
    for block in _thinnable(request):
        output = loaded.adapter.site(modules[block.index], "o")
        assert isinstance(output, nn.Linear)
        found[block.index] = output_channels(stats, block.index, output.weight, has_bias=output.bias is not None)
    return found


def threshold_groups(
    request: Request, groups: Mapping[int, Tensor], channels: Mapping[int, Tensor], budget: int
) -> Groups:
    """The groups above the threshold that channels and groups share; one stays in every block.

    Args:
        request: for the blocks' sizes.
        groups: [groups] scores by block.
        channels: [in] scores by block, comparable with them.
        budget: parameters of all groups and channels that stay.
    """
    blocks = {block.index: block for block in request.spec.blocks}
    units = [
        *((float(score), True, index) for index, values in groups.items() for score in values),
        *((float(score), False, index) for index, values in channels.items() for score in values),
    ]
    units.sort(reverse=True)
    costs = {(True, index): group_parameter_count(blocks[index]) for index in groups}
    costs |= {(False, index): channel_parameter_count(blocks[index]) for index in channels}
    sizes = np.cumsum([costs[is_group, index] for _, is_group, index in units])
    above = units[: int(np.searchsorted(sizes, budget, side="right"))]
    counts = dict.fromkeys(groups, 0)
    for _, is_group, index in above:
        if is_group:
            counts[index] += 1
    return {index: max(1, count) for index, count in counts.items()}


def share_groups(request: Request, share: float) -> Groups:
    """The same share of every block's groups, to the nearest whole one; one stays in every block."""
    return {block.index: max(1, round(share * block.num_kv_heads)) for block in _thinnable(request)}


def thinned(request: Request, recipe: Recipe, groups: Groups, criterion: GroupCriterion, *, compensate: bool) -> Recipe:
    """The recipe with these groups kept; blocks that keep all are not listed."""
    entries = tuple(
        KeepGroups(block=block.index, kept_count=groups[block.index], criterion=criterion, compensate=compensate)
        for block in _thinnable(request)
        if groups[block.index] < block.num_kv_heads
    )
    return replace(recipe, keep_groups=entries)


def group_parameter_count(block: BlockSpec) -> int:
    """Stored parameters of one group: its rows of q, k and v with their biases, its columns of o."""
    fewer = with_groups(block, block.num_kv_heads - 1)
    pairs = zip(block.sites, fewer.sites, strict=True)
    return sum(site_parameter_count(site) - site_parameter_count(other) for site, other in pairs)


def movable_parameter_count(request: Request) -> int:
    """Stored parameters of all groups that could leave."""
    return sum(group_parameter_count(block) * block.num_kv_heads for block in _thinnable(request))


def dropped_parameter_count(request: Request, groups: Groups, *, adds_bias: bool) -> int:
    """Stored parameters that leave with the groups that are not kept, biases that o gets for them taken off."""
    total = 0
    for block in _thinnable(request):
        kept = with_groups(block, groups[block.index], adds_bias=adds_bias)
        pairs = zip(block.sites, kept.sites, strict=True)
        total += sum(site_parameter_count(site) - site_parameter_count(other) for site, other in pairs)
    return total


def _thinnable(request: Request) -> list[BlockSpec]:
    """Blocks with more than one group, in which query heads divide into groups."""
    return [
        block
        for block in request.spec.blocks
        if block.has_attention and block.num_kv_heads > 1 and block.num_heads % block.num_kv_heads == 0
    ]
