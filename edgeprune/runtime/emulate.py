"""A smaller device on this one: fewer cores by affinity, less memory by a control group.

Within `emulated` every process that `run_isolated` starts inherits the affinity of this one, and enters the group
before its program begins. Only a cgroup v2 group with `memory.max` limits what a process holds: RLIMIT_AS counts
addresses, mapped files too, and would refuse bundles that fit. Where no such group can be made, memory is not limited
and the record says so. Kernel documentation: Documentation/admin-guide/cgroup-v2.rst.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeprune.errors import DeviceError, UsageError
from edgeprune.runtime.cgroup import group_folders
from edgeprune.runtime.isolate import MEMORY_GROUP
from edgeprune.schema.emulation import EmulatedDevice, Emulation

__all__ = ["emulated", "killed_count", "limited_cores", "make_memory_group"]

_TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def emulated(
    emulation: Emulation | None, *, groups: Sequence[Path] | None = None
) -> Iterator[tuple[EmulatedDevice | None, Path | None]]:
    """Limit this process's cores, and the memory of the processes it measures in, until the block ends.

    Args:
        emulation: what to emulate; None changes nothing and yields (None, None).
        groups: control groups to make the memory group in, nearest first; None asks the system.

    Yields:
        What is enforced, and the folder of the memory group, None without one.

    Raises:
        UsageError: more cores than this process may use.
        DeviceError: this system cannot limit cores.
    """
    if emulation is None:
        yield None, None
        return
    with contextlib.ExitStack() as stack:
        before = _affinity()
        cores = before
        if emulation.core_count is not None:
            cores = limited_cores(before, emulation.core_count)
            stack.callback(_set_affinity, before)
            _set_affinity(cores)
        folder = None
        if emulation.memory_bytes is not None:
            parents = group_folders("memory") if groups is None else groups
            folder = make_memory_group(parents, emulation.memory_bytes, name=f"edgeprune-{os.getpid()}")
        if folder is not None:
            stack.callback(_remove_group, folder)
            os.environ[MEMORY_GROUP] = str(folder)
            stack.callback(os.environ.pop, MEMORY_GROUP, None)
        device = EmulatedDevice(
            core_count=emulation.core_count,
            cores=tuple(sorted(cores)),
            memory_bytes=emulation.memory_bytes,
            is_memory_enforced=folder is not None,
        )
        yield device, folder


def limited_cores(allowed: frozenset[int], count: int) -> frozenset[int]:
    """The last `count` of these cores: systems serve interrupts on the first.

    Raises:
        UsageError: there are fewer.
    """
    if count > len(allowed):
        raise UsageError(f"--emulate cores={count} is more than the {len(allowed)} this process may use; give fewer.")
    return frozenset(sorted(allowed)[-count:])


def make_memory_group(parents: Sequence[Path], memory_bytes: int, *, name: str) -> Path | None:
    """A new group with this limit under the first parent that allows it; None where none does.

    A parent allows it when it hands the memory controller down to its children and may be written by this user.
    Swap is turned off where the group has it, since a model that lives in swap does not fit.
    """
    for parent in parents:
        if "memory" not in _words(parent / "cgroup.subtree_control"):
            continue
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / "memory.max").write_text(str(memory_bytes), encoding="ascii")
            with contextlib.suppress(OSError):  # kernels without swap accounting have no such file
                (folder / "memory.swap.max").write_text("0", encoding="ascii")
        except OSError:
            _remove_group(folder)
            continue
        return folder
    return None


def killed_count(folder: Path | None) -> int:
    """Processes of the group that were ended because they exceeded its limit; 0 without a group."""
    if folder is None:
        return 0
    words = _words(folder / "memory.events")
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _remove_group(folder: Path) -> None:
    """The last process may take a moment to leave; a group that stays is empty and costs nothing."""
    for _ in range(20):
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return


def _affinity() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return frozenset(range(os.cpu_count() or 1))


def _set_affinity(cores: frozenset[int]) -> None:
    """Of every thread of this process; threads and processes started later inherit it."""
    if not hasattr(os, "sched_setaffinity"):
        raise DeviceError("This system cannot limit a process to some cores, so --emulate cores does not work here.")
    tasks = [int(task.name) for task in _TASKS.iterdir()] if _TASKS.is_dir() else [0]
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(task, cores)
