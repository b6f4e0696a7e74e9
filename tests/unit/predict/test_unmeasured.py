"""Where a profile lacks a measurement, the range that stands in for it holds what was measured elsewhere."""

from msgspec.structs import replace

from edgeprune.predict.interval import Interval
from edgeprune.predict.memory import MemoryModel
from edgeprune.predict.roofline import Roofline
from edgeprune.profile.store import load_profile
from edgeprune.schema.device import BandwidthPoint


def test_weights_widened_at_load_need_more_than_their_file() -> None:
    """What onnxruntime 1.31 showed on x86: 2.34 times the stored 16-bit bytes, 1.43 times the 4-bit ones."""
    memory = MemoryModel(load_profile("raspberry-pi-5"))
    for kernel, seen in (("fp16", 2.34), ("fp32", 1.0), ("int4_b32_a4", 1.43)):
        resident, loading = memory.weights(kernel, 1_000_000)
        assert resident.low <= seen * 1_000_000 <= resident.high
        assert resident.value <= loading.high


def test_a_time_that_reading_decides_keeps_a_range() -> None:
    point = BandwidthPoint(
        array_bytes=1 << 28,
        thread_count=2,
        read_best_bytes_per_s=1e9,
        read_median_bytes_per_s=None,
        triad_best_bytes_per_s=None,
        triad_median_bytes_per_s=None,
    )
    roofline = Roofline(replace(load_profile("raspberry-pi-5"), bandwidth=(point,)))
    bounded = roofline.bound(Interval(1e-4, 0.9e-4, 1.1e-4), 1e6)
    assert bounded is not None
    assert bounded.low == bounded.value == 1e-3
    assert bounded.high > 1.2e-3
    assert roofline.bound(Interval(1.0, 0.9, 1.1), 1e6) == Interval(1.0, 0.9, 1.1)
