"""The integer program as arrays: what the allocator lays out and the solver takes."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["INFINITY", "GroupRows", "LimitRow", "Program", "Solution"]

INFINITY = math.inf
"""No bound, also to HiGHS."""

_Array = NDArray[np.float64]


class GroupRows:
    """Rows `coefficients @ x = target`, compressed row-wise."""

    def __init__(self) -> None:
        """No rows yet."""
        self.starts: list[int] = [0]
        self.indices: list[int] = []
        self.values: list[float] = []
        self.targets: list[float] = []

    def add(self, indices: list[int], values: list[float], target: float) -> None:
        """Append one row."""
        self.indices += indices
        self.values += values
        self.starts.append(len(self.indices))
        self.targets.append(target)


class LimitRow(NamedTuple):
    """One limited resource: coefficients @ x <= bound; the solver sees both sides divided by `reference`."""

    name: str
    coefficients: _Array
    bound: float
    reference: float


class Program(NamedTuple):
    """Minimise cost @ x + s: x binary, s continuous in [0, slack_upper].

    Of each group one column is taken. A column belongs to the first group that has it with 1; later groups that have it
    with 1 are turned off by it, and the group that has it with -1 is switched on by it.
    """

    cost: _Array
    slack_upper: float
    groups: GroupRows
    coefficients: _Array
    """[limits, columns]: coefficients @ x <= limits, loosened by s where `is_loosened`."""
    limits: _Array
    is_loosened: NDArray[np.bool_]
    branch: tuple[int, ...]
    """Columns of one group, of which one is taken; each is solved for apart."""


class Solution(NamedTuple):
    """The best x found, s, and the relative gap to the best possible objective that was proved."""

    taken: NDArray[np.int64]
    slack: float
    objective: float
    gap: float
