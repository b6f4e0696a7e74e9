"""`flap`: FFN channels by their fluctuation, one threshold for all blocks (FLAP, arXiv 2312.11983).

Scores are standardised in each block, then one threshold is set for all; what leaves is replaced by its mean in a bias
of down. The published method ranks attention heads among the channels; heads are left whole here.
"""

from edgeprune.calibrate.criteria import flap
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
    """The widths whose channels score above one threshold.

    Raises:
        UsageError: the target is out of reach, or only scores are at hand.
    """
    channels = block_channels(request)
    scores = {block: flap.standardised(flap.scores(found)) for block, found in channels.items()}
    biases = 0
    if request.compensate:
        biases = sum(found.weight.shape[0] for found in channels.values() if not found.has_bias)
    budget = request.target - fixed_parameter_count(request.spec) - biases
    recipe = narrowed(request, threshold_widths(request, scores, budget), "flap", compensate=request.compensate)
    return nearest(request, recipe, narrowed(request, smallest_widths(request), "flap", compensate=request.compensate))
