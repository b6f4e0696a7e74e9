"""Tiny random models of the families that are wired by us, built by transformers itself; nothing in them is neutral.

Gains and biases are random, heads x head size differs from the hidden size where the family can, the query scale from
the head size, windows are shorter than the contexts of the tests, and rotation is partial where the family has that.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny import tiny_tokenizer_json

__all__ = ["FAMILY_CONFIGS", "write_tiny"]

_SHARED: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GATED: dict[str, Any] = {**_SHARED, "intermediate_size": 96, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
_PLAIN: dict[str, Any] = {**_SHARED, "intermediate_size": 96, "layer_norm_eps": 1e-3}
_LOCAL: dict[str, Any] = {
    "sliding_window": 7,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 10,
}

FAMILY_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm3": ("smollm3", {**_GATED, "no_rope_layers": [1, 0, 1], "head_dim": 32}),
    "smollm3, untied, biased, windows": (
        "smollm3",
        {
            **_GATED,
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 7,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "gemma": ("gemma", {**_GATED, "head_dim": 32}),
    "gemma, untied, biased": (
        "gemma",
        {**_GATED, "head_dim": 16, "num_key_value_heads": 4, "tie_word_embeddings": False, "attention_bias": True},
    ),
    "phi3, part of a head, window": (
        "phi3",
        {
            **_GATED,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75},
            "sliding_window": 7,
        },
    ),
    "phi3, tied, longrope": (
        "phi3",
        {
            **_GATED,
            "tie_word_embeddings": True,
            "max_position_embeddings": 256,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
                "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
            },
        },
    ),
    "gpt_neox": ("gpt_neox", {**_PLAIN, "num_attention_heads": 2, "rope_parameters": {"partial_rotary_factor": 0.5}}),
    "gpt_neox, tied, in a row, few rotated": (
        "gpt_neox",
        {**_PLAIN, "use_parallel_residual": False, "tie_word_embeddings": True, "attention_bias": False},
    ),
    "opt": ("opt", {**_SHARED, "ffn_dim": 96}),
    "opt, untied, no biases": (
        "opt",
        {**_SHARED, "ffn_dim": 96, "tie_word_embeddings": False, "enable_bias": False, "activation_function": "gelu"},
    ),
    "gemma3": ("gemma3_text", {**_GATED, **_LOCAL, "head_dim": 32, "query_pre_attn_scalar": 20}),
    "gemma3, untied, biased, scaled positions": (
        "gemma3_text",
        {
            **_GATED,
            **_LOCAL,
            "head_dim": 16,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "tie_word_embeddings": False,
            "attention_bias": True,
        },
    ),
    "gemma2": (
        "gemma2",
        {
            **_GATED,
            **_LOCAL,
            "head_dim": 32,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2, untied, biased, without caps": (
        "gemma2",
        {
            **_GATED,
            **_LOCAL,
            "head_dim": 16,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "tie_word_embeddings": False,
            "attention_bias": True,
        },
    ),
}
"""Name -> `model_type` and configuration."""


def write_tiny(folder: Path, name: str, *, seed: int = 0, dtype: str = "float32", **overrides: Any) -> Path:
    """Write the tiny model of that name, with other fields of its configuration where given."""
    model_type, fields = FAMILY_CONFIGS[name]
    config = AutoConfig.for_model(model_type, **{**fields, **overrides})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, parameter in model.named_parameters():
        tensors[key] = _random(key, parameter, generator).to(getattr(torch, dtype))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    stored = {**json.loads(config.to_json_string()), "architectures": [type(model).__name__], "dtype": dtype}
    _write(folder / "config.json", stored)
    _write(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 0})
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    _write(folder / "tokenizer_config.json", {**special, "tokenizer_class": "PreTrainedTokenizerFast"})
    return folder


def _random(name: str, parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(parameter.shape, generator=generator)
    if parameter.dim() == 1:
        centre = parameter.detach().mean()  # what the family starts its gains and biases from
        spread = 0.1 if name.endswith("bias") else 0.2
        gains: torch.Tensor = centre + spread * values
        return gains
    if "embed" in name or "lm_head" in name:
        return 0.3 * values
    scale = 2.0 if any(part in name for part in ("q_proj", "k_proj", "qkv", "query_key_value")) else 1.0
    return scale * values / math.sqrt(parameter.shape[1])


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
