"""Adapter of Llama-like models: llama, mistral, qwen2, qwen3."""

from edgeprune.intake.adapters.base import Adapter

__all__ = ["LlamaAdapter"]


class LlamaAdapter(Adapter):
    """Module paths of `LlamaForCausalLM` and its likes."""

    family = "llama"
    site_paths = {  # noqa: RUF012 - stated once, never written
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    }
    blocks_path = "model.layers"
    embedding_path = "model.embed_tokens"
    final_norm_path = "model.norm"
    attention_path = "self_attn"
    mlp_path = "mlp"
    attention_norm_path = "input_layernorm"
    mlp_norm_path = "post_attention_layernorm"
    norm_paths: tuple[str, ...] = (
        "input_layernorm",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "post_attention_layernorm",
    )
