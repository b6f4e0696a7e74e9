import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.compress import factor_blocks
from edgeprune.compress.apply import compress_model
from edgeprune.compress.factor_blocks import is_worth_sharing
from edgeprune.compress.factor_site import factor_site
from edgeprune.errors import DeviceError, ModelError
from edgeprune.runtime.executor import Executor
from edgeprune.runtime.executor.inline import InlineExecutor
from edgeprune.runtime.executor.processes import ProcessExecutor
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import SiteEdit
from tests.unit.compress.recipes import Tiny, every_edit, no_edit


class Beside:
    """Runs tasks in this process, as an executor that is not told to be this process."""

    worker_count = 2

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        self.payloads += payloads
        yield from reversed(list(InlineExecutor().run(function, payloads)))

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _all_work_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_blocks, "_WORTH_FLOPS", 0.0)


def assert_same_model(tiny: Tiny, executor: Executor, scratch: Path) -> None:
    loaded, stats = tiny
    recipe = every_edit(loaded)
    here = compress_model(loaded, recipe, stats, progress=NullProgress()).model.state_dict()
    there = compress_model(
        loaded, recipe, stats, progress=NullProgress(), executor=executor, scratch=scratch
    ).model.state_dict()
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in here)
    assert not scratch.exists()


def test_workers_give_the_very_same_model(tiny: Tiny, tmp_path: Path) -> None:
    beside = Beside()
    assert_same_model(tiny, beside, tmp_path / "factors")
    assert len(beside.payloads) == 1, "block 0 has ranks, block 1 is gone, block 2 has only kernels"


@pytest.mark.slow
def test_processes_give_the_very_same_model(tiny_llama: Tiny, tmp_path: Path) -> None:
    with contextlib.closing(ProcessExecutor(2, thread_count=2)) as executor:
        assert_same_model(tiny_llama, executor, tmp_path / "factors")


def test_this_process_writes_no_files(tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_blocks, "_save", lambda *_: pytest.fail("wrote a file"))
    assert_same_model(tiny_llama, InlineExecutor(), tmp_path / "factors")


def test_little_work_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    small = [nn.Linear(256, 704, device="meta")] * 112
    large = [nn.Linear(768, 3072, device="meta")] * 84
    assert not is_worth_sharing(small)
    assert is_worth_sharing(large)


def test_what_a_worker_refuses_names_the_site_and_leaves_no_files(tiny_llama: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny_llama
    damaged = stats.gram["blocks.1.mlp_hidden"].clone()
    damaged[3, 5] = float("nan")
    broken = replace(stats, gram={**stats.gram, "blocks.1.mlp_hidden": damaged})
    recipe = no_edit(loaded, sites=(SiteEdit(name="blocks.1.down", rank=8), SiteEdit(name="blocks.0.q", rank=8)))
    with pytest.raises(ModelError, match=r"blocks\.1\.down"):
        compress_model(loaded, recipe, broken, progress=NullProgress(), executor=Beside(), scratch=tmp_path / "factors")
    assert not (tmp_path / "factors").exists()


def test_workers_without_the_disk_are_found_out(tiny_llama: Tiny, tmp_path: Path) -> None:
    class Forgetful(Beside):
        def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
            yield from ((index, b"") for index, _ in enumerate(payloads))

    loaded, stats = tiny_llama
    recipe = no_edit(loaded, sites=(SiteEdit(name="blocks.1.down", rank=8),))
    with pytest.raises(DeviceError, match="not shared with the workers"):
        compress_model(
            loaded, recipe, stats, progress=NullProgress(), executor=Forgetful(), scratch=tmp_path / "factors"
        )


@pytest.mark.parametrize(("rows", "columns"), [(300, 700), (700, 300)])
@pytest.mark.parametrize("method", ["lowrank", "laser"])
def test_factors_do_not_depend_on_the_number_of_threads(rows: int, columns: int, method: str) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(rows, columns, generator=generator)
    inputs = torch.randn(2000, columns, generator=generator, dtype=torch.float64)
    gram, mean = inputs.T @ inputs / 2000, inputs.mean(dim=0)
    edit = SiteEdit(name="blocks.0.up", rank=64, method=method, kernel="int8_b32_a4")  # type: ignore[arg-type]
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(factor_site(edit, weight, None, gram=gram, mean=mean))
        assert torch.get_num_threads() == count, "the caller's setting comes back"
    assert all(torch.equal(factors.right, found[0].right) for factors in found)
    assert all(torch.equal(factors.left, found[0].left) for factors in found)


def test_the_number_of_threads_comes_back_after_an_error() -> None:
    torch.set_num_threads(3)
    with pytest.raises(torch.linalg.LinAlgError), one_thread():  # type: ignore[attr-defined]
        torch.linalg.cholesky(torch.zeros(2, 2) - 1)
    assert torch.get_num_threads() == 3
