"""Energy this machine has used, where a meter can be read: RAPL's counters of the processor, NVML's of NVIDIA GPUs.

    joules = sum over counters of (after - before, modulo the counter's range)                            (1)

RAPL counts microjoules per processor package and, on some, of its memory beside it; the kernel shows them under
`/sys/class/powercap` (docs.kernel.org/power/powercap), readable to root alone on most systems. NVML counts
millijoules since the driver was loaded (`nvmlDeviceGetTotalEnergyConsumption`, Volta and newer). Both count whole
chips: idle power and other programs are in it. Where a counter of the sum cannot be read there is no meter.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.runtime.cgroup import read_number

__all__ = ["POWERCAP", "Counter", "EnergyMeter", "nvidia_counters", "open_energy_meter", "powercap_counters"]

POWERCAP = Path("/sys/class/powercap")

_NVIDIA_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


class Counter(NamedTuple):
    """One counter that only ever grows, until it starts again at 0."""

    name: str
    read_j: Callable[[], float | None]
    """Joules since some moment; None when it cannot be read any more."""
    range_j: float | None
    """Joules after which it starts again; None where it does not."""


class EnergyMeter:
    """Joules used since the reading before, over several counters."""

    def __init__(self, counters: tuple[Counter, ...]) -> None:
        """Take counters that can be read."""
        self._counters = counters
        self._before: list[float | None] = [counter.read_j() for counter in counters]

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(counter.name for counter in self._counters)

    def used_j(self) -> float | None:
        """Joules since the last call, or since the meter was opened; None when a counter failed at either moment.

        A counter that started again did so once: RAPL's range is minutes of the highest power at the least.
        """
        now = [counter.read_j() for counter in self._counters]
        before, self._before = self._before, now
        total = 0.0
        for counter, start, end in zip(self._counters, before, now, strict=True):
            if start is None or end is None:
                return None
            used = end - start  # eq. (1)
            if used < 0.0:
                if counter.range_j is None:
                    return None
                used += counter.range_j
            total += used
        return total


def open_energy_meter(execution_provider: str, *, powercap: Path = POWERCAP) -> EnergyMeter | None:
    """A meter of the processor and, for a provider that runs on NVIDIA GPUs, of those; None where one is missing.

    Args:
        execution_provider: onnxruntime's name of it.
        powercap: folder of the kernel's power zones.
    """
    counters = powercap_counters(powercap)
    if not counters:
        return None
    if execution_provider in _NVIDIA_PROVIDERS:
        gpus = nvidia_counters()
        if not gpus:
            return None
        counters += gpus
    return EnergyMeter(counters)


def powercap_counters(folder: Path) -> tuple[Counter, ...]:
    """The packages and their memory; empty where there are none or one cannot be read.

    Left out: cores and graphics, which packages contain; `psys`, which contains packages; and the zones of
    `intel-rapl-mmio`, the same counters by another way.
    """
    try:
        zones = sorted(path for path in folder.iterdir() if not path.name.startswith("intel-rapl-mmio"))
    except OSError:
        return ()
    found: list[Counter] = []
    for zone in zones:
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if not name.startswith("package-") and name != "dram":
            continue
        limit = read_number(zone / "max_energy_range_uj")
        if read_number(zone / "energy_uj") is None:
            return ()
        found.append(Counter(name, _microjoules(zone / "energy_uj"), None if limit is None else limit * 1e-6))
    return tuple(found) if any(counter.name.startswith("package-") for counter in found) else ()


def nvidia_counters() -> tuple[Counter, ...]:
    """One a GPU; empty where the driver is missing or one GPU has no counter."""
    try:
        import pynvml  # only a process that runs on such a device loads the driver's library
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = tuple(
            Counter(f"gpu-{index}", _millijoules(pynvml, handle), None) for index, handle in enumerate(handles)
        )
    except pynvml.NVMLError:
        return ()
    return () if any(counter.read_j() is None for counter in found) else found


def _microjoules(path: Path) -> Callable[[], float | None]:
    def read_j() -> float | None:
        value = read_number(path)
        return None if value is None else value * 1e-6

    return read_j


def _millijoules(pynvml: Any, handle: Any) -> Callable[[], float | None]:
    def read_j() -> float | None:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3
        except pynvml.NVMLError:
            return None

    return read_j
