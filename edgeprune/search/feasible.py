"""Why a budget cannot be met: which limits bind, and the nearest budget that can be met.

Each limit is tried alone (the least of that resource any recipe needs); when every one can be met alone, they bind
together. The nearest budget loosens the limits as evenly as possible: it minimises the worst relative violation.
"""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, Infeasible
from edgeprune.search.allocate import Allocation, Allocator
from edgeprune.search.candidates import allocated
from edgeprune.search.problem import Limits, Problem
from edgeprune.units import format_bytes, format_seconds

__all__ = ["explain", "flags"]

TOLERANCE = 1e-9


def explain(problem: Problem, allocator: Allocator, variants: Sequence[Limits], *, device_name: str) -> Infeasible:
    """What binds and what is nearest; `variants` are the limits at each share of cached weights."""
    needs: dict[str, Candidate] = {}
    for name in ("memory", "latency", "disk", "loss"):
        alone = [_only(limits, name) for limits in variants]
        if alone[0] is None:
            continue
        best = _nearest(allocator, [limits for limits in alone if limits is not None])
        if best is not None and best.violation > TOLERANCE:
            needs[name] = allocated(problem, best, name, basis="nearest")
    together = _nearest(allocator, variants)
    nearest = None
    if together is not None:
        nearest = _loosened(problem.budget, allocated(problem, together, "nearest", basis="nearest"))
    binding = tuple(needs) or tuple(name for name, limit in _limits(problem.budget).items() if limit is not None)
    clauses = [_clause(name, entry, problem, device_name) for name, entry in needs.items()]
    if not clauses:
        wanted = " and ".join(_shown(name, problem.budget) for name in binding)
        clauses = [f"{wanted} cannot be met together, though each can alone"]
    tail = "no budget helps" if nearest is None else f"the nearest feasible budget is {flags(nearest)}"
    return Infeasible(binding=binding, nearest=nearest, message=f"{'; '.join(clauses)}; {tail}.")


def flags(budget: Budget) -> str:
    """A budget as command-line flags; the reserve is added back to the memory limit it was taken from."""
    parts = []
    if budget.memory_bytes is not None:
        parts.append(f"--memory {(budget.memory_bytes + budget.reserve_bytes) / 1e6:g}MB")
    if budget.reserve_bytes:
        parts.append(f"--reserve {budget.reserve_bytes / 1e6:g}MB")
    if budget.latency_s is not None:
        parts.append(f"--latency {budget.latency_s * 1e3:g}ms")
    if budget.disk_bytes is not None:
        parts.append(f"--disk {budget.disk_bytes / 1e6:g}MB")
    if budget.max_loss is not None:
        parts.append(f"--max-loss {budget.max_loss:g}")
    return " ".join(parts)


def _only(limits: Limits, name: str) -> Limits | None:
    """The same limits with one resource limited; None when that one is not limited."""
    values = {
        "memory": limits.memory_bytes,
        "latency": limits.latency_s,
        "disk": limits.disk_bytes,
        "loss": limits.loss_nats,
    }
    if values[name] is None:
        return None
    timed = name == "latency"
    return Limits(
        memory_bytes=limits.memory_bytes if name == "memory" else None,
        latency_s=limits.latency_s if timed else None,
        disk_bytes=limits.disk_bytes if name == "disk" else None,
        loss_nats=limits.loss_nats if name == "loss" else None,
        cached_fraction=limits.cached_fraction if timed else 0.0,
        working_set_bytes=limits.working_set_bytes if timed else None,
    )


def _nearest(allocator: Allocator, variants: Sequence[Limits]) -> Allocation | None:
    found = [allocation for limits in dict.fromkeys(variants) if (allocation := allocator.nearest(limits)) is not None]
    return min(found, key=lambda allocation: allocation.violation) if found else None


def _limits(budget: Budget) -> dict[str, float | None]:
    return {
        "memory": budget.memory_bytes,
        "latency": budget.latency_s,
        "disk": budget.disk_bytes,
        "loss": budget.max_loss,
    }


def _loosened(budget: Budget, reached: Candidate) -> Budget:
    """The budget with every limit the candidate exceeds raised to what it needs, rounded up to three digits."""
    cost = reached.cost
    memory, latency, disk, loss = budget.memory_bytes, budget.latency_s, budget.disk_bytes, budget.max_loss
    peak = cost.peak_rss_bytes.high
    # Without a floor the solver compared model memory alone, so that is what the limit must allow at least.
    needed = cost.model_memory_bytes.high if peak is None else peak
    if memory is not None and needed is not None and needed > memory:
        memory = round(_round_up(needed + budget.reserve_bytes)) - budget.reserve_bytes
    if latency is not None and cost.decode_s.high is not None and cost.decode_s.high > latency:
        latency = _round_up(cost.decode_s.high)
    if disk is not None and cost.disk_bytes > disk:
        disk = round(_round_up(cost.disk_bytes))
    if loss is not None and reached.relative_loss > loss:
        loss = _round_up(reached.relative_loss)
    return replace(budget, memory_bytes=memory, latency_s=latency, disk_bytes=disk, max_loss=loss, origin="nearest")


def _round_up(value: float) -> float:
    """Up to three significant digits, with a margin of a tenth of a percent for the solver's tolerances."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value * 1.001 / unit) * unit:.6g}")


def _clause(name: str, entry: Candidate, problem: Problem, device_name: str) -> str:
    cost, limit = entry.cost, _shown(name, problem.budget)
    if name == "memory":
        floor, allowed = problem.cost_model.floor_bytes, problem.budget.memory_bytes
        if floor is None:
            return f"{limit}: even the smallest recipe needs {format_bytes(cost.model_memory_bytes.high)} of its own"
        needed = format_bytes(cost.peak_rss_bytes.high)
        if allowed is not None and floor >= allowed:
            return (
                f"{limit}: not even the floor fits, since the runtime without a model takes {format_bytes(floor)} on "
                f"{device_name}, and the smallest recipe needs {needed}"
            )
        return f"{limit}: even the smallest recipe needs {needed}, of which {format_bytes(floor)} is the floor"
    if name == "latency":
        return f"{limit}: even the fastest recipe needs {format_seconds(cost.decode_s.high)} a token"
    if name == "disk":
        return f"{limit}: even the smallest recipe needs {format_bytes(cost.disk_bytes)}"
    return f"{limit}: even the best recipe loses {entry.relative_loss:.3g}"


def _shown(name: str, budget: Budget) -> str:
    if name == "latency":
        return f"latency {format_seconds(budget.latency_s)}"
    if name == "loss":
        return f"max-loss {budget.max_loss:g}"
    if name == "disk":
        return f"disk {format_bytes(budget.disk_bytes)}"
    kept_free = f" after a reserve of {format_bytes(budget.reserve_bytes)}" if budget.reserve_bytes else ""
    return f"memory {format_bytes(budget.memory_bytes)}{kept_free}"
