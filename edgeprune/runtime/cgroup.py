"""The control groups above this process, innermost first, for cgroup v1, v2 and both mounted at once.

Gives folders whose files (`cpu.max`, `memory.peak`, ...) can be read. A process inside a container sees its group as
the root of the mount: folders named by `/proc/self/cgroup` that are not there are skipped.
"""

from pathlib import Path

__all__ = ["JOB_GROUP_PREFIX", "group_folders", "job_group", "read_number"]

JOB_GROUP_PREFIX = "edgeprune-job-"
"""Groups of ours that guard a job: what they allow is no property of the device."""

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def group_folders(controller: str, *, mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> tuple[Path, ...]:
    """Folders of a controller (`cpu`, `memory`), from this process's own group up to the root of the mount.

    The unified (v2) hierarchy comes first; folders of v1's controller follow. A group that guards one of our jobs is
    left out: a job that measures the device must not find its own limit.
    """
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    found: list[Path] = []
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        number, controllers, path = parts
        if number == "0" and not controllers:
            for root in (mount / "unified", mount):
                if (root / "cgroup.controllers").is_file():
                    found = _upward(root, path) + found
                    break
        elif controller in controllers.split(","):
            for root in (mount / controller, mount / controllers):
                if root.is_dir():
                    found += _upward(root, path)
                    break
    return tuple(folder for folder in found if not folder.name.startswith(JOB_GROUP_PREFIX))


def job_group(*, mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> Path | None:
    """The group that guards the job this process belongs to; None outside of one."""
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::/")), "")
    folder = mount / path.lstrip("/")
    return folder if folder.name.startswith(JOB_GROUP_PREFIX) and folder.is_dir() else None


def read_number(path: Path) -> int | None:
    """A file that holds one whole number; None when it is missing, says `max`, or is not a number."""
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def _upward(root: Path, group: str) -> list[Path]:
    folders: list[Path] = []
    folder = root / group.lstrip("/")
    while folder != root and root in folder.parents:
        if folder.is_dir():
            folders.append(folder)
        folder = folder.parent
    return [*folders, root]
