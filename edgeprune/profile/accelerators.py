"""Accelerators: NVIDIA GPUs through NVML, and what is integrated with the processor through the device tree.

Gives name, memory, driver and compute capability. What the driver does not tell is None, never 0. Unified memory is
told apart strictly: True only for a Tegra chip by its device tree, or an integrated part NVML knows but reports no
memory of its own for; False only where NVML reports memory of the board's own; otherwise None.
"""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from edgeprune.runtime.session import import_onnxruntime
from edgeprune.runtime.timing import time_call
from edgeprune.schema.device import AcceleratorInfo

__all__ = ["describe_nvidia", "find_accelerators", "measure_copy_bandwidth", "read_compatible"]

_COMPATIBLE = Path("/proc/device-tree/compatible")
_COPY_BYTES = 64 << 20

_INTEGRATED_NAMES = ("orin", "xavier", "thor", "tegra", "gb10", "nvgpu")
"""Words in the NVML names of NVIDIA parts that share main memory (Jetson modules, DGX Spark's GB10)."""

_OTHER_KINDS = {"/dev/mali0": "mali", "/dev/kfd": "rocm"}
"""Device nodes that show a GPU whose figures no runtime of ours can read."""


def find_accelerators(*, measures_copy: bool) -> tuple[tuple[AcceleratorInfo, ...], tuple[str, ...]]:
    """Accelerators of this machine, and a sentence on each thing that could not be told."""
    compatible = read_compatible(_COMPATIBLE)
    notes: list[str] = []
    found = _nvidia(compatible, notes)
    if not found and "nvidia,tegra" in compatible:
        found = [_tegra_without_driver()]
        notes.append("A Tegra GPU was found in the device tree; NVML does not answer for it.")
    for node, kind in _OTHER_KINDS.items():
        if Path(node).exists():
            found.append(_unknown(kind))
            notes.append(f"{node} shows an accelerator of kind {kind}; its name and memory cannot be read.")
    if found and measures_copy:
        found[0] = _with_copy(found[0], notes)
    return tuple(found), tuple(notes)


def read_compatible(path: Path) -> str:
    """The device tree's `compatible` list, joined by spaces; empty where there is no device tree."""
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("ascii", "replace").strip()
    except OSError:
        return ""


def measure_copy_bandwidth() -> float | None:
    """Bytes per second copied from main memory to the first CUDA device; None when this runtime cannot.

    Copies through onnxruntime, the only runtime there is on a device, so the figure is what a bundle would see.
    """
    try:
        ort = import_onnxruntime()
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return None
        source = np.zeros(_COPY_BYTES, dtype=np.uint8)
        target = ort.OrtValue.ortvalue_from_numpy(source, "cuda", 0)
        median_s = time_call(lambda: target.update_inplace(source), repeat_count=7, warm_up_count=2).median_s
    except Exception:  # a provider that is built in but has no driver fails with types of its own
        return None
    return _COPY_BYTES / median_s


def _nvidia(compatible: str, notes: list[str]) -> list[AcceleratorInfo]:
    # Deferred: nvidia-ml-py loads nothing by itself, but a device without it should still be profiled.
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # no NVIDIA driver: no NVIDIA GPU that could be used
    try:
        driver = _ask(pynvml, pynvml.nvmlSystemGetDriverVersion)
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [describe_nvidia(pynvml, handle, driver, compatible, notes) for handle in handles]
    except pynvml.NVMLError as error:
        notes.append(f"The NVIDIA driver answered with an error ({error}); its GPUs are left out.")
        return []
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def describe_nvidia(pynvml: Any, handle: Any, driver: str | None, compatible: str, notes: list[str]) -> AcceleratorInfo:
    """One GPU as this NVML module describes it; figures it does not support are None, with a sentence in `notes`."""
    name = _ask(pynvml, pynvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"
    memory = _query(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _query(pynvml, pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    total = int(memory.total) or None if memory is not None else None
    if total is None:
        notes.append(f"The driver reports no memory for {name}: total and free are unknown.")
    is_integrated = "nvidia,tegra" in compatible or any(word in name.lower() for word in _INTEGRATED_NAMES)
    is_unified = True if is_integrated and (total is None or "nvidia,tegra" in compatible) else None
    if is_unified is None and total is not None and not is_integrated:
        is_unified = False
    return AcceleratorInfo(
        name=name,
        kind="cuda",
        total_bytes=total,
        free_bytes=int(memory.free) if memory is not None and total is not None else None,
        is_unified=is_unified,
        copy_bandwidth_bytes_per_s=None,
        driver_version=driver,
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
    )


def _query(pynvml: Any, call: Any, *arguments: Any) -> Any:
    """The answer of an NVML call, None where it is not supported or fails."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None


def _ask(pynvml: Any, call: Any, *arguments: Any) -> str | None:
    text = _query(pynvml, call, *arguments)
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _with_copy(accelerator: AcceleratorInfo, notes: list[str]) -> AcceleratorInfo:
    speed = measure_copy_bandwidth() if accelerator.kind == "cuda" else None
    if speed is None:
        notes.append(f"The copy bandwidth to {accelerator.name} is unknown: this onnxruntime has no CUDA provider.")
    return replace(accelerator, copy_bandwidth_bytes_per_s=speed)


def _tegra_without_driver() -> AcceleratorInfo:
    return AcceleratorInfo(
        name="NVIDIA Tegra GPU",
        kind="cuda",
        total_bytes=None,
        free_bytes=None,
        is_unified=True,
        copy_bandwidth_bytes_per_s=None,
    )


def _unknown(kind: str) -> AcceleratorInfo:
    return AcceleratorInfo(
        name="unknown",
        kind=kind,
        total_bytes=None,
        free_bytes=None,
        is_unified=None,
        copy_bandwidth_bytes_per_s=None,
    )
