"""Why a budget cannot be met: which limits bind, the nearest budget that can be met, and what buys feasibility.

Each limit is tried alone (the least of that resource any recipe needs); when every one can be met alone, they bind
together. The nearest budget loosens the limits as evenly as possible: it minimises the worst relative violation.
Single concessions stand in `concede`.
"""

from edgeprune.schema.candidate import Candidate, Infeasible
from edgeprune.search.allocate import EVERY_LIMIT, Allocator
from edgeprune.search.candidates import allocated
from edgeprune.search.choose import limits_of
from edgeprune.search.concede import concessions, nearest_allocation
from edgeprune.search.loosen import loosened
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.quantities import QUANTITIES, Quantity, flags, limited
from edgeprune.search.space import Space
from edgeprune.search.spaces import Spaces
from edgeprune.units import format_bytes

__all__ = ["explain"]

TOLERANCE = 1e-9


def explain(problem: Problem, space: Space, allocator: Allocator, spaces: Spaces, *, device_name: str) -> Infeasible:
    """What binds, what is nearest, and what single thing to give up."""
    limits = limits_of(problem, space, allocator)
    needs: dict[str, Candidate] = {}
    for quantity in QUANTITIES:
        alone = _only(limits, quantity)
        best = None if alone is None else nearest_allocation(problem, allocator, alone, EVERY_LIMIT)
        # Only what is proved to be missed binds.
        if best is not None and best.violation - best.gap * best.objective > TOLERANCE:
            needs[quantity.name] = allocated(problem, best, quantity.name, basis="nearest")
    together = nearest_allocation(problem, allocator, limits, EVERY_LIMIT)
    nearest = None
    if together is not None:
        nearest = loosened(problem.budget, allocated(problem, together, "nearest", basis="nearest"))
    binding = tuple(needs) or tuple(quantity.name for quantity, _ in limited(problem.budget))
    clauses = [
        _clause(quantity, needs[quantity.name], problem, device_name)
        for quantity in QUANTITIES
        if quantity.name in needs
    ]
    if not clauses:
        wanted = " and ".join(_shown(quantity, problem) for quantity, _ in limited(problem.budget))
        clauses = [f"{wanted} cannot be met together, though each can alone"]
    tail = "no budget helps" if nearest is None else f"the nearest feasible budget is {flags(nearest)}"
    found = concessions(problem, space, allocator, spaces)
    lines = [f"{'; '.join(clauses)}; {tail}."]
    if found:
        lines += ["Any one of these alone is enough:", *(f"  {concession.message}" for concession in found)]
    return Infeasible(binding=binding, nearest=nearest, message="\n".join(lines), concessions=found)


def _only(limits: Limits, quantity: Quantity) -> Limits | None:
    """The limits with one quantity limited; None when that one is not limited."""
    value = getattr(limits, quantity.solver_field)
    return None if value is None else Limits(**{quantity.solver_field: value})


def _clause(quantity: Quantity, entry: Candidate, problem: Problem, device_name: str) -> str:
    limit = _shown(quantity, problem)
    if quantity.name == "memory":
        return f"{limit}: {_memory_clause(entry, problem, device_name)}"
    best = {"latency": "fastest", "first token": "fastest", "loss": "best", "general loss": "best"}
    if quantity.name == "accuracy":
        return f"{limit}: no recipe that was built and asked reached it"
    value = quantity.predicted(entry)
    if quantity.name == "device memory":
        value = entry.cost.device_memory_bytes.low
    verb = "loses" if quantity.name.endswith("loss") else "needs"
    unit = " a token" if quantity.name == "latency" else ""
    return f"{limit}: even the {best.get(quantity.name, 'smallest')} recipe {verb} {quantity.shown(value)}{unit}"


def _memory_clause(entry: Candidate, problem: Problem, device_name: str) -> str:
    cost = entry.cost
    floor, allowed = problem.cost_model.floor_bytes, problem.budget.memory_bytes
    if floor is None:
        return f"even the smallest recipe needs {format_bytes(cost.model_memory_bytes.high)} of its own"
    needed = format_bytes(cost.peak_rss_bytes.high)
    if allowed is not None and floor >= allowed:
        return (
            f"not even the floor fits, since the runtime without a model takes {format_bytes(floor)} on "
            f"{device_name}, and the smallest recipe needs {needed}"
        )
    return f"even the smallest recipe needs {needed}, of which {format_bytes(floor)} is the floor"


def _shown(quantity: Quantity, problem: Problem) -> str:
    budget = problem.budget
    kept_free = ""
    if quantity.name == "memory" and budget.reserve_bytes:
        kept_free = f" after a reserve of {format_bytes(budget.reserve_bytes)}"
    return f"{quantity.name} {quantity.shown(quantity.limit(budget))}{kept_free}"
