"""The demo on a device without torch: profile, solve for a budget, measure the shipped int4 bundle.

Takes what `python -m edgeprune.demo.ship` made; gives a `DemoReport`. The device data is verified by its manifest and
read where it lies, so the package folder may be read-only. The bundle is measured for its own context, whatever
context the search is asked for.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeprune.artifacts import hash_file, read_arrays, read_record, resolve_inside
from edgeprune.demo.paths import DEVICE_BUNDLE, DEVICE_MANIFEST, demo_device_path
from edgeprune.errors import ModelError
from edgeprune.pipeline.device_stages import attention_shapes, site_shapes
from edgeprune.pipeline.request import context_tokens
from edgeprune.pipeline.settings import EXECUTION_PROVIDERS
from edgeprune.pipeline.solve import solve_request
from edgeprune.predict.cost import CostModel
from edgeprune.profile.conditions import read_conditions
from edgeprune.profile.host import read_cpu
from edgeprune.profile.store import load_profile
from edgeprune.schema.base import Basis, Verdict, worst_verdict
from edgeprune.schema.budget import BudgetRequest, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.demo import DemoFigure, DemoManifest, DemoReport
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.measurement import BundleMeasurement, ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import RunRequest
from edgeprune.schema.scores import ScoreArrays, Scores

__all__ = ["NOTICE", "DemoData", "read_demo", "run_demo"]

NOTICE = (
    "This is a demo: a very small model of a made-up world, shipped to show how budgets, recipes and measurements "
    "work. Its figures carry no claim of quality for any real model."
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """The shipped device data, every file of it verified."""

    manifest: DemoManifest
    spec: ModelSpec
    scores: Scores
    arrays: ScoreArrays
    bundle: Path


def read_demo(folder: Path) -> DemoData:
    """Read and verify the device data of the demo.

    Raises:
        ModelError: a file is missing, or is not the one its manifest describes.
    """
    manifest = read_record(folder / DEVICE_MANIFEST, DemoManifest)
    for entry in manifest.files:
        path = resolve_inside(folder, entry.path)
        if not path.is_file() or path.stat().st_size != entry.size_bytes or hash_file(path) != entry.sha256:
            raise ModelError(
                f"{path} is not the file that the demo's manifest describes; install EdgePrune again, or make it again "
                "with python -m edgeprune.demo.ship."
            )
    return DemoData(
        manifest=manifest,
        spec=read_record(folder / "model.json", ModelSpec),
        scores=read_record(folder / "scores.json", Scores),
        arrays=read_arrays(folder / "scores.npz"),
        bundle=folder / DEVICE_BUNDLE,
    )


def run_demo(
    *,
    device: str | None,
    budget: BudgetRequest | None,
    context: int | None,
    validates: bool,
    thread_count: int | None,
    progress: Progress,
) -> DemoReport:
    """Profile this device or take a named profile, solve the demo, and measure its int4 bundle here.

    Args:
        device: a saved or shipped profile, or a path; None measures this device quickly.
        budget: limits to solve for beside the default budget; None solves for the default alone.
        context: tokens to solve for; None takes the shipped bundle's.
        validates: whether to measure the bundle; it is not where the profile is of another machine.
        thread_count: None takes the usable cores.
        progress: told of each step.

    Raises:
        UsageError: an unknown device, or a limit that cannot be resolved on it.
        ModelError: the shipped data is damaged.
        RuntimeUnavailableError: there is no onnxruntime to measure with.
    """
    clock = _Clock(progress)
    data = read_demo(demo_device_path())
    request = RunRequest(context_tokens=data.manifest.context_tokens if context is None else context)
    workload = Workload(context_tokens=context_tokens(request, data.spec), thread_count=thread_count)
    profile = clock.timed("profile", lambda: _profile(device, data.spec, thread_count, progress), lambda it: it.name)

    def solve(wanted: BudgetRequest) -> SearchResult:
        return solve_request(
            wanted,
            device=profile,
            spec=data.spec,
            scores=data.scores,
            arrays=data.arrays,
            workload=workload,
            seed=data.manifest.seed,
        )

    # Whoever only moves the budget waits for one solve, not for two.
    has_default = budget is None or validates
    default = clock.timed("solve", lambda: solve(BudgetRequest()), _front_size) if has_default else None
    asked = None if budget is None else clock.timed("solve", lambda: solve(budget), _front_size)
    result = asked or default
    assert result is not None
    notes: list[str] = []
    validation = None
    if validates and (elsewhere := _elsewhere(profile)) is not None:
        notes.append(elsewhere)
    elif validates:
        validation = clock.timed("validate", lambda: _validate(data, thread_count, progress), lambda it: it.verdict)
    predicted: Verdict = "not_met" if result.chosen is None else result.predicted
    return DemoReport(
        # Neither stands for the other: the budget is predicted, and only the shipped bundle is measured.
        verdict=worst_verdict([predicted] if validation is None else [predicted, validation.verdict]),
        notice=NOTICE,
        device_name=profile.name,
        context_tokens=workload.context_tokens,
        default=default,
        asked=asked,
        validation=validation,
        figures=_figures(data, profile, result, validation, thread_count),
        notes=tuple(notes),
        took_s=clock.took_s(),
    )


class _Clock:
    """Times the steps and tells of them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._start_s = time.perf_counter()
        self._steps: dict[str, float] = {}

    def timed(self, step: str, action: Callable[[], T], summary: Callable[[T], str]) -> T:
        self._progress.raise_if_cancelled()
        self._progress.emit(Event(kind="stage_started", stage=step))
        start_s = time.perf_counter()
        result = action()
        self._steps[step] = self._steps.get(step, 0.0) + time.perf_counter() - start_s
        self._progress.emit(Event(kind="stage_finished", stage=step, message=summary(result), done_fraction=1.0))
        return result

    def took_s(self) -> dict[str, float]:
        times = self._steps | {"total": time.perf_counter() - self._start_s}
        return {step: round(seconds, 3) for step, seconds in times.items()}


def _profile(device: str | None, spec: ModelSpec, thread_count: int | None, progress: Progress) -> DeviceProfile:
    if device is not None:
        return load_profile(device)
    from edgeprune.profile.run import profile_device  # onnxruntime, which a named profile does not need

    return profile_device(
        name="this-device",
        quick=True,
        disk_path=Path(tempfile.gettempdir()),
        progress=progress,
        thread_count=thread_count,
        shapes=site_shapes(spec),
        attention_shapes=attention_shapes(spec),
    )


def _elsewhere(profile: DeviceProfile) -> str | None:
    """Why a measurement made here would say nothing about the profile's device; None when it is this one."""
    if profile.basis != "measured":
        return f"Nothing was measured: the profile {profile.name} comes from a data sheet, not from this machine."
    here = read_cpu().model
    if profile.cpu.model != here:
        return f"Nothing was measured: {profile.name} is a profile of {profile.cpu.model}, this machine has {here}."
    return None


def _validate(data: DemoData, thread_count: int | None, progress: Progress) -> ValidationReport:
    from edgeprune.validate.run import validate_bundles  # onnxruntime

    return validate_bundles(
        {"recipe": data.bundle},
        budget=None,
        device_name=read_cpu().model or "this device",
        execution_provider=EXECUTION_PROVIDERS["cpu"],
        thread_count=thread_count,
        progress=progress,
        conditions=read_conditions,
    )


def _front_size(result: SearchResult) -> str:
    return f"{len(result.front)} recipes on the front"


def _figures(
    data: DemoData,
    profile: DeviceProfile,
    result: SearchResult,
    validation: ValidationReport | None,
    thread_count: int | None,
) -> tuple[DemoFigure, ...]:
    """Everything known of the shipped bundle, predicted for its own context."""
    measured = None if validation is None else validation.measurements[0]
    manifest = data.manifest
    workload = Workload(context_tokens=manifest.context_tokens, thread_count=thread_count)
    cost_model = CostModel(profile, data.spec, workload)
    int4 = next(entry for entry in result.baselines if entry.label == "int4")
    cost, dense = cost_model.cost(int4.recipe), cost_model.cost(result.dense.recipe)
    disk = None if measured is None else measured.disk_bytes
    peak = None if measured is None else measured.peak_rss_bytes
    model_memory = None if measured is None else measured.model_memory_bytes
    decode = None if measured is None else measured.decode_s
    figures = [
        _figure("disk_bytes", "bytes", float(data.spec.source_bytes), "config", cost.disk_bytes, disk),
        _estimated("peak_rss_bytes", "bytes", dense.peak_rss_bytes.value, cost.peak_rss_bytes.value, peak),
        _estimated(
            "model_memory_bytes", "bytes", dense.model_memory_bytes.value, cost.model_memory_bytes.value, model_memory
        ),
        _estimated("decode_s", "s", dense.decode_s.value, cost.decode_s.value, decode),
    ]
    losses = {"domain": int4.relative_loss, "general": int4.general_relative_loss}
    for name, bits in manifest.dense_bits_per_byte.items():
        loss = losses.get(name)
        expected = None if loss is None else bits * (1.0 + loss)
        figures.append(_figure(f"bits_per_byte.{name}", "bits", bits, "measured", expected, _bits(measured, name)))
    return (
        *figures,
        *(_accuracy(name, dense_share, measured) for name, dense_share in manifest.dense_accuracy.items()),
    )


def _accuracy(name: str, dense: float, measured: BundleMeasurement | None) -> DemoFigure:
    """Nothing predicts an accuracy, so only the dense model's stands beside."""
    found = None if measured is None else next((entry for entry in measured.accuracy if entry.name == name), None)
    return DemoFigure(
        name=f"accuracy.{name}",
        unit="fraction",
        dense=dense,
        dense_basis="measured",
        predicted=None,
        measured=None if found is None else found.accuracy,
        relative_error=None,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
    )


def _bits(measured: BundleMeasurement | None, name: str) -> float | None:
    if measured is None:
        return None
    return next((text.bits_per_byte for text in measured.texts if text.name == name), None)


def _estimated(
    name: str, unit: str, dense: float | None, predicted: float | None, measured: float | None
) -> DemoFigure:
    return _figure(name, unit, dense, "estimated", predicted, measured)


def _figure(
    name: str, unit: str, dense: float | None, basis: Basis, predicted: float | None, measured: float | None
) -> DemoFigure:
    error = (predicted - measured) / measured if predicted is not None and measured else None
    return DemoFigure(
        name=name,
        unit=unit,
        dense=dense,
        dense_basis=basis,
        predicted=predicted,
        measured=measured,
        relative_error=error,
    )
