"""Torch against onnxruntime and onnxruntime-genai where blocks keep different numbers of key-value groups."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.generate import greedy
from edgeprune.schema.recipe import KeepChannels, KeepGroups, Recipe, SiteEdit
from tests.parity.bundles import CONTEXT, Exported, decoder_of, export, relative_difference, tiny

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16, "attention_bias": True},
    "mistral": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16, "sliding_window": 20},
    "qwen2": {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16},
    "qwen3": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32},
    "gpt2": {"n_head": 4},
}


def uneven(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    """Each block with its own number of groups, sites of all forms, one block narrower."""
    counts = {0: 1, 1: 2}
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel, rank={"q": 12, "qkv": 12, "o": 9}.get(site.role))
        for site in loaded.spec.blocks[1].sites
    )
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        keep_groups=tuple(KeepGroups(block=block, kept_count=count) for block, count in counts.items()),
        keep_channels=(KeepChannels(block=2, kept_count=64),),
        sites=sites,
    )


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("bundle")
    loaded = tiny(folder / "model", request.param, **FAMILIES[request.param])
    return export(loaded, uneven(loaded), folder / "bundle")


def genai_tokens(folder: Path, prompt: tuple[int, ...], count: int) -> list[int]:
    og = pytest.importorskip("onnxruntime_genai")
    model = og.Model(str(folder))
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=CONTEXT)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.asarray(prompt, dtype=np.int32))
    produced: list[int] = []
    while len(produced) < count and not generator.is_done():
        generator.generate_next_token()
        produced.append(int(generator.get_next_tokens()[0]))
    return produced


def test_logits_are_torchs(exported: Exported) -> None:
    assert relative_difference(exported) < 1e-5


def test_onnxruntime_continues_as_torch_does(exported: Exported) -> None:
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens) == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


def test_genai_continues_as_torch_does(exported: Exported) -> None:
    parity = exported.manifest.parity
    produced = genai_tokens(exported.folder, parity.greedy_prompt, len(parity.greedy_tokens))
    assert produced == list(parity.greedy_tokens)[: len(produced)]
    assert len(produced) == len(parity.greedy_tokens) or produced[-1] in exported.compressed.spec.eos_token_ids


def test_every_block_has_its_own_cache(exported: Exported) -> None:
    blocks = exported.compressed.spec.blocks
    counts = [block.num_kv_heads for block in blocks]
    assert len(set(counts)) == 3
    graph = onnx.load(exported.folder / "model.onnx", load_external_data=False).graph
    shapes = {value.name: [entry.dim_value for entry in value.type.tensor_type.shape.dim] for value in graph.input}
    shapes |= {value.name: [entry.dim_value for entry in value.type.tensor_type.shape.dim] for value in graph.output}
    for position, block in enumerate(blocks):
        for name in (f"past_key_values.{position}.key", f"present.{position}.value"):
            assert (shapes[name][1], shapes[name][3]) == (block.num_kv_heads, block.head_dim)
    heads = [
        (attributes["num_heads"], attributes["kv_num_heads"])
        for node in graph.node
        if node.op_type == "GroupQueryAttention"
        for attributes in [{entry.name: entry.i for entry in node.attribute}]
    ]
    assert heads == [(block.num_heads, block.num_kv_heads) for block in blocks]
    decoder = decoder_of(exported.folder)
    per_token = sum(2 * block.num_kv_heads * block.head_dim * 4 for block in blocks)
    assert decoder.cache.size_bytes == per_token * CONTEXT


@pytest.mark.parametrize(("model_type", "kernel"), [("llama", "int4_b32_a4"), ("gpt2", "int8_b32_a4")])
def test_rounded_weights_of_uneven_blocks_are_packed_right(model_type: str, kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type, **FAMILIES[model_type])
    exported = export(loaded, uneven(loaded, kernel), tmp_path / "bundle")
    difference = exported.manifest.parity.exact_logit_difference
    assert difference is not None
    assert difference < 1e-5


def test_one_number_of_groups_for_all_blocks_stands_in_the_configuration(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama", **FAMILIES["llama"])
    groups = tuple(KeepGroups(block=block.index, kept_count=2) for block in loaded.spec.blocks)
    recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=CONTEXT, keep_groups=groups)
    exported = export(loaded, recipe, tmp_path / "bundle")
    config = json.loads((exported.folder / "config.json").read_text())
    assert config["num_key_value_heads"] == 2
    # Head size = hidden size / heads, as optimum has it, must stay what it is.
    assert config["num_attention_heads"] == 8
    genai = json.loads((exported.folder / "genai_config.json").read_text())["model"]["decoder"]
    assert (genai["num_attention_heads"], genai["num_key_value_heads"]) == (4, 2)
    parity = exported.manifest.parity
    produced = genai_tokens(exported.folder, parity.greedy_prompt, len(parity.greedy_tokens))
    assert produced == list(parity.greedy_tokens)[: len(produced)]
