"""Which model: several candidates under the same limits, searched, compressed and measured alike, then ranked.

Headers come first: a model whose smallest recipe would exceed a limit on every device is not loaded at all. The others
are calibrated once each on the same texts (a run folder a model, resumed like any run) and searched for each device.
The best predicted ones are then built, exported and measured here on the same report text. The first device is the one
recipes are built for; on the others the same quality is shown beside predicted cost.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts, read_arrays, read_record, write_record
from edgeprune.errors import InfeasibleBudgetError, ModelError, UsageError
from edgeprune.pipeline.choose_candidates import ChoiceModel, bounded, check_request, limits_on, read_models
from edgeprune.pipeline.choose_devices import PlacedDevice, named_devices, place_devices
from edgeprune.pipeline.choose_rows import Measured, predicted_rows, with_measurements
from edgeprune.pipeline.host import check_needs, predict_needs
from edgeprune.pipeline.opening import open_new_run
from edgeprune.pipeline.settings import searched_scores
from edgeprune.pipeline.solve import solve_request
from edgeprune.pipeline.stages import STAGES
from edgeprune.pipeline.table import Run, run_stages
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.choice import ChoiceReport, ChoiceRequest, ChoiceRow, DeviceChoice, ModelStatus
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.scores import Scores
from edgeprune.search.rank_models import advise, rank_rows

__all__ = ["MARK", "choose_models"]

MARK = "choice-request.json"
"""Marks a folder as a choice of ours."""
_PREDICTED = ("intake", "profile", "calibrate", "search")
_STAGE = "choose"


def choose_models(request: ChoiceRequest, *, output: Path, progress: Progress) -> ChoiceReport:
    """Search, measure and rank.

    Args:
        request: models, devices, limits and texts.
        output: folder of the choice: a run folder a model, the profiles, `choice.json`.
        progress: told of every stage of every model.

    Raises:
        UsageError: limits that differ between models, texts or folders that cannot be used.
        UnsupportedArchitectureError: no candidate is of a family we know.
        ModelError: a candidate that cannot be read.
    """
    check_request(request)
    _open_folder(output, request)
    refused, models = read_models(request, output)
    out = bounded(request, named_devices(request.devices), models) if request.devices else {}
    fitting = [model for model in models if model.name not in out]
    devices: list[PlacedDevice] = []
    if fitting:
        devices = place_devices(
            request, [model.spec for model in fitting], folder=output / "devices", progress=progress
        )
        request = replace(request, budget=limits_on(request.budget, devices[0].profile))
    if devices and not request.devices:
        out = bounded(request, [devices[0].profile], fitting)
        fitting = [model for model in fitting if model.name not in out]
    notes: list[str] = []
    for model in fitting:
        _search(model, request, devices, progress)
    for model in _to_measure(request, fitting, devices[:1]):
        problem = _measure(model, request, devices[0], progress)
        if problem:
            notes.append(f"{model.name} could not be measured: {problem}")
    chosen = tuple(_rank(device, fitting, is_here=not request.devices) for device in devices if fitting)
    verdicts = {row.fits for row in chosen[0].ranking} if chosen else set()
    statuses = [*refused, *(_status(model, out) for model in models)]
    report = ChoiceReport(
        verdict="met" if "met" in verdicts else "unmeasured" if "unmeasured" in verdicts else "not_met",
        request=request,
        context_tokens=models[0].workload.context_tokens,
        models=tuple(sorted(statuses, key=lambda status: request.models.index(status.model))),
        devices=chosen,
        notes=tuple(notes),
    )
    write_record(output / "choice.json", report)
    return report


def _open_folder(output: Path, request: ChoiceRequest) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; give a folder with -o.")
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        raise UsageError(f"{output} is not empty and holds no choice of EdgePrune; give another folder with -o.")
    write_record(output / MARK, request)


def _run_of(model: ChoiceModel, request: ChoiceRequest, device: PlacedDevice, progress: Progress) -> Run:
    wanted = replace(model.request, device=str(device.path.absolute()), budget=request.budget)
    run, _ = open_new_run(wanted, model.folder.root, progress)
    write_record(run.folder.manifest, run.manifest)
    return run


def _search(model: ChoiceModel, request: ChoiceRequest, devices: Sequence[PlacedDevice], progress: Progress) -> None:
    """Calibrate once, search for every device."""
    check_needs(predict_needs(model.spec, model.folder.root))
    progress.emit(
        Event(kind="noted", stage=_STAGE, message=f"{model.name}: calibrated once, searched for every device")
    )
    run = _run_of(model, request, devices[0], progress)
    stages = tuple(stage for stage in STAGES if stage.name in _PREDICTED)
    with contextlib.closing(run), contextlib.suppress(InfeasibleBudgetError):  # the front says what binds
        run_stages(stages, run)
    scores, arrays = _scores(model), read_arrays(model.folder.scores_arrays)
    for device in devices:
        model.results[device.profile.name] = solve_request(
            request.budget,
            device=device.profile,
            spec=model.spec,
            scores=searched_scores(run, scores),
            arrays=arrays,
            workload=model.workload,
            seed=request.seed,
        )


def _scores(model: ChoiceModel) -> Scores:
    return read_record(model.folder.scores, Scores)


def _rows(model: ChoiceModel, device: DeviceProfile, *, is_here: bool) -> tuple[ChoiceRow, ...]:
    result = model.results[device.name]
    measured: Mapping[tuple[str, str], Measured] = {
        (model.name, recipe_hash): entry for recipe_hash, entry in model.measured.items()
    }
    rows = predicted_rows(model.name, model.spec, _scores(model), result)
    return with_measurements(rows, measured, budget=result.budget, is_here=is_here)


def _to_measure(
    request: ChoiceRequest, models: Sequence[ChoiceModel], devices: Sequence[PlacedDevice]
) -> list[ChoiceModel]:
    """The best predicted models on the first device, as many as are to be measured."""
    rows = [row for device in devices for model in models for row in _rows(model, device.profile, is_here=False)]
    order = [row.model for row in rank_rows(rows)][: request.measure_count]
    by_name = {model.name: model for model in models}
    return [by_name[name] for name in order]


def _measure(model: ChoiceModel, request: ChoiceRequest, device: PlacedDevice, progress: Progress) -> str:
    """Every stage of a run, whose search takes the place of the predicted one; the reason when it failed."""
    run = _run_of(model, request, device, progress)
    try:
        with contextlib.closing(run):
            run_stages(STAGES, run)
    except (InfeasibleBudgetError, ModelError) as error:
        return str(error)
    result = read_record(model.folder.front, SearchResult)
    model.results[device.profile.name] = result
    validation = read_record(model.folder.validation, ValidationReport)
    by_label = {entry.label: entry for entry in validation.measurements}
    dense = by_label.get("dense")
    bits = None if dense is None else next((text.bits_per_byte for text in dense.texts if text.name == "domain"), None)
    forms = [*([] if result.chosen is None else [result.chosen]), *result.baselines, result.dense]
    for candidate in forms:
        label = "recipe" if candidate is result.chosen else candidate.label
        if label in by_label:
            model.measured[hash_parts(candidate.recipe)] = Measured(by_label[label], bits)
    return ""


def _rank(device: PlacedDevice, models: Sequence[ChoiceModel], *, is_here: bool) -> DeviceChoice:
    profile = device.profile
    rows = tuple(row for model in models for row in _rows(model, profile, is_here=is_here))
    ranking = rank_rows(rows)
    return DeviceChoice(
        device_name=profile.name,
        device_basis=profile.basis,
        budget=models[0].results[profile.name].budget,
        winner=next((row for row in ranking if row.fits == "met"), None),
        ranking=ranking,
        rows=rows,
        advice=advise(rows),
    )


def _status(model: ChoiceModel, out: Mapping[str, str]) -> ModelStatus:
    reason = out.get(model.name)
    return ModelStatus(
        model=model.given,
        name=model.name,
        status="searched" if reason is None else "cannot_fit",
        reason=reason or "",
        parameter_count=model.spec.parameter_count,
        folder=str(model.folder.root) if reason is None else None,
    )
