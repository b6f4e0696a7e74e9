"""Main memory bandwidth: read and triad, by numpy, over a curve of array sizes and with one and all threads.

Counting follows STREAM (McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers", IEEE
TCCA Newsletter, 1995): bytes the loop names, so that the fetch of a written line before it is overwritten is not
counted. Read is the maximum over one array. Triad, a = b + s c, is measured as a = b + c: numpy has no operation that
multiplies and adds in one pass, two passes over cached pieces reach 0.75 of a C triad (they cannot fetch b while they
multiply c), and the one-pass sum moves the very same three arrays; `tests/bench/bandwidth.py` compares it with a C
triad. Every thread owns, allocates and touches first its own part; numpy releases the interpreter while it works.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DeviceError
from edgeprune.schema.device import BandwidthPoint

__all__ = ["curve_sizes", "measure_bandwidth", "measure_point"]

_SMALLEST_BYTES = 8 << 20
_MOST_BYTES = 512 << 20
_SAMPLE_S = 0.002
"""A sample repeats its pass until about this long, so that starting threads (50 us) does not show."""

Part = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def curve_sizes(usable_bytes: int | None) -> tuple[int, ...]:
    """Array sizes from 8 MiB up, doubling, while three of them take at most 512 MiB and an eighth of usable memory."""
    most = _MOST_BYTES if usable_bytes is None else min(_MOST_BYTES, usable_bytes // 8)
    sizes = []
    size = _SMALLEST_BYTES
    while 3 * size <= most:
        sizes.append(size)
        size *= 2
    return tuple(sizes)


def measure_bandwidth(
    sizes: Sequence[int], *, thread_counts: Sequence[int], sample_count: int, before: Callable[[], None] | None = None
) -> tuple[BandwidthPoint, ...]:
    """The curve over array sizes for each thread count; `before` is called ahead of every point."""
    points = []
    for thread_count in thread_counts:
        for size in sizes:
            if before is not None:
                before()
            points.append(measure_point(size, thread_count=thread_count, sample_count=sample_count))
    return tuple(points)


def measure_point(array_bytes: int, *, thread_count: int, sample_count: int) -> BandwidthPoint:
    """Bandwidth with arrays of one size shared by some threads.

    Raises:
        DeviceError: the arrays could not be allocated.
    """
    count = array_bytes // 8
    bounds = [count * i // thread_count for i in range(thread_count + 1)]
    crew = _Crew([bounds[i + 1] - bounds[i] for i in range(thread_count)], sample_count)
    read_s, triad_s = crew.run()
    moved = 8 * count
    return BandwidthPoint(
        array_bytes=array_bytes,
        thread_count=thread_count,
        read_best_bytes_per_s=moved / min(read_s),
        read_median_bytes_per_s=moved / float(np.median(read_s)),
        triad_best_bytes_per_s=3 * moved / min(triad_s),
        triad_median_bytes_per_s=3 * moved / float(np.median(triad_s)),
    )


def _read(part: Part) -> None:
    np.maximum.reduce(part[1])


def _triad(part: Part) -> None:
    np.add(part[1], part[2], part[0])


class _Crew:
    """Threads that work through the same passes in step, each on its own part."""

    def __init__(self, counts: Sequence[int], sample_count: int) -> None:
        self._counts = counts
        self._sample_count = sample_count
        self._barrier = threading.Barrier(len(counts))
        # [kind, sample, thread]: seconds of one pass, begin and end on one clock.
        self._begin = np.zeros((2, sample_count, len(counts)))
        self._end = np.zeros((2, sample_count, len(counts)))
        self._pass_count = [1, 1]
        self._failures: list[BaseException] = []

    def run(self) -> tuple[list[float], list[float]]:
        """Seconds of one pass over all parts, for each sample of read and of triad."""
        threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(len(self._counts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise DeviceError(
                f"Memory bandwidth could not be measured ({self._failures[0]}); close other programs and profile again."
            ) from self._failures[0]
        elapsed = self._end.max(axis=2) - self._begin.min(axis=2)
        read_s, triad_s = (elapsed[kind] / self._pass_count[kind] for kind in range(2))
        return list(map(float, read_s)), list(map(float, triad_s))

    def _work(self, thread: int) -> None:
        try:
            count = self._counts[thread]
            part: Part = (np.zeros(count), np.full(count, 2.0), np.full(count, 0.5))
            for kind, one_pass in enumerate((_read, _triad)):
                self._measure(thread, kind, part, one_pass)
        except BaseException as error:  # a thread's failure belongs to the caller
            self._failures.append(error)
            self._barrier.abort()

    def _measure(self, thread: int, kind: int, part: Part, one_pass: Callable[[Part], Any]) -> None:
        one_pass(part)
        self._barrier.wait()
        start_s = time.perf_counter()
        one_pass(part)
        if thread == 0:
            warm_s = max(time.perf_counter() - start_s, 1e-6)
            self._pass_count[kind] = min(1000, max(1, round(_SAMPLE_S / warm_s)))
        self._barrier.wait()
        for sample in range(self._sample_count):
            self._barrier.wait()
            self._begin[kind, sample, thread] = time.perf_counter()
            for _ in range(self._pass_count[kind]):
                one_pass(part)
            self._end[kind, sample, thread] = time.perf_counter()
