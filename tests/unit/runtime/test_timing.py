import pytest

from edgeprune.errors import DeviceError
from edgeprune.runtime.timing import summarize, time_call


def test_percentile_interpolates_linearly() -> None:
    summary = summarize([4.0, 1.0, 3.0, 2.0])
    assert summary.median_s == 2.5
    assert summary.p95_s == pytest.approx(3.85)
    assert summary.samples_s == (4.0, 1.0, 3.0, 2.0)


def test_no_sample_is_an_error_not_a_zero() -> None:
    with pytest.raises(DeviceError, match="No time was measured"):
        summarize([])


def test_warm_up_calls_are_not_timed() -> None:
    calls: list[int] = []
    summary = time_call(lambda: calls.append(1), repeat_count=3, warm_up_count=2)
    assert len(calls) == 5
    assert len(summary.samples_s) == 3
