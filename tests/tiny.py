"""Tiny random Hugging Face folders for tests: nothing neutral, so that a mistake anywhere changes the logits.

Norm gains are random around one, biases random, key and value heads fewer than query heads, queries and keys wide
enough that attention is not uniform. Written with numpy alone (no torch); only the tokenizer needs `tokenizers`.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TINY_TEXT", "tiny_tokenizer_json", "write_safetensors", "write_tiny_gpt2", "write_tiny_llama"]

TINY_TEXT = """
The river rises in the hills above the old town and runs past the mill, the school and the market before it meets the
sea. In spring the water is high and brown, and the children are told to keep away from the banks; in summer it is so
low that one can cross it on the stones. A doctor lived in the last house of the street. She kept careful notes: the
patient has a fever, the patient was given two tablets in the morning and one in the evening, the patient is better.
The judge read the contract aloud and asked whether the parties had understood it. They said that they had. The first
clause names the price, the second names the day of payment, and the third says what happens when nobody pays. 12, 34
and 567 are numbers; so is 1,024. "What is a number?" asked the youngest. "That which follows another," he answered.
"""

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}

Array = NDArray[np.float32]


@functools.lru_cache(maxsize=1)
def tiny_tokenizer_json() -> str:
    """A byte-level BPE tokenizer of 512 tokens trained on `TINY_TEXT`; `<|endoftext|>` is token 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator([TINY_TEXT], trainer)
    assert tokenizer.get_vocab_size() == 512
    return str(tokenizer.to_str(pretty=True))


def write_tiny_llama(
    folder: Path,
    *,
    model_type: str = "llama",
    dtype: str = "float32",
    seed: int = 0,
    shard_count: int = 1,
    **config_overrides: Any,
) -> Path:
    """Write a random Llama-like model (`llama`, `mistral`, `qwen2` or `qwen3`) of three blocks; 512 tokens, tied."""
    config: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[model_type]],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dtype": dtype,
        "eos_token_id": 0,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "mlp_bias": False,
        "model_type": model_type,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": 512,
    }
    if model_type in ("mistral", "qwen2"):
        config.pop("attention_bias")
        config["sliding_window"] = None
    if model_type != "llama":
        config.pop("mlp_bias")
    config.update(config_overrides)
    config = {key: value for key, value in config.items() if value is not ...}
    rng = np.random.default_rng(seed)
    tensors = _llama_tensors(config, rng)
    return _write_folder(folder, config, tensors, dtype=dtype, shard_count=shard_count)


def write_tiny_gpt2(
    folder: Path,
    *,
    dtype: str = "float32",
    seed: int = 0,
    shard_count: int = 1,
    prefix: str = "transformer.",
    **config_overrides: Any,
) -> Path:
    """Write a random GPT-2 of three blocks; 512 tokens, tied. `prefix=""` names tensors as the first GPT-2 does."""
    config: dict[str, Any] = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "dtype": dtype,
        "embd_pdrop": 0.0,
        "eos_token_id": 0,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": 64,
        "n_head": 4,
        "n_inner": None,
        "n_layer": 3,
        "n_positions": 256,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": 512,
    }
    config.update(config_overrides)
    config = {key: value for key, value in config.items() if value is not ...}
    rng = np.random.default_rng(seed)
    tensors = _gpt2_tensors(config, rng, prefix)
    return _write_folder(folder, config, tensors, dtype=dtype, shard_count=shard_count)


def write_safetensors(path: Path, tensors: dict[str, Array], *, dtype: str = "float32") -> None:
    """Write tensors in the safetensors layout: 8 bytes of length, a JSON header, the data."""
    label = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces = []
    offset = 0
    for name, array in tensors.items():
        data = _encode(array, dtype)
        header[name] = {"dtype": label, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        pieces.append(data)
        offset += len(data)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(pieces))


def _encode(array: Array, dtype: str) -> bytes:
    if dtype == "float32":
        return array.astype("<f4").tobytes()
    if dtype == "float16":
        return array.astype("<f2").tobytes()
    bits = array.astype("<f4").view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # round to nearest, ties to even
    return rounded.astype("<u2").tobytes()


def _matrix(rng: np.random.Generator, rows: int, columns: int, scale: float = 1.0) -> Array:
    matrix: Array = (rng.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)
    return matrix


def _gain(rng: np.random.Generator, width: int) -> Array:
    return (1.0 + 0.2 * rng.standard_normal(width)).astype(np.float32)


def _bias(rng: np.random.Generator, width: int) -> Array:
    return (0.1 * rng.standard_normal(width)).astype(np.float32)


def _table(rng: np.random.Generator, rows: int, width: int) -> Array:
    return (0.3 * rng.standard_normal((rows, width))).astype(np.float32)


def _llama_tensors(config: dict[str, Any], rng: np.random.Generator) -> dict[str, Array]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, key = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    kind = config["model_type"]
    attention_bias = {"q": kind == "qwen2", "k": kind == "qwen2", "v": kind == "qwen2", "o": False}
    if config.get("attention_bias"):
        attention_bias = dict.fromkeys("qkvo", True)
    tensors = {"model.embed_tokens.weight": _table(rng, config["vocab_size"], hidden)}
    for index in range(config["num_hidden_layers"]):
        block = f"model.layers.{index}."
        tensors[f"{block}input_layernorm.weight"] = _gain(rng, hidden)
        shapes = {
            "q": (query, hidden, 2.0),
            "k": (key, hidden, 2.0),
            "v": (key, hidden, 1.0),
            "o": (hidden, query, 1.0),
        }
        for role, (rows, columns, scale) in shapes.items():
            tensors[f"{block}self_attn.{role}_proj.weight"] = _matrix(rng, rows, columns, scale)
            if attention_bias[role]:
                tensors[f"{block}self_attn.{role}_proj.bias"] = _bias(rng, rows)
        if kind == "qwen3":
            tensors[f"{block}self_attn.q_norm.weight"] = _gain(rng, head_dim)
            tensors[f"{block}self_attn.k_norm.weight"] = _gain(rng, head_dim)
        tensors[f"{block}post_attention_layernorm.weight"] = _gain(rng, hidden)
        for role, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            tensors[f"{block}mlp.{role}_proj.weight"] = _matrix(rng, rows, columns)
            if config.get("mlp_bias"):
                tensors[f"{block}mlp.{role}_proj.bias"] = _bias(rng, rows)
    tensors["model.norm.weight"] = _gain(rng, hidden)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = _table(rng, config["vocab_size"], hidden)
    return tensors


def _gpt2_tensors(config: dict[str, Any], rng: np.random.Generator, prefix: str) -> dict[str, Array]:
    hidden = config["n_embd"]
    inner = config.get("n_inner") or 4 * hidden
    tensors = {
        f"{prefix}wte.weight": _table(rng, config["vocab_size"], hidden),
        f"{prefix}wpe.weight": _table(rng, config["n_positions"], hidden),
    }
    for index in range(config["n_layer"]):
        block = f"{prefix}h.{index}."
        for norm in ("ln_1", "ln_2"):
            tensors[f"{block}{norm}.weight"] = _gain(rng, hidden)
            tensors[f"{block}{norm}.bias"] = _bias(rng, hidden)
        shapes = (
            ("attn.c_attn", 3 * hidden, hidden, 1.5),
            ("attn.c_proj", hidden, hidden, 1.0),
            ("mlp.c_fc", inner, hidden, 1.0),
            ("mlp.c_proj", hidden, inner, 1.0),
        )
        for name, rows, columns, scale in shapes:
            # Conv1D stores [in, out].
            tensors[f"{block}{name}.weight"] = np.ascontiguousarray(_matrix(rng, rows, columns, scale).T)
            tensors[f"{block}{name}.bias"] = _bias(rng, rows)
    tensors[f"{prefix}ln_f.weight"] = _gain(rng, hidden)
    tensors[f"{prefix}ln_f.bias"] = _bias(rng, hidden)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = _table(rng, config["vocab_size"], hidden)
    return tensors


def _write_folder(
    folder: Path, config: dict[str, Any], tensors: dict[str, Array], *, dtype: str, shard_count: int
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 0})
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
    tokenizer_config = {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    if shard_count == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype=dtype)
        return folder
    names = list(tensors)
    weight_map = {}
    for shard in range(shard_count):
        file_name = f"model-{shard + 1:05d}-of-{shard_count:05d}.safetensors"
        part = names[shard::shard_count]
        write_safetensors(folder / file_name, {name: tensors[name] for name in part}, dtype=dtype)
        weight_map.update(dict.fromkeys(part, file_name))
    total = sum((folder / name).stat().st_size for name in set(weight_map.values()))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
