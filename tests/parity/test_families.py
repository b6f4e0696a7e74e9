"""Torch against onnxruntime and onnxruntime-genai: every family, every kind of edit, float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.runtime.generate import greedy
from tests.parity.bundles import (
    CONTEXT,
    Exported,
    all_edits,
    decoder_of,
    export,
    no_edits,
    part_edits,
    relative_difference,
    repairs,
    tiny,
)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, untied, all biases": (
        "llama",
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    ),
    "mistral, window shorter than the context": ("mistral", {"sliding_window": 20}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gpt2": ("gpt2", {}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False}),
}
EDITS = {"dense": no_edits, "edited": all_edits, "parts": part_edits, "repairs": repairs}


@pytest.fixture(scope="module", params=[(family, edit) for family in FAMILIES for edit in EDITS], ids=" ".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    family, edit = request.param
    model_type, overrides = FAMILIES[family]
    folder = tmp_path_factory.mktemp("bundle")
    loaded = tiny(folder / "model", model_type, **overrides)
    return export(loaded, EDITS[edit](loaded), folder / "bundle")


def test_logits_are_torchs(exported: Exported) -> None:
    # Float32 sums in another order: 3e-6 was the largest seen.
    assert relative_difference(exported) < 1e-5


def test_onnxruntime_continues_as_torch_does(exported: Exported) -> None:
    parity = exported.manifest.parity
    assert len(parity.greedy_tokens) == CONTEXT - len(parity.greedy_prompt) == 32
    assert parity.greedy_matched_count == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


def test_genai_continues_as_torch_does(exported: Exported) -> None:
    og = pytest.importorskip("onnxruntime_genai")
    parity = exported.manifest.parity
    model = og.Model(str(exported.folder))
    parameters = og.GeneratorParams(model)
    # An end token may come in a random model's text: generation then goes on, as torch's did.
    parameters.set_search_options(max_length=CONTEXT)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.asarray(parity.greedy_prompt, dtype=np.int32))
    produced: list[int] = []
    while len(produced) < len(parity.greedy_tokens) and not generator.is_done():
        generator.generate_next_token()
        produced.append(int(generator.get_next_tokens()[0]))
    assert produced == list(parity.greedy_tokens)[: len(produced)]
    assert len(produced) == len(parity.greedy_tokens) or produced[-1] in exported.compressed.spec.eos_token_ids


def test_the_tokenizer_loads_everywhere(exported: Exported) -> None:
    og = pytest.importorskip("onnxruntime_genai")
    from transformers import PreTrainedTokenizerFast

    text = "The patient, été 1987: fever."
    expected = exported.compressed.tokenizer.encode(text, add_special_tokens=False).ids
    fast = PreTrainedTokenizerFast.from_pretrained(exported.folder)
    assert fast(text, add_special_tokens=False)["input_ids"] == expected
    tokenizer = og.Tokenizer(og.Model(str(exported.folder)))
    assert tokenizer.encode(text).tolist() == expected
    assert tokenizer.decode(np.asarray(expected, dtype=np.int32)) == text


def test_blocks_of_different_shapes_are_really_smaller(exported: Exported) -> None:
    dense = no_edits(exported.dense)
    stored = (Path(exported.folder) / "model.onnx.data").stat().st_size
    parameters = exported.compressed.spec.parameter_count
    assert stored < 4 * parameters + 20_000  # rotary tables and alignment are all there is beside the parameters
    if exported.recipe != dense:
        assert parameters < 0.8 * exported.dense.spec.parameter_count
