"""`load_model`: what is loaded, what is checked, what is refused."""

import json
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.crosscheck import check_against_optimum
from edgeprune.intake.load import check_finite, load_model, load_tokenizer
from tests.tiny import TINY_TEXT, write_safetensors, write_tiny_gpt2, write_tiny_llama
from tests.tiny_families import write_tiny


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_any_source_is_loaded_as_float32(tmp_path: Path, dtype: str) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m", dtype=dtype))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert not loaded.model.training
    assert loaded.spec.source_dtype == dtype
    assert loaded.block_indices == [0, 1, 2]
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(TINY_TEXT).ids) == TINY_TEXT


def test_nothing_is_written_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(write_tiny_llama(tmp_path / "m"))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_rotary_parameters_as_transformers_4_wrote_them(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64}
    old = write_tiny_llama(
        tmp_path / "old", rope_parameters=..., rope_theta=5e5, rope_scaling={**scaling, "rope_type": "llama3"}
    )
    new = write_tiny_llama(tmp_path / "new", rope_parameters={**scaling, "rope_type": "llama3", "rope_theta": 5e5})
    plain = write_tiny_llama(tmp_path / "plain")
    tokens = torch.arange(100).reshape(1, 100)
    with torch.no_grad():
        logits = [load_model(folder).model(tokens).logits for folder in (old, new, plain)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=1e-2)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, word: str, dtype: str) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = dict(load_file(folder / "model.safetensors"))
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = value
    with np.errstate(invalid="ignore"):
        write_safetensors(folder / "model.safetensors", tensors, dtype=dtype)
    with pytest.raises(ModelError, match=rf"'model\.layers\.1\.mlp\.down_proj\.weight' holds {word}"):
        load_model(folder)


def test_finite_weights_pass(tmp_path: Path) -> None:
    check_finite(load_model(write_tiny_gpt2(tmp_path / "m")).model)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is truncated"):
        load_model(folder)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(UnsupportedArchitectureError, match="an encoder"):
        load_model(folder)


def test_a_field_transformers_refuses_is_a_model_error(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", bos_token_id="zero")
    with pytest.raises(ModelError, match="transformers cannot load"):
        load_model(folder)


def test_a_tied_model_with_another_stored_head_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", tie_word_embeddings=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(ModelError, match="tie_word_embeddings"):
        load_model(folder)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"model": 3}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    if content is None:
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_model(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", vocab_size=500)
    with pytest.raises(ModelError, match="has the token id 511, the model only 500 tokens"):
        load_model(folder)


def test_stored_truncation_and_padding_are_switched_off(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tokenizer = load_tokenizer(folder)
    count = len(tokenizer.encode(TINY_TEXT).ids)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=2000)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_tokenizer(folder).encode(TINY_TEXT).ids) == count


def test_disagreement_with_optimum_names_both_numbers(tmp_path: Path) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m"))
    check_against_optimum(loaded.model, loaded.spec)
    with pytest.raises(ModelError, match="read as hidden_size 65, but optimum reads 64"):
        check_against_optimum(loaded.model, replace(loaded.spec, hidden_size=65))
    wrong = replace(loaded.spec.blocks[0], num_kv_heads=1)
    with pytest.raises(ModelError, match="num_key_value_heads 1, but optimum reads 2"):
        check_against_optimum(loaded.model, replace(loaded.spec, blocks=(wrong, *loaded.spec.blocks[1:])))


def test_optimum_infers_the_task(tmp_path: Path) -> None:
    from transformers import LlamaForSequenceClassification

    loaded = load_model(write_tiny_llama(tmp_path / "m"))
    other = LlamaForSequenceClassification(loaded.model.config)
    with pytest.raises(UnsupportedArchitectureError, match="a model for text-classification"):
        check_against_optimum(other, loaded.spec)


def test_a_type_optimum_does_not_know_is_no_error(tmp_path: Path) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "m"))
    stranger: Any = types.SimpleNamespace(config=loaded.model.config)
    check_against_optimum(stranger, replace(loaded.spec, model_type="brand_new", hidden_size=65))


@pytest.mark.lab
@pytest.mark.skipif("EDGEPRUNE_LAB" not in os.environ, reason="EDGEPRUNE_LAB is not set")
def test_the_lab_model_predicts_its_own_language() -> None:
    loaded = load_model(Path(os.environ["EDGEPRUNE_LAB"]) / "model")
    lines = (Path(os.environ["EDGEPRUNE_LAB"]) / "text" / "medicine.valid.jsonl").read_text().splitlines()
    tokens = torch.tensor([loaded.tokenizer.encode(json.loads(lines[0])["text"]).ids[:256]])
    with torch.no_grad():
        loss = float(loaded.model(tokens, labels=tokens).loss)
    assert loss < 5.0  # a uniform guess costs log(8192) = 9.0 nats


def test_pythia_as_its_checkpoints_are_stored(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "m", "gpt_neox")
    before = load_model(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["embed_out.weight"] = tensors.pop("lm_head.weight")
    for block in range(3):
        attention = f"gpt_neox.layers.{block}.attention."
        tensors[f"{attention}masked_bias"] = np.array(-1e9, dtype=np.float32)
        tensors[f"{attention}bias"] = np.tril(np.ones((1, 1, 256, 256), dtype=np.bool_))
        tensors[f"{attention}rotary_emb.inv_freq"] = np.ones(8, dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    after = load_model(folder)
    assert after.spec.parameter_count == before.spec.parameter_count
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(after.model(tokens).logits, before.model(tokens).logits)
