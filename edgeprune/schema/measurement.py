"""`ValidationReport`: what was measured on the device in fresh processes."""

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.correction import Recalibration
from edgeprune.schema.device import Conditions, RuntimeInfo
from edgeprune.schema.emulation import EmulatedDevice

__all__ = [
    "AccuracyResult",
    "BundleMeasurement",
    "Check",
    "EnergyResult",
    "LatencySamples",
    "MemoryStage",
    "TextResult",
    "ValidationReport",
]


class MemoryStage(Record, frozen=True, kw_only=True):
    """Memory of the measured process up to the end of one stage."""

    stage: str
    """`floor`, `load`, `prefill` or `decode`."""
    peak_rss_bytes: int
    """VmHWM at the end of the stage."""
    rss_bytes: int | None
    anonymous_bytes: int | None
    """RssAnon at the end of the stage."""
    cgroup_peak_bytes: int | None = None
    available_drop_bytes: int | None = None
    """Fall of MemAvailable since before loading; meaningful where an accelerator shares memory."""
    device_bytes: int | None = None
    """Memory of the accelerator used by this process."""


class LatencySamples(Record, frozen=True, kw_only=True):
    """Times of one quantity in one process."""

    samples_s: tuple[float, ...]
    median_s: float
    p95_s: float


class TextResult(Record, frozen=True, kw_only=True):
    """Bits-per-byte on one text."""

    name: str
    bits_per_byte: float
    loss_nats: float
    scored_token_count: int
    scored_bytes: int


class AccuracyResult(Record, frozen=True, kw_only=True):
    """Accuracy on one set of questions."""

    name: str
    accuracy: float
    low: float
    """Wilson 95 % interval."""
    high: float
    question_count: int


class EnergyResult(Record, frozen=True, kw_only=True):
    """Energy of decoding, as the machine's own meters count it."""

    token_j: float
    """Joules per token of the whole chips, their idle power and whatever else ran included."""
    token_count: int
    """Tokens it is the mean of."""
    meters: tuple[str, ...]
    """Counters in the sum: `package-0`, `dram` (RAPL), `gpu-0` (NVML)."""


class BundleMeasurement(Record, frozen=True, kw_only=True):
    """Everything measured of one bundle; None where a measurement could not be made."""

    label: str
    disk_bytes: int
    """Bundle without evaluation sets."""
    weights_bytes: int
    memory: tuple[MemoryStage, ...]
    floor_bytes: int | None
    peak_rss_bytes: int | None
    model_memory_bytes: int | None
    load_time_s: float | None
    prefill: LatencySamples | None
    """Whole prompts, one sample a process."""
    time_to_first_token_s: float | None
    decode: tuple[LatencySamples, ...]
    """One per fresh process, in order."""
    decode_s: float | None
    """Lowest median over the processes: what meets a latency limit."""
    texts: tuple[TextResult, ...]
    accuracy: tuple[AccuracyResult, ...]
    greedy_matched_count: int | None
    """Leading reference tokens this device reproduced."""
    has_degenerate_loop: bool | None
    failures: tuple[str, ...] = ()
    """Measurements that failed, one sentence each."""
    energy: EnergyResult | None = None
    """Of a decoded token, the lowest of the processes; None where no meter can be read, or another device is
    emulated."""
    huge_page_bytes: int | None = None
    """Of the memory, in huge pages while tokens were timed, the least of the processes; None where that is not told."""


class Check(Record, frozen=True, kw_only=True):
    """One limit against its measurement."""

    quantity: str
    """`memory`, `device memory`, `latency`, `first token`, `disk`, `loss`, `general loss` or `accuracy` (the only one
    with a least value instead of a largest); `parity` where the manifest holds torch's own figures;
    `emulated_memory` where less memory was emulated."""
    limit: float
    measured: float | None
    unit: str
    verdict: Verdict


class ValidationReport(Record, frozen=True, kw_only=True):
    """Measurements of a bundle and of what it is compared with, and the verdict."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    checks: tuple[Check, ...]
    budget: Budget
    measurements: tuple[BundleMeasurement, ...]
    """The chosen recipe is labelled `recipe`."""
    device_name: str
    runtime: RuntimeInfo
    execution_provider: str
    thread_count: int
    conditions_before: Conditions | None
    conditions_after: Conditions | None
    created_at: str
    emulation: EmulatedDevice | None = None
    """The smaller device this one stood in for; None when it was measured as it is."""
    recalibration: Recalibration | None = None
    """How these measurements corrected the device's profile; None where that was not asked for."""
    better_plain: str | None = None
    """A sentence about a plain bundle that meets every limit too and loses less; None where none does."""
