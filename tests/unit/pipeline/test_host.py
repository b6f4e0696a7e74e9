"""What the work needs on this machine, told before it starts."""

from pathlib import Path

import pytest

from edgeprune.errors import DeviceError
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.host import LIBRARY_BYTES, calibration_parts, check_needs, predict_needs
from edgeprune.schema.run import HostNeeds
from tests.tiny import write_tiny_llama


def test_needs_grow_with_the_model(tmp_path: Path) -> None:
    small = read_spec(write_tiny_llama(tmp_path / "small"))
    large = read_spec(write_tiny_llama(tmp_path / "large", intermediate_size=512))
    few, many = predict_needs(small, tmp_path), predict_needs(large, tmp_path / "not" / "there")
    assert many.memory_bytes > few.memory_bytes
    assert many.disk_bytes > few.disk_bytes
    assert few.free_disk_bytes


def test_workers_need_memory_of_their_own(tmp_path: Path) -> None:
    spec = read_spec(write_tiny_llama(tmp_path / "small"))
    alone = predict_needs(spec, tmp_path)
    assert predict_needs(spec, tmp_path, worker_count=1) == alone
    two, three = (predict_needs(spec, tmp_path, worker_count=count).memory_bytes for count in (2, 3))
    assert three - two == pytest.approx((two - alone.memory_bytes) / 2)
    assert three - two > LIBRARY_BYTES


def test_the_parts_of_a_calibration_are_those_it_is_split_into(tmp_path: Path) -> None:
    from edgeprune.calibrate.shards import shard_bytes, shard_count

    for width in (96, 8_192, 16_384):
        spec = read_spec(write_tiny_llama(tmp_path / str(width), hidden_size=64, intermediate_size=width))
        size = shard_bytes(spec)
        parts = shard_count(spec, window_count=10_000, window_tokens=512)
        assert calibration_parts(size) == (parts if parts > 1 else 0), width


@pytest.mark.parametrize(
    ("needs", "word"),
    [
        (HostNeeds(memory_bytes=1, disk_bytes=10**12, free_memory_bytes=2, free_disk_bytes=10**9), "disk"),
        (HostNeeds(memory_bytes=10**12, disk_bytes=1, free_memory_bytes=10**9, free_disk_bytes=2), "memory"),
    ],
)
def test_too_little_is_refused_before_work_starts(needs: HostNeeds, word: str) -> None:
    with pytest.raises(DeviceError, match=word):
        check_needs(needs)


def test_what_the_system_does_not_tell_is_not_refused() -> None:
    check_needs(HostNeeds(memory_bytes=10**12, disk_bytes=10**12, free_memory_bytes=None, free_disk_bytes=None))


def test_training_needs_room_for_what_it_keeps(tmp_path: Path) -> None:
    spec = read_spec(write_tiny_llama(tmp_path / "small"))
    alone, trained = predict_needs(spec, tmp_path), predict_needs(spec, tmp_path, recovers=True)
    assert trained.memory_bytes > alone.memory_bytes
    assert trained.disk_bytes >= alone.disk_bytes
