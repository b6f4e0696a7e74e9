"""Torch against onnxruntime and onnxruntime-genai for the families wired by us: every edit, every kernel.

One export a case: its logits, its greedy tokens in both runtimes, and the model reloaded from the folder compression
saves, are all held against the torch model it was made from.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.cache_scales import cache_scales
from edgeprune.calibrate.kv_rounding import rounded_cache
from edgeprune.compress.load import load
from edgeprune.compress.save import save_hf
from edgeprune.errors import ExportError
from edgeprune.export.graph import build_graph
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.runtime.generate import greedy
from tests.parity.bundles import (
    CONTEXT,
    Exported,
    all_edits,
    decoder_of,
    export,
    genai_tokens,
    mixed_edits,
    no_edits,
    relative_difference,
    repairs,
)
from tests.tiny import TINY_TEXT
from tests.tiny_families import FAMILY_CONFIGS, write_tiny

EDITS = {"dense": no_edits, "edited": all_edits, "mixed": mixed_edits, "repairs": repairs}
QUICK = (("edited", "fp32"), ("mixed", "fp32"))
CASES = [
    pytest.param((name, edit, kernel), marks=() if (edit, kernel) in QUICK else pytest.mark.slow)
    for name in FAMILY_CONFIGS
    for kernel in ("fp32", "int8_b32_a0", "int4_b32_a0")
    for edit in EDITS
    if kernel == "fp32" or edit in ("edited", "mixed")
]


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: ", ".join(case))
def exported(
    request: pytest.FixtureRequest, models: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    name, edit, kernel = request.param
    folder = tmp_path_factory.mktemp("bundle")
    if name not in models:
        models[name] = load_model(write_tiny(folder / "model", name))
    return export(models[name], EDITS[edit](models[name], kernel), folder / "bundle")


def test_logits_and_greedy_tokens_are_torchs(exported: Exported) -> None:
    # Float32 sums in another order.
    assert relative_difference(exported) < 1e-5
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens) == CONTEXT - len(parity.greedy_prompt) == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


def test_genai_continues_as_torch_does(exported: Exported) -> None:
    tokens = list(exported.manifest.parity.greedy_tokens)
    produced = genai_tokens(exported)
    assert produced == tokens[: len(produced)]
    assert len(produced) == len(tokens) or produced[-1] in exported.compressed.spec.eos_token_ids


def test_the_saved_folder_reloads_bit_for_bit(exported: Exported, tmp_path: Path) -> None:
    save_hf(exported.compressed, exported.recipe, tmp_path / "hf")
    reloaded = load(tmp_path / "hf")
    assert reloaded.spec == exported.compressed.spec
    tokens = torch.tensor([exported.manifest.parity.greedy_prompt])
    with torch.inference_mode():
        expected = exported.compressed.model(tokens).logits
        assert torch.equal(reloaded.model(tokens).logits, expected)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "opt"])
def test_the_graph_holds_the_position_tables_that_are_priced(name: str, tmp_path: Path) -> None:
    loaded = load_model(write_tiny(tmp_path / "model", name))
    values = build_graph(loaded, context_tokens=CONTEXT).model.graph.initializers.values()
    tables = [value for value in values if value.name in ("positions", "rotary_cosines") or "n_cosines" in value.name]
    assert len(tables) == (loaded.spec.rotary_table_count if loaded.spec.position_kind == "rotary" else 1)
    assert {value.shape[0] for value in tables} == {CONTEXT}


@pytest.mark.parametrize("name", [name for name in FAMILY_CONFIGS if "," not in name or name.startswith("phi3")])
@pytest.mark.slow
def test_an_8_bit_cache_is_rounded_as_torch_rounds_it(name: str, tmp_path: Path) -> None:
    loaded = load_model(write_tiny(tmp_path / "model", name))
    exported = export(loaded, replace(mixed_edits(loaded), kv_bits=8), tmp_path / "bundle")
    model = exported.compressed
    scales = cache_scales(model, [TINY_TEXT.strip()], window_tokens=CONTEXT)
    assert scales is not None
    tokens = np.random.default_rng(0).integers(0, model.spec.vocab_size, CONTEXT)
    with torch.inference_mode(), rounded_cache(model, scales):
        expected = model.model(torch.from_numpy(tokens)[None], use_cache=False).logits[0].numpy()
    found = np.concatenate(list(decoder_of(exported.folder).logits(tokens)))
    # Of the positions most: where a key lies between two integers, all after it differ by up to a step of 1 / 127.
    assert np.median(np.abs(found - expected).max(axis=1)) < 1e-5 * np.abs(expected).max()
    assert exported.manifest.parity.greedy_matched_count == 32
    produced = genai_tokens(exported)
    assert produced == list(exported.manifest.parity.greedy_tokens)[: len(produced)]


def test_longrope_is_refused_where_a_text_could_change_its_rate(tmp_path: Path) -> None:
    loaded = load_model(write_tiny(tmp_path / "model", "phi3, tied, longrope"))
    assert loaded.spec.max_positions == 64
    with pytest.raises(ExportError, match=r"longrope.*at most 64"):
        build_graph(loaded, context_tokens=65)
