"""Adapters of the Gemmas: Llama's modules, gains stored as their difference from one, and a scaled embedding."""

from transformers import PreTrainedModel

from edgeprune.intake.adapters.llama import LlamaAdapter
from edgeprune.intake.adapters.wired import WiredAdapter

__all__ = ["GemmaAdapter"]


class GemmaAdapter(WiredAdapter, LlamaAdapter):
    """Module paths of `GemmaForCausalLM`."""

    family = "gemma"
    gain_offset = 1.0

    def embedding_scale(self, model: PreTrainedModel) -> float:
        """The square root of the hidden size, as the embedding module holds it in float32."""
        return float(self.embedding(model).embed_scale)  # type: ignore[arg-type]  # a buffer of the module
