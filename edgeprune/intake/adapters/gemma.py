"""Adapters of the Gemmas: Llama's modules, gains stored as their difference from one, and a scaled embedding."""

from typing import Any

from transformers import PreTrainedModel

from edgeprune.intake.adapters.llama import LlamaAdapter
from edgeprune.intake.adapters.wired import WiredAdapter, halves
from edgeprune.intake.adapters.wiring import AttentionWiring, RotaryTable

__all__ = ["Gemma3Adapter", "GemmaAdapter"]


class GemmaAdapter(WiredAdapter, LlamaAdapter):
    """Module paths of `GemmaForCausalLM`."""

    family = "gemma"
    gain_offset = 1.0

    def embedding_scale(self, model: PreTrainedModel) -> float:
        """The square root of the hidden size, as the embedding module holds it in float32."""
        return float(self.embedding(model).embed_scale)  # type: ignore[arg-type]  # a buffer of the module


class Gemma3Adapter(GemmaAdapter):
    """Module paths of `Gemma3ForCausalLM`, whose two kinds of blocks have a rotary table each."""

    family = "gemma3"
    mlp_norm_path = "pre_feedforward_layernorm"
    attention_out_norm_path = "post_attention_layernorm"
    mlp_out_norm_path = "post_feedforward_layernorm"
    query_norm_path = "self_attn.q_norm"
    key_norm_path = "self_attn.k_norm"
    norm_paths = (
        "input_layernorm",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    activation_key = "hidden_activation"

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """With the window and the table of the block's kind."""
        return AttentionWiring(
            scale=float(attention.scaling), window=attention.sliding_window, rotary=attention.layer_type
        )

    def rotary_table(self, model: PreTrainedModel, key: str, context_tokens: int) -> RotaryTable:
        """The table of one kind of blocks."""
        assert self.rotary_path is not None
        return halves(model.get_submodule(self.rotary_path), context_tokens, layer_type=key)
