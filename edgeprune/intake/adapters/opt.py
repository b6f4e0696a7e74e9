"""Adapter of OPT: learned positions from row 2 on, and an MLP whose layers stand in the block itself."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.opt.modeling_opt import OPTAttention

from edgeprune.intake.adapters.absent import AbsentMlp
from edgeprune.intake.adapters.wired import WiredAdapter
from edgeprune.intake.adapters.wiring import AttentionWiring

__all__ = ["OPTAdapter"]


class OPTAdapter(WiredAdapter):
    """Module paths of `OPTForCausalLM`."""

    family = "opt"
    site_paths = {  # noqa: RUF012 - stated once, never written
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.out_proj",
        "up": "fc1",
        "down": "fc2",
    }
    blocks_path = "model.decoder.layers"
    embedding_path = "model.decoder.embed_tokens"
    position_path = "model.decoder.embed_positions"
    position_offset = 2
    rotary_path = None
    final_norm_path = "model.decoder.final_layer_norm"
    attention_path = "self_attn"
    mlp_path = "fc2"
    """Its last layer: without that it adds nothing; `drop_mlp` takes the first one along."""
    attention_norm_path = "self_attn_layer_norm"
    mlp_norm_path = "final_layer_norm"
    norm_paths = ("self_attn_layer_norm", "final_layer_norm")
    activation_key = "activation_function"

    def drop_mlp(self, model: PreTrainedModel, position: int) -> None:
        """Remove both layers of the MLP and the norm before it."""
        super().drop_mlp(model, position)
        self.blocks(model)[position].set_submodule("fc1", AbsentMlp())

    def set_head_count(self, block: nn.Module, num_heads: int) -> None:
        """OPT cuts its products by a number that the attention keeps."""
        attention = block.get_submodule(self.attention_path)
        assert isinstance(attention, OPTAttention)
        attention.num_heads = num_heads

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """Queries are scaled, biases included, before they meet the keys: a factor on the products."""
        return AttentionWiring(scale=float(attention.scaling))
