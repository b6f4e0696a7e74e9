"""What the binding limits charge: prices in nats per byte and second, and every option's loss plus its charges.

At these prices each choice can be judged alone: of one group the cheapest option is the one the relaxation takes
(Lagrangian relaxation; the few groups it splits between two options are where rounding decides).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.budget import Objective
from edgeprune.search.allocate import TIE_NATS, Allocator
from edgeprune.search.choose import limits_of, variants
from edgeprune.search.highs import Relaxation, relax
from edgeprune.search.objective import TIMED, objective_of
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.program import LimitRow, Program
from edgeprune.search.space import Space

__all__ = ["GoingPrices", "going_prices"]

_Array = NDArray[np.float64]
LOSSES = ("loss", "accuracy")
"""Limit rows that count nats: what they allow is loss itself."""
BINDING_NATS = 1e-3
"""Time does not bind where the relaxation without limits on it comes this close to the optimum, relatively."""


@dataclass(frozen=True, kw_only=True)
class GoingPrices:
    """Prices at one optimum."""

    priced_nats: _Array
    """[columns] loss + charges."""
    per_unit: dict[str, float]
    """Quantity -> nats per byte, second or relative loss; those that are limited or made least."""
    cached_fraction: float
    """Share of cached weights that times are computed with."""
    bound_nats: float | None
    """No allocation over the open columns of this branch loses less; None where something else than loss is least."""
    branch_margin: Callable[[int], float | None]
    """Depth column -> what its relaxation is worse by than this branch's, in nats; None when it misses the limits."""


def going_prices(
    problem: Problem,
    menu: Space,
    *,
    is_open: NDArray[np.bool_],
    optimum: tuple[int, ...],
    depth_column: int,
) -> GoingPrices | None:
    """Prices at the search's optimum; None when loss has none, or the budget cannot be met in this branch.

    Args:
        problem: what was solved.
        menu: all columns.
        is_open: [columns] those the search may take.
        optimum: columns of the search's own choice.
        depth_column: the branch looked at.
    """
    allocator = Allocator(menu, floor_bytes=problem.cost_model.floor_bytes)
    limits = limits_of(problem, menu, allocator)
    objective = objective_of(problem.budget.objective, limits)
    tried = _tried(problem, menu, allocator, limits, objective, optimum)
    cache_nats = problem.quality_model.cache_loss(problem.spec.kv_bits) or 0.0
    for variant in tried:
        program, rows = allocator.program(variant, objective)
        relaxation = relax(program, rows, column=depth_column, is_open=is_open)
        if relaxation is None:
            continue
        if variant is tried[-1] or _reaches(program, rows, optimum, is_open):
            return _in_nats(menu, variant, objective, program, rows, relaxation, is_open, cache_nats)
    return None


def _reaches(program: Program, rows: list[LimitRow], optimum: tuple[int, ...], is_open: NDArray[np.bool_]) -> bool:
    """Whether the optimum is one also without limits on time: no branch's relaxation is clearly better then."""
    optimal = float(program.cost[list(optimum)].sum())
    slack = max(TIE_NATS, BINDING_NATS * abs(optimal))
    branches = [column for column in program.branch if is_open[column]]
    found = [relax(program, rows, column=column, is_open=is_open) for column in branches]
    return all(entry is None or optimal - entry.bound <= slack for entry in found)


def _is_timed(limits: Limits) -> bool:
    return limits.latency_s is not None or limits.first_token_s is not None


def _tried(
    problem: Problem,
    menu: Space,
    allocator: Allocator,
    limits: Limits,
    objective: Objective,
    optimum: tuple[int, ...],
) -> list[Limits]:
    """The limits without those on time, as the search tries first, then at the share of cached weights it used."""
    tried = []
    if objective not in TIMED:
        free = dataclasses.replace(limits, latency_s=None, first_token_s=None)
        if not _is_timed(limits):
            return [free]
        tried.append(free)
    prices = [menu.columns[position].price for position in optimum]
    size = menu.fixed.working_set_bytes + sum(price.working_set_bytes for price in prices if price is not None)
    share = problem.cost_model.cached_fraction(size)
    stepped = [variant for variant in variants(problem, limits, allocator) if variant.cached_fraction <= share + 1e-9]
    return [*tried, *stepped[:1]]


def _in_nats(
    menu: Space,
    limits: Limits,
    objective: Objective,
    program: Program,
    rows: list[LimitRow],
    relaxation: Relaxation,
    is_open: NDArray[np.bool_],
    cache_nats: float,
) -> GoingPrices | None:
    """Charges of the solver's objective as nats: what a nat weighs there is known from the rows that count nats."""
    weight = 1.0 if objective == "loss" else 0.0
    cost = program.cost
    charged = cost.copy()
    per_unit: dict[str, float] = {}
    for row, price in zip(rows, relaxation.prices, strict=True):
        charged += price * row.coefficients
        weight += price if row.name in LOSSES else 0.0
        name = "memory" if row.name == "objective" else row.name
        per_unit[name] = per_unit.get(name, 0.0) + float(price)
    if weight <= 0.0:
        return None
    if objective in TIMED:
        decodes, prefills = _seconds(menu, limits.cached_fraction)
        # A second of a request is worth the same wherever it is spent; each token after the prompt costs one decoding.
        weights = {"latency": 1.0} if objective == "latency" else {"latency": menu.decode_tokens, "first token": 1.0}
        seconds = weights["latency"] * decodes + weights.get("first token", 0.0) * prefills
        slowest = int(seconds.argmax())
        per_second = float(cost[slowest] / max(seconds[slowest], 1e-12))
        for name, times in weights.items():
            per_unit[name] = per_unit.get(name, 0.0) + times * per_second
    per_unit.pop("working set", None)
    for name in LOSSES:
        per_unit.pop(name, None)

    def branch_margin(column: int) -> float | None:
        other = relax(program, rows, column=column, is_open=is_open)
        return None if other is None else (other.bound - relaxation.bound) / weight

    return GoingPrices(
        priced_nats=charged / weight,
        per_unit={name: value / weight for name, value in per_unit.items()},
        cached_fraction=limits.cached_fraction,
        bound_nats=relaxation.bound + cache_nats if objective == "loss" else None,
        branch_margin=branch_margin,
    )


def _seconds(menu: Space, cached_fraction: float) -> tuple[_Array, _Array]:
    """Of each column, per token and per prompt."""
    prices = [column.price for column in menu.columns]
    decodes = [0.0 if price is None else price.decode_high_s(cached_fraction) or 0.0 for price in prices]
    prefills = [0.0 if price is None else price.prefill_high_s(cached_fraction) or 0.0 for price in prices]
    return np.array(decodes), np.array(prefills)
