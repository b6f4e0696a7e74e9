import mmap

import numpy as np

from edgeprune.runtime.floor import measure_floor
from edgeprune.runtime.memory import available_bytes, parse_status, read_memory


def test_status_is_read_in_kib() -> None:
    text = "Name:\tpython\nVmHWM:\t    1000 kB\nVmRSS:\t     900 kB\nRssAnon:\t     10 kB\nThreads:\t3\n"
    memory = parse_status(text)
    assert (memory.peak_rss_bytes, memory.rss_bytes, memory.anonymous_bytes) == (1_024_000, 921_600, 10_240)


def test_what_the_system_does_not_tell_is_none() -> None:
    assert parse_status("VmRSS:\t 4 kB\n").peak_rss_bytes is None


def test_the_peak_stays_after_memory_is_given_back() -> None:
    before = read_memory()
    # Mapped apart: what an allocator gives back, and when, depends on everything the process did before.
    block = mmap.mmap(-1, 64_000_000)
    np.frombuffer(block, dtype=np.uint8)[:] = 1
    held = read_memory()
    block.close()
    after = read_memory()
    assert held.rss_bytes is not None
    assert before.rss_bytes is not None
    assert after.peak_rss_bytes is not None
    assert held.rss_bytes - before.rss_bytes > 50_000_000
    # The kernel counts pages per processor and adds them up late: a few hundred kB either way.
    assert after.peak_rss_bytes >= held.rss_bytes - 4_000_000
    assert after.rss_bytes is not None
    assert after.rss_bytes < held.rss_bytes - 50_000_000


def test_a_child_does_not_inherit_the_peak_of_a_large_parent() -> None:
    block = np.ones(300_000_000 // 8)
    floor = measure_floor(thread_count=1)
    assert block[-1] == 1.0
    assert floor is not None
    assert 10_000_000 < floor.peak_rss_bytes < 200_000_000


def test_some_memory_is_available() -> None:
    available = available_bytes()
    assert available is not None
    assert available > 0
