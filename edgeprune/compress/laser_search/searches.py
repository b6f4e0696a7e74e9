"""Three searches for LASER interventions, all by accuracy on the selection questions, ties by log-loss.

    grid      every intervention of the published grid is asked all questions (arXiv 2312.13558, section 5)
    fast      the gradient prior orders the grid; successive halving asks few questions of many interventions and all
              of few, within a fiftieth of the grid's evaluations (after arXiv 2510.20800)
    compose   greedily from the last block down and from the smallest rank up, kept where validation improves (section
              5.1 of 2312.13558); the published script compares accuracy with the minimum of earlier values, which was
              written for a loss and is not followed

None gives an intervention that answers fewer selection questions than the dense model.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeprune.calibrate.answers import Answers
from edgeprune.compress.laser_search.interventions import Intervention
from edgeprune.compress.laser_search.trials import Interventions, Trials

__all__ = ["FAST_SHARE", "compose", "fast", "grid"]

FAST_SHARE = 1 / 50
"""Evaluations of the fast search / of the grid."""

_RUNGS = (1 / 8, 1 / 3, 1.0)
"""Share of the questions asked at each rung; every rung spends the same."""

_PER_SITE = 2
"""Interventions of one site among those that start: neighbouring ranks behave alike."""

_Key = tuple[float, float]


def grid(trials: Trials, interventions: Sequence[Intervention], prior: Callable[[], Sequence[float]]) -> Interventions:
    """The best of all."""
    del prior  # the faithful search has none
    keys: dict[Interventions, _Key] = {(one,): _key(trials.ask((one,))) for one in interventions}
    return trials.first_allowed(_better(trials, keys))


def fast(trials: Trials, interventions: Sequence[Intervention], prior: Callable[[], Sequence[float]]) -> Interventions:
    """The best of the few that the prior promises most of and that last through the rungs."""
    budget = max(float(len(_RUNGS)), FAST_SHARE * len(interventions))
    expected = prior()
    order = sorted(range(len(interventions)), key=lambda at: (expected[at], interventions[at]))
    shuffled = np.random.default_rng(0).permutation(len(trials))
    running = _spread([interventions[at] for at in order], count=_count(budget, 0))
    keys: dict[Interventions, _Key] = {}
    start = 0
    for number, share in enumerate(_RUNGS):
        running = running[: _count(budget, number)]
        end = max(start + 1, round(share * len(trials)))
        keys = {(one,): _key(trials.ask((one,), shuffled[start:end])) for one in running}
        start = end
        running.sort(key=lambda one: keys[one,], reverse=True)
    return trials.first_allowed(_better(trials, keys))


def compose(
    trials: Trials, interventions: Sequence[Intervention], prior: Callable[[], Sequence[float]]
) -> Interventions:
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


def _spread(ordered: Sequence[Intervention], *, count: int) -> list[Intervention]:
    taken: list[Intervention] = []
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
