"""`sleb`: whole blocks, greedily by the loss that is measured without them (arXiv 2402.09025)."""

from msgspec.structs import replace

from edgeprune.calibrate.sleb import sleb_order
from edgeprune.compress.techniques.depth import nearest_drop
from edgeprune.compress.techniques.request import Request, needed, size
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]

_TOKENS = 2_048
"""Calibration tokens each removal is measured on, as halves of blocks are; the paper takes 128 sequences of 2,048."""


def plan(request: Request) -> Recipe:
    """Blocks leave one by one until the target is reached; the count that comes nearest stays.

    Raises:
        UsageError: the target is out of reach, or the model and its calibration text are not at hand.
    """
    loaded = needed(request, request.loaded, "the model")
    stats = needed(request, request.stats, "calibration text")
    window_tokens = stats.tokens.shape[1]
    windows = stats.tokens[: max(1, _TOKENS // window_tokens)].tolist()
    removed: list[int] = []
    drops: list[tuple[int, ...]] = []
    for block in sleb_order(loaded, windows, progress=request.progress):
        removed.append(block)
        drops.append(tuple(sorted(removed)))
        if size(request, replace(request.empty, drop_blocks=drops[-1])) <= request.target:
            break
    return nearest_drop(request, drops)
