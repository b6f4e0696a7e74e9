"""Weights in huge pages: what a session holds in anonymous memory is moved from pages of 4 KiB to pages of 2 MiB.

A token reads every weight once, so most of its pages miss the TLB, and where pages of 4 KiB happen to lie decides how
well caches and prefetcher do: sessions of one fp32 graph differed by 19 % for as long as they lived. In huge pages they
differ by 4 %, and are 11 % faster on one thread (67 MB, `tests/bench/huge_pages.py`, a virtual x86 machine). From 6.1
on Linux moves memory when it is told to (madvise(2), MADV_COLLAPSE); only 2 MiB of which seven eighths are resident are
moved, so that next to no memory is added.

A plain onnxruntime gets the same from glibc 2.35 on where `TUNABLES` stands in its environment when it starts.
"""

import contextlib
import ctypes
import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["PAGE_BYTES", "TUNABLES", "gather_weights", "hold_in_huge_pages", "huge_page_bytes"]

PAGE_BYTES = 2 << 20
"""Of a huge page; those of machines whose small pages have 16 or 64 KiB are larger, and are left to the system."""
TUNABLES = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
_SMALL_BYTES = 4096
_MADV_COLLAPSE = 25
_RESIDENT = 0.875
"""Least share of a piece that is moved; freed memory leaves holes of a few pages between matrices."""
_MOVED_IN_PART = (errno.EAGAIN, errno.EBUSY)
"""Some piece was in use at that moment; the others were moved."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 32 << 20
_SMAPS = Path("/proc/self/smaps")
_ROLLUP = Path("/proc/self/smaps_rollup")


def gather_weights() -> None:
    """Have what is allocated from now on lie close together; where malloc is not glibc's nothing happens.

    A matrix below 2 MiB would get a mapping of its own, often with no whole huge page in it. Up to 32 MiB, glibc's
    largest threshold, matrices now come from one heap, as they do anyway once some large piece of memory was freed.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD):
            mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


def hold_in_huge_pages(*, gives_back: bool = True) -> None:
    """Move what this process holds in large anonymous pieces of memory; where that cannot be done nothing happens.

    Args:
        gives_back: return to the system what was freed, so that it is not moved too; a process that opens one session
            after another is quicker when it keeps it for the next.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.getpagesize() != _SMALL_BYTES:
            return
        if gives_back and hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
        for start, end in list(_scattered(_SMAPS.read_text(encoding="utf-8", errors="replace"))):
            for first, count in _resident_runs(libc, start, end):
                address = ctypes.c_void_p(start + first * PAGE_BYTES)
                failed = libc.madvise(address, ctypes.c_size_t(count * PAGE_BYTES), _MADV_COLLAPSE)
                if failed and ctypes.get_errno() not in _MOVED_IN_PART:
                    return  # an older Linux, huge pages switched off, or no piece of memory that large is free


def huge_page_bytes() -> int | None:
    """Anonymous memory of this process that is in huge pages; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in _ROLLUP.read_text(encoding="ascii").splitlines():
            if line.startswith("AnonHugePages:"):
                return int(line.split()[1]) * 1024
    return None


def _scattered(smaps: str) -> Iterator[tuple[int, int]]:
    """Private anonymous mappings of whole huge pages of which at least one is not in one yet: start and end."""
    span: tuple[int, int] | None = None
    anonymous = 0
    for line in smaps.splitlines():
        words = line.split(None, 5)
        if words and "-" in words[0] and not words[0].endswith(":"):
            start, end = (int(part, 16) for part in words[0].split("-"))
            start, end = -(-start // PAGE_BYTES) * PAGE_BYTES, end // PAGE_BYTES * PAGE_BYTES
            is_ours = words[1].startswith("rw") and words[1].endswith("p") and words[4] == "0"
            span = (start, end) if is_ours and end > start and words[-1] != "[stack]" else None
        elif span is not None and words[0] == "Anonymous:":
            anonymous = int(words[1]) * 1024
        elif span is not None and words[0] == "AnonHugePages:":
            if anonymous - int(words[1]) * 1024 >= PAGE_BYTES:
                yield span
            span = None


def _resident_runs(libc: ctypes.CDLL, start: int, end: int) -> list[tuple[int, int]]:
    """First huge page and number of huge pages, from `start` on, of every run that is in memory but for holes."""
    small = np.empty((end - start) // _SMALL_BYTES, dtype=np.uint8)
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_void_p(small.ctypes.data)):
        return []
    is_whole = (small.reshape(-1, PAGE_BYTES // _SMALL_BYTES) & 1).mean(axis=1) >= _RESIDENT
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_whole, [False]]).astype(np.int8)))
    return [(int(first), int(after - first)) for first, after in edges.reshape(-1, 2)]
