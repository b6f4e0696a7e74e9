"""`contextual`: FFN channels and vocabulary by what the domain uses (Mini-GPTs, arXiv 2312.12682), tensors sliced.

Channels leave in the order of the published criteria. The published thresholds are absolute and the same for all
layers; without compensation one threshold is kept for all, at the height that the number of parameters asks for.
With it, the rest of a block takes over from what leaves (the published method fine-tunes instead), and the widths are
those of least predicted loss. The embedding criterion drops tokens that the domain does not use; of the scored
vocabularies the one is taken that, with its widths, loses least.
"""

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace
from torch import Tensor

from edgeprune.calibrate.channel_scores import SCORED, nested_errors
from edgeprune.calibrate.criteria import contextual
from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.calibrate.criteria.table import order_channels
from edgeprune.compress.allocate import Menu, allocate
from edgeprune.compress.techniques.request import TOLERANCE, Request, array, needed, size, unreachable
from edgeprune.compress.techniques.widths import (
    Widths,
    block_channels,
    channel_parameter_count,
    fixed_parameter_count,
    narrowed,
    smallest_widths,
    threshold_widths,
    width_menu,
)
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import KeepTokens, Recipe
from edgeprune.shapes import count_parameters

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """The scored vocabulary and the widths of least predicted loss at the target.

    Raises:
        UsageError: the target is out of reach, or only scores are at hand.
    """
    channels = block_channels(request)
    errors = {
        block: nested_errors(found, contextual.order(found), compensate=request.compensate)
        for block, found in channels.items()
    }
    losses = _losses(request, channels, errors)
    spec = request.spec
    tables = spec.hidden_size * (1 if spec.is_tied else 2)
    fixed = fixed_parameter_count(spec) - tables * spec.vocab_size
    best: tuple[tuple[bool, float, int], Recipe] | None = None
    for kept_count, token_loss in _vocabularies(request):
        widths = _widths(request, channels, losses, request.target - fixed - tables * kept_count)
        recipe = _recipe(request, kept_count, widths)
        distance = abs(size(request, recipe) - request.target)
        loss = token_loss + sum(float(losses[block][kept]) for block, kept in widths.items())
        key = (distance > TOLERANCE * count_parameters(spec), loss, distance)
        if best is None or key < best[0]:
            best = key, recipe
    assert best is not None
    if best[0][0]:
        fewest = min(kept for kept, _ in _vocabularies(request))
        raise unreachable(request, size(request, _recipe(request, fewest, smallest_widths(request))))
    return best[1]


def _vocabularies(request: Request) -> list[tuple[int, float]]:
    """Kept tokens and the loss that calibration measured for them; all tokens cost nothing."""
    full = request.spec.vocab_size
    scored = [
        (option.kept_count, option.loss_increase_nats)
        for option in request.scores.vocabulary
        if option.kept_count < full
    ]
    return [(full, 0.0), *scored]


def _widths(
    request: Request, channels: Mapping[int, Channels], losses: Mapping[int, Tensor], channel_budget: int
) -> Widths:
    if not request.compensate:
        scores = {block: contextual.scores(found) for block, found in channels.items()}
        return threshold_widths(request, scores, channel_budget)
    blocks = {block.index: block for block in request.spec.blocks if block.index in channels}
    counts = {index: width_menu(block.intermediate_size) for index, block in blocks.items()}
    menus = [
        Menu(
            costs=np.array(counts[index], dtype=np.int64) * channel_parameter_count(block),
            losses=losses[index][counts[index]].numpy(),
        )
        for index, block in blocks.items()
    ]
    chosen = allocate(menus, channel_budget)
    return {index: counts[index][option] for index, option in zip(blocks, chosen, strict=True)}


def _losses(request: Request, channels: Mapping[int, Channels], errors: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """By block: [in + 1] nats a token that keeping the first k channels adds, comparable with the tokens' losses.

    What calibration found real channel losses to be of predicted ones, it found for the search's own order; one block
    tells the factor, since it is the same for all.
    """
    weights = needed(request, request.stats, "the statistics of its calibration").output_weight
    middle = sorted(channels)[len(channels) // 2]
    indices = [block.index for block in request.spec.blocks]
    counts = dict(zip(indices, request.scores.channel_counts, strict=False)).get(middle, ())
    scale = 1.0
    if counts:
        own = nested_errors(channels[middle], order_channels(SCORED, channels[middle]))
        predicted = 0.5 * weights[site_name(middle, "down")] * float(own[counts[0]])
        scale = float(array(request, f"channel_loss/{middle}")[0]) / predicted if predicted > 0.0 else 1.0
    return {block: scale * 0.5 * weights[site_name(block, "down")] * found for block, found in errors.items()}


def _recipe(request: Request, kept_count: int, widths: Widths) -> Recipe:
    tokens = None if kept_count == request.spec.vocab_size else KeepTokens(kept_count=kept_count)
    return replace(narrowed(request, widths, "contextual", compensate=request.compensate), keep_tokens=tokens)
