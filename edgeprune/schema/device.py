"""`DeviceProfile`: what was measured of a device, or read from its data sheet."""

from typing import Literal

import msgspec

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record
from edgeprune.schema.correction import Corrections
from edgeprune.schema.emulation import EmulatedDevice

__all__ = [
    "AcceleratorInfo",
    "AttentionTime",
    "BandwidthPoint",
    "CacheInfo",
    "Conditions",
    "CpuInfo",
    "DeviceProfile",
    "DiskInfo",
    "Floor",
    "KernelMemory",
    "KernelTime",
    "MemoryInfo",
    "RuntimeInfo",
    "RuntimeOverhead",
]


class CacheInfo(Record, frozen=True, kw_only=True):
    """One cache of the processor."""

    level: int
    kind: Literal["data", "instruction", "unified"]
    size_bytes: int
    instance_count: int | None = None
    """How many of this size the machine has; None when unknown."""


class CpuInfo(Record, frozen=True, kw_only=True):
    """The processor as this process may use it."""

    model: str | None
    architecture: str
    """`platform.machine()`, such as x86_64 or aarch64."""
    physical_core_count: int | None
    logical_core_count: int | None
    usable_core_count: int | None
    """Cores left by affinity and cgroup quota, rounded up; the default thread count."""
    instruction_sets: tuple[str, ...]
    """Of avx2, avx512, amx, vnni, neon, dotprod, i8mm: those present."""
    caches: tuple[CacheInfo, ...]


class MemoryInfo(Record, frozen=True, kw_only=True):
    """Main memory; swap and zram are never counted."""

    total_bytes: int | None
    usable_bytes: int | None
    """The smaller of the total and every cgroup limit above this process."""
    available_bytes: int | None
    """MemAvailable at the time of profiling, capped by the cgroup's remainder."""
    limited_by: str | None = None
    """`cgroup2`, `cgroup1`, `emulation`, or None when nothing limits this process below the total."""


class BandwidthPoint(Record, frozen=True, kw_only=True):
    """Memory bandwidth with one array size and thread count (bytes moved, STREAM counting)."""

    array_bytes: int
    """Size of one array; triad uses three of them."""
    thread_count: int
    read_best_bytes_per_s: float | None
    read_median_bytes_per_s: float | None
    triad_best_bytes_per_s: float | None
    triad_median_bytes_per_s: float | None


class AcceleratorInfo(Record, frozen=True, kw_only=True):
    """One GPU or other accelerator."""

    name: str
    kind: str
    """`cuda`, `rocm`, `mali`, `unknown`, ..."""
    total_bytes: int | None
    free_bytes: int | None
    is_unified: bool | None
    """True when it shares main memory with the processor."""
    copy_bandwidth_bytes_per_s: float | None
    driver_version: str | None = None
    compute_capability: str | None = None


class RuntimeInfo(Record, frozen=True, kw_only=True):
    """The onnxruntime found on the device."""

    onnxruntime_version: str | None
    execution_providers: tuple[str, ...]


class KernelTime(Record, frozen=True, kw_only=True):
    """Measured time of one site under one kernel, inside a chain of such sites in one onnxruntime session."""

    kernel: str
    rows: int
    """Tokens multiplied at once."""
    in_features: int
    out_features: int
    rank: int | None
    """None for one dense matrix; otherwise two factors [rank, in] and [out, rank]."""
    is_cached: bool
    """True when all weights of the chain fit the last-level cache, False when they stream from memory."""
    time_s: float
    """Seconds of one site: lower quartile of interleaved repeats, since disturbance only adds time."""


class CachePoint(Record, frozen=True, kw_only=True):
    """How much of a working set the caches hold from one token to the next, as times show it."""

    working_set_bytes: int
    cached_fraction: float
    """1 where weights are read as fast as those of a small working set, 0 where all come from memory."""


class AttentionTime(Record, frozen=True, kw_only=True):
    """Measured time of one GroupQueryAttention node with rotary embedding inside."""

    rows: int
    """New tokens."""
    past_tokens: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    time_s: float
    kv_bits: int = 32
    """Bits of a cached key or value."""
    is_cached: bool = True
    """Whether the keys and values of all timed nodes fit the last-level cache."""


class KernelMemory(Record, frozen=True, kw_only=True):
    """What a kernel's weights occupy once a session has prepared them."""

    kernel: str
    resident_fraction: float
    """Resident bytes after loading / stored bytes (prepacking makes it differ from one)."""
    peak_fraction: float
    """Peak resident bytes while loading / stored bytes."""


class RuntimeOverhead(Record, frozen=True, kw_only=True):
    """Fixed costs of running a graph."""

    node_s: float | None
    """Seconds one more trivial node adds to a run."""
    run_s: float | None
    """Seconds of running a graph of one node."""
    binding_s: float | None
    """Seconds one more bound input and output pair adds to a run."""
    norm_s_per_element: float | None = None
    """Seconds per element of SkipSimplifiedLayerNormalization beyond the node's fixed cost."""
    node_bytes: int | None = None
    """Resident bytes one more node of a decoder graph adds to a session, weights apart."""
    session_bytes: int | None = None
    """Resident bytes a decoder's session adds to the floor's one-node session, nodes and weights apart."""


class Floor(Record, frozen=True, kw_only=True):
    """Peak resident memory of a process that imports what validation imports and runs a one-node session."""

    peak_rss_bytes: int
    anonymous_bytes: int | None
    """Its anonymous part (RssAnon) at the end."""
    basis: Basis = "measured"


class DiskInfo(Record, frozen=True, kw_only=True):
    """The disk that holds the run folder."""

    read_bytes_per_s: float | None


class Conditions(Record, frozen=True, kw_only=True):
    """What may have disturbed the measurement; None where the system does not tell."""

    governor: str | None
    temperature_c: float | None
    is_throttled: bool | None
    load_1min: float | None


class DeviceProfile(Record, frozen=True, kw_only=True):
    """Everything known of one device."""

    schema_version: int = SCHEMA_VERSION
    name: str
    basis: Basis
    """`measured` for `edgeprune profile`; `datasheet` for shipped boards."""
    created_at: str | None = None
    """UTC time in ISO 8601; None for data sheets."""
    is_quick: bool = False
    cpu: CpuInfo
    memory: MemoryInfo
    bandwidth: tuple[BandwidthPoint, ...] = ()
    peak_bandwidth_bytes_per_s: float | None = None
    """Data-sheet bandwidth; None for measured profiles, whose curve says more."""
    accelerators: tuple[AcceleratorInfo, ...] = ()
    runtime: RuntimeInfo
    thread_count: int | None = None
    """Threads with which kernels were timed."""
    kernel_times: tuple[KernelTime, ...] = ()
    cache_curve: tuple[CachePoint, ...] = ()
    """Growing working sets; empty where the cache's size as the system tells it has to do."""
    attention_times: tuple[AttentionTime, ...] = ()
    kernel_memory: tuple[KernelMemory, ...] = ()
    overhead: RuntimeOverhead | None = None
    floor: Floor | None = None
    disk: DiskInfo | None = None
    conditions: Conditions | None = None
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    """For data sheets: dotted field path -> where the value is printed."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why; one sentence each."""
    emulation: EmulatedDevice | None = None
    """The smaller device that was profiled on this one; None for the device as it is."""
    corrections: Corrections | None = None
    """What bundles measured on this device taught since; None before the first recalibration."""
