"""`wanda`: FFN channels by weight and norm, the same share of every block (structured Wanda, arXiv 2306.11695).

As published nothing is compensated, and each block is weighed on what the pruned blocks before it leave.
"""

from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.widths import (
    fixed_parameter_count,
    narrowed,
    nearest,
    share_widths,
    smallest_widths,
)
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The same share of the channels everywhere.

    Raises:
        UsageError: the target is out of reach.
    """
    widths = share_widths(request, request.target - fixed_parameter_count(request.spec))
    smallest = narrowed(request, smallest_widths(request), "wanda", compensate=False)
    return nearest(request, narrowed(request, widths, "wanda", compensate=False), smallest)
