"""The processor: model, cores, instruction sets and caches, read from Linux's own tables.

Takes `/proc/cpuinfo` and `/sys/devices/system/cpu`; gives a `CpuInfo`. What a system does not tell is None.
Flag names are those of Linux: arch/x86/include/asm/cpufeatures.h and Documentation/arch/arm64/elf_hwcaps.rst.
"""

import os
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Literal

from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.device import CacheInfo, CpuInfo

__all__ = [
    "count_physical_cores",
    "last_level_cache_bytes",
    "read_caches",
    "read_cpu",
    "read_instruction_sets",
    "read_model",
]

_CPUINFO = Path("/proc/cpuinfo")
_CPUS = Path("/sys/devices/system/cpu")

_FLAGS: dict[str, frozenset[str]] = {
    "avx2": frozenset({"avx2"}),
    "avx512": frozenset({"avx512f"}),
    "amx": frozenset({"amx_tile", "amx_int8", "amx_bf16"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni"}),
    "neon": frozenset({"asimd", "neon"}),
    "dotprod": frozenset({"asimddp"}),
    "i8mm": frozenset({"i8mm"}),
}
"""Our name -> the system's flags, any of which shows it."""

_CACHE_KINDS: dict[str, Literal["data", "instruction", "unified"]] = {
    "Data": "data",
    "Instruction": "instruction",
    "Unified": "unified",
}

_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
"""Part numbers of Arm Ltd (implementer 0x41), from arch/arm64/include/asm/cputype.h."""


def read_cpu(*, cpuinfo: Path = _CPUINFO, cpus: Path = _CPUS) -> CpuInfo:
    """The processor of this machine, as this process may use it."""
    text = _read(cpuinfo)
    return CpuInfo(
        model=read_model(text),
        architecture=platform.machine(),
        physical_core_count=count_physical_cores(cpus),
        logical_core_count=os.cpu_count(),
        usable_core_count=usable_core_count(),
        instruction_sets=read_instruction_sets(text),
        caches=read_caches(cpus),
    )


def count_physical_cores(cpus: Path = _CPUS) -> int | None:
    """Cores, threads of one core counted once; None where the system does not tell."""
    cores = set()
    for topology in cpus.glob("cpu[0-9]*/topology"):
        package, core = (_read(topology / name).strip() for name in ("physical_package_id", "core_id"))
        cluster = _read(topology / "cluster_id").strip()  # some Arm boards number cores within their cluster
        if core:
            cores.add((package, cluster, core))
    return len(cores) or None


def read_model(cpuinfo: str) -> str | None:
    """The processor's name: `model name` on x86, the Arm core's name (or the board's) on arm64."""
    fields = _fields(cpuinfo)
    name = fields.get("model name")
    if name:
        return name
    part = fields.get("CPU part", "").lower()
    if fields.get("CPU implementer", "").lower() == "0x41" and part in _ARM_PARTS:
        return f"Arm {_ARM_PARTS[part]}"
    return fields.get("Model") or fields.get("Hardware") or None


def read_instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """Those of avx2, avx512, amx, vnni, neon, dotprod, i8mm that every listed core has."""
    cores = [set(match.split()) for match in re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)]
    if not cores:
        return ()
    # Cores of two kinds in one machine: a program may be moved between them, so only what all have counts.
    shared = set.intersection(*cores)
    return tuple(name for name, flags in _FLAGS.items() if shared & flags)


def read_caches(cpus: Path = _CPUS) -> tuple[CacheInfo, ...]:
    """All caches, smallest level first; a cache shared by several cores is counted once."""
    seen: dict[tuple[int, str, str], int] = {}
    for index in sorted(cpus.glob("cpu[0-9]*/cache/index[0-9]*")):
        level, kind, size = (_read(index / name).strip() for name in ("level", "type", "size"))
        amount = re.fullmatch(r"(\d+)([KMG]?)", size)
        if not level.isdigit() or kind not in _CACHE_KINDS or amount is None:
            continue
        scale = {"": 0, "K": 10, "M": 20, "G": 30}[amount.group(2)]
        shared = _read(index / "shared_cpu_list").strip() or index.parent.parent.name
        seen[int(level), kind, shared] = int(amount.group(1)) << scale
    groups = Counter((level, kind, size) for (level, kind, _), size in seen.items())
    return tuple(
        CacheInfo(level=level, kind=_CACHE_KINDS[kind], size_bytes=size, instance_count=count)
        for (level, kind, size), count in sorted(groups.items())
        if size > 0
    )


def last_level_cache_bytes(caches: tuple[CacheInfo, ...]) -> int | None:
    """Bytes of all instances of the highest cache level that holds data; None when no cache is known."""
    holding = [cache for cache in caches if cache.kind != "instruction"]
    top = max((cache.level for cache in holding), default=None)
    if top is None:
        return None
    return sum(cache.size_bytes * (cache.instance_count or 1) for cache in holding if cache.level == top)


def _fields(cpuinfo: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
