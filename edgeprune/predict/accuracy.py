"""Expected accuracy at a loss, from recipes that were really built and asked.

Accuracy falls with loss but is measured in steps of one question, so what is fitted is the non-increasing curve of
least squared error (isotonic regression by pooling adjacent violators: Barlow, Bartholomew, Bremner and Brunk,
Statistical Inference under Order Restrictions, 1972), linear between the losses measured. Below the smallest loss it is
constant; beyond the largest nothing is claimed.
"""

from collections.abc import Sequence

import numpy as np

from edgeprune.schema.residuals import Residuals

__all__ = ["LEAST_POINTS", "AccuracyModel", "accuracy_model", "non_increasing"]

LEAST_POINTS = 3
"""Fewer recipes than this tell no curve."""


class AccuracyModel:
    """A non-increasing curve through (loss increase in nats, accuracy)."""

    def __init__(self, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        """Fit the points; at least one."""
        order = np.argsort(losses, kind="stable")
        values, inverse = np.unique(np.asarray(losses, dtype=float)[order], return_inverse=True)
        weights = np.bincount(inverse).astype(float)
        means = np.bincount(inverse, weights=np.asarray(accuracies, dtype=float)[order]) / weights
        self._losses = values
        self._fitted = np.array(non_increasing(means.tolist(), weights.tolist()))

    def accuracy(self, loss_increase_nats: float) -> float | None:
        """Expected share of right answers; None beyond the largest loss measured."""
        if loss_increase_nats > self._losses[-1]:
            return None
        return float(np.interp(loss_increase_nats, self._losses, self._fitted))

    def largest_loss(self, accuracy: float) -> float | None:
        """Largest loss, of those measured or between them, with at least that accuracy; None when none has it."""
        good = np.flatnonzero(self._fitted >= accuracy)
        if not good.size:
            return None
        last = int(good[-1])
        if last == len(self._fitted) - 1:
            return float(self._losses[last])
        # Between this point and the next the line crosses the accuracy wanted.
        high, low = self._fitted[last], self._fitted[last + 1]
        share = (high - accuracy) / (high - low)
        return float(self._losses[last] + share * (self._losses[last + 1] - self._losses[last]))


def accuracy_model(residuals: Residuals | None) -> AccuracyModel | None:
    """The curve through all recipes whose accuracy was measured; None where there are too few."""
    if residuals is None:
        return None
    known = [
        (entry.loss_increase_nats, entry.accuracy) for entry in residuals.evaluations if entry.accuracy is not None
    ]
    if len(known) < LEAST_POINTS:
        return None
    return AccuracyModel([loss for loss, _ in known], [accuracy for _, accuracy in known])


def non_increasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-increasing sequence with the least weighted squared distance from `values`."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, mass, count = value, weight, 1
        # A value above the block before it is pooled with it, and so on back.
        while blocks and blocks[-1][0] < mean:
            before, held, size = blocks.pop()
            mean = (before * held + mean * mass) / (held + mass)
            mass, count = held + mass, size + count
        blocks.append((mean, mass, count))
    return [mean for mean, _, count in blocks for _ in range(count)]
