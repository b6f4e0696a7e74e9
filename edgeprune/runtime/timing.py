"""Times of one quantity, summarised the same way everywhere.

The percentile is numpy's default: linear interpolation between the two nearest samples.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from edgeprune.errors import DeviceError
from edgeprune.schema.measurement import LatencySamples

__all__ = ["summarize", "time_call"]


def summarize(samples_s: Sequence[float]) -> LatencySamples:
    """Median and 95th percentile of samples in seconds.

    Raises:
        DeviceError: no sample was taken, so there is nothing to report.
    """
    if not samples_s:
        raise DeviceError("No time was measured; measure again with a longer context.")
    samples = np.asarray(samples_s, dtype=np.float64)
    return LatencySamples(
        samples_s=tuple(map(float, samples)),
        median_s=float(np.median(samples)),
        p95_s=float(np.percentile(samples, 95.0)),
    )


def time_call(call: Callable[[], object], *, repeat_count: int, warm_up_count: int = 1) -> LatencySamples:
    """Time a call `repeat_count` times after `warm_up_count` untimed ones."""
    for _ in range(warm_up_count):
        call()
    samples_s = []
    for _ in range(repeat_count):
        start_s = time.perf_counter()
        call()
        samples_s.append(time.perf_counter() - start_s)
    return summarize(samples_s)
