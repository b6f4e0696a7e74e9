"""SLEB: drop the block whose loss is least missed, one after the other (arXiv 2402.09025).

Takes a loaded model and calibration windows. Each step tries every block that is left and removes the one without
which, given those removed before, the loss on the windows is least; the first and the last block stay. Removal adds
nothing to the residual stream, as the published code does.
"""

from collections.abc import Iterator, Sequence

from edgeprune.calibrate.halves import skipped_drops
from edgeprune.calibrate.loss import measure_loss
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.recipe import Drops

__all__ = ["sleb_order"]


def sleb_order(loaded: LoadedModel, windows: Sequence[Sequence[int]], *, progress: Progress) -> Iterator[int]:
    """Source indices of the blocks in the order they go; of equals the first; N (N - 1) / 2 passes for all of them.

    Args:
        loaded: the dense model; as it was whenever this yields.
        windows: token ids to measure on.
        progress: asked whether to go on.
    """
    removed: list[int] = []
    left = list(loaded.block_indices[1:-1])
    while left:
        losses = []
        for block in left:
            with skipped_drops(loaded, Drops(blocks=tuple(sorted([*removed, block])))):
                losses.append(measure_loss(loaded, windows, progress=progress)[0])
        # argmin over j of NLL(model without the removed and without j): section 3.3, algorithm 1
        removed.append(left.pop(losses.index(min(losses))))
        yield removed[-1]
