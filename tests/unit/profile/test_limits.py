"""Usable memory honours every control group above the process, of both versions, and never counts swap."""

from pathlib import Path

from edgeprune.profile.limits import read_memory_info, tightest_limit

GiB = 1 << 30
MEMINFO = f"MemTotal: {4 * GiB // 1024} kB\nMemAvailable: {3 * GiB // 1024} kB\nSwapTotal: {8 * GiB // 1024} kB\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
    return folder


def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def test_without_limits_the_total_is_usable_and_swap_is_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "group", memory__max="max", memory__swap__max="max", memory__current="1")
    info = read_memory_info(meminfo=meminfo(tmp_path), folders=[folder])
    assert (info.total_bytes, info.usable_bytes, info.available_bytes) == (4 * GiB, 4 * GiB, 3 * GiB)
    assert info.limited_by is None


def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    inner = write(tmp_path / "a/b", memory__max=str(3 * GiB), memory__current=str(GiB // 2))
    outer = write(tmp_path / "a", memory__max=str(1 * GiB), memory__current=str(GiB // 4 * 3))
    info = read_memory_info(meminfo=meminfo(tmp_path), folders=[inner, outer])
    assert info.usable_bytes == GiB
    assert info.available_bytes == GiB // 4
    assert info.limited_by == "cgroup2"


def test_version_one_and_its_no_limit_number(tmp_path: Path) -> None:
    limited = write(tmp_path / "v1", memory__limit_in_bytes=str(2 * GiB), memory__usage_in_bytes=str(GiB))
    # v1 writes "no limit" as the largest page-aligned 64-bit number.
    free = write(tmp_path / "root", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes=str(GiB))
    info = read_memory_info(meminfo=meminfo(tmp_path), folders=[limited, free])
    assert (info.usable_bytes, info.available_bytes, info.limited_by) == (2 * GiB, GiB, "cgroup1")
    assert read_memory_info(meminfo=meminfo(tmp_path), folders=[free]).limited_by is None


def test_throttling_above_memory_high_is_a_limit(tmp_path: Path) -> None:
    folder = write(tmp_path / "g", memory__max=str(3 * GiB), memory__high=str(2 * GiB))
    assert tightest_limit([folder]) == (2 * GiB, "cgroup2", None)


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert tightest_limit([tmp_path / "missing"]) == (None, None, None)


def test_what_meminfo_does_not_say_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("SwapTotal: 100 kB\n")
    info = read_memory_info(meminfo=path, folders=[])
    assert info.total_bytes is None
    assert info.usable_bytes is None
