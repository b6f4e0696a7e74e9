"""Three searches for LASER interventions, all by accuracy on the selection questions, ties by log-loss.

    grid      every intervention of the published grid is asked all questions (arXiv 2312.13558, section 5)
    fast      two priors propose: ranks at the edges of the noise in each matrix are tried first, then the grid in the
              order of the gradient prior; successive halving asks few questions of many interventions and all of few,
              within a fiftieth of the grid's evaluations (after arXiv 2510.20800)
    compose   greedily from the last block down and from the smallest rank up, kept where validation improves (section
              5.1 of 2312.13558); the published script compares accuracy with the minimum of earlier values, which was
              written for a loss and is not followed

None gives an intervention that answers fewer selection questions than the dense model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from edgeprune.calibrate.answers import Answers
from edgeprune.compress.laser_search.edges import edge_interventions
from edgeprune.compress.laser_search.interventions import Intervention
from edgeprune.compress.laser_search.trials import Interventions, Trials

__all__ = ["FAST_SHARE", "Prior", "compose", "fast", "grid"]

Prior: TypeAlias = Callable[[Sequence[Intervention]], Sequence[float]]
"""Expected change of the loss of each intervention."""

FAST_SHARE = 1 / 50
"""Evaluations of the fast search / of the grid."""

_RUNGS = (1 / 8, 1 / 3, 1.0)
"""Share of the questions asked at each rung; every rung spends the same."""

_PER_SITE = 2
"""Interventions of one site among those that start: neighbouring ranks behave alike."""

_EDGE_SHARE = 1 / 3
"""Of those that start: how many may be ranks at an edge of the noise."""

_Key = tuple[float, float]


def grid(trials: Trials, interventions: Sequence[Intervention], prior: Prior) -> Interventions:
    """The best of all."""
    del prior  # the faithful search has none
    keys: dict[Interventions, _Key] = {(one,): _key(trials.ask((one,))) for one in interventions}
    return trials.first_allowed(_better(trials, keys))


def fast(trials: Trials, interventions: Sequence[Intervention], prior: Prior) -> Interventions:
    """The best of the few that the priors promise most of and that last through the rungs."""
    budget = max(float(len(_RUNGS)), FAST_SHARE * len(interventions))
    running = _starters(trials, interventions, prior, count=_count(budget, 0))
    shuffled = np.random.default_rng(0).permutation(len(trials))
    keys: dict[Interventions, _Key] = {}
    start = 0
    for number, share in enumerate(_RUNGS):
        running = running[: _count(budget, number)]
        end = max(start + 1, round(share * len(trials)))
        keys = {(one,): _key(trials.ask((one,), shuffled[start:end])) for one in running}
        start = end
        running.sort(key=lambda one: keys[one,], reverse=True)
    return trials.first_allowed(_better(trials, keys))


def compose(trials: Trials, interventions: Sequence[Intervention], prior: Prior) -> Interventions:
    """Interventions of several sites together."""
    del prior
    chosen: Interventions = ()
    best = _key(trials.dense)
    sites = sorted({(one.block, one.role) for one in interventions}, reverse=True)
    for block, role in sites:
        own = sorted((one for one in interventions if (one.block, one.role) == (block, role)), key=lambda one: one.rank)
        for one in own:
            key = _key(trials.ask((*chosen, one)))
            if key > best and trials.is_allowed((*chosen, one)):
                chosen, best = (*chosen, one), key
                break
    return chosen


def _count(budget: float, rung: int) -> int:
    """Interventions a rung can ask its new questions of."""
    new = _RUNGS[rung] - (_RUNGS[rung - 1] if rung else 0.0)
    return max(1, math.floor(budget / len(_RUNGS) / new))


def _starters(trials: Trials, interventions: Sequence[Intervention], prior: Prior, *, count: int) -> list[Intervention]:
    """Those the search begins with: ranks at the edges of the noise, then others, both by the loss they promise."""
    edges = edge_interventions(trials.spectra, interventions)
    proposed = [*edges, *(replace(one, prior="gradient") for one in interventions if one not in edges)]
    expected = prior(proposed)
    ordered = [proposed[at] for at in sorted(range(len(proposed)), key=lambda at: (expected[at], proposed[at]))]
    first = _spread([one for one in ordered if one.prior != "gradient"], count=math.floor(_EDGE_SHARE * count))
    return _spread([one for one in ordered if one.prior == "gradient"], count=count, taken=first)


def _spread(ordered: Sequence[Intervention], *, count: int, taken: Sequence[Intervention] = ()) -> list[Intervention]:
    """Those taken already, and as many more as make `count`."""
    taken = list(taken)
    for one in ordered:
        if len(taken) < count and sum(other.site == one.site for other in taken) < _PER_SITE:
            taken.append(one)
    return taken


def _key(answers: Answers) -> _Key:
    return answers.accuracy, -answers.log_loss


def _better(trials: Trials, keys: dict[Interventions, _Key]) -> list[Interventions]:
    """Those that beat the dense model, the best first."""
    dense = _key(trials.dense)
    return sorted(
        (chosen for chosen, key in keys.items() if key > dense), key=lambda chosen: keys[chosen], reverse=True
    )
