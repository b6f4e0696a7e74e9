"""Kernel times: measured points as they are, monotone and sensible between and beyond them."""

import pytest

from edgeprune.predict.kernel_table import KernelTable
from edgeprune.schema.device import KernelTime


def point(
    rows: int,
    shape: tuple[int, int],
    time_s: float,
    *,
    rank: int | None = None,
    is_cached: bool = True,
    kernel: str = "fp32",
) -> KernelTime:
    return KernelTime(
        kernel=kernel,
        rows=rows,
        in_features=shape[0],
        out_features=shape[1],
        rank=rank,
        is_cached=is_cached,
        time_s=time_s,
    )


def ask(
    table: KernelTable, shape: tuple[int, int], *, rows: int = 1, rank: int | None = None, is_cached: bool = True
) -> float:
    found = table.time_s("fp32", rows=rows, in_features=shape[0], out_features=shape[1], rank=rank, is_cached=is_cached)
    assert found is not None
    assert found.low <= found.value <= found.high
    return found.value


def test_a_measured_point_is_returned_exactly() -> None:
    table = KernelTable([point(1, (64, 64), 3e-6), point(1, (256, 256), 5e-5)])
    assert ask(table, (64, 64)) == 3e-6
    assert ask(table, (256, 256)) == 5e-5


def test_between_points_the_time_lies_between_them() -> None:
    table = KernelTable([point(1, (100, 100), 1e-5), point(1, (400, 400), 16e-5)])
    # 40,000 weights is the geometric mean of 10,000 and 160,000, and 4e-5 that of the times.
    assert ask(table, (200, 200)) == pytest.approx(4e-5)


def test_a_larger_matrix_is_never_faster_even_where_a_measurement_says_so() -> None:
    table = KernelTable([point(1, (64, 64), 4e-6), point(1, (128, 128), 3e-6), point(1, (256, 256), 2e-5)])
    times = [ask(table, (size, size)) for size in (70, 90, 110, 140, 180, 220, 300, 400)]
    assert times == sorted(times)


def test_beyond_the_grid_the_time_follows_fixed_cost_plus_rate() -> None:
    table = KernelTable([point(1, (100, 100), 2e-6 + 1e-6), point(1, (200, 200), 2e-6 + 4e-6)])
    assert ask(table, (400, 400)) == pytest.approx(2e-6 + 16e-6)
    assert ask(table, (50, 50)) == pytest.approx(2e-6 + 0.25e-6)


def test_the_nearest_aspect_of_one_size_counts() -> None:
    points = [point(1, (64, 256), 2e-6), point(1, (256, 64), 8e-6), point(1, (512, 512), 9e-5)]
    table = KernelTable(points)
    assert ask(table, (63, 256)) < 4e-6 < ask(table, (256, 63))


def test_two_factors_are_two_products_corrected_by_what_was_measured() -> None:
    dense = [
        point(1, (64, 64), 1e-6),
        point(1, (256, 256), 16e-6),
        point(1, (256, 64), 4e-6),
        point(1, (64, 256), 4e-6),
    ]
    assert ask(KernelTable(dense), (256, 256), rank=64) == pytest.approx(8e-6)
    corrected = KernelTable([*dense, point(1, (512, 512), 12e-6, rank=64)])
    parts = ask(KernelTable(dense), (512, 64)) + ask(KernelTable(dense), (64, 512))
    assert ask(corrected, (256, 256), rank=64) == pytest.approx(8e-6 * 12e-6 / parts)


def test_rows_between_the_measured_ones_are_interpolated_and_beyond_are_proportional() -> None:
    table = KernelTable([point(1, (64, 64), 1e-6), point(128, (64, 64), 128e-6)])
    assert ask(table, (64, 64), rows=64) == pytest.approx(64e-6)
    assert ask(table, (64, 64), rows=256) == pytest.approx(256e-6)


def test_the_other_cache_state_serves_where_only_one_was_measured() -> None:
    table = KernelTable([point(1, (64, 64), 1e-6, is_cached=True)])
    assert ask(table, (64, 64), is_cached=False) == 1e-6


def test_a_kernel_never_timed_has_no_time() -> None:
    table = KernelTable([point(1, (64, 64), 1e-6)])
    assert table.time_s("int4_b32_a4", rows=1, in_features=64, out_features=64, rank=None, is_cached=True) is None


def test_a_disturbed_measurement_is_bounded_by_every_product_that_contains_it() -> None:
    table = KernelTable(
        [point(1, (64, 64), 5e-3), point(1, (128, 64), 2e-6), point(1, (256, 256), 9e-6), point(128, (256, 256), 8e-6)]
    )
    assert ask(table, (64, 64)) == 2e-6
    assert ask(table, (256, 256)) == 8e-6
    streaming = KernelTable([point(1, (64, 64), 5e-6), point(1, (64, 64), 4e-6, is_cached=False)])
    assert ask(streaming, (64, 64)) == 4e-6


def test_streaming_adds_to_each_matrix_a_power_of_its_weights() -> None:
    shapes = [(64, 64), (128, 128), (256, 256)]
    cached = [point(1, shape, 1e-9 * shape[0] * shape[1]) for shape in shapes]

    def added(weights: int) -> float:
        return 1e-7 * weights ** (2 / 3)

    streaming = [
        point(1, shape, 1e-9 * shape[0] * shape[1] + added(shape[0] * shape[1]), is_cached=False)
        for shape in (shapes[0], shapes[2])
    ]
    table = KernelTable([*cached, *streaming])
    assert ask(table, (128, 128), is_cached=False) == pytest.approx(1e-9 * 128 * 128 + added(128 * 128))
    assert ask(table, (32, 32), is_cached=False) == pytest.approx(ask(table, (32, 32)) + added(32 * 32))
    both = ask(table, (128, 128), rank=32)
    assert ask(table, (128, 128), rank=32, is_cached=False) == pytest.approx(both + 2 * added(32 * 128))


def test_between_streaming_points_the_two_next_to_a_matrix_tell() -> None:
    """The head is read at twice the rate of the sites: that says nothing of a matrix between two sites."""
    shapes = [(64, 64), (256, 256), (256, 8192)]
    cached = [point(1, shape, 1e-12 * shape[0] * shape[1]) for shape in shapes]
    rates = [4e-9, 2e-9, 1e-9]
    streaming = [
        point(1, shape, (rate + 1e-12) * shape[0] * shape[1], is_cached=False)
        for shape, rate in zip(shapes, rates, strict=True)
    ]
    table = KernelTable([*cached, *streaming])
    for shape, rate in zip(shapes, rates, strict=True):
        assert ask(table, shape, is_cached=False) == pytest.approx((rate + 1e-12) * shape[0] * shape[1])
    # 128 x 128 lies in the middle, in logarithms, of 64 x 64 and 256 x 256.
    wanted = 1e-12 * 128 * 128 + (4e-9 * 64 * 64 * 2e-9 * 256 * 256) ** 0.5
    assert ask(table, (128, 128), is_cached=False) == pytest.approx(wanted)


def test_one_streaming_point_gives_a_rate_alone() -> None:
    cached = [point(1, (64, 64), 4e-6), point(1, (256, 256), 64e-6)]
    table = KernelTable([*cached, point(1, (256, 256), 96e-6, is_cached=False)])
    assert ask(table, (128, 128), is_cached=False) == pytest.approx(ask(table, (128, 128)) + 32e-6 / 4)


def test_a_kernel_timed_with_cached_weights_alone_streams_like_the_one_of_as_many_bits() -> None:
    cached = [
        point(1, (256, 256), seconds, kernel=kernel)
        for kernel, seconds in (("int4_b32_a4", 5e-6), ("int4_b64_a4", 4e-6), ("int8_b32_a4", 3e-6))
    ]
    table = KernelTable([*cached, point(1, (256, 256), 25e-6, is_cached=False, kernel="int4_b32_a4")])
    asked = {"rows": 1, "in_features": 256, "out_features": 256, "rank": None, "is_cached": False}
    found = table.time_s("int4_b64_a4", **asked)  # type: ignore[arg-type]
    assert found is not None
    assert found.value == pytest.approx(4e-6 + 20e-6)
    assert table.has_streaming("int4_b64_a4")
    assert not table.has_streaming("int8_b32_a4")
    assert table.time_s("int4_b128_a4", **asked) is None  # type: ignore[arg-type]
