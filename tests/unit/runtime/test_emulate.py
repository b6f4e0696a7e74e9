"""Fewer cores and less memory for measuring processes, put back afterwards; what cannot be enforced is said."""

import os
import threading
from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.runtime.emulate import emulated, killed_count, limited_cores, make_memory_group
from edgeprune.runtime.isolate import MEMORY_GROUP, run_isolated
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.emulation import Emulation, parse_emulation

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that answers with its cores and its memory group."""
    body = "import os\n    return (str(sorted(os.sched_getaffinity(0))) + ' ' + str(os.getpid())).encode()"
    source = f"from edgeprune.runtime.isolate import answer\ndef handle(request):\n    {body}\nanswer(handle)\n"
    (tmp_path / "told_its_cores.py").write_text(source, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "told_its_cores"


def parent_group(folder: Path, controllers: str = "cpu memory") -> Path:
    """A folder as the kernel shows a group that hands these controllers down."""
    folder.mkdir(parents=True)
    (folder / "cgroup.subtree_control").write_text(controllers, encoding="ascii")
    return folder


@needs_affinity
def test_children_and_new_threads_have_the_cores_asked_for_and_all_are_given_back(child: str) -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    with emulated(Emulation(core_count=1)) as (device, group):
        answer = run_isolated(child, b"", timeout_s=30.0).decode()
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        assert usable_core_count() == 1
    assert device is not None
    assert group is None
    assert device.cores == (max(before),)
    assert answer.startswith(f"[{max(before)}] ")
    assert seen == [{max(before)}]
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_cores_are_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ValueError, match="while measuring"), emulated(Emulation(core_count=1)):
        raise ValueError("while measuring")
    assert os.sched_getaffinity(0) == before


def test_more_cores_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="more than the 2"):
        limited_cores(frozenset({3, 5}), 3)
    assert limited_cores(frozenset({3, 5, 9}), 2) == {5, 9}


def test_without_an_emulation_nothing_changes() -> None:
    with emulated(None) as found:
        assert found == (None, None)
        assert MEMORY_GROUP not in os.environ


def test_a_limit_nobody_can_enforce_is_not_called_enforced(tmp_path: Path) -> None:
    closed = parent_group(tmp_path / "closed", controllers="cpu")
    with emulated(Emulation(memory_bytes=1 << 29), groups=(closed, tmp_path / "absent")) as (device, group):
        assert group is None
        assert device is not None
        assert not device.is_memory_enforced
        assert "not enforceable here" in device.text
        assert MEMORY_GROUP not in os.environ


def test_the_limit_stands_in_the_nearest_group_that_hands_memory_down(tmp_path: Path) -> None:
    closed, first = parent_group(tmp_path / "closed", controllers="cpu"), parent_group(tmp_path / "first")
    second = parent_group(tmp_path / "second")
    made = make_memory_group((closed, first, second), 512_000_000, name="edgeprune-7")
    assert made == first / "edgeprune-7"
    assert (made / "memory.max").read_text() == "512000000"
    assert (made / "memory.swap.max").read_text() == "0"
    assert [item.name for item in second.iterdir()] == ["cgroup.subtree_control"]


def test_children_enter_the_group_before_their_program_begins(child: str, tmp_path: Path) -> None:
    parent = parent_group(tmp_path / "group")
    with emulated(Emulation(memory_bytes=1 << 29), groups=(parent,)) as (device, group):
        assert device is not None
        assert device.is_memory_enforced
        assert group is not None
        answer = run_isolated(child, b"", timeout_s=30.0).decode()
        # The kernel reads 0 as the process that writes it; this plain file keeps what was written.
        assert (group / "cgroup.procs").read_text() == "0"
        assert answer.split()[-1].isdigit()
    assert MEMORY_GROUP not in os.environ


def test_processes_ended_for_memory_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 41\noom 2\noom_kill 2\n", encoding="ascii")
    assert killed_count(tmp_path) == 2
    assert killed_count(tmp_path / "absent") == 0
    assert killed_count(None) == 0


def test_the_flag_is_read_and_mistakes_are_refused() -> None:
    assert parse_emulation("cores=1,memory=512MB") == Emulation(core_count=1, memory_bytes=512_000_000)
    assert parse_emulation(" memory = 1GiB ") == Emulation(memory_bytes=1 << 30)
    for text in ("", "cores", "cores=0", "cores=x", "cores=1,cores=2", "memory=512", "memory=0MB", "disk=1GB"):
        with pytest.raises(UsageError, match="--emulate"):
            parse_emulation(text)
