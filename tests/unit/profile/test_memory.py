"""Memory figures come from fresh processes and say what weights and nodes really occupy."""

import pytest

from edgeprune.errors import DeviceError
from edgeprune.profile.floor import measure_floor, median_floor
from edgeprune.profile.observe import growth, observe_graph
from edgeprune.profile.session_memory import FEW_BLOCKS, MANY_BLOCKS, observe_decoder, session_memory
from edgeprune.profile.weights_memory import measure_kernel_memory
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.schema.device import Floor

MB = 10**6


def test_the_floor_is_that_of_an_interpreter_with_a_runtime() -> None:
    ballast = bytearray(200 * MB)  # the child's peak must not inherit this process's
    floor = measure_floor(thread_count=1, process_count=1)
    assert 20 * MB < floor.peak_rss_bytes < 200 * MB
    assert floor.anonymous_bytes is not None
    assert floor.anonymous_bytes < floor.peak_rss_bytes
    assert len(ballast) == 200 * MB


def test_the_median_of_several_floors() -> None:
    floors = [Floor(peak_rss_bytes=size, anonymous_bytes=None) for size in (3, 1, 2)]
    assert median_floor([*floors, None]).peak_rss_bytes == 2
    with pytest.raises(DeviceError, match="VmHWM"):
        median_floor([None])


def test_weights_show_in_the_child_and_not_before_it_loads() -> None:
    graph = site_chain("fp32", in_features=512, out_features=512, site_count=20)
    reply = observe_graph(graph, thread_count=1, rows=(1,))
    before, after = reply.before_load.rss_bytes, reply.after_run[-1].rss_bytes
    assert before is not None
    assert after is not None
    assert after - before > graph.array_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "low", "high"), [("fp32", 0.97, 1.1), ("int8_b32_a4", 1.0, 1.5)])
def test_prepared_weights_take_about_their_stored_bytes(kernel: str, low: float, high: float) -> None:
    memory = measure_kernel_memory(kernel, thread_count=1, node_bytes=9000)
    assert memory is not None
    assert memory.kernel == kernel
    assert low < memory.resident_fraction < high
    assert memory.peak_fraction > 0.97 * memory.resident_fraction


@pytest.mark.slow
def test_nodes_and_sessions_take_thousands_and_millions_of_bytes() -> None:
    floor = measure_floor(thread_count=1, process_count=1)
    few, many = (observe_decoder(count, thread_count=1) for count in (FEW_BLOCKS, MANY_BLOCKS))
    memory = session_memory(few_peak=few, many_peak=many, floor_peak_bytes=floor.peak_rss_bytes)
    assert memory.node_bytes is not None
    assert 1_000 < memory.node_bytes < 50_000
    assert memory.session_bytes is not None
    assert 0.1 * MB < memory.session_bytes < 20 * MB


@pytest.mark.parametrize(("more", "less", "want"), [(5, 3, 2), (3, 5, None), (None, 3, None), (3, None, None)])
def test_growth_is_unknown_where_nothing_grew(more: int | None, less: int | None, want: int | None) -> None:
    assert growth(more, less) == want


def test_a_session_without_peaks_is_unknown() -> None:
    assert session_memory(few_peak=None, many_peak=5, floor_peak_bytes=1).node_bytes is None
    assert session_memory(few_peak=5, many_peak=5, floor_peak_bytes=1).session_bytes is None
