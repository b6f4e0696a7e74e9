"""Limits against measurements: a check per limit, and one verdict of all.

    memory    peak resident bytes of the process, floor included           <= budget.memory_bytes
    device memory  largest use of the accelerator by the process           <= budget.device_memory_bytes
    latency   lowest median seconds per token of the fresh processes       <= budget.latency_s
    first token    median seconds of a whole prompt                        <= budget.first_token_s
    disk      bytes of the bundle without evaluation sets                  <= budget.disk_bytes
    loss      bits-per-byte on the domain text / the dense bundle's        <= 1 + budget.max_loss
    general loss   the same on the general text                            <= 1 + budget.max_general_loss
    accuracy  right answers / questions, over all of the task file         >= budget.min_accuracy
    parity    |loss - torch's| / torch's, where the manifest has torch's   <= 5 %
              torch's accuracy inside the measured 95 % interval

With no budget given the limits are those of the measured int8 bundle: 60 % of its bytes on disk and its peak memory.
Percentages are of the measured dense bundle; `--memory 60%` is the floor plus 60 % of what the dense model adds.
A limit without a measurement is `unmeasured`, never `met`.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edgeprune.schema.base import Verdict, worst_verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.measurement import BundleMeasurement, Check, TextResult

__all__ = [
    "DEFAULT_DISK_FRACTION",
    "bits_per_byte",
    "check_limits",
    "check_parity",
    "dense_reference",
    "measured_budget",
    "overall",
]

DEFAULT_DISK_FRACTION = 0.6
"""Of the plain int8 bundle's bytes, when the user gives no budget."""

_LOSS_TEXT = "domain"
_GENERAL_TEXT = "general"
QUESTIONS_STEP = "questions"
"""How the step that asks questions is called; a failure's sentence begins with it."""
_PARITY_TOLERANCE = 0.05
"""int8 activations move the loss by less than 1 %; damaged weights by far more."""


def measured_budget(budget: Budget, measurements: Mapping[str, BundleMeasurement]) -> tuple[Budget, bool]:
    """The budget to judge by, and whether its memory limit is missing.

    A default budget is taken from the measured int8 bundle and percentages from the measured dense bundle; without
    those bundles the predicted limits stay.
    """
    int8, dense = measurements.get("int8"), measurements.get("dense")
    if budget.origin == "default" and int8 is not None:
        disk_bytes = int(DEFAULT_DISK_FRACTION * int8.disk_bytes)
        if int8.peak_rss_bytes is None:
            return replace(budget, disk_bytes=disk_bytes), True
        return replace(budget, disk_bytes=disk_bytes, memory_bytes=int8.peak_rss_bytes - budget.reserve_bytes), False
    is_memory_limit_missing = False
    if budget.memory_percent_of_dense is not None and dense is not None:
        if dense.model_memory_bytes is None or dense.floor_bytes is None:
            is_memory_limit_missing = True
        else:
            total = dense.floor_bytes + budget.memory_percent_of_dense * dense.model_memory_bytes
            budget = replace(budget, memory_bytes=int(total) - budget.reserve_bytes)
    if budget.latency_percent_of_dense is not None and dense is not None and dense.decode_s is not None:
        budget = replace(budget, latency_s=budget.latency_percent_of_dense * dense.decode_s)
    first_s = None if dense is None else dense.time_to_first_token_s
    if budget.first_token_percent_of_dense is not None and first_s is not None:
        budget = replace(budget, first_token_s=budget.first_token_percent_of_dense * first_s)
    on_device = None if dense is None else _device_bytes(dense)
    if budget.device_memory_percent_of_dense is not None and on_device is not None:
        budget = replace(budget, device_memory_bytes=int(budget.device_memory_percent_of_dense * on_device))
    return budget, is_memory_limit_missing


def check_limits(
    budget: Budget,
    chosen: BundleMeasurement,
    dense_bits_per_byte: float | None,
    *,
    dense_general_bits_per_byte: float | None = None,
    is_memory_limit_missing: bool = False,
) -> tuple[Check, ...]:
    """One check per limit that is set."""
    checks = []
    if budget.memory_bytes is not None:
        peak = None if is_memory_limit_missing else chosen.peak_rss_bytes
        checks.append(_check("memory", budget.memory_bytes, peak, "bytes"))
    if budget.device_memory_bytes is not None:
        checks.append(_check("device memory", budget.device_memory_bytes, _device_bytes(chosen), "bytes"))
    if budget.latency_s is not None:
        checks.append(_check("latency", budget.latency_s, chosen.decode_s, "s"))
    if budget.first_token_s is not None:
        checks.append(_check("first token", budget.first_token_s, chosen.time_to_first_token_s, "s"))
    if budget.disk_bytes is not None:
        checks.append(_check("disk", budget.disk_bytes, chosen.disk_bytes, "bytes"))
    for name, limit, text, dense_bits in (
        ("loss", budget.max_loss, _LOSS_TEXT, dense_bits_per_byte),
        ("general loss", budget.max_general_loss, _GENERAL_TEXT, dense_general_bits_per_byte),
    ):
        if limit is not None:
            own = bits_per_byte(chosen, text)
            ratio = None if own is None or not dense_bits else own / dense_bits
            checks.append(_check(name, 1.0 + limit, ratio, "x dense"))
    if budget.min_accuracy is not None:
        checks.append(_least("accuracy", budget.min_accuracy, _accuracy(chosen), "fraction"))
    return tuple(checks)


def dense_reference(
    manifest: BundleManifest, dense: BundleMeasurement | None, *, text: str = _LOSS_TEXT
) -> float | None:
    """Bits-per-byte of the dense model on a text; None where it is not known.

    Measured here where the dense bundle stands beside, otherwise what torch computed at export.
    """
    if dense is not None:
        return bits_per_byte(dense, text)
    return next((entry.dense_bits_per_byte for entry in manifest.texts if entry.name == text), None)


def check_parity(manifest: BundleManifest, chosen: BundleMeasurement) -> tuple[Check, ...]:
    """Whether the device computes what torch computed of the same weights, where the manifest tells that."""
    checks = []
    texts = {result.name: result for result in chosen.texts}
    for text in manifest.texts:
        if text.reference_loss_nats is None:
            continue
        result = texts.get(text.name)
        difference = None if result is None else _relative_difference(result, text.reference_loss_nats)
        checks.append(_check("parity", _PARITY_TOLERANCE, difference, f"relative loss difference, {text.name}"))
    answers = {result.name: result for result in chosen.accuracy}
    for choices in manifest.choices:
        if choices.reference_accuracy is None:
            continue
        accuracy = answers.get(choices.name)
        unit = f"accuracy difference, {choices.name}"
        if accuracy is None:
            checks.append(_check("parity", 0.0, None, unit))
            continue
        reference = choices.reference_accuracy
        allowed = (
            accuracy.high - accuracy.accuracy if reference > accuracy.accuracy else accuracy.accuracy - accuracy.low
        )
        checks.append(_check("parity", allowed, abs(reference - accuracy.accuracy), unit))
    return tuple(checks)


def overall(checks: Sequence[Check]) -> Verdict:
    """`not_met` if any limit is, otherwise `unmeasured` if any is, otherwise `met`."""
    return worst_verdict(check.verdict for check in checks)


def bits_per_byte(measurement: BundleMeasurement, text: str) -> float | None:
    """Of one text; None where it was not measured."""
    return next((result.bits_per_byte for result in measurement.texts if result.name == text), None)


def _check(quantity: str, limit: float, measured: float | None, unit: str) -> Check:
    verdict: Verdict = "unmeasured" if measured is None else "met" if measured <= limit else "not_met"
    return Check(quantity=quantity, limit=limit, measured=measured, unit=unit, verdict=verdict)


def _least(quantity: str, limit: float, measured: float | None, unit: str) -> Check:
    verdict: Verdict = "unmeasured" if measured is None else "met" if measured >= limit else "not_met"
    return Check(quantity=quantity, limit=limit, measured=measured, unit=unit, verdict=verdict)


def _accuracy(measurement: BundleMeasurement) -> float | None:
    """Over all sets of questions together; None without questions, or when a set could not be asked."""
    count = sum(result.question_count for result in measurement.accuracy)
    if not count or any(failure.startswith(QUESTIONS_STEP) for failure in measurement.failures):
        return None
    return sum(result.accuracy * result.question_count for result in measurement.accuracy) / count


def _device_bytes(measurement: BundleMeasurement) -> int | None:
    """Largest use of the accelerator at any stage; None where no stage tells."""
    return max((stage.device_bytes for stage in measurement.memory if stage.device_bytes is not None), default=None)


def _relative_difference(result: TextResult, reference_loss_nats: float) -> float | None:
    if reference_loss_nats <= 0.0:
        return None
    return abs(result.loss_nats - reference_loss_nats) / reference_loss_nats
