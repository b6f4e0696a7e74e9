"""What techniques that narrow blocks share: the channels of every block, and how a total becomes a width of each."""

from collections.abc import Callable, Mapping

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.calibrate.channel_scores import ALIGNMENT
from edgeprune.calibrate.criteria.inputs import Channels, channels_of
from edgeprune.compress.techniques.request import TOLERANCE, Request, needed, size, unreachable
from edgeprune.schema.model import BlockSpec, ModelSpec
from edgeprune.schema.recipe import ChannelCriterion, KeepChannels, Recipe
from edgeprune.shapes import count_parameters

__all__ = [
    "Widths",
    "block_channels",
    "channel_parameter_count",
    "fixed_parameter_count",
    "narrowed",
    "nearest",
    "share_widths",
    "smallest_widths",
    "threshold_widths",
    "width_menu",
]

Widths = Mapping[int, int]
"""Block -> channels kept."""

_FEW = 16 * ALIGNMENT
"""In narrower blocks any width is taken: steps of 32 would be too coarse."""
_SHARE_STEP = 8
"""Of a width that is the same share everywhere: rows of eight, and steps of little more than a hundredth."""


def block_channels(request: Request) -> dict[int, Channels]:
    """The channels of every block that has an MLP.

    Raises:
        UsageError: only scores are at hand.
        CalibrationError: the statistics are of another model.
    """
    stats = needed(request, request.stats, "the statistics of its calibration")
    loaded = needed(request, request.loaded, "the model's weights")
    found = {}
    for block, spec in zip(loaded.adapter.blocks(loaded.model), request.spec.blocks, strict=True):
        if spec.has_mlp:
            down = loaded.adapter.site(block, "down")
            assert isinstance(down, nn.Linear)
            found[spec.index] = channels_of(stats, spec.index, down.weight, has_bias=down.bias is not None)
    return found


def channel_parameter_count(block: BlockSpec) -> int:
    """Stored parameters of one channel: its rows of gate and up with their biases, its column of down."""
    rows = [site for site in block.sites if site.role in ("gate", "up")]
    columns = sum(site.out_features for site in block.sites if site.role == "down")
    return columns + sum(site.in_features + (1 if site.has_bias else 0) for site in rows)


def fixed_parameter_count(spec: ModelSpec) -> int:
    """Stored parameters that are no channel's."""
    movable = sum(channel_parameter_count(block) * block.intermediate_size for block in spec.blocks)
    return count_parameters(spec) - movable


def width_menu(width: int) -> list[int]:
    """Widths that a block of that width may get, ascending, its own last; multiples of 32 in wide blocks."""
    step = ALIGNMENT if width >= _FEW else 1
    return [*range(step, width, step), width]


def smallest_widths(request: Request) -> Widths:
    """The narrowest that a block is made."""
    return {block.index: _aligned(0, block.intermediate_size, ALIGNMENT) for block in _narrowable(request)}


def threshold_widths(request: Request, scores: Mapping[int, Tensor], channel_budget: int) -> Widths:
    """One threshold on the scores [in] of all blocks; the highest that keeps at most the budget.

    Widths are rounded to multiples of 32 in blocks of at least 512 channels.

    Args:
        request: for the blocks' sizes.
        scores: by block; a channel stays if its score is above the threshold.
        channel_budget: parameters of all channels that stay.
    """
    blocks = _narrowable(request)
    values = np.concatenate([scores[block.index].numpy() for block in blocks])
    owners = np.repeat([block.index for block in blocks], [block.intermediate_size for block in blocks])
    ranked = owners[np.argsort(-values, kind="stable")]

    def at(count: int) -> Widths:
        above = ranked[:count]
        return {
            block.index: _aligned(int((above == block.index).sum()), block.intermediate_size, ALIGNMENT)
            for block in blocks
        }

    return _largest(at, len(ranked), blocks, channel_budget)


def share_widths(request: Request, channel_budget: int) -> Widths:
    """The same share of every block's channels, the largest within the budget; multiples of 8 in wide blocks."""
    blocks = _narrowable(request)
    most = max((block.intermediate_size for block in blocks), default=0)

    def at(count: int) -> Widths:
        return {
            block.index: _aligned(round(block.intermediate_size * count / most), block.intermediate_size, _SHARE_STEP)
            for block in blocks
        }

    return _largest(at, most, blocks, channel_budget)


def narrowed(request: Request, widths: Widths, criterion: ChannelCriterion, *, compensate: bool) -> Recipe:
    """The recipe that keeps these widths; blocks that keep all channels are not listed."""
    full = {block.index: block.intermediate_size for block in request.spec.blocks}
    entries = tuple(
        KeepChannels(block=block, kept_count=kept, criterion=criterion, compensate=compensate)
        for block, kept in sorted(widths.items())
        if kept < full[block]
    )
    return replace(request.empty, keep_channels=entries)


def nearest(request: Request, recipe: Recipe, smallest: Recipe) -> Recipe:
    """The recipe, if it comes as near to the target as it must.

    Raises:
        UsageError: it does not; the message names the size of the smallest.
    """
    if abs(size(request, recipe) - request.target) > TOLERANCE * count_parameters(request.spec):
        raise unreachable(request, size(request, smallest))
    return recipe


def _narrowable(request: Request) -> list[BlockSpec]:
    return [block for block in request.spec.blocks if block.has_mlp]


def _aligned(count: int, width: int, step: int) -> int:
    """The nearest width that is taken, at least one step."""
    unit = step if width >= _FEW else 1
    return min(width, max(unit, round(count / unit) * unit))


def _largest(at: Callable[[int], Widths], most: int, blocks: list[BlockSpec], budget: int) -> Widths:
    """Widths of the largest count whose channels hold at most the budget; of the smallest where none does."""
    costs: NDArray[np.int64] = np.array([channel_parameter_count(block) for block in blocks], dtype=np.int64)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        widths = at(middle)
        if int((costs * [widths[block.index] for block in blocks]).sum()) <= budget:
            low = middle
        else:
            high = middle - 1
    return at(low)
