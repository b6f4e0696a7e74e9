"""Memory of this process and of the device, as the kernel counts it.

The peak is `VmHWM` of this process. `ru_maxrss` is not used: it is inherited from the parent at exec, so a small
child of a large parent would report the parent's peak.
"""

import os
from pathlib import Path

import psutil

from edgeprune.runtime.cgroup import group_folders, read_number
from edgeprune.schema.base import Record

__all__ = ["ProcessMemory", "accelerator_bytes", "available_bytes", "cgroup_peak_bytes", "parse_status", "read_memory"]

_NVIDIA_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


class ProcessMemory(Record, frozen=True, kw_only=True):
    """Memory of one process; None where the system does not tell."""

    rss_bytes: int | None
    """Resident now."""
    peak_rss_bytes: int | None
    """Largest resident size since the program started (VmHWM)."""
    anonymous_bytes: int | None
    """Resident memory that no file backs (RssAnon): heap and stacks, not mapped weights."""


def read_memory(status: Path = Path("/proc/self/status")) -> ProcessMemory:
    """Memory of this process now."""
    try:
        text = status.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ProcessMemory(
            rss_bytes=int(psutil.Process().memory_info().rss), peak_rss_bytes=None, anonymous_bytes=None
        )
    return parse_status(text)


def parse_status(text: str) -> ProcessMemory:
    """Read the text of `/proc/<pid>/status`; its kB are 1,024 bytes."""
    fields: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            fields[name] = int(words[0]) * 1024
    return ProcessMemory(
        rss_bytes=fields.get("VmRSS"), peak_rss_bytes=fields.get("VmHWM"), anonymous_bytes=fields.get("RssAnon")
    )


def cgroup_peak_bytes() -> int | None:
    """Peak of the innermost memory group of this process that records one; it counts the page cache too.

    The root of the machine is left out: its peak is of everything that ever ran.
    """
    for folder in group_folders("memory")[:-1]:
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            value = read_number(folder / name)
            if value is not None:
                return value
    return None


def available_bytes() -> int | None:
    """Memory that new programs could take without swapping (MemAvailable)."""
    try:
        return int(psutil.virtual_memory().available)
    except (OSError, RuntimeError, AttributeError):
        return None


def accelerator_bytes(execution_provider: str) -> int | None:
    """Memory this process holds on NVIDIA accelerators; None on other providers or where the driver does not tell."""
    if execution_provider not in _NVIDIA_PROVIDERS:
        return None
    # Deferred: only a process that runs on such a device loads the driver's library.
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        used = [
            process.usedGpuMemory
            for index in range(pynvml.nvmlDeviceGetCount())
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(index))
            if process.pid == os.getpid() and process.usedGpuMemory is not None
        ]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return sum(used) if used else None
