"""What this machine is doing now: memory, cores and GPUs, for a display that asks every second.

Memory counts the cgroups above this process, as the profile does. A GPU's figures come from NVML; where it does not
tell, the figure is None, and on a chip that shares main memory NVML reports none of its own.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil

from edgeprune.runtime.cgroup import group_folders, read_number
from edgeprune.runtime.memory import available_bytes
from edgeprune.schema.meters import GpuMeter, Meters

__all__ = ["MeterReader"]

_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")


class MeterReader:
    """Reads one `Meters` after another; loads are shares since the reading before."""

    def __init__(self) -> None:
        """Open NVML where there is one."""
        psutil.cpu_percent(percpu=True)
        self._nvml, self._handles = _open_nvml()
        self._has_loads = False

    def read(self) -> Meters:
        """The machine now; takes a few milliseconds."""
        loads = tuple(share / 100.0 for share in psutil.cpu_percent(percpu=True)) if self._has_loads else ()
        self._has_loads = True
        return Meters(
            time_s=time.time(),
            total_bytes=_total_bytes(),
            available_bytes=_available_bytes(),
            core_loads=loads,
            temperature_c=_temperature(),
            gpus=tuple(self._gpu(handle) for handle in self._handles),
        )

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml, self._handles = None, []

    def _gpu(self, handle: Any) -> GpuMeter:
        nvml = self._nvml
        name = self._ask(nvml.nvmlDeviceGetName, handle)
        load = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        heat = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        has_memory = memory is not None and int(memory.total) > 0
        return GpuMeter(
            name=name.decode() if isinstance(name, bytes) else str(name or "GPU"),
            load_fraction=None if load is None else load.gpu / 100.0,
            used_bytes=int(memory.used) if has_memory else None,
            total_bytes=int(memory.total) if has_memory else None,
            temperature_c=None if heat is None else float(heat),
        )

    def _ask(self, call: Any, *arguments: Any) -> Any:
        """An answer of the driver; None where it does not support the question."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def _open_nvml() -> tuple[Any, list[Any]]:
    try:
        import pynvml  # the driver's library, which a device without it does not have
    except ImportError:
        return None, []
    try:
        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None, []


def _cgroup_limits() -> list[tuple[int, Path]]:
    found = []
    for folder in group_folders("memory"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            value = read_number(folder / limit)
            if value is not None and value > 0:
                found.append((value, folder / usage))
    return found


def _total_bytes() -> int | None:
    try:
        total = int(psutil.virtual_memory().total)
    except (OSError, RuntimeError):
        return None
    return min([total, *(limit for limit, _ in _cgroup_limits())])


def _available_bytes() -> int | None:
    free = available_bytes()
    if free is None:
        return None
    left = [limit - used for limit, path in _cgroup_limits() if (used := read_number(path)) is not None]
    return max(0, min([free, *left]))


def _temperature() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return None
    try:
        sensors = read()
    except (OSError, RuntimeError):
        return None
    values = [entry.current for name in _SENSORS for entry in sensors.get(name, ()) if 0 < entry.current < 150]
    return max(values) if values else None
