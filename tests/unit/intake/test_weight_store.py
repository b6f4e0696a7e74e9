"""Weights kept in files come back as they went in, whole and row by row."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.nearest import rounded
from edgeprune.intake.stored.packed import pack_integers
from edgeprune.intake.stored.store import WeightStore
from edgeprune.intake.stored.weight import StoredWeight, read_rows

KERNELS = ["int4_b32_a4", "int4_b128_a4", "int8_b32_a4", "dynamic_int8", "fp16", "fp32"]


def store(folder: Path) -> WeightStore:
    return WeightStore(folder / "kept", kept_above_bytes=0)


@pytest.mark.parametrize("columns", [128, 72, 65])
@pytest.mark.parametrize("kernel", KERNELS)
def test_rounded_weights_read_as_the_kernel_computes_with_them(tmp_path: Path, kernel: str, columns: int) -> None:
    weight = rounded(torch.randn(600, columns, generator=torch.Generator().manual_seed(1)), kernel)
    kept = store(tmp_path).keep_rounded(weight, kernel)
    assert torch.equal(kept, weight)
    ids = torch.tensor([[5, 599], [0, 5]])
    assert torch.equal(torch.nn.functional.embedding(ids, kept), weight[ids])
    assert torch.equal(read_rows(kept, slice(510, 580)), weight[510:580])
    assert torch.equal(kept.T, weight.T)
    assert (kept.detach().numpy() == weight.numpy()).all()


def test_four_bits_take_half_a_byte() -> None:
    values = torch.tensor([[-8, 7, 3], [1, -1, 0]], dtype=torch.int8)
    packed = pack_integers(values, 4)
    assert packed.tolist() == [[0x78, 0x03], [0xF1, 0x00]]


def test_what_is_kept_leaves_no_name_behind(tmp_path: Path) -> None:
    kept = store(tmp_path).keep(torch.ones(10, 10))
    assert list((tmp_path / "kept").iterdir()) == []
    assert kept.sum() == 100.0


def test_small_tensors_stay_where_they_are(tmp_path: Path) -> None:
    weight = torch.ones(10, 10)
    assert WeightStore(tmp_path).keep(weight) is weight
    assert WeightStore(tmp_path).keep_rounded(weight, "int8_b32_a4") is weight
    assert not isinstance(weight, StoredWeight)
