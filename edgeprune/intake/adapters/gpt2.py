"""Adapter of GPT-2, whose Conv1D layers become `nn.Linear` so that a site is y = W x + b as everywhere else."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.pytorch_utils import Conv1D

from edgeprune.intake.adapters.base import Adapter

__all__ = ["GPT2Adapter"]


class GPT2Adapter(Adapter):
    """Module paths of `GPT2LMHeadModel`."""

    family = "gpt2"
    site_paths = {  # noqa: RUF012 - stated once, never written
        "qkv": "attn.c_attn",
        "o": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    blocks_path = "transformer.h"
    embedding_path = "transformer.wte"
    position_path = "transformer.wpe"
    final_norm_path = "transformer.ln_f"
    attention_path = "attn"
    mlp_path = "mlp"
    attention_norm_path = "ln_1"
    mlp_norm_path = "ln_2"
    norm_paths = ("ln_1", "ln_2")

    def prepare(self, model: PreTrainedModel) -> None:
        """Turn every Conv1D (W [in, out]) into an `nn.Linear` (W [out, in])."""
        for block in self.blocks(model):
            for role in self.roles:
                module = self.site(block, role)
                if isinstance(module, Conv1D):
                    self.set_site(block, role, _linear(module))

    def set_head_count(self, block: nn.Module, num_heads: int) -> None:
        """GPT-2 cuts its fused product into thirds of a width that it keeps as a number."""
        attention = block.get_submodule(self.attention_path)
        assert isinstance(attention, GPT2Attention)
        attention.num_heads = num_heads
        attention.split_size = num_heads * attention.head_dim


def _linear(layer: Conv1D) -> nn.Linear:
    in_features, out_features = layer.weight.shape
    with torch.device("meta"):
        linear = nn.Linear(in_features, out_features)
    linear.weight = nn.Parameter(layer.weight.detach().T.contiguous())
    linear.bias = nn.Parameter(layer.bias.detach())
    return linear
