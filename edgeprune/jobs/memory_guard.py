"""What holds a job to its memory limit: a control group of its own where the system allows one, else RLIMIT_DATA.

    scope    `systemd-run --user --scope` makes the group (v2, delegated); works from any login session
    group    a folder in the nearest group that hands memory down and that this user may write
    process  RLIMIT_DATA: private addresses of each process by itself, also those it never touches

The daemon finds out once which it is and starts each job in an empty group; the child, which knows how much its work
needs, writes the limit. Kernel documentation: Documentation/admin-guide/cgroup-v2.rst; systemd.resource-control(5).
"""

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgeprune.runtime.cgroup import JOB_GROUP_PREFIX, group_folders, job_group
from edgeprune.runtime.emulate import killed_count
from edgeprune.schema.jobs import GuardKind

__all__ = ["JOB_GROUP", "Guard", "find_guard", "forget_group", "put_limit"]

JOB_GROUP = "EDGEPRUNE_JOB_GROUP"
"""Environment variable with the group that a job's child enters; only where the daemon made it."""

_PATIENCE_S = 3.0
_LONGEST_PATH = 4_096


class Guard(NamedTuple):
    """How jobs are limited here."""

    kind: GuardKind = "process"
    parent: Path | None = None
    """Where `group` makes its folders."""

    def command(self, command: Sequence[str], name: str) -> list[str]:
        """The command that starts a job's child in a scope; the process stays the same one, and so do its pipes."""
        if self.kind != "scope":
            return list(command)
        unit = f"--unit={JOB_GROUP_PREFIX}{name}-{os.getpid()}-{os.urandom(3).hex()}"
        return [*_SCOPE, unit, "--", *command]

    def make_group(self, name: str) -> Path | None:
        """An empty group for a job's child to enter; None where there is none to make."""
        if self.kind != "group" or self.parent is None:
            return None
        folder = self.parent / f"{JOB_GROUP_PREFIX}{name}"
        try:
            folder.mkdir(exist_ok=True)
        except OSError:  # the parent is gone, or full: the child takes what is left to it
            return None
        return folder


_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes")


def find_guard(*, groups: Sequence[Path] | None = None) -> Guard:
    """Try what is best first; takes some 20 ms where a service manager runs, else nothing.

    Args:
        groups: folders to make groups in, nearest first; None asks the system.
    """
    if groups is None and _has_scopes():
        return Guard("scope")
    for parent in group_folders("memory") if groups is None else groups:
        if _hands_memory_down(parent) and os.access(parent, os.W_OK | os.X_OK):
            return Guard("group", parent)
    return Guard()


def put_limit(limit_bytes: int, process_count: int, note: Path) -> GuardKind:
    """Hold this process, and every one it starts, to a limit; called by a job's child before its work.

    Args:
        limit_bytes: of one process.
        process_count: processes that work side by side; a group holds all of them.
        note: where to write which group it is, for the daemon.
    """
    told = os.environ.get(JOB_GROUP)
    folder = Path(told) if told is not None else job_group()
    if folder is not None:
        try:
            (folder / "memory.max").write_text(str(limit_bytes * process_count), encoding="ascii")
            with contextlib.suppress(OSError):  # kernels without swap accounting have no such file
                (folder / "memory.swap.max").write_text("0", encoding="ascii")
            if told is not None:
                (folder / "cgroup.procs").write_text("0", encoding="ascii")  # 0: the process that writes
            else:
                note.write_text(str(folder), encoding="utf-8")  # the daemon does not know where a scope is
        except OSError:
            pass
        else:
            return "group" if told is not None else "scope"
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return "process"


def forget_group(note: Path) -> bool:
    """Remove the group of a job that is gone; whether a process in it was ended for exceeding the limit."""
    try:
        with note.open(encoding="utf-8") as stream:
            folder = Path(stream.read(_LONGEST_PATH))
    except (OSError, UnicodeDecodeError):
        return False
    if not folder.name.startswith(JOB_GROUP_PREFIX):
        return False
    count = killed_count(folder)
    with contextlib.suppress(OSError):  # a scope removes itself, and a process may take a moment to leave
        folder.rmdir()
    note.unlink(missing_ok=True)
    return count > 0


def _has_scopes() -> bool:
    """Whether this user's service manager runs, and hands memory down to scopes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime or not Path(runtime, "systemd", "private").exists() or shutil.which("systemd-run") is None:
        return False
    # A process in a scope tells its group: /user.slice/.../app.slice/edgeprune-job-try-7.scope
    command = Guard("scope").command(["cat", "/proc/self/cgroup"], "try")
    try:
        tried = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=True, text=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return False
    line = next((line for line in tried.stdout.splitlines() if line.startswith("0::/")), "")
    return bool(line) and _hands_memory_down(Path("/sys/fs/cgroup", line.removeprefix("0::/")).parent)


def _hands_memory_down(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return False
