"""`Meters`: what this machine is doing at one moment."""

from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["GpuMeter", "Meters"]


class GpuMeter(Record, frozen=True, kw_only=True):
    """One GPU at one moment; None where its driver does not tell."""

    name: str
    load_fraction: float | None
    used_bytes: int | None
    total_bytes: int | None
    temperature_c: float | None


class Meters(Record, frozen=True, kw_only=True):
    """Memory, cores and GPUs at one moment; None where the system does not tell."""

    schema_version: int = SCHEMA_VERSION
    time_s: float
    """Seconds since the epoch."""
    total_bytes: int | None
    """Main memory, or the cgroup's limit where that is smaller."""
    available_bytes: int | None
    """What new programs could take without swapping."""
    core_loads: tuple[float, ...]
    """Busy share of each core since the moment before; empty at the first."""
    temperature_c: float | None
    """Of the hottest sensor of the processor."""
    gpus: tuple[GpuMeter, ...] = ()
