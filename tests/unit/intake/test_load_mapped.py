"""`load_mapped` computes what `load_model` computes, from weights that stay in their files."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgeprune.calibrate.capture import capture
from edgeprune.errors import ModelError
from edgeprune.intake.load import load_model
from edgeprune.intake.stored.load import load_mapped
from edgeprune.intake.stored.store import WeightStore, store_of
from edgeprune.intake.stored.weight import StoredWeight
from tests.tiny import write_tiny_gpt2, write_tiny_llama
from tests.tiny_families import FAMILY_CONFIGS, write_tiny

TOKENS = torch.arange(3, 43).reshape(2, 20)


def in_bfloat16(folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_file(
        {name: each.to(torch.bfloat16) for name, each in load_file(path).items()}, path, metadata={"format": "pt"}
    )
    return folder


def write(folder: Path, name: str) -> Path:
    if name == "gpt2":
        return write_tiny_gpt2(folder)
    if name in FAMILY_CONFIGS:
        return write_tiny(folder, name)
    return write_tiny_llama(folder, model_type=name, shard_count=2, dtype="bfloat16")


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2", *FAMILY_CONFIGS])
def test_logits_are_those_of_the_model_in_memory(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "m", name)
    if (folder / "model.safetensors").is_file():
        in_bfloat16(folder)
    loaded, mapped = load_model(folder), load_mapped(folder, WeightStore(tmp_path / "kept"))
    with torch.no_grad():
        expected, found = loaded.model(TOKENS).logits, mapped.model(TOKENS).logits
    assert torch.equal(found, expected)
    assert mapped.spec == loaded.spec
    for (what, stored), (_, held) in zip(mapped.model.named_parameters(), loaded.model.named_parameters(), strict=True):
        assert isinstance(stored, StoredWeight) or stored.ndim < 2, what
        assert torch.equal(stored, held), what


def test_statistics_with_gradients_are_those_of_the_model_in_memory(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "llama")
    loaded, mapped = load_model(folder), load_mapped(folder, WeightStore(tmp_path / "kept"))
    expected, found = (capture(each, TOKENS.int()) for each in (loaded, mapped))
    assert found.output_weight == expected.output_weight
    assert all(torch.equal(gram, expected.gram[key]) for key, gram in found.gram.items())


def test_what_autograd_keeps_of_a_stored_weight_is_not_its_values(tmp_path: Path) -> None:
    mapped = load_mapped(write(tmp_path / "m", "llama"), WeightStore(tmp_path / "kept"))
    kept: list[torch.Tensor] = []
    site = mapped.adapter.site(mapped.adapter.blocks(mapped.model)[0], "up")
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):  # type: ignore[func-returns-value]
        site(torch.ones(2, 64, requires_grad=True)).sum()
    assert [type(tensor) for tensor in kept if tensor.shape[0] * tensor.shape[1] > 64 * 2] == [StoredWeight]


def test_a_model_in_float32_stays_in_its_file_too(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    mapped = load_mapped(folder, WeightStore(tmp_path / "kept"))
    weight = mapped.adapter.embedding(mapped.model).weight
    ranges = [
        tuple(int(part, 16) for part in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(folder / "model.safetensors"))
    ]
    assert any(low <= weight.data_ptr() < high for low, high in ranges)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", dtype="bfloat16")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"'model\.layers\.1\.mlp\.up_proj\.weight' holds NaN"):
        load_mapped(folder, WeightStore(tmp_path / "kept"))


def test_writing_into_a_stored_weight_is_refused(tmp_path: Path) -> None:
    mapped = load_mapped(write(tmp_path / "m", "llama"), WeightStore(tmp_path / "kept"))
    with pytest.raises(RuntimeError, match="would write into a weight"):
        mapped.adapter.embedding(mapped.model).weight.detach().mul_(2.0)


def test_a_copied_model_keeps_what_is_put_into_it_in_the_same_store(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "kept", kept_above_bytes=0)
    mapped = load_mapped(write(tmp_path / "m", "llama"), store)
    shared = {id(parameter): parameter for parameter in mapped.model.parameters()}
    model = copy.deepcopy(mapped.model, shared)
    block = mapped.adapter.blocks(model)[0]
    assert store_of(model) is store_of(block) is store
    weight = torch.randn(64, 64)
    made = nn.Linear(64, 64, bias=False)
    made.weight = nn.Parameter(weight.clone())
    mapped.adapter.set_site(block, "q", made)
    kept = mapped.adapter.site(block, "q").weight
    assert isinstance(kept, nn.Parameter)
    assert torch.equal(kept, weight)
    assert kept.data_ptr() != made.weight.data_ptr() or kept is made.weight
    assert list((tmp_path / "kept").iterdir()) == []
