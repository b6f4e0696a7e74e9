"""Halves of blocks, attention and MLP, as units of depth, removed greedily by measured loss.

As in SLEB (arXiv 2402.09025) the unit goes next whose removal, given those already removed, adds the least loss on
text, and the first and the last block stay; as in BlockPruner (arXiv 2406.10594) units are the two halves of a block.
They are weighed by what they hold: loss added per parameter removed.

Measuring every unit at every step costs units^2 / 2 passes. A unit's rise at an earlier, smaller set is taken as its
rise now until it comes to the front of the queue, and only then measured again (lazy greedy; Minoux 1978): the result
is the same where rises only grow as more is removed, and close to it otherwise.
"""

import heapq
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from torch import nn

from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.selection import Selection
from edgeprune.intake.adapters.absent import AbsentAttention, AbsentMlp
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.model import MLP_ROLES
from edgeprune.schema.recipe import Drops
from edgeprune.shapes import site_parameter_count

__all__ = ["half_drops", "skipped_drops", "skipped_units"]

_PROBE_TOKENS = 2048
"""Selection tokens on which units are compared; the sets that come out are measured on all of them."""

_LARGEST_SHARE = 0.5
"""Share of the blocks' parameters that the largest set may remove."""


class Unit(NamedTuple):
    """Half of a block."""

    block: int
    """Source index."""
    is_mlp: bool


def half_drops(loaded: LoadedModel, selection: Selection, *, progress: Progress) -> tuple[Drops, ...]:
    """Growing sets of units, each one unit larger than the last, up to half of the blocks' parameters."""
    sizes = _unit_sizes(loaded)
    limit = _LARGEST_SHARE * sum(sizes.values())
    ends = (loaded.block_indices[0], loaded.block_indices[-1])
    probe = _probe(loaded, selection, progress)

    def rise(units: Collection[Unit]) -> float:
        progress.raise_if_cancelled()
        with skipped_units(loaded, units):
            nats, scored = measure_loss(loaded, probe.windows, progress=progress)
        return nats / scored - probe.loss

    removed: list[Unit] = []
    reached = 0.0
    queue = [(rise([unit]) / size, unit) for unit, size in sizes.items() if unit.block not in ends]
    heapq.heapify(queue)
    found = []
    while queue:
        _, unit = heapq.heappop(queue)
        loss = rise([*removed, unit])
        price = (loss - reached) / sizes[unit]
        if queue and price > queue[0][0]:
            heapq.heappush(queue, (price, unit))
            continue
        if sum(sizes[taken] for taken in (*removed, unit)) > limit:
            break
        removed.append(unit)
        reached = loss
        found.append(_drops(removed))
    return tuple(found)


@contextmanager
def skipped_units(loaded: LoadedModel, units: Collection[Unit]) -> Iterator[None]:
    """These units add nothing to the residual stream while the block runs."""
    adapter = loaded.adapter
    blocks = dict(zip(loaded.block_indices, adapter.blocks(loaded.model), strict=True))
    paths = {unit: adapter.mlp_path if unit.is_mlp else adapter.attention_path for unit in units}
    originals = {unit: blocks[unit.block].get_submodule(path) for unit, path in paths.items()}
    try:
        for unit, path in paths.items():
            absent: nn.Module = AbsentMlp() if unit.is_mlp else AbsentAttention()
            blocks[unit.block].set_submodule(path, absent)
        yield
    finally:
        for unit, module in originals.items():
            blocks[unit.block].set_submodule(paths[unit], module)


@contextmanager
def skipped_drops(loaded: LoadedModel, drops: Drops) -> Iterator[None]:
    """These blocks and halves add nothing to the residual stream while the block runs."""
    units = [Unit(block, False) for block in (*drops.blocks, *drops.attention)]
    with skipped_units(loaded, [*units, *(Unit(block, True) for block in (*drops.blocks, *drops.mlp))]):
        yield


def _unit_sizes(loaded: LoadedModel) -> dict[Unit, int]:
    """Parameters of each unit's matrices, in the order of the forward pass."""
    return {
        Unit(block.index, is_mlp): sum(
            site_parameter_count(site) for site in block.sites if (site.role in MLP_ROLES) == is_mlp
        )
        for block in loaded.spec.blocks
        for is_mlp in (False, True)
    }


def _probe(loaded: LoadedModel, selection: Selection, progress: Progress) -> Selection:
    """The first windows of the selection, with the dense loss on just these."""
    windows: list[tuple[int, ...]] = []
    for window in selection.windows:
        if sum(map(len, windows)) >= _PROBE_TOKENS:
            break
        windows.append(window)
    nats, scored = measure_loss(loaded, windows, progress=progress)
    return replace(selection, windows=tuple(windows), nats=nats, scored_tokens=scored)


def _drops(units: Collection[Unit]) -> Drops:
    """Units as a recipe lists them: both halves of a block are the block."""
    attention = {unit.block for unit in units if not unit.is_mlp}
    mlp = {unit.block for unit in units if unit.is_mlp}
    return Drops(
        blocks=tuple(sorted(attention & mlp)),
        attention=tuple(sorted(attention - mlp)),
        mlp=tuple(sorted(mlp - attention)),
    )
