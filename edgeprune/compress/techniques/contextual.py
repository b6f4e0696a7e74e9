"""`contextual`: FFN channels and vocabulary (arXiv 2312.12682), tensors sliced and compensated."""

import numpy as np
from msgspec.structs import replace

from edgeprune.compress.allocate import Menu, allocate, largest_total, smallest_total
from edgeprune.compress.techniques.request import TOLERANCE, Request, array, size, unreachable
from edgeprune.errors import UsageError
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe
from edgeprune.shapes import count_parameters

__all__ = ["plan"]


def plan(request: Request) -> Recipe:
    """For every scored vocabulary the channels of least predicted loss; the pair of least loss at the target.

    Raises:
        UsageError: the target is out of reach, or the scores hold no channel counts.
    """
    spec = request.spec
    tables = spec.hidden_size * (1 if spec.is_tied else 2)
    options: list[tuple[int, float]] = [(spec.vocab_size, 0.0)]
    options += [
        (option.kept_count, option.loss_increase_nats)
        for option in request.scores.vocabulary
        if option.kept_count < spec.vocab_size
    ]
    counts, menus = _channel_menus(request)
    movable = largest_total(menus)
    fixed = count_parameters(spec) - movable - tables * spec.vocab_size
    best: tuple[tuple[bool, float, int], Recipe] | None = None
    for kept_count, token_loss in options:
        chosen = allocate(menus, request.target - fixed - tables * kept_count)
        recipe = replace(
            request.empty,
            keep_tokens=None if kept_count == spec.vocab_size else KeepTokens(kept_count=kept_count),
            keep_channels=tuple(
                KeepChannels(block=block.index, kept_count=block_counts[option])
                for block, block_counts, option in zip(spec.blocks, counts, chosen, strict=True)
                if block_counts[option] < block.intermediate_size
            ),
        )
        distance = abs(size(request, recipe) - request.target)
        loss = token_loss + sum(float(menu.losses[option]) for menu, option in zip(menus, chosen, strict=True))
        key = (distance > TOLERANCE * count_parameters(spec), loss, distance)
        if best is None or key < best[0]:
            best = key, recipe
    assert best is not None
    if best[0][0]:
        smallest = fixed + smallest_total(menus) + tables * min(kept for kept, _ in options)
        raise unreachable(request, max(smallest, 0))
    return best[1]


def _channel_menus(request: Request) -> tuple[list[list[int]], list[Menu]]:
    if len(request.scores.channel_counts) != len(request.spec.blocks):
        raise UsageError("The scores hold no channel counts of every block; calibrate this model again.")
    counts, menus = [], []
    for block, scored in zip(request.spec.blocks, request.scores.channel_counts, strict=True):
        losses = array(request, f"channel_loss/{block.index}")
        # The full width costs nothing and is scored or not, as calibration saw fit.
        entries = {block.intermediate_size: 0.0} | dict(zip(scored, losses.tolist(), strict=True))
        per_channel = sum(
            (site.in_features + (1 if site.has_bias else 0)) if site.role in ("gate", "up") else site.out_features
            for site in block.sites
            if site.role in ("gate", "up", "down")
        )
        counts.append(sorted(entries))
        menus.append(
            Menu(
                costs=np.array([per_channel * count for count in sorted(entries)]),
                losses=np.array([entries[count] for count in sorted(entries)]),
            )
        )
    return counts, menus
