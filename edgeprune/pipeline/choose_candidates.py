"""The candidates of a choice: read by their headers, given the same texts, context and limits, and held to a bound."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder
from edgeprune.errors import UnsupportedArchitectureError, UsageError
from edgeprune.pipeline.choose_rows import Measured
from edgeprune.pipeline.least import cannot_meet, least_cost
from edgeprune.pipeline.request import DEMO_NAME, SMALLEST_CONTEXT, complete_request, named
from edgeprune.predict.cost import CostModel
from edgeprune.schema.budget import Budget, BudgetRequest, Limit, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.choice import ChoiceRequest, ModelStatus
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import RunRequest
from edgeprune.shapes import with_kv_bits

__all__ = ["ChoiceModel", "bounded", "check_request", "limits_on", "read_models"]


@dataclass
class ChoiceModel:
    """One candidate while it is worked on."""

    given: str
    request: RunRequest
    spec: ModelSpec
    name: str
    folder: RunFolder
    results: dict[str, SearchResult] = field(default_factory=dict)
    """Device -> search."""
    measured: dict[str, Measured] = field(default_factory=dict)
    """Recipe hash -> what was measured here."""

    @property
    def workload(self) -> Workload:
        """Lengths and threads, as the stages of its run have them."""
        assert self.request.context_tokens is not None  # `read_models` has set it
        return Workload(
            context_tokens=self.request.context_tokens,
            decode_tokens=self.request.decode_tokens,
            thread_count=self.request.thread_count,
        )


def check_request(request: ChoiceRequest) -> None:
    """Refuse what no reading of models could mend.

    Raises:
        UsageError: limits that mean something else for every model, a model given twice, a negative count.
    """
    budget = request.budget
    limits = (budget.memory, budget.device_memory, budget.latency, budget.first_token, budget.disk)
    if any(limit is not None and limit.percent_of_dense is not None for limit in limits):
        raise UsageError(
            "A percentage means something else for every model; give choose absolute limits, such as --memory 1.5GB."
        )
    if len(set(request.models)) != len(request.models):
        raise UsageError("A model is given twice; give each candidate once.")
    if request.measure_count < 0:
        raise UsageError("--measure cannot be negative; 0 predicts only.")


def read_models(request: ChoiceRequest, output: Path) -> tuple[list[ModelStatus], list[ChoiceModel]]:
    """Candidates by their headers, all with the same texts and context; those of unknown families become a status.

    Raises:
        UsageError: the same model twice, or texts or a context that cannot be used.
        UnsupportedArchitectureError: no candidate is supported.
        ModelError: a candidate that is missing or malformed.
    """
    from edgeprune.intake.source import resolve_model  # reaches for the hub only when a name is no folder
    from edgeprune.intake.spec import read_spec

    refused: list[ModelStatus] = []
    found: list[ChoiceModel] = []
    texts = _texts(request)
    for given in request.models:
        completed = complete_request(replace(texts, model=_model_path(given)))
        assert completed.model is not None
        try:
            spec = named(read_spec(resolve_model(completed.model)), completed)
        except UnsupportedArchitectureError as error:
            refused.append(ModelStatus(model=given, name=Path(given).name, status="unsupported", reason=str(error)))
            continue
        if any(model.spec.model_hash == spec.model_hash for model in found):
            raise UsageError(f"{given} is the same model as another candidate; give each candidate once.")
        name = f"{spec.name}-{spec.model_hash[:8]}"
        # What a search prices: the cache is as the request has it.
        spec = replace(spec, blocks=with_kv_bits(spec.blocks, request.kv_bits))
        found.append(ChoiceModel(given=given, request=completed, spec=spec, name=name, folder=RunFolder(output / name)))
    if not found:
        raise UnsupportedArchitectureError(
            f"None of the {len(refused)} candidates is supported; the first: {refused[0].reason}"
        )
    context = _context(request, [model.spec for model in found])
    return refused, [replace_fields(model, request=replace(model.request, context_tokens=context)) for model in found]


def _model_path(given: str) -> str:
    from edgeprune.demo.paths import demo_model_path  # a path; no model data is read

    return str(demo_model_path()) if given == DEMO_NAME else given


def _texts(request: ChoiceRequest) -> RunRequest:
    """The texts all candidates share; the demo's own where it is a candidate and none were given."""
    run = RunRequest(
        budget=request.budget,
        decode_tokens=request.decode_tokens,
        domain=request.domain,
        general=request.general,
        evaluation=request.evaluation,
        questions=request.questions,
        thread_count=request.thread_count,
        execution_provider=request.execution_provider,
        seed=request.seed,
        quick=request.quick,
        kv_bits=request.kv_bits,
        rounding=request.rounding,
        uniform_kv=request.uniform_kv,
    )
    if request.evaluations is not None:
        run = replace(run, evaluations=request.evaluations)
    return complete_request(run) if not request.domain and DEMO_NAME in request.models else run


def _context(request: ChoiceRequest, specs: Sequence[ModelSpec]) -> int:
    """The same context for all: windows of the same length are scored, and caches of the same length held."""
    shortest = min(spec.max_positions for spec in specs)
    wanted = request.context_tokens or min(512, shortest)
    if wanted > shortest:
        raise UsageError(
            f"A context of {wanted} tokens is longer than the {shortest} positions of one of the models; give a "
            "shorter --context."
        )
    if wanted < SMALLEST_CONTEXT:
        raise UsageError(
            f"A context of {wanted} tokens is too short to measure; give a --context of at least {SMALLEST_CONTEXT}."
        )
    return wanted


def limits_on(budget: BudgetRequest, device: DeviceProfile) -> BudgetRequest:
    """The limits of the request; without any, the device's memory."""
    limits = (budget.memory, budget.device_memory, budget.latency, budget.first_token, budget.disk)
    if any(limit is not None for limit in limits):
        return budget
    usable = device.memory.usable_bytes or device.memory.total_bytes
    if usable is None:
        raise UsageError(f"The profile {device.name} does not tell its memory; give --memory.")
    return replace(budget, memory=Limit(absolute=float(usable)))


def _absolute(budget: BudgetRequest) -> Budget:
    """What headers can be held to; the reserve is taken off as the search does."""

    def value(limit: Limit | None) -> float | None:
        return None if limit is None else limit.absolute

    memory, disk = value(budget.memory), value(budget.disk)
    return Budget(
        memory_bytes=None if memory is None else int(memory) - budget.reserve_bytes,
        latency_s=value(budget.latency),
        disk_bytes=None if disk is None else int(disk),
    )


def bounded(request: ChoiceRequest, profiles: Sequence[DeviceProfile], models: Sequence[ChoiceModel]) -> dict[str, str]:
    """Name -> why not even the smallest recipe meets the limits on any of the devices; from headers alone."""
    budget = _absolute(limits_on(request.budget, profiles[0]))
    found = {}
    for model in models:
        workload = model.workload
        missed = [cannot_meet(least_cost(CostModel(profile, model.spec, workload)), budget) for profile in profiles]
        if all(missed):
            where = profiles[0].name if len(profiles) == 1 else f"any of {len(profiles)} devices"
            found[model.name] = (
                f"by its headers, not even the smallest recipe meets {' and '.join(missed[0])} on {where}"
            )
    return found
