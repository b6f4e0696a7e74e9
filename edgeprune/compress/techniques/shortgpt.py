"""`shortgpt`: whole blocks, those that change their input least (arXiv 2403.03853)."""

from edgeprune.calibrate.shortgpt import shortgpt_blocks
from edgeprune.compress.techniques.depth import nearest_drop, selected_drops
from edgeprune.compress.techniques.request import Request
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The number of blocks that comes nearest, chosen as published.

    Raises:
        UsageError: the target is out of reach.
    """
    return nearest_drop(request, selected_drops(request, "shortgpt", shortgpt_blocks))
