"""Partial allocations of a branch within a margin, group by group; what all of them share is kept once.

As in dynamic programming over a core (Balas and Zemel 1980; Pisinger 1995): after each group those partial ones are
left out whose cheapest completion costs too much at some prices of the limits, and those that another one beats in cost
and in every limit that what is still to come could break (Nemhauser and Ullmann 1969). Neither loses the best answer.
Where more would be made than the work allows, those are carried on that may cost least, and that is told.
"""

import math

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.dominance import undominated
from edgeprune.search.group_options import Options

__all__ = ["Lister"]

CHUNK = 20_000
"""Partial allocations made at once."""
COMPARED_FROM = 64
"""Fewer are not compared with each other."""
COMPARED_TO = 30_000
"""More are not either: it takes longer than it saves."""
BOUNDED = 20
"""Prices that a partial allocation is bounded by for one unit of work."""
COMPARISONS = 400
"""Pairs compared in the time of making one partial allocation and bounding it."""
WITHIN = 1e-12
"""Of a limit, which is scaled to one: sums of the same numbers in another order."""

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]


class _Partial:
    """Partial allocations: figures side by side, and where each came from."""

    def __init__(self, excess: _Array, cost: _Array, paid: _Array, node: _Indices) -> None:
        self.excess, self.cost, self.paid, self.node = excess, cost, paid, node

    def at(self, places: _Indices) -> "_Partial":
        return _Partial(self.excess[places], self.cost[places], self.paid[places], self.node[places])


class Lister:
    """All allocations of some options within a margin."""

    def __init__(self, bounds: BranchBounds, options: list[Options], prices: list[_Array], margin: float) -> None:
        """Order the groups and bound what each set of the later ones costs."""
        self._bounds = bounds
        self._margin = margin
        cut = [group.first(int(np.searchsorted(group.excess, margin, side="right"))) for group in options]
        self._single = [group for group in cut if len(group.excess) == 1]
        # What moves the limits most comes first: the rest tells best whether they can still be met.
        several = [group for group in cut if len(group.excess) > 1]
        self._options = sorted(several, key=lambda group: -float(np.abs(group.paid - group.paid[0]).max(initial=0.0)))
        self._prices = np.array(prices).reshape(len(prices), len(bounds.limits))
        least = [(group.cost[:, None] + group.paid @ self._prices.T).min(axis=0) for group in self._options]
        self._rest = _sums_from(least, len(prices)) - self._prices @ bounds.limits
        """[groups + 1, prices] the least that the groups from there on cost at each of the prices."""
        most = [group.paid.max(axis=0) for group in self._options]
        self._safe = bounds.limits - _sums_from(most, len(bounds.limits))
        """[groups + 1, limits] what may be taken so far without any way to break the limit."""
        self._weight = max(1, len(prices) // BOUNDED)
        self._nodes: list[tuple[_Indices, int, _Indices]] = []
        self._node_count = 0
        self._gain = 1.0
        self.is_complete = True
        """False once partial allocations were left out for being too many."""
        self.work = 0

    def run(self, cost: float, paid: _Array, *, below: float, work_limit: int) -> tuple[tuple[int, ...], float, float]:
        """The best allocation below a cost: columns, slack and objective, which is infinity where there is none."""
        partial = _Partial(
            np.array([sum(float(group.excess[0]) for group in self._single)]),
            np.array([cost + sum(float(group.cost[0]) for group in self._single)]),
            np.array([sum((group.paid[0] for group in self._single), paid)]),
            np.full(1, -1),
        )
        # As many as may be carried on to the end for as much work again.
        held = max(1, work_limit // max(1, sum(len(group.excess) for group in self._options)))
        for place, group in enumerate(self._options):
            partial = self._extended(partial, place, group, below=below, work_limit=work_limit, held=held)
            if not len(partial.excess):
                return (), 0.0, math.inf
        return self._best(partial)

    def _extended(
        self, partial: _Partial, place: int, group: Options, *, below: float, work_limit: int, held: int
    ) -> _Partial:
        """All of them with every option of a group, without those that cannot lead to what is looked for."""
        step = max(1, CHUNK // len(group.excess))
        parts: list[_Partial] = []
        least: list[_Array] = []
        for start in range(0, len(partial.excess), step):
            if self.work > work_limit and parts:
                self.is_complete = False
                break
            some = partial.at(np.arange(start, min(start + step, len(partial.excess))))
            first, second = np.nonzero(some.excess[:, None] + group.excess <= self._margin)
            self.work += len(first) * self._weight
            cost, paid = some.cost[first] + group.cost[second], some.paid[first] + group.paid[second]
            bound = cost + (paid @ self._prices.T + self._rest[place + 1]).max(axis=1)
            able = np.flatnonzero(bound <= below + WITHIN)
            first, second = first[able], second[able]
            node = self._noted(some.node[first], place, second)
            parts.append(_Partial(some.excess[first] + group.excess[second], cost[able], paid[able], node))
            least.append(bound[able])
        made = _joined(parts)
        made, bounds = self._undominated(made, np.concatenate(least), place)
        if self.work > work_limit and len(made.excess) > held:
            self.is_complete = False
        if not self.is_complete:
            # The most promising first, so that what is still made is made of those.
            return made.at(np.argsort(bounds, kind="stable")[:held])
        return made

    def _undominated(self, made: _Partial, least: _Array, place: int) -> tuple[_Partial, _Array]:
        if not COMPARED_FROM <= len(made.excess) <= COMPARED_TO or place + 1 == len(self._options) or self._gain < 0.1:
            return made, least
        keys = np.column_stack([made.cost, np.maximum(made.paid, self._safe[place + 1])])
        kept = np.array(undominated(keys))
        self.work += len(keys) * len(kept) // COMPARISONS
        self._gain = 1.0 - len(kept) / len(keys)
        return made.at(kept), least[kept]

    def _noted(self, nodes: _Indices, place: int, options: _Indices) -> _Indices:
        """Where each came from; the first option of a group is what stands where nothing is noted."""
        changed = np.flatnonzero(options)
        found: _Indices = np.array(nodes)
        found[changed] = np.arange(self._node_count, self._node_count + len(changed))
        self._nodes.append((nodes[changed], place, options[changed]))
        self._node_count += len(changed)
        return found

    def _best(self, partial: _Partial) -> tuple[tuple[int, ...], float, float]:
        missed = partial.paid - self._bounds.limits
        loosened = self._bounds.is_loosened
        slack = np.maximum(0.0, missed[:, loosened].max(axis=1, initial=0.0))
        is_within = (missed[:, ~loosened] <= WITHIN).all(axis=1)
        objective = np.where(is_within, partial.cost + slack, math.inf)
        at = int(np.argmin(objective))
        chosen = [0] * len(self._options)
        starts = np.cumsum([0, *(len(nodes) for nodes, _, _ in self._nodes)])
        step = int(partial.node[at])
        while step >= 0:
            list_at = int(np.searchsorted(starts, step, side="right")) - 1
            nodes, place, options = self._nodes[list_at]
            chosen[place] = int(options[step - starts[list_at]])
            step = int(nodes[step - starts[list_at]])
        picked = [group.columns[option] for group, option in zip(self._options, chosen, strict=True)]
        columns = [int(one) for each in (*(group.columns[0] for group in self._single), *picked) for one in each]
        return tuple(one for one in columns if one >= 0), float(slack[at]), float(objective[at])


def _sums_from(rows: list[_Array], width: int) -> _Array:
    """[rows + 1, width] the sum of the rows from each on."""
    sums = np.cumsum(np.array([np.zeros(width), *rows[::-1]]).reshape(len(rows) + 1, width), axis=0)
    return np.asarray(sums[::-1])


def _joined(parts: list[_Partial]) -> _Partial:
    if len(parts) == 1:
        return parts[0]
    return _Partial(
        np.concatenate([part.excess for part in parts]),
        np.concatenate([part.cost for part in parts]),
        np.concatenate([part.paid for part in parts]),
        np.concatenate([part.node for part in parts]),
    )
