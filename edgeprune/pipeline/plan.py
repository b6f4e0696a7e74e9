"""What would fit a device: every model at 32, 8 and 4 bits, priced from headers alone."""

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeprune.errors import UnsupportedArchitectureError
from edgeprune.intake.catalogue import describe_entry, match_entry
from edgeprune.intake.source import resolve_model
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.settings import BASELINES
from edgeprune.predict.cost import CostModel
from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget, BudgetRequest, Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.estimate import Cost
from edgeprune.schema.model import ModelSpec
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
        spec = _spec_named(name)
        tokens = min(context or 512, spec.max_positions)
        longest = max(longest, tokens)
        cost_model = CostModel(device, spec, Workload(context_tokens=tokens, thread_count=thread_count))
        costs = {
            label: cost_model.cost(plain_recipe(spec, kernel, context_tokens=tokens, seed=0))
            for label, kernel in PRECISIONS.items()
        }
        if request != replace(BudgetRequest(), reserve_bytes=request.reserve_bytes):
            budget = resolve_budget(
                request,
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


def _surely_too_much(cost: Cost, budget: Budget) -> float | None:
    """The tensors' bytes where they alone exceed the accelerator's limit; None where only a measurement can tell."""
    needed, limit = cost.device_memory_bytes.low, budget.device_memory_bytes
    return needed if needed is not None and limit is not None and needed > limit else None


def _spec_named(name: str) -> ModelSpec:
    """Shapes of a folder, of a model of the catalogue (nothing is downloaded), or of a hub model."""
    entry = None if Path(name).expanduser().is_dir() else match_entry(name)
    if entry is None:
        return read_spec(resolve_model(name))
    described = describe_entry(entry)
    if described.spec is None:
        raise UnsupportedArchitectureError(described.refusal)
    return described.spec


def _fits(cost: Cost, budget: Budget) -> tuple[Verdict, tuple[str, ...]]:
    """Whether a cost meets the limits, and which it misses or cannot tell: headers tell nothing of quality."""
    pairs = {
        "memory": (budget.memory_bytes, cost.peak_rss_bytes.value),
        "device memory": (budget.device_memory_bytes, _surely_too_much(cost, budget)),
        "latency": (budget.latency_s, cost.decode_s.value),
        "first token": (budget.first_token_s, cost.prefill_s.value),
        "disk": (budget.disk_bytes, float(cost.disk_bytes)),
        "loss": (budget.max_loss, None),
        "general loss": (budget.max_general_loss, None),
        "accuracy": (budget.min_accuracy, None),
    }
    missed = tuple(
        name for name, (limit, value) in pairs.items() if limit is not None and value is not None and value > limit
    )
    if missed:
        return "not_met", missed
    unknown = tuple(name for name, (limit, value) in pairs.items() if limit is not None and value is None)
    return ("unmeasured", unknown) if unknown else ("met", ())
