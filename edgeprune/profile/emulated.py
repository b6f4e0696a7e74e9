"""Profiling as a smaller device: what can be measured is measured under its limits, what cannot is capped."""

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeprune.profile.attention import AttentionShape
from edgeprune.profile.kernel_plan import Shape
from edgeprune.profile.run import profile_device
from edgeprune.runtime.emulate import emulated
from edgeprune.schema.device import DeviceProfile, MemoryInfo
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.events import Progress

__all__ = ["profile_emulated"]


def profile_emulated(
    emulation: Emulation | None,
    *,
    name: str,
    quick: bool,
    disk_path: Path,
    progress: Progress,
    thread_count: int | None = None,
    shapes: Sequence[Shape] = (),
    attention_shapes: Sequence[AttentionShape] = (),
) -> DeviceProfile:
    """`profile_device` under an emulation; None measures this device as it is.

    Raises:
        UsageError: more cores than this process may use.
        DeviceError: this system cannot limit cores, or a measurement failed.
    """
    with emulated(emulation) as (device, _):
        profile = profile_device(
            name=name,
            quick=quick,
            disk_path=disk_path,
            progress=progress,
            thread_count=thread_count,
            shapes=shapes,
            attention_shapes=attention_shapes,
        )
    if device is None:
        return profile
    memory = profile.memory if device.memory_bytes is None else _capped(profile.memory, device.memory_bytes)
    return replace(profile, memory=memory, emulation=device)


def _capped(memory: MemoryInfo, limit: int) -> MemoryInfo:
    if memory.usable_bytes is not None and memory.usable_bytes <= limit:
        return memory
    available = None if memory.available_bytes is None else min(memory.available_bytes, limit)
    return replace(memory, usable_bytes=limit, available_bytes=available, limited_by="emulation")
