"""Main memory: what the machine has, and what this process may use of it.

Usable is the smaller of the machine's total and every memory limit of the control groups above this process
(`memory.max` and `memory.high` of cgroup v2, `memory.limit_in_bytes` of v1). Swap and zram are never counted:
`memory.swap.max` and `memsw` limits are not read, and a model that lives in swap is one that does not fit.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from edgeprune.runtime.cgroup import group_folders, read_number
from edgeprune.runtime.memory import available_bytes
from edgeprune.schema.device import MemoryInfo

__all__ = ["read_memory_info", "tightest_limit"]

_MEMINFO = Path("/proc/meminfo")

_FILES = {
    # memory.high throttles rather than kills, but a process above it crawls: for a budget it is a limit.
    "cgroup2": (("memory.max", "memory.high"), "memory.current"),
    "cgroup1": (("memory.limit_in_bytes",), "memory.usage_in_bytes"),
}


def read_memory_info(*, meminfo: Path = _MEMINFO, folders: Sequence[Path] | None = None) -> MemoryInfo:
    """Total, usable and available memory; None where the system does not tell."""
    total, available = _read_meminfo(meminfo)
    groups = group_folders("memory") if folders is None else folders
    limit, limited_by, remainder = tightest_limit(groups)
    if limit is None or (total is not None and limit >= total):
        return MemoryInfo(total_bytes=total, usable_bytes=total, available_bytes=available)
    if remainder is not None:
        available = remainder if available is None else min(available, remainder)
    return MemoryInfo(total_bytes=total, usable_bytes=limit, available_bytes=available, limited_by=limited_by)


def tightest_limit(folders: Sequence[Path]) -> tuple[int | None, str | None, int | None]:
    """Smallest limit of these groups, its kind, and the least that any limited group has left.

    Without a limit all three are None.
    """
    limits: list[tuple[int, str]] = []
    remainders: list[int] = []
    for folder in folders:
        for kind, (limit_names, usage_name) in _FILES.items():
            values = [value for name in limit_names if (value := read_number(folder / name)) is not None and value > 0]
            if not values:
                continue
            limits.append((min(values), kind))
            usage = read_number(folder / usage_name)
            if usage is not None:
                remainders.append(max(0, min(values) - usage))
    if not limits:
        return None, None, None
    limit, kind = min(limits)
    return limit, kind, min(remainders, default=None)


def _read_meminfo(path: Path) -> tuple[int | None, int | None]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return _total_without_proc(), available_bytes()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}
    total, available = (
        int(words[0]) * 1024 if (words := fields.get(name)) and words[0].isdigit() else None
        for name in ("MemTotal", "MemAvailable")
    )
    return total, available


def _total_without_proc() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None
