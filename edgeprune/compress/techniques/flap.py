"""`flap`: FFN channels and attention heads by their fluctuation, one threshold for all blocks (FLAP, arXiv 2312.11983).

Scores are standardised in each block, then one threshold is set for channels and heads of all; a head counts for the
parameters it holds. What leaves is replaced by its mean in a bias of down and of o. Heads leave by the key-value group
that reads the same keys; where every head has its own, that is the published unit.
"""

from edgeprune.calibrate.criteria import flap
from edgeprune.calibrate.group_criteria import group_scores
from edgeprune.compress.techniques.heads import (
    block_outputs,
    dropped_parameter_count,
    movable_parameter_count,
    share_groups,
    thinned,
    threshold_groups,
)
from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.widths import (
    block_channels,
    fixed_parameter_count,
    narrowed,
    nearest,
    smallest_widths,
    threshold_widths,
)
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The groups and widths that score above one threshold.

    Raises:
        UsageError: the target is out of reach, or only scores are at hand.
    """
    compensate = request.compensate
    channels = block_channels(request)
    scores = {block: flap.standardised(flap.scores(found)) for block, found in channels.items()}
    counts = {block.index: block.num_kv_heads for block in request.spec.blocks}
    heads = {block: group_scores("flap", found, counts[block]) for block, found in block_outputs(request).items()}
    biases = 0
    if compensate:
        biases = sum(found.weight.shape[0] for found in channels.values() if not found.has_bias)
    budget = request.target - fixed_parameter_count(request.spec) - biases
    groups = threshold_groups(request, heads, scores, budget + movable_parameter_count(request))
    budget += dropped_parameter_count(request, groups, adds_bias=compensate)
    recipe = narrowed(request, threshold_widths(request, scores, budget), "flap", compensate=compensate)
    smallest = narrowed(request, smallest_widths(request), "flap", compensate=compensate)
    return nearest(
        request,
        thinned(request, recipe, groups, "flap", compensate=compensate),
        thinned(request, smallest, share_groups(request, 0.0), "flap", compensate=compensate),
    )
