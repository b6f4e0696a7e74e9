"""Measured loss of dropping depth: selectors name the sets, the model says what they cost.

lorp, shortgpt, streamline   whole blocks, from the similarity of block inputs alone
halves                       attention and MLP of a block apart, by measured loss
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibrate.halves import half_drops, skipped_drops
from edgeprune.calibrate.lorp import cluster_blocks, cluster_count, lorp_blocks, representation_locality
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.calibrate.shortgpt import shortgpt_blocks
from edgeprune.calibrate.streamline import streamline_blocks
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recipe import Drops
from edgeprune.schema.scores import DepthOption

__all__ = ["depth_options", "lorp_options"]


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
    progress: Progress,
    general: Selection | None = None,
) -> tuple[DepthOption, ...]:
    """Each set with the loss it really adds on selection text, and on general text where that is given.

    A set that several selectors name is measured once and listed under each.
    """
    halves = half_drops(loaded, selection, progress=progress)
    proposals = [*_block_proposals(loaded, similarity), *(("halves", drops) for drops in halves)]
    measured: dict[Drops, tuple[float, float | None]] = {}
    for number, (_, drops) in enumerate(proposals, start=1):
        if drops not in measured:
            with skipped_drops(loaded, drops):
                increase = loss_increase(loaded, selection, progress=progress)
                elsewhere = None if general is None else loss_increase(loaded, general, progress=progress)
            measured[drops] = increase, elsewhere
            progress.emit(
                Event(
                    kind="stage_advanced",
                    stage="calibrate",
                    message=f"without {drops.block_count:g} blocks: {increase:+.3f} nats a token",
                    done_fraction=0.5 + 0.2 * number / len(proposals),
                )
            )
    return tuple(
        DepthOption(
            drop_blocks=drops.blocks,
            drop_attention=drops.attention,
            drop_mlp=drops.mlp,
            loss_increase_nats=measured[drops][0],
            selector=selector,
            general_loss_increase_nats=measured[drops][1],
        )
        for selector, drops in proposals
    )


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
