"""`wanda`: FFN channels and attention heads by weight and norm, the same share everywhere (Wanda, arXiv 2306.11695).

The structured form, as the code of FLAP (arXiv 2312.11983) has it: nothing is compensated. Each block's channels are
weighed on what the pruned blocks before it leave, its heads, by key-value group, on the dense model's inputs.
"""

from edgeprune.compress.techniques.heads import (
    dropped_parameter_count,
    movable_parameter_count,
    share_groups,
    thinned,
)
from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.widths import (
    fixed_parameter_count,
    narrowed,
    nearest,
    share_widths,
    smallest_widths,
)
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import count_parameters

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The same share of the channels and of the groups everywhere.

    Raises:
        UsageError: the target is out of reach.
    """
    dense, fixed = count_parameters(request.spec), fixed_parameter_count(request.spec)
    movable = dense - fixed + movable_parameter_count(request)
    groups = share_groups(request, 1.0 - (dense - request.target) / max(1, movable))
    left = fixed - dropped_parameter_count(request, groups, adds_bias=False)
    recipe = narrowed(request, share_widths(request, request.target - left), "wanda", compensate=False)
    smallest = narrowed(request, smallest_widths(request), "wanda", compensate=False)
    return nearest(
        request,
        thinned(request, recipe, groups, "wanda", compensate=False),
        thinned(request, smallest, share_groups(request, 0.0), "wanda", compensate=False),
    )
