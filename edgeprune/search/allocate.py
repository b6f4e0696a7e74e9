"""The integer program: which columns to take, solved to a proved gap.

    minimise    sum loss_j x_j            (or the peak memory, a time, or the worst violation of the limits)
    subject to  sum of a group's columns = its switch (or 1 - what turns it off)
                sum of each limited resource <= limit
                x binary

Peak memory is the larger of two sums, so a memory limit is two rows. To minimise a resource, or to find the nearest
feasible limits, the rows of chosen limits are loosened by one common relative violation, which becomes the objective.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.budget import Objective
from edgeprune.search.branches import Solving
from edgeprune.search.dual import Pool
from edgeprune.search.layout import Layout
from edgeprune.search.problem import Limits
from edgeprune.search.program import INFINITY, GroupRows, LimitRow, Program
from edgeprune.search.resources import of_columns
from edgeprune.search.space import Column, Space

__all__ = ["EVERY_LIMIT", "RELATIVE_GAP", "Allocating", "Allocation", "Allocator", "Answer"]

RELATIVE_GAP = 1e-4
NEAREST_GAP = 1e-3
"""Of how much limits are missed by: what is told of it is rounded up to three digits with as much on top."""
TIE_NATS = 1e-4
"""What the time per token of the slowest allocation weighs against loss: enough to break ties, no more."""
ROUNDING = 1e-9
"""A limit is kept that much tighter, in parts of its reference: prices are added up in another order elsewhere."""
EVERY_LIMIT = frozenset(
    {"memory", "device memory", "latency", "first token", "disk", "loss", "general loss", "accuracy"}
)
"""The limits a user sets; the working set is a property of the device and is never loosened."""
LOSSES = frozenset({"loss", "general loss", "accuracy"})
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
    positions: tuple[int, ...] = ()
    """Of what is taken among the columns, that of the depth first."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What solving for something better than what is known showed."""

    allocation: Allocation | None
    """None where nothing better was found."""
    bound: float
    """No other allocation has a smaller objective; infinity where none is within the limits."""


class Allocator:
    """Solves one space for any limits; the matrix of groups is built once."""

    def __init__(self, space: Space, *, floor_bytes: int | None) -> None:
        """Lay out the columns; an unknown floor counts as zero, which makes a memory limit a necessary one."""
        self._space = space
        self._floor = float(floor_bytes or 0)
        paid, told = of_columns([column.price for column in space.columns])
        self._loss = np.array([column.loss_nats for column in space.columns])
        self._general = np.array([column.general_nats for column in space.columns])
        self._disk, self._working = paid["disk_bytes"], paid["working_set_bytes"]
        self._loading, self._running = paid["loading_high_bytes"], paid["running_high_bytes"]
        self._device = paid["device_bytes"]
        self._streaming, self._cached = paid["decode_streaming_s"], paid["decode_cached_s"]
        self._prefill_streaming, self._prefill_cached = paid["prefill_streaming_s"], paid["prefill_cached_s"]
        self._has_prefill = "prefill_streaming_s" in told
        self._groups = _group_rows(space)
        self._group_of = np.array([column.group for column in space.columns], dtype=np.int64)
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._pool = Pool()
        self._largest: dict[tuple[str, float], float] = {}
        self._depth_columns = tuple(
            position for position, column in enumerate(space.columns) if column.drops is not None
        )
        self._slowest_s = max(1e-12, self._largest_total(self._streaming))
        self._slowest_request_s = max(1e-12, self._largest_total(self._request(0.0)))

    @property
    def has_first_token(self) -> bool:
        """False when the time of some option over a whole prompt is unknown."""
        return self._has_prefill

    @property
    def largest_working_set_bytes(self) -> float:
        """No recipe reads more to decode a token."""
        return float(self._space.fixed.working_set_bytes) + self._largest_total(self._working)

    def least_loss(self, limits: Limits, *, gap: float = RELATIVE_GAP, must_drop: bool = False) -> Allocation | None:
        """The allocation with the least loss within the limits (ties broken by time); None when there is none.

        Args:
            limits: what must hold.
            gap: relative gap to prove.
            must_drop: only recipes that drop some block or half of one.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        rows, cost, loosened = self._objective("loss", limits)
        found = self._solving(rows, cost, gap=gap, loosened=loosened, must_drop=must_drop)
        return found.finish().allocation

    def least(
        self, objective: Objective, limits: Limits, *, gap: float = RELATIVE_GAP, must_drop: bool = False
    ) -> "Allocating":
        """Look for the allocation within the limits with the least loss, peak memory, time per token or of a request.

        Ties in loss and memory are broken by time, ties in time by loss.

        Args:
            objective: what is made least.
            limits: what must hold.
            gap: relative gap to prove.
            must_drop: only recipes that drop some block or half of one.
        """
        rows, cost, loosened = self._objective(objective, limits)
        return self._solving(rows, cost, gap=gap, loosened=loosened, must_drop=must_drop)

    def least_memory(self, limits: Limits) -> Allocation | None:
        """The allocation with the least peak memory within the limits; None when there is none."""
        return self.least("memory", limits).finish().allocation

    def least_latency(self, limits: Limits) -> Allocation | None:
        """The allocation with the least time per token within the limits (ties broken by loss); None when none."""
        return self.least("latency", limits).finish().allocation

    def program(self, limits: Limits, objective: Objective) -> tuple[Program, list[LimitRow]]:
        """What is solved for an objective, and its limit rows, which stand after those of the groups."""
        rows, cost, loosened = self._objective(objective, limits)
        return self._program(rows, cost, loosened, self._depth_columns), rows

    def nearest(self, limits: Limits, loosened: frozenset[str] = EVERY_LIMIT) -> Allocation | None:
        """The allocation with the least worst relative violation of the loosened limits, the others held.

        None when the others cannot be held.
        """
        return self.loosening(limits, loosened).finish().allocation

    def loosening(self, limits: Limits, loosened: frozenset[str] = EVERY_LIMIT) -> "Allocating":
        """Look for the allocation that violates the loosened limits least, the others held."""
        rows = self._limit_rows(limits, loosened)
        return self._solving(rows, self._loss * 1e-6, gap=NEAREST_GAP, loosened=loosened)

    def _objective(self, objective: Objective, limits: Limits) -> tuple[list[LimitRow], _Array, frozenset[str]]:
        """Limit rows, costs, and the rows that are loosened by the slack that is minimised."""
        rows = self._limit_rows(limits, frozenset())
        tie = self._time(limits.cached_fraction) * (TIE_NATS / self._slowest_s)
        if objective == "loss":
            return rows, self._loss + tie, frozenset()
        if objective == "memory":
            reference = self._floor or MEMORY_REFERENCE_BYTES
            return [*rows, *self._memory_rows(self._floor, reference, name="objective")], tie, frozenset({"objective"})
        loss_scale = TIE_NATS / max(1e-12, self._largest_total(self._loss))
        time, slowest_s = self._time(limits.cached_fraction), self._slowest_s
        if objective == "request":
            time, slowest_s = self._request(limits.cached_fraction), self._slowest_request_s
        return rows, time / slowest_s + self._loss * loss_scale, frozenset()

    def _time(self, cached_fraction: float) -> _Array:
        return _mixed(self._streaming, self._cached, cached_fraction)

    def _prefill(self, cached_fraction: float) -> _Array:
        return _mixed(self._prefill_streaming, self._prefill_cached, cached_fraction)

    def _request(self, cached_fraction: float) -> _Array:
        return self._prefill(cached_fraction) + self._space.decode_tokens * self._time(cached_fraction)

    def _memory_rows(self, total_bytes: float, reference: float, *, name: str) -> list[LimitRow]:
        room, fixed = total_bytes - self._floor, self._space.fixed
        return [
            LimitRow(name, self._loading, room - fixed.loading_high_bytes, reference),
            LimitRow(name, self._running, room - fixed.running_high_bytes, reference),
        ]

    def _limit_rows(self, limits: Limits, loosened: frozenset[str]) -> list[LimitRow]:
        """Rows of the limits: one that is loosened counts in parts of itself, the others in parts of all there is.

        What no recipe can exceed is no row.
        """
        fixed, share = self._space.fixed, limits.cached_fraction
        rows: list[LimitRow] = []
        if limits.memory_bytes is not None:
            scale = limits.memory_bytes if "memory" in loosened else None
            largest = self._largest_of("memory", share, np.maximum(self._loading, self._running))
            rows += self._memory_rows(limits.memory_bytes, scale or largest, name="memory")
        for name, limit, coefficients, paid in (
            ("device memory", limits.device_memory_bytes, self._device, fixed.device_bytes),
            ("disk", limits.disk_bytes, self._disk, fixed.disk_bytes),
            ("latency", limits.latency_s, self._time(share), fixed.decode_high_s(share) or 0.0),
            ("first token", limits.first_token_s, self._prefill(share), fixed.prefill_high_s(share) or 0.0),
            ("loss", limits.loss_nats, self._loss, 0.0),
            ("general loss", limits.general_nats, self._general, 0.0),
            ("accuracy", limits.accuracy_nats, self._loss, 0.0),
            ("working set", limits.working_set_bytes, self._working, fixed.working_set_bytes),
        ):
            if limit is None:
                continue
            reference = self._largest_of(name, share, coefficients)
            if name in loosened:
                reference = max(limit, LOSS_REFERENCE_NATS) if name in LOSSES else limit
            rows.append(LimitRow(name, coefficients, limit - paid, reference))
        binding = [row for row in rows if row.name in loosened or self._can_exceed(row, share)]
        return [*binding, *(self._no_good(columns) for columns in limits.excluded)]

    def _no_good(self, columns: tuple[int, ...]) -> LimitRow:
        """Not all of these columns at once."""
        coefficients = np.zeros(len(self._loss))
        coefficients[list(columns)] = 1.0
        return LimitRow("excluded", coefficients, len(columns) - 0.5, float(len(columns)))

    def _can_exceed(self, row: LimitRow, share: float) -> bool:
        of = "running" if row.coefficients is self._running else "loading" if row.name == "memory" else row.name
        return self._largest_of(of, share, row.coefficients) > row.bound

    def _largest_of(self, name: str, share: float, coefficients: _Array) -> float:
        """No allocation takes more of a resource."""
        if (name, share) not in self._largest:
            self._largest[name, share] = max(1e-12, self._largest_total(coefficients))
        return self._largest[name, share]

    def _largest_total(self, values: _Array) -> float:
        """Sum over groups of the largest value in each: no allocation exceeds it."""
        best = np.zeros(len(self._space.groups))
        np.maximum.at(best, self._group_of, values)
        return float(best.sum())

    def _solving(
        self,
        limit_rows: list[LimitRow],
        cost: _Array,
        *,
        gap: float,
        loosened: frozenset[str],
        must_drop: bool = False,
    ) -> "Allocating":
        branch = tuple(
            position
            for position in self._depth_columns
            if not must_drop or any(self._space.columns[position].drops or ())
        )
        program = self._program(limit_rows, cost, loosened, branch)
        if branch not in self._layouts:
            self._layouts[branch] = Layout(program.groups, branch, len(cost))
        return Allocating(self._space, Solving(program, gap=gap, layout=self._layouts[branch], pool=self._pool))

    def _program(
        self, limit_rows: list[LimitRow], cost: _Array, loosened: frozenset[str], branch: tuple[int, ...]
    ) -> Program:
        # Scaled to their reference, so that bytes, seconds and nats weigh alike in the solver's tolerances.
        coefficients = np.array([row.coefficients / row.reference for row in limit_rows]).reshape(-1, len(cost))
        # Nothing is below a limit of zero, which only what costs nothing meets.
        limits = [row.bound / row.reference - (ROUNDING if row.bound > 0.0 else 0.0) for row in limit_rows]
        return Program(
            cost=cost,
            slack_upper=INFINITY if loosened else 0.0,
            groups=self._groups,
            coefficients=coefficients,
            limits=np.array(limits),
            is_loosened=np.array([row.name in loosened for row in limit_rows], dtype=bool),
            branch=branch,
        )


class Allocating:
    """An allocation that is being looked for."""

    def __init__(self, space: Space, solving: Solving) -> None:
        """Its relaxation is solved."""
        self._space = space
        self._solving = solving

    @property
    def bound(self) -> float:
        """No allocation has a smaller objective; infinity where none is within the limits."""
        return self._solving.bound

    @property
    def work(self) -> int:
        """Done so far, counted in partial allocations."""
        return self._solving.work

    def finish(
        self, *, below: float = math.inf, known: Allocation | None = None, work_limit: int | None = None
    ) -> Answer:
        """Look for something better than an objective that is known.

        Args:
            below: the objective.
            known: an allocation of the same space that may be within the limits, to start from.
            work_limit: of this program; None is what one may take.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        positions = () if known is None else known.positions
        found, bound = self._solving.finish(below=below, known=positions, work_limit=work_limit)
        if found is None:
            return Answer(allocation=None, bound=bound)
        positions = tuple(found.taken.tolist())
        allocation = Allocation(
            taken=tuple(self._space.columns[position] for position in positions),
            gap=found.gap,
            violation=found.slack,
            objective=found.objective,
            positions=positions,
        )
        return Answer(allocation=allocation, bound=bound)


def _mixed(streaming: _Array, cached: _Array, cached_fraction: float) -> _Array:
    return np.asarray((1.0 - cached_fraction) * streaming + cached_fraction * cached)


def _group_rows(space: Space) -> GroupRows:
    """One equality a group: its columns + what turns it off - what switches it on = 1, or 0 with a switch."""
    members: list[list[int]] = [[] for _ in space.groups]
    for position, column in enumerate(space.columns):
        members[column.group].append(position)
    rows = GroupRows()
    for group, columns in zip(space.groups, members, strict=True):
        indices = [*columns, *group.off]
        values = [1.0] * len(indices)
        if group.switch is not None:
            indices.append(group.switch)
            values.append(-1.0)
        target = 0.0 if group.switch is not None else 1.0
        rows.add(indices, values, target)
    return rows
