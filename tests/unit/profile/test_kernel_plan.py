"""Chains are as long as cached and streaming weights need, and what matters most comes first."""

from itertools import pairwise

import pytest

from edgeprune.profile.kernel_plan import (
    ALL_KERNELS,
    QUICK_KERNELS,
    ChainGroup,
    Shape,
    cached_length,
    default_groups,
    quick_groups,
    resident_estimate,
    streaming_length,
)
from edgeprune.schema.kernel import parse_kernel

MiB = 1 << 20


def test_every_kernel_the_issue_names_is_in_the_table() -> None:
    wanted = {f"int{bits}_b{block}_a{level}" for bits in (4, 8) for block in (32, 64, 128) for level in (0, 4)}
    assert set(ALL_KERNELS) == wanted | {"fp32", "fp16", "dynamic_int8"}
    assert set(QUICK_KERNELS) < set(ALL_KERNELS)
    for kernel in ALL_KERNELS:
        parse_kernel(kernel)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("shape", [(128, 128), (256, 704), (2048, 2048), (256, 8192)])
@pytest.mark.parametrize("cache_bytes", [1 * MiB, 6 * MiB, 32 * MiB, None])
def test_cached_chains_fit_and_streaming_chains_do_not(
    kernel: str, shape: tuple[int, int], cache_bytes: int | None
) -> None:
    group = ChainGroup(shape, None, 1, True)
    site = resident_estimate(kernel, shape, None)
    cache = cache_bytes or 8 * MiB
    cached = cached_length(kernel, group, cache_bytes)
    assert cached is None or 1 <= cached <= 48
    assert (cached is None) == (site > cache * 7 // 10)
    if cached is not None:
        assert cached * site <= cache
    streaming = streaming_length(kernel, group, cache_bytes, 256 * MiB)
    if streaming is not None:
        assert streaming * site >= cache * 3 // 2
        assert streaming * site <= 256 * MiB + site


def test_a_streaming_chain_too_large_for_memory_is_not_made() -> None:
    group = ChainGroup((2048, 2048), None, 1, False)
    assert streaming_length("fp32", group, 300 * MiB, 256 * MiB) is None
    assert streaming_length("int4_b32_a4", ChainGroup((128, 128), None, 1, False), 32 * MiB, 256 * MiB) is None


def test_the_users_shapes_come_first_at_every_number_of_rows() -> None:
    groups = default_groups([(96, 160), (160, 96), (96, 160), (256, 8192)])
    first = [(group.shape, group.rows) for group in groups[:9]]
    assert first == [(shape, rows) for shape in ((96, 160), (160, 96), (256, 8192)) for rows in (1, 128, 512)]
    assert all(group.is_essential for group in groups[:9] if group.rows < 512)
    # A head is never factored.
    assert all(group.rank is None for group in groups if group.shape == (256, 8192))


def test_streaming_is_timed_for_the_largest_shape_and_the_sites_between() -> None:
    def streaming(*shapes: Shape) -> list[Shape]:
        return [group.shape for group in default_groups(shapes) if not group.is_cached]

    head = (768, 32_000)
    assert streaming((96, 160), (160, 96), (256, 8192)) == [(256, 704), (256, 8192)]
    # One of each number of weights: what is read is the same.
    assert streaming((768, 256), (768, 768), (768, 2048), (2048, 768), head) == [
        (256, 704), head, (768, 2048), (768, 768), (768, 256),
    ]  # fmt: skip
    assert streaming((256, 704)) == [(256, 704)]


def test_groups_are_not_repeated_and_factored_ranks_are_multiples_of_32() -> None:
    for groups in (default_groups([(256, 704)]), quick_groups([(256, 704)]), default_groups([])):
        keys = [(group.shape, group.rank, group.rows, group.is_cached) for group in groups]
        assert len(set(keys)) == len(keys)
        assert {group.rows for group in groups} >= {1, 128}
        ranks = [group.rank for group in groups if group.rank is not None]
        assert ranks
        assert all(rank % 32 == 0 for rank in ranks)


def test_longer_rows_mean_shorter_chains() -> None:
    lengths = [cached_length("fp32", ChainGroup((768, 2048), None, rows, True), 32 * MiB) for rows in (128, 512, 4096)]
    assert all(length is not None for length in lengths)
    assert all((a or 0) >= (b or 0) for a, b in pairwise(lengths))
