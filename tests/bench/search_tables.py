"""`tables`: two devices whose kernel tables differ get different recipes for one budget, each faster on its own.

Both profiles are this machine's with the times of its kernels scaled: one device multiplies int4 fast and int8 slowly
(a table-lookup kernel), the other the reverse (an int8 matrix unit). Scores are the lab model's, or synthetic shapes
where there is no lab.
"""

import sys

from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.kernel import parse_kernel
from edgeprune.search.allocate import Allocator
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.choose import choose
from edgeprune.search.problem import Problem
from edgeprune.search.space import build_space
from tests.bench.search_claims import Claims
from tests.bench.search_lab import open_lab

__all__ = ["run"]

FAST, SLOW = 0.5, 4.0
MAX_LOSS = 0.03
"""Relative loss both recipes may have."""
DISK_SHARE = 0.7


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    devices = {
        "int4 fast": scaled(lab.device, {4: FAST, 8: SLOW}, "int4 fast"),
        "int8 fast": scaled(lab.device, {4: SLOW, 8: FAST}, "int8 fast"),
    }
    problems = {name: lab.problem(device=device) for name, device in devices.items()}
    for what, budget in _budgets(problems).items():
        chosen = {name: solve(problem, budget) for name, problem in problems.items()}
        _compare(claims, what, problems, chosen)


def scaled(device: DeviceProfile, factors: dict[int, float], name: str) -> DeviceProfile:
    """A device whose kernels of so many bits take so many times as long; from memory as from the cache."""
    times = tuple(
        replace(entry, time_s=entry.time_s * factors.get(parse_kernel(entry.kernel).bits, 1.0))
        for entry in device.kernel_times
    )
    return replace(device, name=name, kernel_times=times)


def solve(problem: Problem, budget: Budget) -> Candidate | None:
    """The choice for a budget."""
    bounded = Problem(**{field: getattr(problem, field) for field in problem.__dataclass_fields__} | {"budget": budget})
    space = build_space(bounded)
    return choose(bounded, space, Allocator(space, floor_bytes=bounded.cost_model.floor_bytes))


def _budgets(problems: dict[str, Problem]) -> dict[str, Budget]:
    """The fastest recipe within a loss, and within a loss and seven tenths of plain int8's size."""
    problem = next(iter(problems.values()))
    plain = plain_recipe(problem.spec, "int8_b32_a4", context_tokens=problem.context_tokens, seed=0)
    size = round(DISK_SHARE * problem.cost_model.cost(plain).disk_bytes)
    return {
        "3 % loss": Budget(max_loss=MAX_LOSS, objective="latency"),
        "3 % loss, 0.7 int8 disk": Budget(max_loss=MAX_LOSS, disk_bytes=size, objective="latency"),
    }


def _compare(claims: Claims, what: str, problems: dict[str, Problem], chosen: dict[str, Candidate | None]) -> None:
    rows: list[dict[str, object]] = []
    times: dict[tuple[str, str], float | None] = {}
    for name, entry in chosen.items():
        if entry is None:
            claims.judge("tables", f"{what}: a recipe for {name}", None, "infeasible", "a recipe", False)
            return
        for other, problem in problems.items():
            times[name, other] = problem.cost_model.cost(entry.recipe).decode_s.high
        bits = [parse_kernel(edit.kernel).bits for edit in entry.recipe.sites]
        rows.append(
            {
                "budget": what,
                "recipe for": name,
                **{f"ms on {other}": 1e3 * (times[name, other] or 0.0) for other in problems},
                "loss": entry.relative_loss,
                "int4 sites": bits.count(4),
                "int8 sites": bits.count(8),
                "disk MB": entry.cost.disk_bytes / 1e6,
            }
        )
    claims.keep("tables", rows)
    first, second = (entry for entry in chosen.values() if entry is not None)
    differ = sum(1 for one, two in zip(first.recipe.sites, second.recipe.sites, strict=False) if one != two)
    claims.above("tables", f"{what}: sites that differ", float(differ), 1.0)
    names = list(problems)
    for own, other in (names, names[::-1]):
        mine, theirs = times[own, own], times[other, own]
        ratio = None if not mine or not theirs else mine / theirs
        text = f"{what}: on {own}, time of its own recipe / of the other's"
        claims.judge("tables", text, ratio, "-" if ratio is None else f"{ratio:.3f}", "< 1", bool(ratio and ratio < 1))
