"""Profiling a device from end to end: everything measured, in under 30 s (under 8 s when quick) where nobody disturbs.

Order: what is read first; then times, on a machine still quiet; then memory, in fresh processes that may run beside
each other, since memory does not depend on who else runs.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from msgspec.structs import replace

from edgeprune.errors import DeviceError, ModelError, UsageError
from edgeprune.profile.accelerators import find_accelerators
from edgeprune.profile.attention import AttentionShape
from edgeprune.profile.bandwidth import curve_sizes, measure_bandwidth
from edgeprune.profile.conditions import disturbances, read_conditions
from edgeprune.profile.disk import measure_disk
from edgeprune.profile.floor import median_floor
from edgeprune.profile.host import last_level_cache_bytes, read_cpu
from edgeprune.profile.kernel_plan import ALL_KERNELS, QUICK_KERNELS, Shape, default_groups, quick_groups
from edgeprune.profile.limits import read_memory_info
from edgeprune.profile.session_memory import (
    FEW_BLOCKS,
    MANY_BLOCKS,
    SessionMemory,
    observe_decoder,
    session_memory,
)
from edgeprune.profile.speeds import SpeedPlan, measure_speeds
from edgeprune.profile.weights_memory import measure_kernel_memory
from edgeprune.runtime import floor as runtime_floor
from edgeprune.runtime.session import import_onnxruntime, runtime_info
from edgeprune.schema.device import BandwidthPoint, DeviceProfile, Floor, KernelMemory
from edgeprune.schema.events import Event, Progress

__all__ = ["profile_device"]

_STAGE = "profile"
_MOST_PROBE_BYTES = 256 << 20

_ATTENTION_SHAPES: tuple[AttentionShape, ...] = ((4, 2, 64), (12, 12, 64), (32, 8, 64))


@dataclass(frozen=True)
class _Effort:
    """How much is measured."""

    bandwidth_samples: int
    disk_bytes: int
    disk_samples: int
    rounds: int
    passes: int
    kernels: tuple[str, ...]
    table_s: float
    own_shape_s: float
    """Added to the table's time for each shape of the user's."""
    attention_shapes: tuple[AttentionShape, ...]
    attention_points: tuple[tuple[int, int], ...]
    memory_kernels: tuple[str, ...]
    floor_processes: int


_DEFAULT = _Effort(
    bandwidth_samples=9,
    disk_bytes=64 << 20,
    disk_samples=3,
    rounds=5,
    passes=2,
    kernels=ALL_KERNELS,
    table_s=13.0,
    own_shape_s=1.0,
    attention_shapes=_ATTENTION_SHAPES,
    attention_points=((1, 127), (1, 511), (1, 1023), (128, 0), (512, 0)),
    memory_kernels=ALL_KERNELS,
    floor_processes=3,
)
_QUICK = _Effort(
    bandwidth_samples=3,
    disk_bytes=16 << 20,
    disk_samples=1,
    rounds=5,
    passes=1,
    kernels=QUICK_KERNELS,
    table_s=3.0,
    own_shape_s=0.5,
    attention_shapes=_ATTENTION_SHAPES[:1],
    attention_points=((1, 127), (1, 511), (128, 0)),
    memory_kernels=("fp32", "int8_b32_a4", "int4_b32_a4", "dynamic_int8"),
    floor_processes=1,
)


def profile_device(
    *,
    name: str,
    quick: bool,
    disk_path: Path,
    progress: Progress,
    thread_count: int | None = None,
    shapes: Sequence[Shape] = (),
    attention_shapes: Sequence[AttentionShape] = (),
) -> DeviceProfile:
    """Measure this device.

    Args:
        name: what the profile is called.
        quick: fewer kernels, shapes and repeats.
        disk_path: a folder on the disk whose read speed counts.
        progress: told how far it is, and asked whether to stop.
        thread_count: threads to time with; None takes every usable core.
        shapes: (in, out) of the sites of a model to be predicted, so that little is interpolated.
        attention_shapes: (heads, KV heads, head size) of that model's attention.

    Raises:
        RuntimeUnavailableError: there is no onnxruntime.
        DeviceError: the disk or a measuring process failed.
        UsageError: fewer than one thread, or a disk that cannot be written.
    """
    import_onnxruntime()  # refuse before minutes are spent, not after
    if thread_count is not None and thread_count < 1:
        raise UsageError(f"Profiling needs at least one thread, not {thread_count}; leave --threads out for all cores.")
    return _Profiling(_QUICK if quick else _DEFAULT, progress, name, quick, thread_count).run(
        disk_path, tuple(shapes), tuple(attention_shapes)
    )


class _Profiling:
    def __init__(
        self, effort: _Effort, progress: Progress, name: str, is_quick: bool, thread_count: int | None
    ) -> None:
        self._effort = effort
        self._progress = progress
        self._name = name
        self._is_quick = is_quick
        self._before = read_conditions()
        self._cpu = read_cpu()
        self._memory = read_memory_info()
        self._threads = thread_count or self._cpu.usable_core_count or 1
        self._notes: list[str] = []
        self._start_s = time.monotonic()

    def run(
        self, disk_path: Path, shapes: tuple[Shape, ...], attention_shapes: tuple[AttentionShape, ...]
    ) -> DeviceProfile:
        effort = self._effort
        self._advance(0.0, "memory bandwidth")
        bandwidth = self._measure_bandwidth()
        usable = self._memory.available_bytes or self._memory.usable_bytes or 8 * _MOST_PROBE_BYTES
        speeds = measure_speeds(
            SpeedPlan(
                thread_count=self._threads,
                round_count=effort.rounds,
                pass_count=effort.passes,
                kernels=effort.kernels,
                groups=quick_groups(shapes) if self._is_quick else default_groups(shapes),
                attention_shapes=tuple(dict.fromkeys((*attention_shapes, *effort.attention_shapes))),
                attention_points=effort.attention_points,
                cache_bytes=last_level_cache_bytes(self._cpu.caches),
                most_bytes=min(_MOST_PROBE_BYTES, usable // 8),
                table_s=effort.table_s + effort.own_shape_s * len(set(shapes)),
            ),
            told=lambda done, message: self._advance(0.12 + 0.6 * done, message),
        )
        self._notes += speeds.notes
        self._advance(0.72, "memory of weights, nodes and the floor")
        floor, session, kernel_memory = self._measure_memory()
        self._advance(0.96, "disk and accelerators")
        disk = measure_disk(disk_path, file_bytes=effort.disk_bytes, sample_count=effort.disk_samples)
        accelerators, notes = find_accelerators(measures_copy=True)
        self._notes += notes
        after = read_conditions()
        self._notes += disturbances(self._before, after, usable_core_count=self._cpu.usable_core_count or 1)
        profile = DeviceProfile(
            name=self._name,
            basis="measured",
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            is_quick=self._is_quick,
            cpu=self._cpu,
            memory=self._memory,
            bandwidth=bandwidth,
            accelerators=accelerators,
            runtime=runtime_info(),
            thread_count=self._threads,
            kernel_times=speeds.kernel_times,
            cache_curve=speeds.cache_curve,
            attention_times=speeds.attention_times,
            kernel_memory=kernel_memory,
            overhead=replace(
                speeds.overhead.record, node_bytes=session.node_bytes, session_bytes=session.session_bytes
            ),
            floor=floor,
            disk=disk,
            conditions=after,
            notes=tuple(self._notes),
        )
        self._advance(1.0, self._name)
        return profile

    def _measure_bandwidth(self) -> tuple[BandwidthPoint, ...]:
        sizes = curve_sizes(self._memory.available_bytes or self._memory.usable_bytes)
        if not sizes:
            self._notes.append("Memory bandwidth is unknown: three arrays of 8 MiB exceed an eighth of usable memory.")
        if self._is_quick and len(sizes) > 2:
            sizes = (sizes[0], sizes[-1])
        return measure_bandwidth(
            sizes,
            thread_counts=tuple(dict.fromkeys((1, self._threads))),
            sample_count=self._effort.bandwidth_samples,
            before=self._progress.raise_if_cancelled,
        )

    def _measure_memory(self) -> tuple[Floor, SessionMemory, tuple[KernelMemory, ...]]:
        """The floor, a session and the kernels' fractions, each in fresh processes, as many at once as cores."""
        effort, threads = self._effort, self._threads
        with ThreadPoolExecutor(max_workers=min(4, self._cpu.usable_core_count or 1)) as pool:
            floors = [
                pool.submit(runtime_floor.measure_floor, thread_count=threads) for _ in range(effort.floor_processes)
            ]
            few, many = (
                pool.submit(observe_decoder, count, thread_count=threads) for count in (FEW_BLOCKS, MANY_BLOCKS)
            )
            floor = median_floor([future.result() for future in floors])
            session = session_memory(
                few_peak=few.result(), many_peak=many.result(), floor_peak_bytes=floor.peak_rss_bytes
            )
            kernels = [
                pool.submit(self._kernel_memory, kernel, session.node_bytes or 0) for kernel in effort.memory_kernels
            ]
            found = [memory for future in kernels if (memory := future.result()) is not None]
        return floor, session, tuple(found)

    def _kernel_memory(self, kernel: str, node_bytes: int) -> KernelMemory | None:
        self._progress.raise_if_cancelled()
        try:
            return measure_kernel_memory(kernel, thread_count=self._threads, node_bytes=node_bytes)
        except (ModelError, DeviceError) as error:
            self._notes.append(f"The memory of {kernel} weights is unknown: {error}")
            return None

    def _advance(self, done: float, message: str) -> None:
        self._progress.raise_if_cancelled()
        elapsed = time.monotonic() - self._start_s
        remaining = elapsed * (1.0 - done) / done if done > 0.1 else None
        self._progress.emit(
            Event(kind="stage_advanced", stage=_STAGE, message=message, done_fraction=done, remaining_s=remaining)
        )
