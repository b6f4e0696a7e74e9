"""The integer program as arrays: what the allocator lays out and the solver takes."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["INFINITY", "LimitRow", "Program", "Rows", "Solution"]

INFINITY = math.inf
"""No bound, also to HiGHS."""

_Array = NDArray[np.float64]


class Rows:
    """Rows `lower <= coefficients @ x <= upper`, compressed row-wise."""

    def __init__(self) -> None:
        """No rows yet."""
        self.starts: list[int] = [0]
        self.indices: list[int] = []
        self.values: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, indices: list[int], values: list[float], lower: float, upper: float) -> None:
        """Append one row."""
        self.indices += indices
        self.values += values
        self.starts.append(len(self.indices))
        self.lower.append(lower)
        self.upper.append(upper)

    def copy(self) -> "Rows":
        """The same rows, free to grow."""
        other = Rows()
        other.starts, other.indices, other.values = self.starts[:], self.indices[:], self.values[:]
        other.lower, other.upper = self.lower[:], self.upper[:]
        return other


class LimitRow(NamedTuple):
    """One limited resource: coefficients @ x <= bound; the solver sees both sides divided by `reference`."""

    name: str
    coefficients: _Array
    bound: float
    reference: float


class Program(NamedTuple):
    """Minimise cost @ x + s: x binary, s continuous in [0, slack_upper] and last.

    An equality row is a group: one of its columns is taken. A column belongs to the first group that has it with 1;
    later groups that have it with 1 are turned off by it, and the group that has it with -1 is switched on by it.
    Every other row is a limit `coefficients @ x <= upper`.
    """

    cost: _Array
    slack_upper: float
    rows: Rows
    branch: tuple[int, ...]
    """Columns of one group, of which one is taken; each is solved for apart."""


class Solution(NamedTuple):
    """The best x found, s, and the relative gap to the best possible objective that was proved."""

    taken: NDArray[np.int64]
    slack: float
    objective: float
    gap: float
