"""The catalogue: its counts are the published ones, its shapes those of a folder with the same configuration."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeprune.errors import UnsupportedArchitectureError, UsageError
from edgeprune.intake.catalogue import CatalogueEntry, describe_entry, find_entry, read_catalogue
from edgeprune.intake.described import describe_folder
from edgeprune.intake.families import describe_families
from edgeprune.intake.spec import read_spec
from edgeprune.intake.weights import LAYOUT_TYPES, weight_shapes
from tests.tiny import write_tiny_gpt2, write_tiny_llama

ENTRIES = read_catalogue()
SUPPORTED = {status.model_type for status in describe_families() if status.status == "supported"}

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "ffn_dim": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 200,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def rounding(published: str) -> tuple[float, float]:
    """Value and half a unit of the last printed digit: `1.54B` is 1.54e9 and 5e6."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?([MB]?)", published)
    assert match is not None, published
    scale = {"": 1.0, "M": 1e6, "B": 1e9}[match[3]]
    decimals = len(match[2] or "")
    return float(f"{match[1]}.{match[2] or 0}") * scale, (0.5 * scale * 10**-decimals if match[3] else 0.0)


def count_with_transformers(config: dict[str, Any]) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key not in ("model_type", "architectures", "torch_dtype")}
    if fields.get("rope_scaling") == {"type": "longrope"}:
        del fields["rope_scaling"]  # its tables are left out of the catalogue; they are no parameters
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **fields))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_counted_parameters_are_the_published_ones(entry: CatalogueEntry) -> None:
    value, half_unit = rounding(entry.published_parameters)
    assert abs(describe_entry(entry).parameter_count - value) <= half_unit


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_says_where_its_facts_are_from(entry: CatalogueEntry) -> None:
    assert entry.source == f"https://huggingface.co/{entry.hub_id}/blob/main/config.json"
    assert entry.published_in.startswith("https://")
    assert entry.license
    assert entry.config["torch_dtype"] in ("float16", "bfloat16", "float32")


def test_about_thirty_models_from_seventy_million_to_four_billion() -> None:
    counts = sorted(describe_entry(entry).parameter_count for entry in ENTRIES)
    assert 30 <= len(counts) <= 45
    assert counts[0] < 80e6
    assert 3.5e9 < counts[-1] < 4.5e9
    assert len({entry.name.lower() for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_what_cannot_be_compressed_follows_from_the_families(entry: CatalogueEntry) -> None:
    described = describe_entry(entry)
    assert (described.spec is not None) == (entry.config["model_type"] in SUPPORTED)
    assert (described.spec is None) == (described.weights is not None) == (described.refusal is not None)


@pytest.mark.parametrize("name", ["SmolLM2-135M", "Llama-3.2-1B", "gpt2", "Qwen3-0.6B", "gemma-3-270m", "OLMo-1B-hf"])
def test_an_entry_reads_like_a_folder_with_its_configuration(tmp_path: Path, name: str) -> None:
    entry = find_entry(name)
    folder = tmp_path / entry.name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(entry.config))
    from_entry, from_folder = describe_entry(entry), describe_folder(folder)
    assert (from_folder.parameter_count, from_folder.weights) == (from_entry.parameter_count, from_entry.weights)
    assert from_folder.refusal == from_entry.refusal
    if from_entry.spec is not None and from_folder.spec is not None:
        assert from_folder.spec == replace(
            from_entry.spec, model_hash=from_folder.spec.model_hash, tokenizer_bytes=0, license=None
        )


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_tiny_llama(folder, dtype="bfloat16"),
        lambda folder: write_tiny_llama(folder, model_type="qwen2", tie_word_embeddings=False),
        lambda folder: write_tiny_llama(folder, model_type="qwen3", head_dim=32),
        lambda folder: write_tiny_gpt2(folder),
    ],
    ids=["llama", "qwen2", "qwen3", "gpt2"],
)
def test_a_configuration_alone_gives_the_spec_that_the_weights_give(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path / "model")
    full = read_spec(folder)
    alone = describe_folder(folder).spec
    assert alone is not None
    assert replace(alone, model_hash="", source_dtype="") == replace(full, model_hash="", source_dtype="")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_transformers_builds_as_many_parameters(entry: CatalogueEntry) -> None:
    if entry.config["model_type"] == "mobilellm":
        pytest.skip("its code stands beside its weights, not in transformers")
    assert count_with_transformers({**entry.config, "pad_token_id": 0}) == describe_entry(entry).parameter_count


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}])
@pytest.mark.parametrize("kind", [kind for kind in LAYOUT_TYPES if kind != "mobilellm"])
def test_layouts_count_what_transformers_stores(kind: str, changes: dict[str, Any]) -> None:
    config = {**TINY, "model_type": kind, **changes}
    if kind == "opt":
        del config["num_key_value_heads"]
        config["word_embed_proj_dim"] = config["hidden_size"]
    if kind == "gpt_neox":
        del config["num_key_value_heads"]
    if kind in ("phi", "olmo", "olmo2", "stablelm", "phi3", "granite", "smollm3"):
        del config["head_dim"]
    assert weight_shapes(config).parameter_count == count_with_transformers(config)


def test_bytes_are_those_of_matrices_and_vectors() -> None:
    config = {**TINY, "model_type": "gemma"}
    shapes = weight_shapes(config)
    matrices = 3 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96) + 200 * 64
    vectors = 3 * 2 * 64 + 64
    assert shapes.stored_bytes("fp32") == 4 * (matrices + vectors)
    assert shapes.stored_bytes("fp16") == 2 * matrices + 4 * vectors
    assert shapes.stored_bytes("int4_b32_a4") == matrices * 20 // 32 + 4 * vectors


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": "opt", "word_embed_proj_dim": 32}, "word_embed_proj_dim"),
        ({"model_type": "phi", "qk_layernorm": True}, "qk_layernorm"),
    ],
)
def test_weights_that_are_stored_otherwise_are_not_counted(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=word):
        weight_shapes({**TINY, **changes})


@pytest.mark.parametrize(
    "name",
    ["SmolLM2-135M", "smollm2-135m", "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct"],
)
def test_an_entry_is_found_by_name_id_and_variant(name: str) -> None:
    assert find_entry(name).hub_id == "HuggingFaceTB/SmolLM2-135M"


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"SmolLM2-135M"):
        find_entry("SmolLM-135M")
    with pytest.raises(UsageError, match=r"Llama-3\.2-1B"):
        find_entry("llama-3.2")
    with pytest.raises(UsageError, match="gpt2"):
        find_entry("my/folders/gpt2")  # a path, whatever its last part is called
