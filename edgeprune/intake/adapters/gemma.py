"""Adapters of the Gemmas: Llama's modules, gains stored as their difference from one, and a scaled embedding."""

from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from edgeprune.intake.adapters.llama import LlamaAdapter
from edgeprune.intake.adapters.wired import WiredAdapter, halves
from edgeprune.intake.adapters.wiring import AttentionWiring, RotaryTable

__all__ = ["Gemma2Adapter", "Gemma3Adapter", "GemmaAdapter"]


class GemmaAdapter(WiredAdapter, LlamaAdapter):
    """Module paths of `GemmaForCausalLM`."""

    family = "gemma"
    gain_offset = 1.0

    def embedding_scale(self, model: PreTrainedModel) -> float:
        """The square root of the hidden size, as the embedding module holds it in float32."""
        return float(self.embedding(model).embed_scale)  # type: ignore[arg-type]  # a buffer of the module


class Gemma2Adapter(GemmaAdapter):
    """Module paths of `Gemma2ForCausalLM`."""

    family = "gemma2"
    mlp_norm_path = "pre_feedforward_layernorm"
    attention_out_norm_path = "post_attention_layernorm"
    mlp_out_norm_path = "post_feedforward_layernorm"
    norm_paths: tuple[str, ...] = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    activation_key = "hidden_activation"

    def logit_cap(self, model: PreTrainedModel) -> float | None:
        """As the configuration says."""
        cap: float | None = model.config.final_logit_softcapping
        return cap

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """With the window of the block's kind and the cap on its scores."""
        return replace(super().attention(model, attention), logit_cap=attention.attn_logit_softcapping)


class Gemma3Adapter(Gemma2Adapter):
    """Module paths of `Gemma3ForCausalLM`, whose two kinds of blocks have a rotary table each."""

    family = "gemma3"
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

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """With the window and the table of the block's kind; transformers reads no cap on the scores."""
        return AttentionWiring(
            scale=float(attention.scaling), window=attention.sliding_window, rotary=attention.layer_type
        )

    def rotary_table(self, model: PreTrainedModel, key: str, context_tokens: int) -> RotaryTable:
        """The table of one kind of blocks."""
        assert self.rotary_path is not None
        return halves(model.get_submodule(self.rotary_path), context_tokens, layer_type=key)
