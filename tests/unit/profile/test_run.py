"""A whole profile: what it must hold, what it tells while it works, and how it stops."""

from pathlib import Path

import pytest

from edgeprune.artifacts import read_record, write_record
from edgeprune.errors import Cancelled, UsageError
from edgeprune.profile.run import profile_device
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event, NullProgress


class Listener:
    """Keeps the events; stops when told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[Event] = []
        self._stop_after = stop_after

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def raise_if_cancelled(self) -> None:
        if self._stop_after is not None and len(self.events) >= self._stop_after:
            raise Cancelled("Interrupted.")


@pytest.mark.slow
def test_a_quick_profile_has_everything_the_predictor_reads(tmp_path: Path) -> None:
    listener = Listener()
    profile = profile_device(
        name="here",
        quick=True,
        disk_path=tmp_path,
        progress=listener,
        thread_count=1,
        shapes=[(96, 160)],
        attention_shapes=[(4, 2, 32)],
    )
    assert (profile.name, profile.basis, profile.is_quick, profile.thread_count) == ("here", "measured", True, 1)
    assert profile.runtime.onnxruntime_version is not None
    assert profile.memory.usable_bytes is not None
    assert {point.thread_count for point in profile.bandwidth} == {1}
    timed = {(time.in_features, time.out_features, time.rows) for time in profile.kernel_times if time.rank is None}
    assert {(96, 160, 1), (96, 160, 128)} <= timed
    assert all(time.time_s > 0.0 for time in (*profile.kernel_times, *profile.attention_times))
    assert (4, 2, 32) in {(time.num_heads, time.num_kv_heads, time.head_dim) for time in profile.attention_times}
    own = {bits: [time for time in profile.attention_times if time.kv_bits == bits] for bits in (32, 8)}
    assert [(time.rows, time.past_tokens) for time in own[8]] == [(1, 127), (1, 511), (128, 0)]
    assert {(time.num_heads, time.num_kv_heads, time.head_dim) for time in own[8]} == {(4, 2, 32)}
    assert profile.overhead is not None
    assert profile.overhead.node_s is not None
    assert profile.overhead.node_bytes is not None
    assert profile.floor is not None
    assert {"fp32", "int8_b32_a4", "int4_b32_a4"} <= {memory.kernel for memory in profile.kernel_memory}
    assert profile.disk is not None
    assert profile.created_at is not None
    assert all(note.endswith(".") for note in profile.notes)

    done = [event.done_fraction for event in listener.events if event.done_fraction is not None]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert {event.stage for event in listener.events} == {"profile"}

    write_record(tmp_path / "device.json", profile)
    assert read_record(tmp_path / "device.json", DeviceProfile) == profile


def test_it_stops_where_it_is_interrupted(tmp_path: Path) -> None:
    listener = Listener(stop_after=2)
    with pytest.raises(Cancelled):
        profile_device(name="here", quick=True, disk_path=tmp_path, progress=listener, thread_count=1)
    assert listener.events[-1].kind != "stage_finished"


def test_no_threads_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one thread"):
        profile_device(name="here", quick=True, disk_path=tmp_path, progress=NullProgress(), thread_count=0)
