"""The measurements of a validation in their order, and what they add up to.

Speed is measured in rounds over all bundles, so that a device that warms up or is disturbed does so for all alike;
then come texts, questions and generation, bundle by bundle. Each step is one fresh process.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgeprune.errors import DeviceError
from edgeprune.runtime.timing import summarize
from edgeprune.schema.device import Floor
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.measurement import AccuracyResult, BundleMeasurement, TextResult
from edgeprune.validate.accuracy import ChoiceRequest, run_accuracy
from edgeprune.validate.bundle import OpenBundle
from edgeprune.validate.energy import lowest_energy
from edgeprune.validate.latency import SpeedAnswer, SpeedRequest, lowest_median_s, run_speed
from edgeprune.validate.memory import floor_stage, largest, model_memory_bytes, peak_bytes
from edgeprune.validate.sanity import SanityAnswer, SanityRequest, run_sanity
from edgeprune.validate.text import TextRequest, run_text

__all__ = ["Findings", "Step", "build_steps", "run_steps", "summarize_findings"]

_PROCESS_COUNT = 3
_TIMEOUT_S = 3600.0
"""Of one process: a slow board may need half an hour for a long text."""


@dataclass
class Findings:
    """What has been measured of one bundle so far."""

    bundle: OpenBundle
    speed: list[SpeedAnswer] = field(default_factory=list)
    texts: list[TextResult] = field(default_factory=list)
    accuracy: list[AccuracyResult] = field(default_factory=list)
    sanity: SanityAnswer | None = None
    failures: list[str] = field(default_factory=list)


Step = tuple[str, str, Callable[[], None]]
"""Label, what is measured, and the measurement, which puts its result into the findings."""


def build_steps(findings: Mapping[str, Findings], execution_provider: str, threads: int, quick: bool) -> list[Step]:
    """All steps in order: rounds of speed over all bundles, then the quality of each."""
    steps: list[Step] = []
    for number in range(_PROCESS_COUNT):
        for label, found in findings.items():
            what = f"speed and memory, process {number + 1} of {_PROCESS_COUNT}"
            steps.append((label, what, _speed_step(found, execution_provider, threads)))
    for label, found in findings.items():
        steps.extend((label, what, call) for what, call in _quality_steps(found, execution_provider, threads, quick))
    return steps


def _speed_step(found: Findings, execution_provider: str, threads: int) -> Callable[[], None]:
    workload = found.bundle.manifest.workload
    request = SpeedRequest(
        model=str(found.bundle.model_path),
        execution_provider=execution_provider,
        thread_count=threads,
        context_tokens=workload.context_tokens,
        prefill_chunk_tokens=workload.prefill_chunk_tokens,
        decode_tokens=workload.decode_tokens,
    )
    return lambda: found.speed.append(run_speed(request, timeout_s=_TIMEOUT_S))


def _quality_steps(
    found: Findings, execution_provider: str, threads: int, quick: bool
) -> list[tuple[str, Callable[[], None]]]:
    bundle, manifest = found.bundle, found.bundle.manifest
    model, workload = str(bundle.model_path), manifest.workload
    steps: list[tuple[str, Callable[[], None]]] = []
    for text in manifest.texts:
        text_request = TextRequest(
            model=model,
            execution_provider=execution_provider,
            thread_count=threads,
            prefill_chunk_tokens=workload.prefill_chunk_tokens,
            text=text,
            path=str(bundle.path(text.path)),
            is_quick=quick,
        )
        steps.append((f"text {text.name}", _text_step(found, text_request)))
    for choices in manifest.choices:
        choice_request = ChoiceRequest(
            model=model,
            execution_provider=execution_provider,
            thread_count=threads,
            context_tokens=workload.context_tokens,
            prefill_chunk_tokens=workload.prefill_chunk_tokens,
            choices=choices,
            path=str(bundle.path(choices.path)),
            is_quick=quick,
        )
        steps.append((f"questions {choices.name}", _accuracy_step(found, choice_request)))
    if manifest.parity.greedy_prompt:
        sanity_request = SanityRequest(
            model=model,
            execution_provider=execution_provider,
            thread_count=threads,
            context_tokens=workload.context_tokens,
            prefill_chunk_tokens=workload.prefill_chunk_tokens,
            prompt=manifest.parity.greedy_prompt,
            reference=manifest.parity.greedy_tokens,
            stop=manifest.spec.eos_token_ids,
        )
        steps.append(("generation", _sanity_step(found, sanity_request)))
    return steps


def _text_step(found: Findings, request: TextRequest) -> Callable[[], None]:
    return lambda: found.texts.append(run_text(request, timeout_s=_TIMEOUT_S))


def _accuracy_step(found: Findings, request: ChoiceRequest) -> Callable[[], None]:
    return lambda: found.accuracy.append(run_accuracy(request, timeout_s=_TIMEOUT_S))


def _sanity_step(found: Findings, request: SanityRequest) -> Callable[[], None]:
    def generate() -> None:
        found.sanity = run_sanity(request, timeout_s=_TIMEOUT_S)

    return generate


def run_steps(steps: list[Step], findings: Mapping[str, Findings], progress: Progress) -> None:
    """Take every step; what the device fails becomes a sentence in `failures`.

    Raises:
        ModelError: a bundle cannot be run.
        Cancelled: the user interrupted.
    """
    start_s = time.monotonic()
    for number, (label, what, measure) in enumerate(steps):
        progress.raise_if_cancelled()
        try:
            measure()
        except DeviceError as error:
            findings[label].failures.append(f"{what}: {error}")
        done_fraction = (number + 1) / len(steps)
        elapsed_s = time.monotonic() - start_s
        progress.emit(
            Event(
                kind="stage_advanced",
                stage="validate",
                message=f"{label}: {what}",
                done_fraction=done_fraction,
                remaining_s=elapsed_s * (1.0 / done_fraction - 1.0),
            )
        )


def summarize_findings(
    label: str, found: Findings, floor: Floor | None, floor_failure: str | None
) -> BundleMeasurement:
    """One bundle's row of the report."""
    stages = largest([answer.stages for answer in found.speed])
    decode = tuple(answer.decode for answer in found.speed)
    prefill = summarize([answer.prefill_s for answer in found.speed]) if found.speed else None
    failures = found.failures if floor_failure is None else [floor_failure, *found.failures]
    huge = [answer.huge_page_bytes for answer in found.speed]
    return BundleMeasurement(
        label=label,
        disk_bytes=found.bundle.disk_bytes,
        weights_bytes=found.bundle.weights_bytes,
        memory=stages if floor is None else (floor_stage(floor), *stages),
        floor_bytes=None if floor is None else floor.peak_rss_bytes,
        peak_rss_bytes=peak_bytes(stages),
        model_memory_bytes=model_memory_bytes(stages, floor),
        load_time_s=min((answer.load_time_s for answer in found.speed), default=None),
        prefill=prefill,
        time_to_first_token_s=None if prefill is None else prefill.median_s,
        decode=decode,
        decode_s=lowest_median_s(decode),
        texts=tuple(found.texts),
        accuracy=tuple(found.accuracy),
        greedy_matched_count=None if found.sanity is None else found.sanity.greedy_matched_count,
        has_degenerate_loop=None if found.sanity is None else found.sanity.has_degenerate_loop,
        failures=tuple(failures),
        energy=lowest_energy([answer.energy for answer in found.speed]),
        huge_page_bytes=None if None in huge else min((size for size in huge if size is not None), default=None),
    )
