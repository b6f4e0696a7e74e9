"""Adapter of GPT-NeoX and Pythia, whose checkpoints pack q, k and v head by head into one matrix."""

import torch
from torch import nn
from transformers import PreTrainedModel

from edgeprune.intake.adapters.packed import PackedSites, rows_of
from edgeprune.intake.adapters.wired import WiredAdapter

__all__ = ["GPTNeoXAdapter"]


class GPTNeoXAdapter(WiredAdapter):
    """Module paths of `GPTNeoXForCausalLM`, its packed matrix taken apart."""

    family = "gpt_neox"
    site_paths = {  # noqa: RUF012 - stated once, never written
        "q": "attention.query_key_value.q",
        "k": "attention.query_key_value.k",
        "v": "attention.query_key_value.v",
        "o": "attention.dense",
        "up": "mlp.dense_h_to_4h",
        "down": "mlp.dense_4h_to_h",
    }
    blocks_path = "gpt_neox.layers"
    embedding_path = "gpt_neox.embed_in"
    final_norm_path = "gpt_neox.final_layer_norm"
    rotary_path = "gpt_neox.rotary_emb"
    attention_path = "attention"
    mlp_path = "mlp"
    attention_norm_path = "input_layernorm"
    mlp_norm_path = "post_attention_layernorm"
    norm_paths = ("input_layernorm", "post_attention_layernorm")

    def prepare(self, model: PreTrainedModel) -> None:
        """Take the packed matrices apart: rows stand as [heads, (q, k, v), head size]."""
        for block in self.blocks(model):
            attention = block.get_submodule(self.attention_path)
            packed, head_dim = attention.get_submodule("query_key_value"), attention.head_size
            if isinstance(packed, nn.Linear):
                assert isinstance(head_dim, int)
                rows = torch.arange(packed.out_features).view(-1, 3, head_dim)
                sites = {role: rows_of(packed, rows[:, part].flatten()) for part, role in enumerate(self.roles[:3])}
                attention.set_submodule("query_key_value", PackedSites(sites, head_dim=head_dim))

    def is_parallel(self, block: nn.Module) -> bool:
        """As the block itself says."""
        return bool(block.use_parallel_residual)
