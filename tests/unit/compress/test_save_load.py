"""Compressed models on disk: smaller, complete, and back bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeprune.compress.apply import compress_model
from edgeprune.compress.load import load, load_recipe
from edgeprune.compress.save import save_hf
from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepChannels, KeepTokens, SiteEdit
from tests.tiny import TINY_TEXT, write_tiny_llama
from tests.unit.compress.recipes import Tiny, every_edit, no_edit


def _logits(loaded: LoadedModel, text: str = TINY_TEXT) -> Tensor:
    ids = torch.tensor([loaded.tokenizer.encode(text).ids[:48]])
    with torch.no_grad():
        return loaded.model(ids).logits


@pytest.fixture
def saved(tiny_llama: Tiny, tmp_path: Path) -> Path:
    loaded, stats = tiny_llama
    recipe = every_edit(loaded)
    save_hf(compress_model(loaded, recipe, stats, progress=NullProgress()), recipe, tmp_path / "hf")
    return tmp_path / "hf"


def test_blocks_without_attention_or_mlp_come_back(tiny: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny
    recipe = no_edit(loaded, drop_attention=(0,), drop_mlp=(2,), keep_channels=(KeepChannels(block=0, kept_count=64),))
    edited = compress_model(loaded, recipe, stats, progress=NullProgress())
    save_hf(edited, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert torch.equal(_logits(again), _logits(edited))
    assert again.spec == edited.spec


def test_it_comes_back_bit_for_bit_and_is_smaller(tiny: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny
    recipe = every_edit(loaded)
    edited = compress_model(loaded, recipe, stats, progress=NullProgress())
    save_hf(edited, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert torch.equal(_logits(again), _logits(edited))
    assert again.spec == edited.spec
    assert again.block_indices == [0, 2]
    assert again.tokenizer.get_vocab() == edited.tokenizer.get_vocab()
    assert load_recipe(tmp_path / "hf") == recipe
    assert not again.model.training
    assert again.model.generation_config.eos_token_id == edited.model.generation_config.eos_token_id
    dense_recipe = no_edit(loaded)
    save_hf(compress_model(loaded, dense_recipe, stats, progress=NullProgress()), dense_recipe, tmp_path / "dense")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("hf", "dense")]
    if loaded.spec.source_dtype == "float32":
        assert sizes[0] < 0.9 * sizes[1]
    save_hf(again, recipe, tmp_path / "twice")
    for path in (tmp_path / "hf").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes(), path.name


def test_low_rank_alone_makes_the_file_smaller_by_the_factored_bytes(tiny_llama: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny_llama
    sizes = []
    for rank in (16, 8):
        sites = tuple(SiteEdit(name=f"blocks.{index}.gate", rank=rank) for index in range(3))
        recipe = no_edit(loaded, sites=sites)
        save_hf(compress_model(loaded, recipe, stats, progress=NullProgress()), recipe, tmp_path / str(rank))
        tensors = load_file(tmp_path / str(rank) / "model.safetensors")
        assert tensors["model.layers.0.mlp.gate_proj.right.weight"].shape == (rank, 64)
        assert tensors["model.layers.0.mlp.gate_proj.left.weight"].shape == (96, rank)
        assert "model.layers.0.mlp.gate_proj.weight" not in tensors
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    assert sizes[0] - sizes[1] == 3 * 8 * (64 + 96) * 4


def test_a_bfloat16_source_stays_bfloat16_where_nothing_was_computed(
    prepare: Callable[[str], Tiny], tmp_path: Path
) -> None:
    loaded, stats = prepare("qwen2")
    recipe = no_edit(loaded, drop_blocks=(1,), sites=(SiteEdit(name="blocks.0.o", rank=8),))
    edited = compress_model(loaded, recipe, stats, progress=NullProgress())
    save_hf(edited, recipe, tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    assert tensors["model.layers.0.self_attn.o_proj.left.weight"].dtype == torch.float32
    assert torch.equal(_logits(load(tmp_path / "hf")), _logits(edited))


def test_the_configuration_tells_the_edits_and_the_card_the_licence(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert "per_layer_config" not in config
    assert config["edgeprune"]["format_version"] == 1
    sites = {site["name"]: site for block in config["edgeprune"]["spec"]["blocks"] for site in block["sites"]}
    assert sites["blocks.0.o"]["rank"] == 16
    assert sites["blocks.0.up"]["out_features"] == 64
    assert config["num_hidden_layers"] == 2
    card = (saved / "README.md").read_text()
    front = card.split("---")[1]
    assert 'library_name: "edgeprune"' in front
    assert 'base_model: "llama' in front
    assert "Blocks dropped | 1" in card


def test_tokenizer_files_follow_a_trimmed_vocabulary(tiny_llama: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny_llama
    source = tmp_path / "source"
    shutil.copytree(loaded.folder, source)
    (source / "vocab.json").write_text("{}")
    (source / "merges.txt").write_text("")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {"0": {"content": "<|endoftext|>"}, "999": {"content": "<gone>"}}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    copy = LoadedModel(
        model=loaded.model, spec=loaded.spec, adapter=loaded.adapter, folder=source, tokenizer=loaded.tokenizer
    )
    recipe = every_edit(loaded)
    save_hf(compress_model(copy, recipe, stats, progress=NullProgress()), recipe, tmp_path / "hf")
    names = {path.name for path in (tmp_path / "hf").iterdir()}
    assert names.isdisjoint({"vocab.json", "merges.txt"})
    written = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())
    again = load(tmp_path / "hf")
    end = again.tokenizer.token_to_id("<|endoftext|>")
    assert written["added_tokens_decoder"] == {str(end): {"content": "<|endoftext|>"}}
    assert (tmp_path / "hf" / "tokenizer.json").stat().st_size < (source / "tokenizer.json").stat().st_size


def test_without_factored_or_narrowed_layers_transformers_reads_the_folder_too(
    tiny_llama: Tiny, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    loaded, stats = tiny_llama
    recipe = no_edit(
        loaded,
        drop_blocks=(1,),
        keep_tokens=KeepTokens(kept_count=400),
        sites=(SiteEdit(name="blocks.2.up", kernel="int4_b32_a4"),),
    )
    edited = compress_model(loaded, recipe, stats, progress=NullProgress())
    save_hf(edited, recipe, tmp_path / "hf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32, attn_implementation="eager")
    ids = torch.tensor([edited.tokenizer.encode(TINY_TEXT).ids[:48]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, _logits(edited))


def test_a_plain_folder_is_loaded_too(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "plain")
    loaded = load(str(folder))
    assert len(loaded.spec.blocks) == 3
    assert load_recipe(folder) is None


def _edit_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["edgeprune"].update(format_version=2), "format version 2, this EdgePrune reads up to 1"),
        (lambda config: config["edgeprune"].pop("spec"), "malformed edgeprune block"),
        (lambda config: config.update(edgeprune=[]), "malformed edgeprune block"),
        (lambda config: config.update(num_hidden_layers=10**9), "contradicts itself"),
        (lambda config: config["edgeprune"]["spec"].update(parameter_count=10**12), "holds .* parameters"),
        (lambda config: config["edgeprune"]["spec"]["blocks"][0]["sites"][0].update(rank=13), r"shape|parameters"),
        (lambda config: config["edgeprune"]["spec"].update(schema_version=99), "newer EdgePrune"),
        (lambda config: config.update(rms_norm_eps="none"), "no model that can be built"),
    ],
)
def test_a_damaged_configuration_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    _edit_config(saved, change)
    with pytest.raises(ModelError, match=message):
        load(saved)


def test_damaged_weights_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.self_attn.o_proj.right.weight"

    save_file({("renamed" if key == name else key): value for key, value in tensors.items()}, path)
    with pytest.raises(ModelError, match=f"lacks the tensor '{name}'"):
        load(saved)
    save_file({**tensors, name: torch.full_like(tensors[name], float("nan"))}, path)
    with pytest.raises(ModelError, match=f"{name}.* not all values are finite"):
        load(saved)
    save_file({**tensors, name: tensors[name].T.contiguous()}, path)
    with pytest.raises(ModelError, match=f"tensor '{name}' .* has the shape"):
        load(saved)
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ModelError, match="parameters, config"):
        load(saved)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="is damaged"):
        load(saved)
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        load(saved)


def test_an_interrupted_save_leaves_the_old_folder(
    tiny_llama: Tiny, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeprune.compress import save as module
    from edgeprune.errors import DeviceError

    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    loaded, stats = tiny_llama
    recipe = no_edit(loaded)
    with pytest.raises(DeviceError, match="free space"):
        save_hf(compress_model(loaded, recipe, stats, progress=NullProgress()), recipe, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["hf"]
