import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from edgeprune.calibrate import shards
from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.shards import capture_sharded, plan_shards, shard_bytes, shard_count
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.sums import Sums, is_whole
from edgeprune.errors import CalibrationError, DeviceError, ModelError
from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.executor.processes import ProcessExecutor
from edgeprune.schema.events import Event
from tests.local_cluster import local_cluster

WINDOWS = torch.randint(0, 512, (83, 64), generator=torch.Generator().manual_seed(5)).int()
"""Eleven batches of eight windows, the last of three: neither batches nor parts come out even."""
GRADIENT_TOKENS = 40 * 64


@pytest.fixture(scope="module")
def whole(llama: LoadedModel) -> CalibrationStats:
    return capture(llama, WINDOWS, gradient_tokens=GRADIENT_TOKENS)


def assert_same(found: CalibrationStats, expected: CalibrationStats, *, tolerance: float) -> None:
    assert list(found.gram) == list(expected.gram)
    for mine, other in zip(found._groups().values(), expected._groups().values(), strict=True):
        for key, tensor in other.items():
            difference = (mine[key] - tensor).abs().max() / tensor.abs().max()
            assert float(difference) <= tolerance, key
    assert found.output_weight == pytest.approx(expected.output_weight, rel=tolerance, abs=0)
    torch.testing.assert_close(found.block_similarity, expected.block_similarity, rtol=tolerance, atol=0)
    assert found.stability == pytest.approx(expected.stability, rel=1e-6)
    assert torch.equal(found.token_count, expected.token_count)
    assert torch.equal(found.tokens, expected.tokens)
    assert (found.token_total, found.edits_hash) == (expected.token_total, expected.edits_hash)


def test_parts_add_up_to_the_whole(llama: LoadedModel, whole: CalibrationStats, tmp_path: Path) -> None:
    found = capture_sharded(llama, WINDOWS, folder=tmp_path / "shards", gradient_tokens=GRADIENT_TOKENS)
    assert_same(found, whole, tolerance=1e-9)
    assert not (tmp_path / "shards").exists()


@pytest.mark.slow
def test_processes_give_the_very_same_numbers(llama: LoadedModel, tmp_path: Path) -> None:
    here = capture_sharded(llama, WINDOWS, gradient_tokens=GRADIENT_TOKENS)
    with contextlib.closing(ProcessExecutor(2, thread_count=1)) as executor:
        found = capture_sharded(
            llama, WINDOWS, folder=tmp_path / "shards", gradient_tokens=GRADIENT_TOKENS, executor=executor
        )
    assert_same(found, here, tolerance=0)


@pytest.mark.slow
def test_a_cluster_gives_the_very_same_numbers(llama: LoadedModel, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    from edgeprune.runtime.executor.cluster import ClusterExecutor

    here = capture_sharded(llama, WINDOWS, gradient_tokens=GRADIENT_TOKENS)
    with (
        local_cluster(tmp_path / "dask") as cluster,
        contextlib.closing(ClusterExecutor(cluster.address)) as executor,
    ):
        found = capture_sharded(
            llama, WINDOWS, folder=tmp_path / "shards", gradient_tokens=GRADIENT_TOKENS, executor=executor
        )
    assert_same(found, here, tolerance=0)


def test_the_parts_cover_every_window_once_in_whole_batches(llama: LoadedModel, tmp_path: Path) -> None:
    tasks = plan_shards(llama, WINDOWS, gradient_tokens=GRADIENT_TOKENS, folder=tmp_path)
    assert len(tasks) == 8
    joined = b"".join(task.windows for task in tasks)
    assert joined == WINDOWS.numpy().astype("<i4").tobytes()
    assert all(task.first_window % 8 == 0 for task in tasks)
    assert len({task.key for task in tasks}) == 8
    again = plan_shards(llama, WINDOWS.clone(), gradient_tokens=GRADIENT_TOKENS, folder=tmp_path)
    assert [task.key for task in again] == [task.key for task in tasks]
    other = WINDOWS.clone()
    other[-1, -1] += 1
    changed = plan_shards(llama, other, gradient_tokens=GRADIENT_TOKENS, folder=tmp_path)
    assert [task.key == before.key for task, before in zip(changed, tasks, strict=True)] == [True] * 7 + [False]
    more = plan_shards(llama, WINDOWS, gradient_tokens=2 * GRADIENT_TOKENS, folder=tmp_path)
    assert not {task.key for task in more} & {task.key for task in tasks}


def test_few_windows_and_large_models_are_not_split(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shard_count(llama.spec, window_count=8, window_tokens=64) == 1
    assert shard_count(llama.spec, window_count=9, window_tokens=64) == 2
    assert shard_count(llama.spec, window_count=10_000, window_tokens=64) == 8
    monkeypatch.setattr(shards, "_DISK_BYTES", 3 * shard_bytes(llama.spec))
    assert shard_count(llama.spec, window_count=10_000, window_tokens=64) == 3
    monkeypatch.setattr(shards, "_DISK_BYTES", 0)
    assert shard_count(llama.spec, window_count=10_000, window_tokens=64) == 1


def test_a_part_takes_the_disk_it_is_said_to(llama: LoadedModel, tmp_path: Path) -> None:
    task = plan_shards(llama, WINDOWS, gradient_tokens=0, folder=tmp_path)[0]
    shards.measure_shard(msgspec.json.encode(task))
    size = Path(task.path).stat().st_size
    # Besides the Grams: sketches, sums and noise, which weigh more in a model as narrow as this one.
    assert shard_bytes(llama.spec) < size < 2 * shard_bytes(llama.spec)


class Interrupted:
    """Stops the work after a number of batches."""

    def __init__(self, batch_count: int) -> None:
        self.left = batch_count
        self.done: list[str] = []

    def emit(self, event: Event) -> None:
        self.done.append(event.message)

    def raise_if_cancelled(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_what_is_finished_is_not_measured_again(llama: LoadedModel, whole: CalibrationStats, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        capture_sharded(
            llama, WINDOWS, folder=folder, gradient_tokens=GRADIENT_TOKENS, progress=Interrupted(batch_count=5)
        )
    finished = sorted(folder.iterdir())
    assert 0 < len(finished) < 8
    finished[0].write_bytes(finished[0].read_bytes()[:1000])  # damaged: this one must be made again
    counted = Interrupted(batch_count=1000)
    found = capture_sharded(llama, WINDOWS, folder=folder, gradient_tokens=GRADIENT_TOKENS, progress=counted)
    assert_same(found, whole, tolerance=1e-9)
    assert len(counted.done) < 11, "every batch was measured again"
    assert not folder.exists()


def test_a_worker_that_is_tried_again_measures_nothing_twice(
    llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = plan_shards(llama, WINDOWS, gradient_tokens=0, folder=tmp_path)[2]
    payload = msgspec.json.encode(task)
    shards.measure_shard(payload)
    monkeypatch.setattr(shards, "add_up", lambda *_args, **_kwargs: pytest.fail("measured again"))
    assert msgspec.json.decode(shards.measure_shard(payload)) == task.key


def test_a_worker_with_another_model_refuses(llama: LoadedModel, tmp_path: Path) -> None:
    task = plan_shards(llama, WINDOWS, gradient_tokens=0, folder=tmp_path)[0]
    other = msgspec.structs.replace(task, model_hash="0" * 64)
    with pytest.raises(ModelError, match="holds another model here"):
        shards.measure_shard(msgspec.json.encode(other))


class Forgetful:
    """Workers that cannot reach the caller's disk: they answer, and no file is there."""

    worker_count = 2

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        yield from ((index, b"") for index, _ in enumerate(payloads))

    def close(self) -> None:
        pass


def test_workers_without_the_disk_are_found_out(llama: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="not shared with the workers"):
        capture_sharded(llama, WINDOWS, folder=tmp_path / "shards", gradient_tokens=0, executor=Forgetful())


def test_sums_survive_the_disk_bit_by_bit(llama: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "sums.safetensors"
    sums = shards.add_up(llama, WINDOWS[:16], gradient_windows=8)
    sums.save(path, key="these")
    assert is_whole(path, key="these")
    assert not is_whole(path, key="others")
    assert not is_whole(tmp_path / "missing", key="these")
    again = Sums.zero(len(llama.spec.blocks))
    again.merge_file(path)
    assert again.output_weight() == sums.output_weight()
    assert again.stability() == sums.stability()
    assert torch.equal(again.mean_similarity(), sums.mean_similarity())
    for key, moments in sums.moments.items():
        for part, tensor in moments.parts().items():
            assert torch.equal(again.moments[key].parts()[part], tensor)


def test_refuses_no_windows(llama: LoadedModel) -> None:
    with pytest.raises(CalibrationError, match="no calibration text"):
        capture_sharded(llama, torch.zeros(0, 32, dtype=torch.int32))
