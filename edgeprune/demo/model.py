"""The demo model's shape: a Llama-family decoder small enough to ship inside the package."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgeprune.demo.tokenizer import END_ID, PAD_ID

__all__ = ["WINDOW_TOKENS", "build_network", "network_config"]

WINDOW_TOKENS = 256
"""Tokens in one training window."""


def network_config(
    vocab_size: int, *, num_blocks: int = 12, hidden_size: int = 192, ffn_size: int = 288
) -> LlamaConfig:
    """Configuration of the demo model; the defaults give 3.96 million parameters, 7.92 MB in bfloat16."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=ffn_size,
        num_hidden_layers=num_blocks,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        use_cache=True,
    )


def build_network(config: LlamaConfig, *, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model; the same seed gives the same weights."""
    torch.manual_seed(seed)
    network = LlamaForCausalLM(config)
    # Residual writers start at zero: each block begins as the identity, which is worth a few hundred steps here.
    for block in network.model.layers:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
    return network
