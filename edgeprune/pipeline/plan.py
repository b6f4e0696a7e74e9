"""What would fit a device: every model at 32, 8 and 4 bits, priced from headers alone."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.intake.source import resolve_model
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.settings import BASELINES
from edgeprune.predict.cost import CostModel
from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget, BudgetRequest, Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.estimate import Cost
from edgeprune.schema.plan import PlanReport, PlanRow
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.budget import resolve_budget

__all__ = ["plan_models"]

PRECISIONS = {"fp32": BASELINES["dense"], "int8": BASELINES["int8"], "int4": BASELINES["int4"]}


def plan_models(
    models: Sequence[str],
    device: DeviceProfile,
    *,
    request: BudgetRequest,
    context: int | None = None,
    thread_count: int | None = None,
) -> PlanReport:
    """Price each model at each precision on a device and say which meet the limits.

    Raises:
        ModelError: a model that cannot be read.
        UsageError: a limit that cannot be resolved on this profile.
    """
    rows: list[PlanRow] = []
    floor = None if device.floor is None else device.floor.peak_rss_bytes
    shown = Budget()
    longest = 0
    for name in models:
        spec = read_spec(resolve_model(name))
        tokens = min(context or 512, spec.max_positions)
        longest = max(longest, tokens)
        cost_model = CostModel(device, spec, Workload(context_tokens=tokens, thread_count=thread_count))
        costs = {
            label: cost_model.cost(plain_recipe(spec, kernel, context_tokens=tokens, seed=0))
            for label, kernel in PRECISIONS.items()
        }
        has_limits = any(limit is not None for limit in (request.memory, request.latency, request.disk))
        if has_limits:
            budget = resolve_budget(
                replace(request, max_loss=None),
                costs["fp32"],
                costs["int8"],
                floor_bytes=floor,
                source_bytes=spec.source_bytes,
            )
        else:
            budget = Budget(memory_bytes=device.memory.usable_bytes, origin="device")
        shown = budget
        for label, cost in costs.items():
            fits, binding = _fits(cost, budget)
            rows.append(
                PlanRow(
                    model=name,
                    precision=label,
                    parameter_count=spec.parameter_count,
                    cost=cost,
                    fits=fits,
                    binding=binding,
                )
            )
    verdicts = {row.fits for row in rows}
    verdict: Verdict = "met" if "met" in verdicts else "unmeasured" if "unmeasured" in verdicts else "not_met"
    return PlanReport(verdict=verdict, device_name=device.name, context_tokens=longest, budget=shown, rows=tuple(rows))


def _fits(cost: Cost, budget: Budget) -> tuple[Verdict, tuple[str, ...]]:
    """Whether a cost meets the limits, and which it misses or cannot tell."""
    pairs = {
        "memory": (budget.memory_bytes, cost.peak_rss_bytes.value),
        "latency": (budget.latency_s, cost.decode_s.value),
        "disk": (budget.disk_bytes, float(cost.disk_bytes)),
    }
    missed = tuple(
        name for name, (limit, value) in pairs.items() if limit is not None and value is not None and value > limit
    )
    if missed:
        return "not_met", missed
    unknown = tuple(name for name, (limit, value) in pairs.items() if limit is not None and value is None)
    return ("unmeasured", unknown) if unknown else ("met", ())
