from pathlib import Path

import pytest

from edgeprune.runtime.cgroup import group_folders
from edgeprune.runtime.threads import quota_core_count, usable_core_count


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return path


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("400000 100000", 4), ("max 100000", None)]
)
def test_quota_of_cgroup2_is_rounded_up(tmp_path: Path, quota: str, cores: int | None) -> None:
    write(tmp_path / "cpu.max", quota + "\n")
    assert quota_core_count([tmp_path]) == cores


def test_quota_of_cgroup1_and_the_tightest_group_counts(tmp_path: Path) -> None:
    inner, outer = tmp_path / "a" / "b", tmp_path / "a"
    write(inner / "cpu.cfs_quota_us", "-1")
    write(inner / "cpu.cfs_period_us", "100000")
    write(outer / "cpu.cfs_quota_us", "250000")
    write(outer / "cpu.cfs_period_us", "100000")
    assert quota_core_count([inner, outer, tmp_path]) == 3


def test_garbage_in_a_quota_limits_nothing(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "lots please")
    assert quota_core_count([tmp_path]) is None


def test_at_least_one_core_is_usable() -> None:
    assert usable_core_count() >= 1


def test_groups_are_found_from_the_inside_out_in_both_hierarchies(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    write(mount / "unified" / "cgroup.controllers", "")
    (mount / "unified" / "user" / "job").mkdir(parents=True)
    (mount / "memory" / "jobs").mkdir(parents=True)
    membership = write(tmp_path / "self", "4:cpu,cpuacct:/gone\n3:memory:/jobs\n0::/user/job\n")
    assert group_folders("memory", mount=mount, membership=membership) == (
        mount / "unified" / "user" / "job",
        mount / "unified" / "user",
        mount / "unified",
        mount / "memory" / "jobs",
        mount / "memory",
    )


def test_without_membership_there_are_no_groups(tmp_path: Path) -> None:
    assert group_folders("memory", mount=tmp_path, membership=tmp_path / "absent") == ()
