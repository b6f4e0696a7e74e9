"""One request, done by the function of `edgeprune.api` that its verb calls; runs in the child process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune import api
from edgeprune.jobs.paths import RUNS_NAME
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.jobs import (
    ChooseJob,
    CompressJob,
    DemoJob,
    DoctorJob,
    ExplainJob,
    ExportJob,
    FitJob,
    GenerateJob,
    JobRequest,
    LaserJob,
    PlanJob,
    ProfileJob,
    ReportJob,
    RunJob,
    SearchJob,
    TechniqueJob,
    ValidateJob,
)

__all__ = ["execute"]


def execute(request: JobRequest, *, progress: Progress, opened: Callable[[Path], None]) -> Any:
    """Do the work and give its result record.

    Args:
        request: with absolute paths.
        progress: told all along; text that is generated comes as `stage_advanced` of stage `generate`.
        opened: told the run folder as soon as it is known.

    Raises:
        EdgePruneError: as the verb would.
    """
    runs = Path(request.runs) if request.runs is not None else Path(RUNS_NAME)
    match request:
        case RunJob():
            output = None if request.output is None else runs / request.output
            return api.run(request.request, output=output, runs=runs, opened=opened, progress=progress)
        case ChooseJob():
            folder = runs / (request.output or "choice")
            opened(folder)
            return api.choose(request.request, output=folder, progress=progress)
        case TechniqueJob():
            return _technique(request, runs, progress)
        case LaserJob():
            return api.laser(
                request.model,
                questions=Path(request.questions),
                search=request.search,
                domain=tuple(map(Path, request.domain)),
                max_loss=request.max_loss,
                output=None if request.output is None else runs / request.output,
                context=request.context_tokens,
                progress=progress,
            )
        case SearchJob() | ExportJob() | CompressJob() | ReportJob() | ValidateJob() | ExplainJob():
            return _on_run(request, progress=progress, opened=opened)
        case GenerateJob():
            return api.generate(
                Path(request.bundle),
                request.prompt,
                request.sampling,
                execution_provider=request.execution_provider,
                thread_count=request.thread_count,
                told=lambda piece: progress.emit(Event(kind="stage_advanced", stage="generate", message=piece)),
            )
        case _:
            return _on_device(request, progress)


def _on_run(
    request: SearchJob | ExportJob | CompressJob | ReportJob | ValidateJob | ExplainJob,
    *,
    progress: Progress,
    opened: Callable[[Path], None],
) -> Any:
    """What needs an existing run folder."""
    if isinstance(request, ValidateJob):
        opened(Path(request.path))
        return api.validate(
            Path(request.path),
            execution_provider=request.execution_provider,
            thread_count=request.thread_count,
            recalibrate=request.recalibrate,
            emulation=request.emulation,
            progress=progress,
        )
    if isinstance(request, ExplainJob):
        run = None if request.run is None else Path(request.run)
        opened(run or Path(request.path))
        return api.explain(Path(request.path), run=run, progress=progress)
    folder = Path(request.run)
    opened(folder)
    match request:
        case SearchJob():
            return api.search(
                folder,
                budget=request.budget,
                context=request.context_tokens,
                decode_tokens=request.decode_tokens,
                locks=request.locks,
                evaluations=request.evaluations,
                worker_count=request.worker_count,
                cluster=request.cluster,
                progress=progress,
            )
        case ExportJob():
            return api.export(
                folder,
                kv_bits=request.kv_bits,
                last_logits=request.last_logits,
                activation_bits=request.activation_bits,
                progress=progress,
            )
        case CompressJob():
            return api.compress(folder, recovery=request.recovery, progress=progress)
        case ReportJob():
            return api.report(folder, progress=progress)


def _technique(request: TechniqueJob, runs: Path, progress: Progress) -> Any:
    return api.compress_with(
        request.model,
        technique=request.technique,
        kept_fraction=request.kept_fraction,
        domain=tuple(map(Path, request.domain)),
        output=runs / request.output,
        general=tuple(map(Path, request.general)),
        context=request.context_tokens,
        seed=request.seed,
        compensate=request.compensate,
        repair_rank=request.repair_rank,
        rank_form=request.rank_form,
        recovery=request.recovery,
        progress=progress,
    )


def _on_device(request: ProfileJob | FitJob | PlanJob | DemoJob | DoctorJob, progress: Progress) -> Any:
    """What needs no run folder."""
    match request:
        case ProfileJob():
            return api.profile(
                quick=request.quick,
                save=request.save,
                thread_count=request.thread_count,
                emulation=request.emulation,
                progress=progress,
            )
        case FitJob():
            return api.fit(
                request.models,
                device=request.device,
                budget=request.budget,
                context=request.context_tokens,
                precisions=request.precisions,
                progress=progress,
            )
        case PlanJob():
            return api.plan(
                request.models,
                device=request.device,
                budget=request.budget,
                context=request.context_tokens,
                thread_count=request.thread_count,
                progress=progress,
            )
        case DemoJob():
            return api.demo(
                device=request.device,
                budget=request.budget,
                context=request.context_tokens,
                validates=request.validates,
                thread_count=request.thread_count,
                progress=progress,
            )
        case DoctorJob():
            return api.doctor(with_families=request.with_families)
