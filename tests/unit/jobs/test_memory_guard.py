"""What holds a job to its memory: the group that is chosen, what the child writes there, and what the daemon reads."""

import os
import subprocess
import sys
from pathlib import Path

from edgeprune.jobs.memory_guard import JOB_GROUP, Guard, find_guard, forget_group
from edgeprune.runtime.cgroup import group_folders, job_group

_CHILD = """
import resource, sys
from pathlib import Path
from edgeprune.jobs.memory_guard import put_limit
kind = put_limit(1 << 33, 2, Path(sys.argv[1]))
print(kind, resource.getrlimit(resource.RLIMIT_DATA)[0] == 1 << 33)
"""


def parent_group(folder: Path, controllers: str = "cpu memory") -> Path:
    """A folder as the kernel shows a group that hands these controllers down."""
    folder.mkdir(parents=True)
    (folder / "cgroup.subtree_control").write_text(controllers, encoding="ascii")
    return folder


def child(note: Path, group: Path | None) -> str:
    """What a job's child says after it has put its limit."""
    variables = {name: value for name, value in os.environ.items() if name != JOB_GROUP}
    if group is not None:
        variables[JOB_GROUP] = str(group)
    command = [sys.executable, "-c", _CHILD, str(note)]
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout.strip()


def test_the_nearest_group_that_hands_memory_down_is_taken(tmp_path: Path) -> None:
    closed, first = parent_group(tmp_path / "closed", "cpu"), parent_group(tmp_path / "first")
    second = parent_group(tmp_path / "second")
    assert find_guard(groups=(closed, first, second)) == Guard("group", first)
    assert find_guard(groups=(closed, tmp_path / "absent")) == Guard("process")


def test_a_child_enters_its_group_with_a_limit_for_all_its_processes(tmp_path: Path) -> None:
    folder = Guard("group", parent_group(tmp_path / "above")).make_group("j00007")
    assert folder == tmp_path / "above" / "edgeprune-job-j00007"
    assert child(tmp_path / "note", folder) == "group False"
    assert int((folder / "memory.max").read_text()) == 2 << 33
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "cgroup.procs").read_text() == "0"  # the kernel reads it as the process that writes


def test_without_a_group_each_process_is_limited_by_itself(tmp_path: Path) -> None:
    assert Guard().make_group("j00007") is None
    assert child(tmp_path / "note", None) == "process True"
    assert child(tmp_path / "note", tmp_path / "removed-meanwhile") == "process True"
    assert not (tmp_path / "note").exists()


def test_a_scope_changes_how_a_child_is_started_and_nothing_else() -> None:
    command = ["python", "-m", "module", "7"]
    assert Guard().command(command, "j00007") == command
    started = Guard("scope").command(command, "j00007")
    assert started[:3] == ["systemd-run", "--user", "--scope"]
    assert started[started.index("--") + 1 :] == command
    assert any(part.startswith("--unit=edgeprune-job-j00007-") for part in started)


def test_the_daemon_learns_who_was_ended_for_memory_and_removes_the_group(tmp_path: Path) -> None:
    note, folder = tmp_path / "note", tmp_path / "edgeprune-job-j00007"
    folder.mkdir()
    note.write_text(str(folder), encoding="utf-8")
    assert not forget_group(note)
    assert not folder.exists()
    folder.mkdir()
    (folder / "memory.events").write_text("max 3\noom 1\noom_kill 1\n", encoding="ascii")
    note.write_text(str(folder), encoding="utf-8")
    assert forget_group(note)
    assert not note.exists()


def test_a_note_that_names_something_else_removes_nothing(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "note").write_text(str(other), encoding="utf-8")
    assert not forget_group(tmp_path / "note")
    assert other.is_dir()
    assert not forget_group(tmp_path / "absent")


def test_a_job_that_measures_the_device_does_not_find_its_own_limit(tmp_path: Path) -> None:
    mount, membership = tmp_path / "mount", tmp_path / "membership"
    inner = mount / "app.slice" / "edgeprune-job-j00007.scope"
    inner.mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("memory", encoding="ascii")
    membership.write_text("0::/app.slice/edgeprune-job-j00007.scope\n", encoding="ascii")
    assert group_folders("memory", mount=mount, membership=membership) == (mount / "app.slice", mount)
    assert job_group(mount=mount, membership=membership) == inner
    membership.write_text("0::/app.slice\n", encoding="ascii")
    assert job_group(mount=mount, membership=membership) is None
