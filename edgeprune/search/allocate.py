"""The integer program: which columns to take, solved to a proved gap.

    minimise    sum loss_j x_j            (or the peak memory, the time, or the worst violation of the limits)
    subject to  sum of a group's columns = its switch (or 1 - what turns it off)
                sum of each limited resource <= limit
                x binary

Peak memory is the larger of two sums, so a memory limit is two rows. To minimise a resource, or to find the nearest
feasible limits, the rows of chosen limits are loosened by one common relative violation, which becomes the objective.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.budget import Objective
from edgeprune.search.branches import solve_below
from edgeprune.search.problem import Limits, Price
from edgeprune.search.program import INFINITY, LimitRow, Program, Rows
from edgeprune.search.space import Column, Space

__all__ = ["EVERY_LIMIT", "RELATIVE_GAP", "Allocation", "Allocator", "Answer"]

RELATIVE_GAP = 1e-4
TIE_NATS = 1e-4
"""What the time per token of the slowest allocation weighs against loss: enough to break ties, no more."""
SOLVER_TOLERANCE = 1e-6
"""HiGHS accepts a row that is violated by this much; a limit is kept that much tighter, so that it really holds."""
EVERY_LIMIT = frozenset(
    {"memory", "device memory", "latency", "first token", "disk", "loss", "general loss", "accuracy"}
)
"""The limits a user sets; the working set is a property of the device and is never loosened."""
LOSS_REFERENCE_NATS = 1e-3
"""Scale of violations of a loss limit of zero, which has no relative one."""
MEMORY_REFERENCE_BYTES = 1e6
"""Scale of the memory objective where no floor gives one."""

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """An answer of the solver."""

    taken: tuple[Column, ...]
    gap: float
    """Relative gap proved between this answer and the best possible one."""
    violation: float = 0.0
    """Worst relative violation of the loosened limits."""
    objective: float = 0.0
    """What was made least, in the solver's own scale."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What solving for something better than what is known showed."""

    allocation: Allocation | None
    """None where nothing better was found."""
    bound: float
    """No other allocation has a smaller objective; infinity where none is within the limits."""


class Allocator:
    """Solves one space for any limits; the matrix of groups is built once."""

    def __init__(self, space: Space, *, floor_bytes: int | None, seed: int) -> None:
        """Lay out the columns; an unknown floor counts as zero, which makes a memory limit a necessary one."""
        self._space = space
        self._floor = float(floor_bytes or 0)
        self._seed = seed
        prices = [column.price for column in space.columns]
        seconds = functools.partial(_seconds, prices)
        self._loss = np.array([column.loss_nats for column in space.columns])
        self._disk = np.array([0.0 if price is None else price.disk_bytes for price in prices])
        self._working = np.array([0.0 if price is None else price.working_set_bytes for price in prices])
        self._loading = np.array([0.0 if price is None else price.loading_high_bytes for price in prices])
        self._running = np.array([0.0 if price is None else price.running_high_bytes for price in prices])
        self._device = np.array([0.0 if price is None else price.device_bytes for price in prices])
        self._general = np.array([column.general_nats for column in space.columns])
        self._streaming = seconds(lambda price: price.decode_high_s(0.0))
        self._cached = seconds(lambda price: price.decode_high_s(1.0))
        self._prefill_streaming = seconds(lambda price: price.prefill_high_s(0.0))
        self._prefill_cached = seconds(lambda price: price.prefill_high_s(1.0))
        priced = [price for price in prices if price is not None]
        self._has_prefill = all(price.prefill_high_s(0.0) is not None for price in priced)
        self._groups = _group_rows(space)
        self._depth_columns = tuple(
            position for position, column in enumerate(space.columns) if column.drops is not None
        )
        self._slowest_s = max(1e-12, _largest_total(self._streaming, space))

    @property
    def has_first_token(self) -> bool:
        """False when the time of some option over a whole prompt is unknown."""
        return self._has_prefill

    def least_loss(
        self, limits: Limits, *, gap: float = RELATIVE_GAP, drop_count: float | None = None
    ) -> Allocation | None:
        """The allocation with the least loss within the limits (ties broken by time); None when there is none.

        Args:
            limits: what must hold.
            gap: relative gap to prove.
            drop_count: only recipes that drop that many blocks, halves counted as such; None leaves that open.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        rows, cost, loosened = self._objective("loss", limits)
        return self._run(rows, cost, gap=gap, loosened=loosened, drop_count=drop_count)

    def least(
        self, objective: Objective, limits: Limits, *, below: float = math.inf, drop_count: float | None = None
    ) -> Answer:
        """The allocation within the limits with the least loss, peak memory or time per token.

        Ties in loss and memory are broken by time, ties in time by loss.

        Args:
            objective: what is made least.
            limits: what must hold.
            below: an objective that is known; only a smaller one is of interest.
            drop_count: only recipes that drop that many blocks, halves counted as such; None leaves that open.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        rows, cost, loosened = self._objective(objective, limits)
        return self._answer(rows, cost, gap=RELATIVE_GAP, loosened=loosened, drop_count=drop_count, below=below)

    def least_memory(self, limits: Limits) -> Allocation | None:
        """The allocation with the least peak memory within the limits; None when there is none."""
        return self.least("memory", limits).allocation

    def least_latency(self, limits: Limits) -> Allocation | None:
        """The allocation with the least time per token within the limits (ties broken by loss); None when none."""
        return self.least("latency", limits).allocation

    def program(self, limits: Limits, objective: Objective) -> tuple[Program, list[LimitRow]]:
        """What is solved for an objective, and its limit rows, which stand after those of the groups."""
        rows, cost, loosened = self._objective(objective, limits)
        return self._program(rows, cost, loosened, self._depth_columns), rows

    def nearest(self, limits: Limits, loosened: frozenset[str] = EVERY_LIMIT) -> Allocation | None:
        """The allocation with the least worst relative violation of the loosened limits, the others held.

        None when the others cannot be held.
        """
        return self._run(self._limit_rows(limits), self._loss * 1e-6, gap=RELATIVE_GAP, loosened=loosened)

    def _objective(self, objective: Objective, limits: Limits) -> tuple[list[LimitRow], _Array, frozenset[str]]:
        """Limit rows, costs, and the rows that are loosened by the slack that is minimised."""
        rows = self._limit_rows(limits)
        tie = self._time(limits.cached_fraction) * (TIE_NATS / self._slowest_s)
        if objective == "loss":
            return rows, self._loss + tie, frozenset()
        if objective == "memory":
            reference = self._floor or MEMORY_REFERENCE_BYTES
            return [*rows, *self._memory_rows(reference, name="objective")], tie, frozenset({"objective"})
        loss_scale = TIE_NATS / max(1e-12, _largest_total(self._loss, self._space))
        return rows, self._time(limits.cached_fraction) / self._slowest_s + self._loss * loss_scale, frozenset()

    def _time(self, cached_fraction: float) -> _Array:
        return _mixed(self._streaming, self._cached, cached_fraction)

    def _memory_rows(self, total_bytes: float, *, name: str) -> list[LimitRow]:
        room, fixed = total_bytes - self._floor, self._space.fixed
        return [
            LimitRow(name, self._loading, room - fixed.loading_high_bytes, total_bytes),
            LimitRow(name, self._running, room - fixed.running_high_bytes, total_bytes),
        ]

    def _limit_rows(self, limits: Limits) -> list[LimitRow]:
        fixed, share = self._space.fixed, limits.cached_fraction
        rows: list[LimitRow] = []
        if limits.memory_bytes is not None:
            rows += self._memory_rows(limits.memory_bytes, name="memory")
        for name, limit, coefficients, paid in (
            ("device memory", limits.device_memory_bytes, self._device, fixed.device_bytes),
            ("disk", limits.disk_bytes, self._disk, fixed.disk_bytes),
            ("latency", limits.latency_s, self._time(share), fixed.decode_high_s(share) or 0.0),
            (
                "first token",
                limits.first_token_s,
                _mixed(self._prefill_streaming, self._prefill_cached, share),
                fixed.prefill_high_s(share) or 0.0,
            ),
        ):
            if limit is not None:
                rows.append(LimitRow(name, coefficients, limit - paid, limit))
        for name, limit, coefficients in (
            ("loss", limits.loss_nats, self._loss),
            ("general loss", limits.general_nats, self._general),
            ("accuracy", limits.accuracy_nats, self._loss),
        ):
            if limit is not None:
                rows.append(LimitRow(name, coefficients, limit, max(limit, LOSS_REFERENCE_NATS)))
        if limits.working_set_bytes is not None:
            bound = limits.working_set_bytes - fixed.working_set_bytes
            rows.append(LimitRow("working set", self._working, bound, max(1.0, limits.working_set_bytes)))
        return rows

    def _run(
        self,
        limit_rows: list[LimitRow],
        cost: _Array,
        *,
        gap: float,
        loosened: frozenset[str] = frozenset(),
        drop_count: float | None = None,
    ) -> Allocation | None:
        return self._answer(limit_rows, cost, gap=gap, loosened=loosened, drop_count=drop_count).allocation

    def _answer(
        self,
        limit_rows: list[LimitRow],
        cost: _Array,
        *,
        gap: float,
        loosened: frozenset[str],
        drop_count: float | None = None,
        below: float = math.inf,
    ) -> Answer:
        branch = tuple(
            position
            for position in self._depth_columns
            if drop_count is None or _block_count(self._space.columns[position]) == drop_count
        )
        program = self._program(limit_rows, cost, loosened, branch)
        found, bound = solve_below(program, gap=gap, seed=self._seed, cutoff=below)
        if found is None:
            return Answer(allocation=None, bound=bound)
        taken = tuple(self._space.columns[int(index)] for index in found.taken)
        allocation = Allocation(taken=taken, gap=found.gap, violation=found.slack, objective=found.objective)
        return Answer(allocation=allocation, bound=bound)

    def _program(
        self, limit_rows: list[LimitRow], cost: _Array, loosened: frozenset[str], branch: tuple[int, ...]
    ) -> Program:
        count = len(self._loss)
        rows = self._groups.copy()
        for row in limit_rows:
            # Scaled to their reference, so that bytes, seconds and nats weigh alike in the solver's tolerances.
            scaled = row.coefficients / row.reference
            used = np.flatnonzero(scaled)
            indices, values = used.tolist(), scaled[used].tolist()
            if row.name in loosened:
                indices.append(count)
                values.append(-1.0)
            # Nothing is below a limit of zero, which only what costs nothing meets.
            tolerance = SOLVER_TOLERANCE if row.bound > 0.0 else 0.0
            rows.add(indices, values, -INFINITY, row.bound / row.reference - tolerance)
        return Program(cost, INFINITY if loosened else 0.0, rows, branch)


def _seconds(prices: Sequence[Price | None], read: Callable[[Price], float | None]) -> _Array:
    """Times of the columns; 0 where there is no price or it does not tell."""
    return np.array([0.0 if price is None else read(price) or 0.0 for price in prices])


def _mixed(streaming: _Array, cached: _Array, cached_fraction: float) -> _Array:
    return np.asarray((1.0 - cached_fraction) * streaming + cached_fraction * cached)


def _group_rows(space: Space) -> Rows:
    """One equality a group: its columns + what turns it off - what switches it on = 1, or 0 with a switch."""
    members: list[list[int]] = [[] for _ in space.groups]
    for position, column in enumerate(space.columns):
        members[column.group].append(position)
    rows = Rows()
    for group, columns in zip(space.groups, members, strict=True):
        indices = [*columns, *group.off]
        values = [1.0] * len(indices)
        if group.switch is not None:
            indices.append(group.switch)
            values.append(-1.0)
        target = 0.0 if group.switch is not None else 1.0
        rows.add(indices, values, target, target)
    return rows


def _largest_total(values: _Array, space: Space) -> float:
    """Sum over groups of the largest value in each: no allocation exceeds it."""
    best = np.zeros(len(space.groups))
    groups = np.array([column.group for column in space.columns])
    np.maximum.at(best, groups, values)
    return float(best.sum())


def _block_count(column: Column) -> float:
    return 0.0 if column.drops is None else column.drops.block_count
