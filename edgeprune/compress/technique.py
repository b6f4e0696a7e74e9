"""A recipe for one technique alone: `edgeprune compress MODEL --technique T --kept F`.

Takes a model's shapes, its scores and the fraction of stored parameters to keep (tied tables counted once); gives the
recipe of that technique that comes nearest to the fraction and, at that size, has the least predicted loss:

    laser        plain SVD ranks               (arXiv 2312.13558)
    lowrank      output-covariance ranks       (arXiv 2604.01609)
    lorp         whole blocks                  (arXiv 2605.27786)
    contextual   FFN channels and vocabulary   (arXiv 2312.12682), tensors sliced and compensated

No weights are read and every kernel stays fp32, so the fraction is one of parameters and of bytes alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.compress.allocate import Menu, allocate, largest_total, smallest_total
from edgeprune.errors import UsageError
from edgeprune.schema.model import ModelSpec, SiteSpec
from edgeprune.schema.recipe import KeepChannels, KeepTokens, RankMethod, Recipe, SiteEdit
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.shapes import block_parameter_count, break_even_rank, count_parameters, edit_shapes, site_parameter_count
from edgeprune.units import format_fraction

__all__ = ["TECHNIQUES", "technique_recipe"]

_TOLERANCE = 0.01
"""A recipe further than this from the fraction asked for is refused, except for whole blocks."""

_RANK_STEP = 8
"""Ranks are multiples of it where a site is at least eight times as wide: kernels work on rows of eight."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    spec: ModelSpec
    scores: Scores
    arrays: ScoreArrays
    target: int
    empty: Recipe
    """The recipe without edits: hash, technique, context and seed filled in."""


def technique_recipe(
    spec: ModelSpec,
    technique: str,
    kept_fraction: float,
    *,
    scores: Scores,
    arrays: ScoreArrays,
    context_tokens: int,
    seed: int = 0,
) -> Recipe:
    """The recipe of one technique nearest to the kept fraction.

    Raises:
        UsageError: an unknown technique, a fraction outside (0, 1] or out of the technique's reach, or scores without
            what the technique needs.
    """
    plan = _PLANS.get(technique)
    if plan is None:
        raise UsageError(f"Unknown technique {technique!r}; use one of {', '.join(TECHNIQUES)}.")
    if not 0.0 < kept_fraction <= 1.0:
        raise UsageError(f"--kept {kept_fraction:g} must lie above 0 and at most 1; 0.7 keeps 70 % of the parameters.")
    empty = Recipe(model_hash=spec.model_hash, technique=technique, context_tokens=context_tokens, seed=seed)
    dense = count_parameters(spec)
    request = _Request(spec=spec, scores=scores, arrays=arrays, target=round(kept_fraction * dense), empty=empty)
    return plan(request)


def _ranks(request: _Request, method: RankMethod) -> Recipe:
    sites = [site for block in request.spec.blocks for site in block.sites]
    ranks = [_rank_options(site) for site in sites]
    menus = []
    for site, options in zip(sites, ranks, strict=True):
        losses = _array(request, f"rank_loss/{method}/{site.name}")
        full = min(site.in_features, site.out_features)
        bias = site.out_features if site.has_bias else 0
        width = site.in_features + site.out_features
        menus.append(
            Menu(
                costs=np.array([rank * width + bias for rank in options] + [site_parameter_count(site)]),
                losses=losses[[*options, full]],
            )
        )
    chosen = _fit(request, menus, request.target)
    edits = [
        SiteEdit(name=site.name, rank=options[option], method=method)
        for site, options, option in zip(sites, ranks, chosen, strict=True)
        if option < len(options)
    ]
    return replace(request.empty, sites=tuple(edits))


def _laser(request: _Request) -> Recipe:
    return _ranks(request, "laser")


def _lowrank(request: _Request) -> Recipe:
    return _ranks(request, "lowrank")


def _lorp(request: _Request) -> Recipe:
    """Whole blocks are a coarse menu: the nearest count wins, and only what lies beyond the last is refused."""
    dense = count_parameters(request.spec)
    recipes = [request.empty]
    recipes += [
        replace(request.empty, drop_blocks=tuple(sorted(option.drop_blocks)))
        for option in request.scores.depth
        if option.selector == "lorp" and option.drop_blocks
    ]
    sizes = [_size(request, recipe) for recipe in recipes]
    nearest = min(range(len(recipes)), key=lambda at: (abs(sizes[at] - request.target), len(recipes[at].drop_blocks)))
    # Removing one more block would come nearer: the menu has ended.
    half_block = max(block_parameter_count(block) for block in request.spec.blocks) / 2
    if min(sizes) - request.target > half_block:
        raise _unreachable(request, min(sizes), dense)
    return recipes[nearest]


def _contextual(request: _Request) -> Recipe:
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
        distance = abs(_size(request, recipe) - request.target)
        loss = token_loss + sum(float(menu.losses[option]) for menu, option in zip(menus, chosen, strict=True))
        key = (distance > _TOLERANCE * count_parameters(spec), loss, distance)
        if best is None or key < best[0]:
            best = key, recipe
    assert best is not None
    if best[0][0]:
        smallest = fixed + smallest_total(menus) + tables * min(kept for kept, _ in options)
        raise _unreachable(request, max(smallest, 0), count_parameters(spec))
    return best[1]


_PLANS: Mapping[str, Callable[[_Request], Recipe]] = {
    "laser": _laser,
    "lowrank": _lowrank,
    "lorp": _lorp,
    "contextual": _contextual,
}
TECHNIQUES = tuple(_PLANS)
"""Techniques that can be asked for alone."""

assert set(get_args(RankMethod)) <= set(TECHNIQUES)


def _rank_options(site: SiteSpec) -> list[int]:
    """Ranks at which factors hold fewer numbers than the matrix."""
    step = _RANK_STEP if min(site.in_features, site.out_features) >= 8 * _RANK_STEP else 1
    return list(range(step, break_even_rank(site.in_features, site.out_features) + 1, step))


def _channel_menus(request: _Request) -> tuple[list[list[int]], list[Menu]]:
    if len(request.scores.channel_counts) != len(request.spec.blocks):
        raise UsageError("The scores hold no channel counts of every block; calibrate this model again.")
    counts, menus = [], []
    for block, scored in zip(request.spec.blocks, request.scores.channel_counts, strict=True):
        losses = _array(request, f"channel_loss/{block.index}")
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


def _fit(request: _Request, menus: list[Menu], target: int) -> list[int]:
    dense = count_parameters(request.spec)
    fixed = dense - largest_total(menus)
    smallest = fixed + smallest_total(menus)
    if smallest > target + _TOLERANCE * dense:
        raise _unreachable(request, smallest, dense)
    return allocate(menus, target - fixed)


def _unreachable(request: _Request, smallest: int, dense: int) -> UsageError:
    return UsageError(
        f"{request.empty.technique} alone cannot keep as little as {format_fraction(request.target / dense)} of the "
        f"parameters; its smallest model keeps {format_fraction(smallest / dense)}. Raise --kept, or use the search, "
        "which combines techniques."
    )


def _array(request: _Request, key: str) -> NDArray[np.float64]:
    array = request.arrays.get(key)
    if array is None:
        raise UsageError(f"The scores hold no {key}; calibrate this model again with this EdgePrune.")
    return array


def _size(request: _Request, recipe: Recipe) -> int:
    return edit_shapes(request.spec, recipe).parameter_count
