"""The share of a working set that stays in cache, from the times of chains that grow."""

import pytest

from edgeprune.profile.cache_curve import cache_curve, cached_bytes, measure_cache_curve


def test_the_share_falls_from_the_fastest_chain_to_the_largest() -> None:
    curve = cache_curve([{100: 1.0, 200: 2.0, 400: 3.0}])
    assert [(point.working_set_bytes, point.cached_fraction) for point in curve] == [(100, 1.0), (200, 0.5), (400, 0.0)]
    assert cached_bytes(curve) == 100


def test_the_fastest_pass_counts_and_a_larger_set_never_has_a_larger_share() -> None:
    curve = cache_curve([{100: 1.0, 200: 2.5, 300: 1.5, 400: 3.0}, {100: 1.4, 200: 2.0, 300: 9.0, 400: 3.5}])
    assert [point.cached_fraction for point in curve] == [1.0, 0.5, 0.5, 0.0]


def test_where_memory_is_as_fast_as_the_cache_there_is_no_curve() -> None:
    assert cache_curve([{100: 1.0, 200: 1.01, 400: 1.05}]) == ()
    assert cache_curve([{}]) == ()
    assert cached_bytes(()) is None


@pytest.mark.parametrize("cache_bytes", [None, 100_000, 1 << 40])
def test_unknown_tiny_and_huge_caches_are_not_measured(cache_bytes: int | None) -> None:
    assert measure_cache_curve(cache_bytes, thread_count=1, round_count=2, most_bytes=1 << 28) == {}


def test_chains_grow_from_an_eighth_of_the_cache_to_one_and_a_half() -> None:
    times = measure_cache_curve(8 << 20, thread_count=1, round_count=2, most_bytes=1 << 28)
    assert list(times) == sorted(times)
    assert min(times) == pytest.approx(1 << 20, rel=0.15)
    assert max(times) == pytest.approx(12 << 20, rel=0.05)
    assert all(seconds > 0.0 for seconds in times.values())
