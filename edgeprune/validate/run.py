"""Stage 8: measure bundles on this device and judge one of them by a budget.

Takes bundle folders by label (`recipe` is judged; `dense`, `int8` and `int4` stand beside it) and gives a
`ValidationReport`. Every measurement is a fresh process. Speed is measured in rounds over all bundles, so that a
device that warms up or is disturbed does so for all alike. This process only waits while another is timed. A
measurement the device fails is None with a sentence in `failures`; a bundle that is at fault raises ModelError.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from msgspec.structs import replace

from edgeprune.errors import DeviceError, RuntimeUnavailableError, UsageError
from edgeprune.runtime.emulate import emulated, killed_count
from edgeprune.runtime.floor import measure_floor
from edgeprune.runtime.session import CPU_PROVIDER, runtime_info
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.budget import Budget
from edgeprune.schema.device import Conditions, Floor, RuntimeInfo
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.events import Progress
from edgeprune.schema.measurement import ValidationReport
from edgeprune.validate.bundle import OpenBundle, open_bundle
from edgeprune.validate.emulation import check_emulated_memory
from edgeprune.validate.measure import Findings, build_steps, run_steps, summarize_findings
from edgeprune.validate.plain import better_plain
from edgeprune.validate.verdict import check_limits, check_parity, dense_reference, measured_budget, overall

__all__ = ["JUDGED_LABEL", "validate_bundles"]

JUDGED_LABEL = "recipe"


def validate_bundles(
    bundles: Mapping[str, Path],
    *,
    budget: Budget | None,
    device_name: str,
    execution_provider: str = CPU_PROVIDER,
    thread_count: int | None = None,
    progress: Progress,
    conditions: Callable[[], Conditions | None] | None = None,
    quick: bool = False,
    emulation: Emulation | None = None,
) -> ValidationReport:
    """Measure all bundles and judge the one labelled `recipe` (the only one, when there is one).

    Args:
        bundles: label -> bundle folder.
        budget: resolved limits; a default budget is taken again from the measured int8 bundle; None limits nothing.
        device_name: recorded in the report.
        execution_provider: onnxruntime's name of it.
        thread_count: None takes the usable cores.
        progress: told after every process.
        conditions: reads governor, temperature and load before and after; None leaves them unknown.
        quick: the first 64 windows of a text (where the bundle tells the bytes of its tokens) and 100 questions.
        emulation: a smaller device to measure as, as far as this system can enforce it.

    Raises:
        ModelError: a bundle is damaged, malformed or cannot be run.
        RuntimeUnavailableError: onnxruntime or the execution provider is missing.
    """
    with emulated(emulation) as (device, group):
        report = _validate(
            bundles,
            budget=budget or Budget(),
            device_name=device_name,
            execution_provider=execution_provider,
            thread_count=thread_count,
            progress=progress,
            conditions=conditions,
            quick=quick,
        )
        killed = killed_count(group)
    if device is None:
        return report
    judged = next(entry for entry in report.measurements if entry.label == _judged_label(bundles))
    checks = (*report.checks, *check_emulated_memory(device, judged, killed_count=killed))
    # This machine's joules say nothing of the smaller one it stood in for.
    measurements = tuple(replace(entry, energy=None) for entry in report.measurements)
    return replace(report, emulation=device, checks=checks, verdict=overall(checks), measurements=measurements)


def _validate(
    bundles: Mapping[str, Path],
    *,
    budget: Budget,
    device_name: str,
    execution_provider: str,
    thread_count: int | None,
    progress: Progress,
    conditions: Callable[[], Conditions | None] | None,
    quick: bool,
) -> ValidationReport:
    runtime = _require_runtime(execution_provider)
    judged = _judged_label(bundles)
    threads = usable_core_count() if thread_count is None else thread_count
    findings = {label: Findings(open_bundle(folder)) for label, folder in bundles.items()}
    for found in findings.values():
        _require_version(runtime, found.bundle)
    before = None if conditions is None else conditions()
    floor, floor_failure = _measure_floor(threads, execution_provider)
    steps = build_steps(findings, execution_provider, threads, quick)
    run_steps(steps, findings, progress)
    measurements = {label: summarize_findings(label, found, floor, floor_failure) for label, found in findings.items()}
    judged_by, is_memory_limit_missing = measured_budget(budget, measurements)
    manifest, dense = findings[judged].bundle.manifest, measurements.get("dense")
    dense_bits, general_bits = (dense_reference(manifest, dense, text=text) for text in ("domain", "general"))
    checks = check_limits(
        judged_by,
        measurements[judged],
        dense_bits,
        dense_general_bits_per_byte=general_bits,
        is_memory_limit_missing=is_memory_limit_missing,
    ) + check_parity(manifest, measurements[judged])
    return ValidationReport(
        verdict=overall(checks),
        checks=checks,
        budget=judged_by,
        measurements=tuple(measurements.values()),
        device_name=device_name,
        runtime=runtime,
        execution_provider=execution_provider,
        thread_count=threads,
        conditions_before=before,
        conditions_after=None if conditions is None else conditions(),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        better_plain=better_plain(
            judged_by,
            measurements,
            judged=judged,
            dense_bits_per_byte=dense_bits,
            dense_general_bits_per_byte=general_bits,
            is_memory_limit_missing=is_memory_limit_missing,
        ),
    )


def _require_runtime(execution_provider: str) -> RuntimeInfo:
    runtime = runtime_info()
    if runtime.onnxruntime_version is None:
        raise RuntimeUnavailableError("onnxruntime is not installed; run pip install 'edgeprune[cpu]'.")
    if execution_provider not in runtime.execution_providers:
        raise RuntimeUnavailableError(
            f"The execution provider {execution_provider} is not in this onnxruntime, which has "
            f"{', '.join(runtime.execution_providers)}; choose one of these with --ep."
        )
    return runtime


def _require_version(runtime: RuntimeInfo, bundle: OpenBundle) -> None:
    needed, found = bundle.manifest.minimum_onnxruntime, runtime.onnxruntime_version or "0"
    if _numbers(found) < _numbers(needed):
        raise RuntimeUnavailableError(
            f"{bundle.folder} needs onnxruntime {needed} or newer, here is {found}; "
            f"run pip install --upgrade 'onnxruntime>={needed}'."
        )


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 23, 0) for `1.23.0`, and for `1.23.0.dev1` too."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _judged_label(bundles: Mapping[str, Path]) -> str:
    if JUDGED_LABEL in bundles:
        return JUDGED_LABEL
    if len(bundles) == 1:
        return next(iter(bundles))
    raise UsageError(f"None of the bundles {', '.join(bundles) or '(none given)'} is labelled {JUDGED_LABEL}.")


def _measure_floor(threads: int, execution_provider: str) -> tuple[Floor | None, str | None]:
    try:
        return measure_floor(thread_count=threads, execution_provider=execution_provider), None
    except DeviceError as error:
        return None, f"floor: {error}"
