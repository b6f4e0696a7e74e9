"""Measured loss of dropping depth: selectors name the sets, the model says what they cost.

lorp, shortgpt, streamline   whole blocks, from the similarity of block inputs alone
halves                       attention and MLP of a block apart, by measured loss

The best set at about a quarter of the blocks is measured once more with every run repaired, as compression would do it.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.halves import half_drops
from edgeprune.calibrate.lorp import cluster_blocks, cluster_count, lorp_blocks, representation_locality
from edgeprune.calibrate.repair import (
    RepairFactors,
    default_rank,
    fit_repairs,
    least_fit_tokens,
    repaired_drops,
)
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.calibrate.shortgpt import shortgpt_blocks
from edgeprune.calibrate.streamline import streamline_blocks
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recipe import Drops
from edgeprune.schema.scores import DepthOption

__all__ = ["depth_options", "lorp_options"]

_REPAIRED_SHARES = (0.25,)
"""Of the blocks: sizes at which the best set is also measured with repairs, at the price of some six sets each."""


def lorp_options(similarity: NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    """Positions to drop for 1, 2, ... up to half of the blocks; first and last always stay."""
    count = len(similarity)
    if count < 3:
        return ()
    clusters = cluster_blocks(similarity, min(cluster_count(representation_locality(similarity)), count - 1))
    return tuple(
        tuple(lorp_blocks(similarity, removed, clusters)) for removed in range(1, min(count // 2, count - 2) + 1)
    )


def depth_options(
    loaded: LoadedModel,
    similarity: NDArray[np.float64],
    selection: Selection,
    *,
    tokens: Tensor,
    progress: Progress,
    general: Selection | None = None,
) -> tuple[DepthOption, ...]:
    """Each set with the loss it really adds on selection text, and on general text where that is given.

    A set that several selectors name is measured once and listed under each. Repairs are fitted to `tokens` [n, seq],
    the calibration windows; where those are too few, no set is repaired.
    """
    halves = half_drops(loaded, selection, progress=progress)
    proposals = [*_block_proposals(loaded, similarity), *(("halves", drops) for drops in halves)]
    measured: dict[Drops, tuple[float, float | None]] = {}

    def measure(drops: Drops, factors: Mapping[int, RepairFactors], done: float) -> None:
        with repaired_drops(loaded, drops, factors):
            increase = loss_increase(loaded, selection, progress=progress)
            elsewhere = None if general is None else loss_increase(loaded, general, progress=progress)
        measured[drops] = increase, elsewhere
        repaired = " and with repairs" if factors else ""
        message = f"without {drops.block_count:g} blocks{repaired}: {increase:+.3f} nats a token"
        progress.emit(Event(kind="stage_advanced", stage="calibrate", message=message, done_fraction=0.5 + 0.2 * done))

    for number, (_, drops) in enumerate(proposals, start=1):
        if drops not in measured:
            measure(drops, {}, number / len(proposals))
    options = [_option(selector, drops, measured[drops]) for selector, drops in proposals]
    hidden = loaded.spec.hidden_size
    if tokens.numel() >= least_fit_tokens(hidden):
        rank = default_rank(hidden)
        for option in _worth_repairing(options, len(loaded.spec.blocks)):
            drops = option.drops.repaired(rank)
            measure(drops, fit_repairs(loaded, drops, tokens, progress=progress), 1.0)
            options.append(replace(_option(option.selector, drops, measured[drops]), repair_rank=rank))
    return tuple(options)


def _option(selector: str, drops: Drops, losses: tuple[float, float | None]) -> DepthOption:
    return DepthOption(
        drop_blocks=drops.blocks,
        drop_attention=drops.attention,
        drop_mlp=drops.mlp,
        loss_increase_nats=losses[0],
        selector=selector,
        general_loss_increase_nats=losses[1],
    )


def _worth_repairing(options: Sequence[DepthOption], block_count: int) -> list[DepthOption]:
    """The set that loses least at each of a few sizes, each set once."""
    found: dict[Drops, DepthOption] = {}
    for share in _REPAIRED_SHARES:
        wanted = share * block_count
        nearest = min(options, key=lambda option: abs(option.drops.block_count - wanted), default=None)
        if nearest is not None:
            alike = [option for option in options if option.drops.block_count == nearest.drops.block_count]
            best = min(alike, key=lambda option: option.loss_increase_nats)
            found.setdefault(best.drops, best)
    return list(found.values())


def _block_proposals(loaded: LoadedModel, similarity: NDArray[np.float64]) -> Iterator[tuple[str, Drops]]:
    """Sets of whole blocks for every number LoRP has an answer to; the first and the last block stay."""
    ends = {0, len(similarity) - 1}
    for lorp in lorp_options(similarity):
        count = len(lorp)
        named = {
            "lorp": lorp,
            "shortgpt": shortgpt_blocks(similarity, count),
            "streamline": streamline_blocks(similarity, count),
        }
        for selector, positions in named.items():
            if len(positions) == count and not ends & set(positions):
                yield selector, Drops(blocks=tuple(loaded.block_indices[position] for position in positions))
