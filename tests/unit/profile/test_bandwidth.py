"""The bandwidth curve keeps to its memory, and its figures are those of bytes and seconds."""

from itertools import pairwise

import pytest

from edgeprune.errors import DeviceError
from edgeprune.profile.bandwidth import curve_sizes, measure_bandwidth, measure_point

MiB = 1 << 20


@pytest.mark.parametrize(
    ("usable", "largest"),
    [(None, 128 * MiB), (64 << 30, 128 * MiB), (2 << 30, 64 * MiB), (1 << 30, 32 * MiB), (200 * MiB, 8 * MiB)],
)
def test_three_arrays_take_at_most_512_mib_and_an_eighth(usable: int | None, largest: int) -> None:
    sizes = curve_sizes(usable)
    assert sizes[0] == 8 * MiB
    assert sizes[-1] == largest
    assert all(b == 2 * a for a, b in pairwise(sizes))
    assert 3 * sizes[-1] <= min(512 * MiB, (usable or 1 << 62) // 8)


def test_a_board_too_small_for_the_curve_has_none() -> None:
    assert curve_sizes(128 * MiB) == ()


@pytest.mark.parametrize("thread_count", [1, 2, 3])
def test_a_point_is_plausible_and_best_is_not_below_median(thread_count: int) -> None:
    point = measure_point(8 * MiB, thread_count=thread_count, sample_count=3)
    assert (point.array_bytes, point.thread_count) == (8 * MiB, thread_count)
    for best, median in (
        (point.read_best_bytes_per_s, point.read_median_bytes_per_s),
        (point.triad_best_bytes_per_s, point.triad_median_bytes_per_s),
    ):
        assert best is not None
        assert median is not None
        # 10 MB/s is a hundredth of the slowest board; 10 TB/s is above any processor's caches.
        assert 1e7 < median <= best < 1e13


def test_the_curve_has_every_size_for_every_thread_count() -> None:
    calls: list[None] = []
    points = measure_bandwidth(
        [8 * MiB, 16 * MiB], thread_counts=(1, 2), sample_count=1, before=lambda: calls.append(None)
    )
    assert [(point.thread_count, point.array_bytes // MiB) for point in points] == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert len(calls) == 4


def test_arrays_that_do_not_fit_are_told_and_no_thread_is_waited_for() -> None:
    with pytest.raises(DeviceError, match="bandwidth could not be measured"):
        measure_point(1 << 56, thread_count=2, sample_count=2)
