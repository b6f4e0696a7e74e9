"""Adapter of Phi-3 and Phi-4-mini, whose checkpoints pack q, k and v into one matrix, and gate and up into another."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.phi3.modeling_phi3 import Phi3Attention

from edgeprune.errors import ExportError
from edgeprune.intake.adapters.packed import PackedSites, rows_of
from edgeprune.intake.adapters.wired import ROTARY, WiredAdapter
from edgeprune.intake.adapters.wiring import AttentionWiring, RotaryTable

__all__ = ["Phi3Adapter"]


class Phi3Adapter(WiredAdapter):
    """Module paths of `Phi3ForCausalLM`, its packed matrices taken apart."""

    family = "phi3"
    site_paths = {  # noqa: RUF012 - stated once, never written
        "q": "self_attn.qkv_proj.q",
        "k": "self_attn.qkv_proj.k",
        "v": "self_attn.qkv_proj.v",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_up_proj.gate",
        "up": "mlp.gate_up_proj.up",
        "down": "mlp.down_proj",
    }
    blocks_path = "model.layers"
    embedding_path = "model.embed_tokens"
    final_norm_path = "model.norm"
    attention_path = "self_attn"
    mlp_path = "mlp"
    attention_norm_path = "input_layernorm"
    mlp_norm_path = "post_attention_layernorm"
    norm_paths = ("input_layernorm", "post_attention_layernorm")

    def prepare(self, model: PreTrainedModel) -> None:
        """Take the packed matrices apart."""
        for block in self.blocks(model):
            attention = block.get_submodule("self_attn")
            assert isinstance(attention, Phi3Attention)
            key = attention.num_key_value_heads * attention.head_dim
            query = key * attention.num_key_value_groups
            _take_apart(block, "self_attn.qkv_proj", {"q": query, "k": key, "v": key})
            inner = block.get_submodule("mlp.down_proj").in_features
            assert isinstance(inner, int)
            _take_apart(block, "mlp.gate_up_proj", {"gate": inner, "up": inner})

    def set_head_count(self, block: nn.Module, num_heads: int) -> None:
        """The packed product is cut by counts that the attention reads from its module and from its configuration."""
        attention = block.get_submodule(self.attention_path)
        assert isinstance(attention, Phi3Attention)
        attention.num_key_value_heads = num_heads // attention.num_key_value_groups
        attention.config = _OwnHeadCount(attention.config, num_heads)

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """One window for all blocks, which the configuration holds."""
        return AttentionWiring(scale=float(attention.scaling), window=model.config.sliding_window, rotary=ROTARY)

    def rotary_table(self, model: PreTrainedModel, key: str, context_tokens: int) -> RotaryTable:
        """The table of short texts where longer ones turn at another rate.

        Raises:
            ExportError: longrope, and a context in which both rates would occur.
        """
        parameters = model.config.rope_parameters
        if parameters["rope_type"] == "longrope":
            limit = parameters["original_max_position_embeddings"]
            if context_tokens > limit:
                raise ExportError(
                    f"The model's rotary positions change for texts of more than {limit} tokens (longrope in "
                    f"config.json), and a graph has one table; choose a --context of at most {limit}."
                )
        return super().rotary_table(model, key, context_tokens)


class _OwnHeadCount:
    """The model's configuration with another number of heads; whatever else is set in that one is seen here too."""

    def __init__(self, config: Any, num_attention_heads: int) -> None:
        self.shared: Any = config
        self.num_attention_heads = num_attention_heads

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "shared":  # asked for while a copy of this object is being made
            raise AttributeError(name)
        return getattr(self.shared, name)


def _take_apart(block: nn.Module, path: str, counts: dict[Any, int]) -> None:
    packed = block.get_submodule(path)
    if isinstance(packed, nn.Linear):
        parts = torch.arange(packed.out_features).split(list(counts.values()))
        sites = {role: rows_of(packed, rows) for role, rows in zip(counts, parts, strict=True)}
        block.set_submodule(path, PackedSites(sites))
