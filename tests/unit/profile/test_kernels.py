"""Measured times: each of a group, in order of size, boxed in time, and honest about what is missing."""

import numpy as np
import pytest

from edgeprune.profile.attention import measure_attention
from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.kernel_plan import ChainGroup
from edgeprune.profile.kernels import KernelSettings, measure_kernels
from edgeprune.profile.overhead import measure_overhead
from edgeprune.profile.rounds import quiet_times
from edgeprune.runtime.probe_graph_sites import site_chain

MiB = 1 << 20


def settings(budget_s: float = 5.0, most_bytes: int = 64 * MiB) -> KernelSettings:
    return KernelSettings(
        thread_count=1,
        round_count=5,
        budget_s=budget_s,
        cache_bytes=4 * MiB,
        most_bytes=most_bytes,
        run_s=2e-6,
        node_s=3e-7,
    )


def test_each_kernel_of_a_group_gets_a_time_and_more_work_takes_longer() -> None:
    groups = [ChainGroup((64, 96), None, 1, True), ChainGroup((512, 512), None, 1, True)]
    groups += [ChainGroup((64, 96), 32, 1, True), ChainGroup((512, 512), None, 128, True)]
    times, notes = measure_kernels(("fp32", "int4_b32_a4", "dynamic_int8"), groups, settings())
    assert notes == ()
    found = {(time.kernel, time.rows, time.in_features, time.rank): time.time_s for time in times}
    assert len(found) == 12
    assert all(0.0 < value < 1.0 for value in found.values())
    assert found["fp32", 1, 512, None] > found["fp32", 1, 64, None]
    assert found["fp32", 128, 512, None] > 4.0 * found["fp32", 1, 512, None]


def test_groups_beyond_the_time_are_left_out_and_named() -> None:
    groups = [ChainGroup((64, 64), None, 1, True, is_essential=True), ChainGroup((96, 96), None, 1, True)]
    times, notes = measure_kernels(("fp32",), groups, settings(budget_s=0.0))
    assert [(time.in_features, time.out_features) for time in times] == [(64, 64)]
    assert len(notes) == 1
    assert "96x96 at 1 rows" in notes[0]


def test_streaming_chains_are_marked_and_split_to_fit_memory() -> None:
    group = ChainGroup((512, 512), None, 1, False)
    times, _ = measure_kernels(("fp32", "int8_b32_a4"), [group], settings(most_bytes=8 * MiB))
    assert {time.kernel: time.is_cached for time in times} == {"fp32": False, "int8_b32_a4": False}


def test_before_is_told_how_much_of_the_time_is_spent_and_may_stop() -> None:
    spent: list[float] = []

    def stop(fraction: float) -> None:
        spent.append(fraction)
        if len(spent) == 2:
            raise KeyboardInterrupt

    groups = [ChainGroup((64, 64), None, rows, True) for rows in (1, 128, 512)]
    with pytest.raises(KeyboardInterrupt):
        measure_kernels(("fp32",), groups, settings(), before=stop)
    assert 0.0 <= spent[0] <= spent[1] <= 1.0


def test_rounds_take_the_lower_quartile_and_run_every_graph_as_often() -> None:
    class Counter:
        def __init__(self, times_s: list[float]) -> None:
            self.times_s = times_s
            self.calls = 0

        def run(self) -> None:
            """Nothing to warm."""

        def time(self, run_count: int) -> float:
            self.calls += 1
            return self.times_s[min(self.calls - 1, len(self.times_s) - 1)]

    # Long enough that one run is a guess and a sample: guess, then five samples.
    first, second = Counter([0.01, 0.03, 0.01, 0.02, 0.05, 9.0]), Counter([0.01] * 6)
    assert quiet_times([first, second], round_count=5) == [0.02, 0.01]
    assert first.calls == second.calls == 6
    assert quiet_times([], round_count=5) == []


def test_bound_graph_computes_what_a_plain_run_does() -> None:
    graph = site_chain("fp32", in_features=32, out_features=48, site_count=1)
    bound = BoundGraph(graph, thread_count=1)
    bound.bind_rows(3)
    bound.run()
    x = np.random.default_rng(3).standard_normal((1, 3, 32), dtype=np.float32)
    np.testing.assert_allclose(bound.output("y"), x @ graph.arrays["site0.0.weight"], rtol=1e-5, atol=1e-5)


def test_attention_takes_longer_with_more_past() -> None:
    times = measure_attention([(4, 2, 64)], [(1, 15), (1, 2047)], thread_count=1, round_count=5, run_s=1e-6)
    floats = [time for time in times if time.kv_bits == 32]
    assert [(time.rows, time.past_tokens) for time in floats] == [(1, 15), (1, 2047)]
    assert 0.0 < floats[0].time_s < floats[1].time_s
    # The first shape is timed with an 8-bit cache too.
    assert {(time.rows, time.past_tokens) for time in times if time.kv_bits == 8} <= {(1, 15), (1, 2047)}


def test_a_run_costs_more_than_a_node() -> None:
    overhead = measure_overhead(thread_count=1, round_count=9)
    record = overhead.record
    assert record.node_s is not None
    assert record.run_s is not None
    assert 1e-8 < record.node_s < record.run_s < 1e-2
    assert overhead.bare_run_s > 0.0
