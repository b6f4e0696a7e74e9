"""Several passes over the same points become one."""

from msgspec.structs import replace

from edgeprune.profile.passes import fastest
from edgeprune.schema.device import KernelTime

POINT = KernelTime(
    kernel="fp32", rows=1, in_features=8, out_features=8, rank=None, is_cached=True, time_s=3.0
)  # fmt: skip


def test_each_point_keeps_the_least_of_its_times() -> None:
    other = replace(POINT, rows=128, time_s=1.0)
    found = fastest([POINT, other, replace(POINT, time_s=2.0), replace(other, time_s=4.0)])
    assert found == (replace(POINT, time_s=2.0), other)
