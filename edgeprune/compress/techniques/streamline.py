"""`streamline`: the run of blocks across which the stream changes least (arXiv 2403.19135), without its training."""

from edgeprune.calibrate.streamline import streamline_blocks
from edgeprune.compress.techniques.depth import nearest_drop, selected_drops
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The length of the run that comes nearest, chosen as published.

    Raises:
        UsageError: the target is out of reach.
    """
    return nearest_drop(request, selected_drops(request, "streamline", streamline_blocks))
