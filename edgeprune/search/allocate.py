"""The integer program: which columns to take, solved to a proved gap.

    minimise    sum loss_j x_j            (or the peak memory, or the worst violation of the limits)
    subject to  sum of a group's columns = its switch (or 1 - what turns it off)
                sum of each limited resource <= limit
                x binary

Peak memory is the larger of two sums, so a memory limit is two rows. To minimise a resource, or to find the nearest
feasible limits, the rows of chosen limits are loosened by one common relative violation, which becomes the objective.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.highs import INFINITY, Program, Rows, solve
from edgeprune.search.problem import Limits
from edgeprune.search.space import Column, Space

__all__ = ["RELATIVE_GAP", "Allocation", "Allocator"]

RELATIVE_GAP = 1e-4
TIE_NATS = 1e-4
"""What the time per token of the slowest allocation weighs against loss: enough to break ties, no more."""
SOLVER_TOLERANCE = 1e-6
"""HiGHS accepts a row that is violated by this much; a limit is kept that much tighter, so that it really holds."""
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


class _Row(NamedTuple):
    """One limited resource: coefficients @ x <= bound, violations relative to `reference`."""

    name: str
    coefficients: _Array
    bound: float
    reference: float


class Allocator:
    """Solves one space for any limits; the matrix of groups is built once."""

    def __init__(self, space: Space, *, floor_bytes: int | None, seed: int) -> None:
        """Lay out the columns; an unknown floor counts as zero, which makes a memory limit a necessary one."""
        self._space = space
        self._floor = float(floor_bytes or 0)
        self._seed = seed
        prices = [column.price for column in space.columns]
        self._loss = np.array([column.loss_nats for column in space.columns])
        self._disk = np.array([0.0 if price is None else price.disk_bytes for price in prices])
        self._working = np.array([0.0 if price is None else price.working_set_bytes for price in prices])
        self._loading = np.array([0.0 if price is None else price.loading_high_bytes for price in prices])
        self._running = np.array([0.0 if price is None else price.running_high_bytes for price in prices])
        self._streaming = np.array([0.0 if price is None else price.decode_high_s(0.0) or 0.0 for price in prices])
        self._cached = np.array([0.0 if price is None else price.decode_high_s(1.0) or 0.0 for price in prices])
        self._groups = _group_rows(space)
        self._depth_columns = tuple(
            position for position, column in enumerate(space.columns) if column.drop_blocks is not None
        )
        self._slowest_s = max(1e-12, _largest_total(self._streaming, space))

    def least_loss(self, limits: Limits, *, gap: float = RELATIVE_GAP) -> Allocation | None:
        """The allocation with the least loss within the limits (ties broken by time); None when there is none.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        cost = self._loss + self._time(limits.cached_fraction) * (TIE_NATS / self._slowest_s)
        return self._run(limits, cost, gap=gap, loosened=frozenset())

    def least_memory(self, limits: Limits) -> Allocation | None:
        """The allocation with the least peak memory within the other limits; None when there is none."""
        reference = self._floor or MEMORY_REFERENCE_BYTES
        cost = self._time(limits.cached_fraction) * (TIE_NATS / self._slowest_s)
        within = dataclasses.replace(limits, memory_bytes=reference)
        return self._run(within, cost, gap=RELATIVE_GAP, loosened=frozenset({"memory"}))

    def nearest(self, limits: Limits) -> Allocation | None:
        """The allocation with the least worst relative violation of the limits."""
        every = frozenset({"memory", "disk", "latency", "loss"})
        return self._run(limits, self._loss * 1e-6, gap=RELATIVE_GAP, loosened=every)

    def _time(self, cached_fraction: float) -> _Array:
        return np.asarray((1.0 - cached_fraction) * self._streaming + cached_fraction * self._cached)

    def _limit_rows(self, limits: Limits) -> list[_Row]:
        fixed = self._space.fixed
        rows: list[_Row] = []
        if limits.memory_bytes is not None:
            room = limits.memory_bytes - self._floor
            scale = limits.memory_bytes
            rows.append(_Row("memory", self._loading, room - fixed.loading_high_bytes, scale))
            rows.append(_Row("memory", self._running, room - fixed.running_high_bytes, scale))
        if limits.disk_bytes is not None:
            rows.append(_Row("disk", self._disk, limits.disk_bytes - fixed.disk_bytes, limits.disk_bytes))
        if limits.latency_s is not None:
            fixed_s = fixed.decode_high_s(limits.cached_fraction) or 0.0
            time = self._time(limits.cached_fraction)
            rows.append(_Row("latency", time, limits.latency_s - fixed_s, limits.latency_s))
        if limits.loss_nats is not None:
            # A limit of zero has no relative violation; a thousandth of a nat stands in as its scale.
            rows.append(_Row("loss", self._loss, limits.loss_nats, max(limits.loss_nats, 1e-3)))
        if limits.working_set_bytes is not None:
            bound = limits.working_set_bytes - fixed.working_set_bytes
            rows.append(_Row("working set", self._working, bound, max(1.0, limits.working_set_bytes)))
        return rows

    def _run(self, limits: Limits, cost: _Array, *, gap: float, loosened: frozenset[str]) -> Allocation | None:
        count = len(self._loss)
        rows = self._groups.copy()
        for row in self._limit_rows(limits):
            # Scaled to their reference, so that bytes, seconds and nats weigh alike in the solver's tolerances.
            scaled = row.coefficients / row.reference
            used = np.flatnonzero(scaled)
            indices, values = used.tolist(), scaled[used].tolist()
            if row.name in loosened:
                indices.append(count)
                values.append(-1.0)
            rows.add(indices, values, -INFINITY, row.bound / row.reference - SOLVER_TOLERANCE)
        program = Program(cost, INFINITY if loosened else 0.0, rows, self._depth_columns)
        solution = solve(program, gap=gap, seed=self._seed)
        if solution is None:
            return None
        taken = tuple(self._space.columns[int(index)] for index in solution.taken)
        return Allocation(taken=taken, gap=solution.gap, violation=solution.slack)


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
