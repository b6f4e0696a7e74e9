"""The surrogate of the true loss: edits do not add up, and recipes that were really built tell how far.

A recipe's predicted losses are summed by family (`FAMILIES`): s_g. The loss it was measured to add is modelled as

    T(s) = sum_g a_g s_g + sum_{g <= h} b_gh s_g s_h                                              (1)

with a_g >= 0 fitted towards 1 and b_gh >= 0 towards 0, so that T never falls when an edit is added. In the products s_g
counts up to the largest value measured: what two families do to each other beyond that, nothing tells. Each evaluation
weighs by its relative error, with measurement noise as the floor of what is taken for an error:

    sum_i ((T(s_i) - m_i) / (m_i + noise))^2 + A sum_g (a_g - 1)^2 + B sum_gh (b_gh r)^2          (2)

where r is the median measured increase, so that B weighs an interaction by what it changes there. The weights A and B
are those of a short list that predict best when each evaluation is left out once. The error reported is that of
evaluations left out of everything, the choice of A and B included.

The solver is linear, so it gets one multiplier a family, proportional to the gradient at a point and scaled to be
exact there (a secant): fixed points of solving and re-linearising are recipes the surrogate itself holds optimal
nearby, and their loss limits are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.residuals import ResidualFit

__all__ = ["FAMILIES", "Sums", "Surrogate", "fit_surrogate", "kernel_family", "spearman"]

FAMILIES = ("depth", "vocabulary", "groups", "channels", "lowrank", "laser", "int8", "int4", "other", "tables", "cache")
"""Kinds of edits; `int8` and `int4` are kernels by bits, `other` are half floats, `cache` is that of 8 bits."""

Sums = Mapping[str, float]
"""Family -> sum of the losses predicted for a recipe's edits of it, nats per token; families without edits may lack."""

NOISE_NATS = 0.003
"""An increase is measured to about this much on some thousand tokens; below it nothing is learned."""
MULTIPLIER_RIDGES = (0.003, 0.03, 0.3)
INTERACTION_RIDGES = (0.003, 0.03, np.inf)
"""Infinite: no interactions."""
LEAST_FOR_CHOICE = 6
"""With fewer evaluations the stiffest weights are taken."""
SMALLEST_MULTIPLIER = 0.05
"""The solver must not take an edit for free, whatever was measured."""

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Surrogate:
    """T of equation (1)."""

    multipliers: Mapping[str, float]
    interactions: Mapping[tuple[str, str], float]
    largest: Mapping[str, float]
    """Family -> largest sum measured; a family that lacks here has no bound."""

    @classmethod
    def of(cls, record: ResidualFit) -> "Surrogate":
        """The surrogate that a record holds."""
        pairs = {(g, h): b for key, b in record.interactions.items() for g, h in [key.split("*")]}
        return cls(multipliers=record.multipliers, interactions=pairs, largest=record.largest_sums)

    def total(self, sums: Sums) -> float:
        """Loss increase of a recipe, nats per token."""
        linear = sum(self.multipliers.get(family, 1.0) * value for family, value in sums.items())
        paired = sum(b * self._known(g, sums) * self._known(h, sums) for (g, h), b in self.interactions.items())
        return linear + paired  # eq. (1)

    def linearised(self, sums: Sums) -> dict[str, float]:
        """Family -> multiplier for the solver near a recipe: the gradient, scaled so that the total is exact there."""
        slopes = {family: self._slope(family, sums) for family in FAMILIES}
        linear = sum(slopes[family] * value for family, value in sums.items())
        scale = self.total(sums) / linear if linear > 0.0 else 1.0
        return {family: slope * scale for family, slope in slopes.items()}

    def _slope(self, family: str, sums: Sums) -> float:
        slope = self.multipliers.get(family, 1.0)
        if sums.get(family, 0.0) <= self.largest.get(family, np.inf):
            for (g, h), b in self.interactions.items():
                slope += b * ((g == family) * self._known(h, sums) + (h == family) * self._known(g, sums))
        return max(SMALLEST_MULTIPLIER, slope)

    def _known(self, family: str, sums: Sums) -> float:
        return min(sums.get(family, 0.0), self.largest.get(family, np.inf))


def fit_surrogate(sums: Sequence[Sums], measured: Sequence[float]) -> tuple[Surrogate, ResidualFit]:
    """Learn from evaluations.

    Args:
        sums: of each evaluated recipe.
        measured: their measured loss increases, nats per token; may lie below zero within noise.

    Returns:
        The surrogate fitted to all, and the record of it with the error when each evaluation is left out once.
    """
    table = np.array([[one.get(family, 0.0) for family in FAMILIES] for one in sums]).reshape(len(sums), len(FAMILIES))
    target = np.asarray(measured, dtype=np.float64)
    used = [index for index in range(len(FAMILIES)) if np.any(table[:, index] > 0.0)]
    problem = _Problem(table[:, used], target)
    everything = np.arange(len(target))
    weights = problem.solve(everything, problem.best_ridges(everything))
    names = [FAMILIES[index] for index in used]
    pairs = list(combinations_with_replacement(names, 2))
    surrogate = Surrogate(
        multipliers=dict(zip(names, map(float, weights[: len(names)]), strict=True)),
        interactions={pair: float(b) for pair, b in zip(pairs, weights[len(names) :], strict=True) if b != 0.0},
        largest={FAMILIES[index]: float(table[:, index].max()) for index in used},
    )
    rank = error = None
    if len(target) >= 3:
        left_out = problem.left_out()
        rank, error = spearman(left_out, target), median_relative_error(left_out, target)
    record = ResidualFit(
        multipliers={family: round(value, 6) for family, value in surrogate.multipliers.items()},
        interactions={f"{g}*{h}": round(value, 6) for (g, h), value in surrogate.interactions.items()},
        largest_sums=dict(surrogate.largest),
        evaluation_count=len(target),
        spearman=rank,
        median_relative_error=error,
    )
    return surrogate, record


def kernel_family(kernel: str) -> str:
    """Family of a site's kernel: `int8`, `int4` or `other`."""
    parsed = parse_kernel(kernel)
    return "other" if parsed.kind == "float" else f"int{parsed.bits}"


def spearman(first: _Array, second: _Array) -> float | None:
    """Rank correlation, ties at their mean rank; None where one side is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return None if scale == 0.0 else float(centred[0] @ centred[1]) / scale


def median_relative_error(predicted: _Array, measured: _Array) -> float | None:
    """Median of |predicted - measured| / measured over the increases above noise; None when there is none."""
    is_known = measured > NOISE_NATS
    if not np.any(is_known):
        return None
    return float(np.median(np.abs(predicted[is_known] / measured[is_known] - 1.0)))


class _Problem:
    """Equation (2) for one set of evaluations."""

    def __init__(self, table: _Array, target: _Array) -> None:
        self._count = table.shape[1]
        self._table = table
        self._features = _features(table, table)
        self._target = target
        self._weight = 1.0 / (np.maximum(target, 0.0) + NOISE_NATS)
        self._typical = max(NOISE_NATS, float(np.median(target))) if len(target) else 1.0

    def solve(self, kept: _Indices, ridges: tuple[float, float]) -> _Array:
        """[families + pairs] a and b from some of the evaluations."""
        pulls = np.full(self._features.shape[1], ridges[1])
        pulls[: self._count] = ridges[0]
        is_free = np.isfinite(pulls)
        root = np.sqrt(pulls[is_free])
        root[self._count :] *= self._typical
        prior = np.zeros(len(root))
        prior[: self._count] = 1.0
        weight = self._weight[kept]
        matrix = np.vstack([self._features[kept][:, is_free] * weight[:, None], np.diag(root)])
        goal = np.concatenate([self._target[kept] * weight, root * prior])
        found = np.zeros(self._features.shape[1])
        found[is_free] = _bounded(matrix, goal)
        return found

    def best_ridges(self, kept: _Indices) -> tuple[float, float]:
        """The weights that predict best when each of some evaluations is left out of them."""
        if len(kept) < LEAST_FOR_CHOICE:
            return MULTIPLIER_RIDGES[-1], INTERACTION_RIDGES[-1]
        choices = [(a, b) for a in MULTIPLIER_RIDGES[::-1] for b in INTERACTION_RIDGES[::-1]]

        def error(ridges: tuple[float, float]) -> float:
            without = [self._predicted(kept[kept != index], int(index), ridges) for index in kept]
            return float(np.mean(np.abs((np.array(without) - self._target[kept]) * self._weight[kept])))

        errors = [error(ridges) for ridges in choices]
        return choices[int(np.argmin(errors))]

    def left_out(self) -> _Array:
        """[n] each evaluation as predicted from the others alone."""
        everything = np.arange(len(self._target))
        predicted = []
        for index in everything:
            others = everything[everything != index]
            predicted.append(self._predicted(others, int(index), self.best_ridges(others)))
        return np.array(predicted)

    def _predicted(self, kept: _Indices, index: int, ridges: tuple[float, float]) -> float:
        row = self._table[index : index + 1]
        known = np.minimum(row, self._table[kept].max(axis=0, initial=0.0))
        return float(_features(row, known)[0] @ self.solve(kept, ridges))


def _features(table: _Array, known: _Array) -> _Array:
    """[n, families + pairs] the sums, and the products of what of them is known."""
    pairs = list(combinations_with_replacement(range(table.shape[1]), 2))
    products = np.array([known[:, g] * known[:, h] for g, h in pairs]).reshape(len(pairs), len(table)).T
    return np.hstack([table, products])


def _bounded(matrix: _Array, goal: _Array) -> _Array:
    """Least squares with all unknowns at least zero: those that would fall below are held there.

    All of them at once, and never freed: not always the optimum, but always a fit, the same every time, and quick
    enough to be made some thousand times.
    """
    free = np.ones(matrix.shape[1], dtype=bool)
    while True:
        found = np.zeros(matrix.shape[1])
        found[free] = np.linalg.lstsq(matrix[:, free], goal, rcond=None)[0]
        if not np.any(found < 0.0):
            return found
        free &= found >= 0.0


def _ranks(values: _Array) -> _Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_ranks = (ends - counts + ends - 1) / 2.0
    return np.asarray(mean_ranks[inverse], dtype=np.float64)
