"""The device `fit` answers for: a named profile, a saved one of this machine, or what a second of measuring tells.

A full profile times kernels for half a minute. For a first answer the memory this process may use, the bandwidth of
main memory and the floor are enough: speeds are then rooflines, and say so.
"""

from datetime import datetime, timezone
from typing import NamedTuple

from edgeprune.errors import DeviceError
from edgeprune.profile.bandwidth import curve_sizes, measure_bandwidth
from edgeprune.profile.host import last_level_cache_bytes, read_cpu
from edgeprune.profile.limits import read_memory_info
from edgeprune.profile.store import list_profiles, load_profile
from edgeprune.runtime.floor import measure_floor
from edgeprune.runtime.session import runtime_info
from edgeprune.schema.device import CpuInfo, DeviceProfile, Floor, RuntimeInfo
from edgeprune.schema.events import Event, Progress

__all__ = ["FitDevice", "device_for_fit", "measure_briefly"]

THIS_DEVICE = "this-device"
_SAMPLES = 3
_CACHES = 4
"""An array of four times the last-level cache leaves less than a quarter of each pass in it."""


class FitDevice(NamedTuple):
    """A profile and whether it stood somewhere before."""

    profile: DeviceProfile
    is_saved: bool


def device_for_fit(name: str | None, *, progress: Progress, thread_count: int | None = None) -> FitDevice:
    """The profile of that name or path; without one, the newest saved profile of this machine, or a brief look at it.

    Raises:
        UsageError: no such profile.
        DeviceError: this machine could not be measured.
    """
    if name is not None:
        return FitDevice(load_profile(name), True)
    saved = _saved_here(read_cpu())
    if saved is not None:
        return FitDevice(saved, True)
    return FitDevice(measure_briefly(progress=progress, thread_count=thread_count), False)


def measure_briefly(*, progress: Progress, thread_count: int | None = None) -> DeviceProfile:
    """Usable memory, bandwidth of main memory, and the floor where onnxruntime is installed; about two seconds.

    Raises:
        DeviceError: the bandwidth could not be measured.
    """
    progress.emit(Event(kind="stage_started", stage="device"))
    cpu, memory = read_cpu(), read_memory_info()
    threads = thread_count or cpu.usable_core_count or 1
    # Decoding streams weights, so arrays must be of a size that no cache holds; larger ones only take longer.
    sizes = curve_sizes(memory.available_bytes or memory.usable_bytes)
    cache = last_level_cache_bytes(cpu.caches)
    beyond = [size for size in sizes if cache is not None and size >= _CACHES * cache]
    bandwidth = measure_bandwidth(
        beyond[:1] or sizes[-1:], thread_counts=(threads,), sample_count=_SAMPLES, before=progress.raise_if_cancelled
    )
    progress.raise_if_cancelled()
    runtime = runtime_info()
    profile = DeviceProfile(
        name=THIS_DEVICE,
        basis="measured",
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        is_quick=True,
        cpu=cpu,
        memory=memory,
        bandwidth=bandwidth,
        runtime=runtime,
        thread_count=threads,
        floor=_floor(runtime, threads),
        notes=("Kernels were not timed.",),
    )
    progress.emit(Event(kind="stage_finished", stage="device", message=cpu.model or cpu.architecture))
    return profile


def _floor(runtime: RuntimeInfo, threads: int) -> Floor | None:
    if runtime.onnxruntime_version is None:
        return None
    try:
        return measure_floor(thread_count=threads)
    except DeviceError:
        return None  # the caller assumes one and says so


def _saved_here(cpu: CpuInfo) -> DeviceProfile | None:
    """The newest saved profile measured on a processor like this one with as many usable cores."""
    found = []
    for entry in list_profiles():
        if not entry.is_saved or entry.basis != "measured":
            continue
        profile = load_profile(str(entry.path))
        if (profile.cpu.model, profile.cpu.usable_core_count) == (cpu.model, cpu.usable_core_count):
            found.append(profile)
    return max(found, key=lambda profile: profile.created_at or "", default=None)
