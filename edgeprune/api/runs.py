"""What is done to a run folder: made, solved again, explained, compressed, exported, measured, reported."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record, write_record
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.pipeline.host import check_needs, fitting_workers, predict_needs
from edgeprune.pipeline.opening import need_stages, open_new_run, reopen_run, run_of
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.pipeline.recovery import write_planned_recipe
from edgeprune.pipeline.request import check_budget, check_recovery, context_tokens
from edgeprune.pipeline.settings import EXECUTION_PROVIDERS, read_recipe
from edgeprune.pipeline.stages import STAGES, stage_named
from edgeprune.pipeline.table import Run, is_finished, run_stage, run_stages
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.lock import Lock
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.report import RunReport
from edgeprune.schema.run import CompressOutcome, HostNeeds, RunOutcome, RunPreview, RunRequest
from edgeprune.schema.run_list import RunList
from edgeprune.shapes import edit_shapes
from edgeprune.units import format_bytes

__all__ = [
    "compress",
    "explain",
    "export",
    "list_runs",
    "preview",
    "remove_runs",
    "report",
    "run",
    "search",
    "validate",
]


def preview(request: RunRequest, *, output: Path | None = None) -> RunPreview:
    """What a run would need and which stages it would run; nothing but the empty folder is made."""
    work, spec = open_new_run(request, output, NullProgress())
    stages: dict[str, str] = {}
    for stage in STAGES:
        finished = all(state == "finished" for state in stages.values()) and is_finished(stage, work)
        stages[stage.name] = "finished" if finished else "run"
    return RunPreview(
        folder=str(work.folder.root),
        model_name=spec.name,
        parameter_count=spec.parameter_count,
        context_tokens=context_tokens(work.request, spec),
        needs=_needs(work, spec),
        stages=stages,
    )


def run(
    request: RunRequest,
    *,
    output: Path | None = None,
    runs: Path | None = None,
    opened: Callable[[Path], None] = lambda folder: None,
    progress: Progress | None = None,
) -> RunOutcome:
    """All stages; resumes from the last finished one.

    Args:
        request: what to do.
        output: the run folder; None names one after the model.
        runs: where that one lies; None: `edgeprune-runs` here.
        opened: told the run folder as soon as it is known.
        progress: told all along.

    Raises:
        EdgePruneError: as `edgeprune.errors` lists; a budget that cannot be met is an outcome, not an error.
    """
    work, spec = open_new_run(request, output, progress or NullProgress(), runs=runs)
    opened(work.folder.root)
    _fit_workers(work, spec)
    needs = _needs(work, spec)
    check_needs(needs, max_host_memory_bytes=work.request.max_host_memory_bytes)
    if work.request.cluster is not None:
        work.executor()  # a cluster that is not there is known before the first stage, not after half of them
    message = f"needs about {format_bytes(needs.memory_bytes)} of memory and {format_bytes(needs.disk_bytes)} of disk"
    work.progress.emit(Event(kind="noted", stage="host", message=message))
    write_record(work.folder.manifest, work.manifest)
    try:
        with contextlib.closing(work):
            run_stages(STAGES, work)
    except InfeasibleBudgetError as error:
        result = read_record(work.folder.front, SearchResult)
        return RunOutcome(verdict="not_met", folder=str(work.folder.root), search=result, message=str(error))
    made = read_record(work.folder.report, RunReport)
    return RunOutcome(verdict=made.verdict, folder=str(work.folder.root), report=made)


def search(
    path: Path,
    *,
    budget: BudgetRequest | None = None,
    context: int | None = None,
    decode_tokens: int | None = None,
    locks: Sequence[Lock] | None = None,
    evaluations: int | None = None,
    worker_count: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Solve again from the scores of a run, with another budget, workload or locks when given; needs no torch.

    With `evaluations`, recipes are then built and measured, at most that many, which does need torch: here, in
    `worker_count` processes, or by the workers of a Dask `cluster`.
    """
    work = reopen_run(path, progress)
    need_stages(work, "intake", "profile", "calibrate")
    work.request = replace(work.request, recipe=None)  # asked to solve, so what is solved for is taken
    if budget is not None:
        work.request = replace(work.request, budget=budget)
    if context is not None:
        work.request = replace(work.request, context_tokens=context)
    if decode_tokens is not None:
        work.request = replace(work.request, decode_tokens=decode_tokens)
    if locks is not None:
        work.request = replace(work.request, locks=tuple(locks))
    if evaluations is not None:
        work.request = replace(work.request, evaluations=evaluations)
    work.request = replace(work.request, worker_count=worker_count, cluster=cluster)
    check_budget(work.request)
    # An infeasible budget is a result: the record says what binds, and a front door makes it exit code 1.
    with contextlib.closing(work), contextlib.suppress(InfeasibleBudgetError):
        if cluster is not None:
            work.executor()  # known before anything is solved
        run_stage(stage_named("search"), work)
        if evaluations is not None:
            run_stage(stage_named("refine"), work)
    return read_record(work.folder.front, SearchResult)


def explain(path: Path, *, run: Path | None = None, progress: Progress | None = None) -> Explanation:
    """Why a run's recipe, or one in a file, is what it is; needs no torch.

    Args:
        path: a run folder, or a recipe file.
        run: the run a recipe file is for; None takes the folder it stands in.
        progress: told nothing yet: it takes no time.

    Raises:
        UsageError: no run, nothing found by its search, or a recipe that does not fit the model (with the line).
    """
    from edgeprune.pipeline.explain import explain_run  # the solver's library loads with it

    is_file = path.is_file()
    work = reopen_run(run_of(path) if run is None else run, progress)
    need_stages(work, "intake", "profile", "calibrate")
    return explain_run(work, recipe_path=path if is_file else None)


def compress(
    path: Path, *, recovery: RecoveryRequest | None = None, progress: Progress | None = None
) -> CompressOutcome:
    """Apply the recipe of a run; writes its `hf` folder, and with a `recovery` the recipe with its steps too."""
    work = reopen_run(path, progress)
    need_stages(work, "intake", "calibrate", "search")
    recipe = read_recipe(work)  # a recipe that does not fit is refused before the model is looked at
    if recovery is not None:
        check_recovery(recovery)
        work.request = replace(work.request, recovery=recovery)
        recipe = write_planned_recipe(work)
    run_stage(stage_named("compress"), work)
    dense = read_record(work.folder.model, ModelSpec)
    kept = edit_shapes(dense, recipe).parameter_count / dense.parameter_count
    return CompressOutcome(folder=str(work.folder.hf), kept_fraction=kept, recipe=recipe)


def export(
    path: Path,
    *,
    kv_bits: Literal[8, 32] | None = None,
    last_logits: bool = False,
    activation_bits: Literal[16, 32] | None = None,
    progress: Progress | None = None,
) -> BundleManifest:
    """Export the compressed model of a run and, where they are missing, the baselines.

    With `kv_bits`, the run's recipe gets a cache of so many bits first; the compressed model stays as it is. With
    `last_logits`, all bundles give the logits after the last token of a prompt alone; with `activation_bits` they
    compute in so many, whatever the run says.
    """
    work = reopen_run(path, progress)
    need_stages(work, "intake", "profile", "calibrate", "search", "compress")
    if kv_bits is not None:
        write_recipe_file(work.folder.recipe, replace(read_recipe(work), kv_bits=kv_bits))
    bits = work.request.activation_bits if activation_bits is None else activation_bits
    work.request = replace(work.request, last_logits=last_logits, activation_bits=bits)
    run_stage(stage_named("export"), work)
    run_stages((stage_named("baselines"),), work)
    return read_record(work.folder.bundle / "edgeprune.json", BundleManifest)


def validate(
    path: Path,
    *,
    execution_provider: str = "cpu",
    thread_count: int | None = None,
    recalibrate: str | None = None,
    emulation: Emulation | None = None,
    progress: Progress | None = None,
) -> ValidationReport:
    """Measure a run's bundles, or one bundle, on this device; needs no torch.

    With `recalibrate`, the profile of that name is corrected by what was measured and saved for this user.
    """
    from edgeprune.pipeline.device_stages import bundles_of
    from edgeprune.pipeline.recalibrate import profile_to_correct, recalibrate_saved

    if (path / "manifest.json").is_file():
        work = reopen_run(path, progress)
        need_stages(work, "search", "export", "baselines")
        work.request = replace(
            work.request,
            execution_provider=execution_provider,
            thread_count=thread_count if thread_count is not None else work.request.thread_count,
            emulation=emulation if emulation is not None else work.request.emulation,
        )
        profile = None
        if recalibrate is not None:
            profile = profile_to_correct(recalibrate, fallback=read_record(work.folder.device, DeviceProfile))
        run_stage(stage_named("validate"), work)
        measured = read_record(work.folder.validation, ValidationReport)
        if recalibrate is None or profile is None:
            return measured
        made = recalibrate_saved(profile, recalibrate, measured, bundles_of(work))
        write_record(work.folder.recalibration, made)
        return replace(measured, recalibration=made)
    from edgeprune.profile.conditions import read_conditions
    from edgeprune.profile.host import read_cpu
    from edgeprune.validate.bundle import read_manifest as read_bundle_manifest
    from edgeprune.validate.run import validate_bundles

    manifest = read_bundle_manifest(path)
    profile = None if recalibrate is None else profile_to_correct(recalibrate)
    measured = validate_bundles(
        {"recipe": path},
        budget=manifest.budget,
        device_name=read_cpu().model or "this device",
        execution_provider=EXECUTION_PROVIDERS[execution_provider],
        thread_count=thread_count,
        progress=progress or NullProgress(),
        conditions=read_conditions,
        emulation=emulation,
    )
    if recalibrate is None or profile is None:
        return measured
    return replace(measured, recalibration=recalibrate_saved(profile, recalibrate, measured, {"recipe": path}))


def report(path: Path, *, progress: Progress | None = None) -> RunReport:
    """Render the report of a run again; needs no torch."""
    work = reopen_run(path, progress)
    need_stages(work, "search", "validate")
    run_stage(stage_named("report"), work)
    return read_record(RunFolder(path).report, RunReport)


def _needs(work: Run, spec: ModelSpec) -> HostNeeds:
    request = work.request
    recovers = request.recovery is not None
    return predict_needs(spec, work.folder.root, worker_count=request.worker_count, recovers=recovers)


def _fit_workers(work: Run, spec: ModelSpec) -> None:
    """Take as many processes as a limit on memory allows, which changes no result."""
    request = work.request
    limit, recovers = request.max_host_memory_bytes, request.recovery is not None
    count = fitting_workers(
        spec, work.folder.root, worker_count=request.worker_count, limit_bytes=limit, recovers=recovers
    )
    if count != request.worker_count:
        message = f"{count} of {request.worker_count} processes, for --max-host-memory"
        work.progress.emit(Event(kind="noted", stage="host", message=message))
        work.request = replace(request, worker_count=count)


def list_runs(folder: Path) -> RunList:
    """The run folders directly inside a folder."""
    from edgeprune.pipeline.run_list import list_runs as found

    return found(folder)


def remove_runs(folder: Path, names: Sequence[str]) -> RunList:
    """Delete run folders by name, all or none; the record tells what was removed."""
    from edgeprune.pipeline.run_list import remove_runs as removed

    return removed(folder, tuple(names))
