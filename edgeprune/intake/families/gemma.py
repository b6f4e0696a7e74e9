"""Gemma: a Llama with gains stored as their difference from one, a scaled embedding and a GELU gate.

The gain and the scale change no shape; the adapters know them. Defaults are those of transformers 5.23.
"""

from types import MappingProxyType
from typing import Any

from edgeprune.errors import UnsupportedArchitectureError
from edgeprune.intake.config import read_flag
from edgeprune.intake.families.base import FamilyShapes
from edgeprune.intake.families.llama import Defaults, LlamaLike

__all__ = ["GEMMA", "GemmaFamily"]

_GELU = "gelu_pytorch_tanh"


class GemmaLike(LlamaLike):
    """What all Gemmas share."""

    activations = (_GELU, "gelu", "gelu_new")

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a Gemma configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: attention in both directions, unknown rotary scaling or activation.
        """
        if read_flag(config, "use_bidirectional_attention", default=False):
            raise UnsupportedArchitectureError(
                "The model attends in both directions (use_bidirectional_attention in config.json), so it does not "
                "generate text token by token; take a causal release of it."
            )
        return super().shapes(config)


class GemmaFamily(GemmaLike):
    """The first Gemma."""

    name = "gemma"
    engine_reason = "mobius 0.1.0's tree of it has no layout here; the adapter's facts are the same for all Gemmas"
    defaults = MappingProxyType(
        {"gemma": Defaults(num_kv_heads=16, max_positions=8192, head_dim=256, is_tied=True, activation=_GELU)}
    )
    model_types = tuple(defaults)

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """None: every block attends to everything."""
        return None


GEMMA = GemmaFamily()
