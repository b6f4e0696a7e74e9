"""The channel pass: FFN channels leave gate, up and down of the blocks the recipe names.

Takes statistics of the model as it is; the channels that stay are the first by the entry's criterion
(`edgeprune.calibrate.criteria`), in their old order, and down makes up for the rest as the entry says. Under `wanda`
the inputs of a block are measured again after the blocks before it were pruned, as published.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.calibrate.block_stream import BlockStream
from edgeprune.calibrate.criteria.inputs import Channels, channels_of
from edgeprune.calibrate.criteria.table import order_channels
from edgeprune.compress.channels import NarrowedDown, compensate, slice_down, take_mean
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.errors import ModelError
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import KeepChannels, Recipe

__all__ = ["NarrowChannels"]


@dataclass(frozen=True)
class NarrowChannels:
    """The pass."""

    name: str = "channels"
    reads_stats: bool = True
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the kept channels."""
        return replace(applied, keep_channels=recipe.keep_channels)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Slice and compensate."""
        entries = {entry.block: entry for entry in recipe.keep_channels}
        if any(entry.criterion == "wanda" for entry in entries.values()):
            _narrow_in_turn(work, entries)
            return
        for entry in entries.values():
            work.progress.raise_if_cancelled()
            block, channels = _channels(work, entry)
            _narrow(work, block, entry, channels)


def _narrow_in_turn(work: Work, entries: Mapping[int, KeepChannels]) -> None:
    """Block by block from the first, each `wanda` entry on the inputs that the pruned blocks before it leave."""
    adapter = work.loaded.adapter
    stream = BlockStream(work.loaded, work.stats.tokens)
    for position, index in enumerate(work.loaded.block_indices):
        work.progress.raise_if_cancelled()
        entry = entries.get(index)
        if entry is not None:
            block, channels = _channels(work, entry)
            if entry.criterion == "wanda":
                gram, mean = stream.moments(position, adapter.site(block, "down"))
                channels = dataclasses.replace(channels, gram=gram, mean=mean)
            _narrow(work, block, entry, channels)
        stream.advance(position)


def _channels(work: Work, entry: KeepChannels) -> tuple[nn.Module, Channels]:
    adapter = work.loaded.adapter
    block = adapter.blocks(work.loaded.model)[work.position(entry.block)]
    down = adapter.site(block, "down")
    assert isinstance(down, nn.Linear)
    return block, channels_of(work.stats, entry.block, down.weight, has_bias=down.bias is not None)


def _narrow(work: Work, block: nn.Module, entry: KeepChannels, channels: Channels) -> None:
    adapter = work.loaded.adapter
    name = site_name(entry.block, "down")
    down = adapter.site(block, "down")
    assert isinstance(down, nn.Linear)
    try:
        kept = order_channels(entry.criterion, channels)[: entry.kept_count].sort().values
        narrowed = _narrowed(entry, channels, down, kept)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ModelError(
            f"The channels of {name} cannot be weighed ({error}); the calibration text is too short for its width or "
            "the statistics are damaged, calibrate again with more text."
        ) from error
    check_finite(name, narrowed.weight, narrowed.bias)
    adapter.set_site(block, "down", linear(narrowed.weight.float(), _float(narrowed.bias)))
    for role in ("gate", "up"):
        if role in adapter.roles:
            site = adapter.site(block, role)
            assert isinstance(site, nn.Linear)
            bias = None if site.bias is None else site.bias[kept]
            adapter.set_site(block, role, linear(site.weight[kept], bias))


def _narrowed(entry: KeepChannels, channels: Channels, down: nn.Linear, kept: Tensor) -> NarrowedDown:
    if not entry.compensate:
        return slice_down(down.weight, kept, bias=down.bias)
    if entry.adds_bias:
        return take_mean(down.weight, kept, mean=channels.mean, bias=down.bias)
    return compensate(down.weight, channels.gram, kept, mean=channels.mean, bias=down.bias)


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
