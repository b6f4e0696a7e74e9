"""An 8-bit key-value cache: torch with rounded keys and values against onnxruntime and onnxruntime-genai."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.kv_rounding import measure_cache_scales, rounded_cache
from edgeprune.errors import CalibrationError
from edgeprune.export.bundle import export_bundle
from edgeprune.runtime.generate import greedy
from edgeprune.schema.events import NullProgress
from tests.parity.bundles import (
    CONTEXT,
    WORKLOAD,
    Exported,
    all_edits,
    decoder_of,
    export,
    no_edits,
    part_edits,
    tiny,
)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral, window shorter than the context": ("mistral", {"sliding_window": 20}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gpt2": ("gpt2", {}),
}
EDITS = {"dense": no_edits, "edited": all_edits, "parts": part_edits}
CASES = [*((family, "edited") for family in FAMILIES), ("llama", "dense"), ("llama", "parts")]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    family, edit = request.param
    model_type, overrides = FAMILIES[family]
    folder = tmp_path_factory.mktemp("bundle")
    loaded = tiny(folder / "model", model_type, **overrides)
    return export(loaded, replace(EDITS[edit](loaded), kv_bits=8), folder / "bundle")


def test_logits_are_those_of_torch_with_the_same_rounding(exported: Exported) -> None:
    parity = exported.manifest.parity
    # The float cache is off by 2 to 20 % on these models; 3e-5 was seen where a value lay between two integers.
    assert parity.max_logit_difference < 1e-3
    assert parity.greedy_matched_count == len(parity.greedy_tokens)


def test_onnxruntime_keeps_one_byte_a_key(exported: Exported) -> None:
    decoder = decoder_of(exported.folder)
    parity = exported.manifest.parity
    assert greedy(decoder, parity.greedy_prompt, 32) == list(parity.greedy_tokens)
    assert decoder.is_cache_shared
    pairs = [2 * block.num_kv_heads * block.head_dim for block in exported.compressed.spec.attention_blocks]
    assert decoder.cache.size_bytes == CONTEXT * sum(pairs)
    assert all(array.dtype == np.int8 for array in decoder.cache.arrays().values())


def test_genai_continues_as_torch_does(exported: Exported) -> None:
    og = pytest.importorskip("onnxruntime_genai")
    parity = exported.manifest.parity
    parameters = og.GeneratorParams(model := og.Model(str(exported.folder)))
    parameters.set_search_options(max_length=CONTEXT)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.asarray(parity.greedy_prompt, dtype=np.int32))
    produced: list[int] = []
    while len(produced) < len(parity.greedy_tokens) and not generator.is_done():
        generator.generate_next_token()
        produced.append(int(generator.get_next_tokens()[0]))
    assert produced == list(parity.greedy_tokens)[: len(produced)]
    assert len(produced) == len(parity.greedy_tokens) or produced[-1] in exported.compressed.spec.eos_token_ids


def test_the_bundle_says_what_it_needs(exported: Exported) -> None:
    assert exported.manifest.minimum_onnxruntime == "1.27"
    assert exported.manifest.spec.kv_bits == 8
    graph = onnx.load(exported.folder / "model.onnx", load_external_data=False).graph
    caches = [entry for entry in (*graph.input, *graph.output) if "key" in entry.name or "value" in entry.name]
    assert caches
    assert {entry.type.tensor_type.elem_type for entry in caches} == {onnx.TensorProto.INT8}


def test_scales_come_from_the_text_alone(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    windows = torch.randint(0, 512, (4, 16), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    scales = measure_cache_scales(loaded, windows)
    with torch.no_grad():
        cache = loaded.model(windows.long(), use_cache=True).past_key_values
        for pair, scale in enumerate(scales):
            # transformers caches keys after rotary embedding, as the operator does.
            largest = cache.layers[pair].keys.abs().amax(dim=(0, 2))
            assert torch.allclose(scale.key * 127, largest)
            assert torch.allclose(scale.value * 127, cache.layers[pair].values.abs().amax(dim=(0, 2)))
        before = loaded.model(windows.long(), use_cache=False).logits
        with rounded_cache(loaded, scales):
            within = loaded.model(windows.long(), use_cache=False).logits
        assert 1e-4 < (within - before).abs().max() / before.abs().max() < 0.5
        assert torch.equal(loaded.model(windows.long(), use_cache=False).logits, before)


def test_no_text_is_no_cache(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    with pytest.raises(CalibrationError, match="no calibration text"):
        export_bundle(
            loaded,
            replace(no_edits(loaded), kv_bits=8),
            folder=tmp_path / "bundle",
            label="recipe",
            workload=WORKLOAD,
            texts=[],
            choices=[],
            budget=None,
            predicted=None,
            versions={},
            progress=NullProgress(),
        )
    assert not (tmp_path / "bundle").exists()
