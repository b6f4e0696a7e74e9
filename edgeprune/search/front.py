"""The front: candidates no other one beats in bytes on disk and predicted loss."""

from collections.abc import Callable, Sequence

from edgeprune.schema.candidate import Candidate
from edgeprune.search.allocate import Allocation, Allocator
from edgeprune.search.problem import Limits

__all__ = ["FRONT_GAP", "disk_ladder", "non_dominated", "solve_front"]

LEVELS = 8
FRONT_GAP = 2e-3
"""The front is looked at, not built from: a fifth of a percent of loss cannot be seen on it."""


def disk_ladder(smallest_bytes: float, largest_bytes: float, *, levels: int = LEVELS) -> list[int]:
    """Disk limits in equal ratios, the smallest first."""
    ratio = (largest_bytes / smallest_bytes) ** (1.0 / (levels - 1))
    return [-int(-smallest_bytes * ratio**index // 1) for index in range(levels)]


def solve_front(
    allocator: Allocator, *, largest_bytes: int, to_candidate: Callable[[Allocation, str], Candidate]
) -> list[Candidate]:
    """Least loss at each of a ladder of sizes from the smallest recipe to the dense model, nothing else limited."""
    smallest = allocator.nearest(Limits(disk_bytes=1.0))
    if smallest is None:
        return []
    found = [to_candidate(smallest, "front")]
    for level in disk_ladder(found[0].cost.disk_bytes, largest_bytes)[1:]:
        allocation = allocator.least_loss(Limits(disk_bytes=float(level)), gap=FRONT_GAP)
        if allocation is not None:
            found.append(to_candidate(allocation, "front"))
    return found


def non_dominated(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those no other one beats in size and loss, smallest first; of equals the first stays."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda entry: (entry.cost.disk_bytes, entry.loss_increase_nats)):
        if not kept or candidate.loss_increase_nats < kept[-1].loss_increase_nats:
            kept.append(candidate)
    return tuple(kept)
