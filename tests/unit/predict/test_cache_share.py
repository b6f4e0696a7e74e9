"""The cached share of a working set: read from a measured curve, else from the cache's size."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cache_share import CacheShare
from edgeprune.schema.device import CachePoint, DeviceProfile
from tests.unit.search.builders import make_device

MB = 1_000_000


def curve(*points: tuple[float, float]) -> DeviceProfile:
    measured = tuple(CachePoint(working_set_bytes=int(size * MB), cached_fraction=share) for size, share in points)
    return replace(make_device(cache_bytes=32 * MB), cache_curve=measured)


def test_a_measured_curve_is_read_and_not_the_size_the_system_tells() -> None:
    share = CacheShare(curve((4, 1.0), (16, 0.5), (48, 0.0)))
    assert share.fraction(2 * MB) == 1.0
    assert share.fraction(8 * MB) == pytest.approx(0.75)  # halfway in the logarithm
    assert share.fraction(16 * MB) == 0.5
    assert share.fraction(100 * MB) == 0.0
    assert CacheShare(make_device(cache_bytes=32 * MB)).fraction(16 * MB) == 1.0


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.75, 0.9])
def test_the_limit_is_the_largest_working_set_with_that_share(fraction: float) -> None:
    share = CacheShare(curve((4, 1.0), (8, 0.5), (12, 0.5), (48, 0.0)))
    limit = share.limit(fraction)
    assert limit is not None
    assert share.fraction(limit * 0.9999) >= fraction - 1e-9
    assert share.fraction(limit * 1.01) < fraction


def test_a_share_that_no_size_has_and_one_that_every_size_has() -> None:
    share = CacheShare(curve((4, 0.9), (48, 0.0)))
    assert share.limit(1.0) == 0.0
    assert share.limit(0.0) is None
