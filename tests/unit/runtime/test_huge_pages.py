"""Weights move to huge pages where they fill them, and no memory is added."""

import ctypes
import mmap
import platform
import subprocess
import sys

import pytest

from edgeprune.runtime.huge_pages import PAGE_BYTES, hold_in_huge_pages, huge_page_bytes
from edgeprune.runtime.memory import read_memory

PAGES = 16


def can_collapse() -> bool:
    """Whether this Linux moves a filled piece of memory when it is told to."""
    version = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    return sys.platform == "linux" and version >= (6, 1) and mmap.PAGESIZE == 4096 and huge_page_bytes() is not None


def anonymous(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@pytest.mark.skipif(not can_collapse(), reason="needs Linux 6.1 with transparent huge pages")
def test_what_fills_huge_pages_is_moved_into_them_unchanged() -> None:
    before = huge_page_bytes()
    assert before is not None
    held = anonymous(PAGES * PAGE_BYTES)
    held.write(b"\x07" * len(held))
    hold_in_huge_pages()
    after = huge_page_bytes()
    assert after is not None
    # Not all: an end may be less than a huge page, and a crowded machine has few free pieces of that size.
    assert after - before >= 0.5 * PAGES * PAGE_BYTES
    assert held[:] == b"\x07" * len(held)
    held.close()


OPEN = """
from edgeprune.runtime.huge_pages import huge_page_bytes
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.runtime.session import open_session
graph = site_chain("fp32", in_features=256, out_features=704, site_count=40)
session = open_session(graph.to_bytes(), thread_count=1)
print(graph.array_bytes, huge_page_bytes())
"""


@pytest.mark.skipif(not can_collapse() or platform.libc_ver()[0] != "glibc", reason="needs Linux 6.1 and glibc")
def test_matrices_that_are_smaller_than_a_huge_page_share_some() -> None:
    made = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, check=True)
    weights, huge = map(int, made.stdout.split())
    assert weights / 40 < PAGE_BYTES
    assert huge > 0.5 * weights


def test_memory_that_was_never_touched_stays_untouched() -> None:
    held = anonymous(PAGES * PAGE_BYTES)
    for start in range(0, len(held), PAGE_BYTES):  # half of every huge page
        held[start : start + PAGE_BYTES // 2] = b"\x01" * (PAGE_BYTES // 2)
    before = read_memory().anonymous_bytes
    hold_in_huge_pages()
    after = read_memory().anonymous_bytes
    assert before is not None
    assert after is not None
    assert after - before < PAGE_BYTES
    held.close()


def test_a_system_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def getpagesize(self) -> int:
            return 4096

        def mincore(self, *_: object) -> int:
            return -1

        def madvise(self, *_: object) -> int:
            raise AssertionError("nothing was resident")

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    hold_in_huge_pages()
