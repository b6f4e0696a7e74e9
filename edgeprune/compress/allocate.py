"""Shares a number of parameters among sites or blocks so that the predicted loss is least.

Takes one menu per site or block (stored parameters and predicted loss of each option) and a total; gives the option
chosen from each menu. Losses add up over menus, so on the lower convex hull of every menu the greedy order by loss
saved per parameter is the optimum of the Lagrangian (Shoham and Gersho 1988); what is left of the total is then spent
on single better options. Keeps true: the total is never exceeded unless even the smallest options exceed it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Menu", "allocate", "largest_total", "merged", "smallest_total"]


@dataclass(frozen=True, kw_only=True)
class Menu:
    """What one site or block may become."""

    costs: NDArray[np.int64]
    """[options] stored parameters."""
    losses: NDArray[np.float64]
    """[options] predicted loss added, nats per token."""


def smallest_total(menus: Sequence[Menu]) -> int:
    """Parameters when every menu takes its smallest option."""
    return sum(int(menu.costs.min()) for menu in menus)


def largest_total(menus: Sequence[Menu]) -> int:
    """Parameters when every menu takes its largest option."""
    return sum(int(menu.costs.max()) for menu in menus)


def allocate(menus: Sequence[Menu], total: int) -> list[int]:
    """Index of the chosen option in each menu, parameters together at most `total`."""
    hulls = [_hull(menu) for menu in menus]
    reached = [0] * len(menus)
    left = total - sum(int(menu.costs[hull[0]]) for menu, hull in zip(menus, hulls, strict=True))
    for at, position, cost in _steps(menus, hulls):
        if reached[at] == position - 1 and cost <= left:
            reached[at] = position
            left -= cost
    chosen = [hull[position] for hull, position in zip(hulls, reached, strict=True)]
    return _spend_rest(menus, chosen, left)


def merged(menus: Sequence[Menu]) -> tuple[Menu, list[tuple[int, ...]]]:
    """Several menus as one: the allocations over them that `allocate` passes through, and all of them at their largest.

    Returns:
        The menu, and for each of its options the index of the option chosen from each menu.
    """
    hulls = [_hull(menu) for menu in menus]
    reached = [0] * len(menus)
    picks = [tuple(hull[0] for hull in hulls)]
    for at, position, _ in _steps(menus, hulls):
        reached[at] = position
        picks.append(tuple(hull[place] for hull, place in zip(hulls, reached, strict=True)))
    largest = tuple(int(menu.costs.argmax()) for menu in menus)
    if picks[-1] != largest:
        picks.append(largest)
    costs = [sum(int(menu.costs[at]) for menu, at in zip(menus, pick, strict=True)) for pick in picks]
    losses = [sum(float(menu.losses[at]) for menu, at in zip(menus, pick, strict=True)) for pick in picks]
    return Menu(costs=np.array(costs), losses=np.array(losses)), picks


def _steps(menus: Sequence[Menu], hulls: Sequence[list[int]]) -> list[tuple[int, int, int]]:
    """Menu, place on its hull and added parameters of every step along the hulls, the one that saves most first."""
    steps = []
    for at, (menu, hull) in enumerate(zip(menus, hulls, strict=True)):
        for position in range(1, len(hull)):
            before, after = hull[position - 1], hull[position]
            cost = int(menu.costs[after] - menu.costs[before])
            saved = float(menu.losses[before] - menu.losses[after])
            steps.append((-saved / cost, at, position, cost))
    return [(at, position, cost) for _, at, position, cost in sorted(steps)]


def _hull(menu: Menu) -> list[int]:
    """Options on the lower convex hull, costs ascending, losses strictly falling after the first."""
    order = sorted(range(len(menu.costs)), key=lambda option: (int(menu.costs[option]), float(menu.losses[option])))
    hull: list[int] = []
    for option in order:
        if hull and menu.losses[option] >= menu.losses[hull[-1]]:
            continue
        while len(hull) >= 2 and _slope(menu, hull[-2], hull[-1]) >= _slope(menu, hull[-2], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(menu: Menu, before: int, after: int) -> float:
    return float(menu.losses[after] - menu.losses[before]) / float(menu.costs[after] - menu.costs[before])


def _spend_rest(menus: Sequence[Menu], chosen: list[int], left: int) -> list[int]:
    """Single upgrades into what is left, the one that saves most loss first; ends because each costs something."""
    while True:
        best: tuple[float, int, int, int] | None = None
        for at, menu in enumerate(menus):
            extra = menu.costs - menu.costs[chosen[at]]
            saved = menu.losses[chosen[at]] - menu.losses
            fitting = np.flatnonzero((extra > 0) & (extra <= left) & (saved >= 0.0))
            if len(fitting) == 0:
                continue
            option = int(fitting[np.argmax(saved[fitting])])
            candidate = (float(saved[option]), -at, option, int(extra[option]))
            if best is None or candidate > best:
                best = candidate
        if best is None:
            return chosen
        _, negative_at, option, cost = best
        chosen[-negative_at] = option
        left -= cost
