"""Measured loss of dropping blocks: LoRP names the blocks for each number, the model says what they cost."""

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibrate.lorp import cluster_blocks, cluster_count, lorp_blocks, representation_locality
from edgeprune.calibrate.selection import Selection, loss_increase, skipped_blocks
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
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
    """Each set of blocks with the loss it really adds on selection text, and on general text where that is given."""
    options = []
    proposals = lorp_options(similarity)
    for number, positions in enumerate(proposals, start=1):
        indices = tuple(loaded.block_indices[position] for position in positions)
        with skipped_blocks(loaded, indices):
            increase = loss_increase(loaded, selection, progress=progress)
            elsewhere = None if general is None else loss_increase(loaded, general, progress=progress)
        options.append(
            DepthOption(
                drop_blocks=indices,
                loss_increase_nats=increase,
                selector="lorp",
                general_loss_increase_nats=elsewhere,
            )
        )
        progress.emit(
            Event(
                kind="stage_advanced",
                stage="calibrate",
                message=f"without {len(indices)} blocks: {increase:+.3f} nats a token",
                done_fraction=0.5 + 0.2 * number / len(proposals),
            )
        )
    return tuple(options)
