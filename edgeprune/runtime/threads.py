"""How many cores this process may use: affinity and cgroup quotas, rounded up, at least one."""

import os
from collections.abc import Sequence
from pathlib import Path

from edgeprune.runtime.cgroup import group_folders, read_number

__all__ = ["quota_core_count", "usable_core_count"]


def usable_core_count() -> int:
    """Cores left by the affinity mask and by every cgroup quota above this process."""
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have no affinity call
        cores = os.cpu_count() or 1
    quota = quota_core_count(group_folders("cpu"))
    return max(1, cores if quota is None else min(cores, quota))


def quota_core_count(folders: Sequence[Path]) -> int | None:
    """The smallest quota of these groups in cores, rounded up; None when none limits the processor."""
    quotas: list[int] = []
    for folder in folders:
        quota, period = _read_quota(folder)
        if quota is not None and period is not None and quota > 0 and period > 0:
            quotas.append(-(-quota // period))
    return min(quotas, default=None)


def _read_quota(folder: Path) -> tuple[int | None, int | None]:
    try:
        words = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us")
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()):
        return None, None
    return int(words[0]), int(words[1])
