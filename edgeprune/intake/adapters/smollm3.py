"""Adapter of SmolLM3: Llama's modules, and blocks that do not rotate queries and keys."""

from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from edgeprune.intake.adapters.llama import LlamaAdapter
from edgeprune.intake.adapters.wired import WiredAdapter
from edgeprune.intake.adapters.wiring import AttentionWiring

__all__ = ["SmolLM3Adapter"]


class SmolLM3Adapter(WiredAdapter, LlamaAdapter):
    """Module paths of `SmolLM3ForCausalLM`."""

    family = "smollm3"
    per_block_keys = ("layer_types", "no_rope_layers")

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """Without a rotary table where the block has no positions."""
        wired = super().attention(model, attention)
        return wired if attention.use_rope else replace(wired, rotary=None)
