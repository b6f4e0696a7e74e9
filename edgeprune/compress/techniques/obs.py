"""`obs`: FFN channels by optimal brain surgeon, one after the other (SlimGPT, arXiv 2412.18110).

Every block's exact errors of the output, weighed by the gradient there, are its menu; the widths of least predicted
loss are taken.
"""

import numpy as np

from edgeprune.calibrate.channel_scores import nested_errors
from edgeprune.calibrate.criteria import obs
from edgeprune.compress.allocate import Menu
from edgeprune.compress.techniques.request import Request, fit, needed
from edgeprune.compress.techniques.widths import block_channels, channel_parameter_count, narrowed, width_menu
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The widths of least predicted loss.

    Raises:
        UsageError: the target is out of reach, or only scores are at hand.
    """
    channels = block_channels(request)
    weights = needed(request, request.stats, "the statistics of its calibration").output_weight
    blocks = {block.index: block for block in request.spec.blocks if block.index in channels}
    counts = {index: width_menu(block.intermediate_size) for index, block in blocks.items()}
    menus = []
    for index, block in blocks.items():
        request.progress.raise_if_cancelled()
        errors = nested_errors(channels[index], obs.order(channels[index]), compensate=request.compensate)
        menus.append(
            Menu(
                costs=np.array(counts[index], dtype=np.int64) * channel_parameter_count(block),
                losses=0.5 * weights[site_name(index, "down")] * errors[counts[index]].numpy(),
            )
        )
    chosen = fit(request, menus)
    widths = {index: counts[index][option] for index, option in zip(blocks, chosen, strict=True)}
    return narrowed(request, widths, "obs", compensate=request.compensate)
