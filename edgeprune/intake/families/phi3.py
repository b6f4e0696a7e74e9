"""Phi-3 and Phi-4-mini: a Llama with packed matrices, heads rotated in part, and longrope.

Longrope turns texts beyond a length at another rate. A graph has one table, so what is read are the positions up to
that length; transformers 5.23 uses the same table for every text within it.
"""

from types import MappingProxyType
from typing import Any

from edgeprune.intake.config import POSITION_LIMIT, read_size
from edgeprune.intake.families.llama import Defaults, LlamaLike
from edgeprune.intake.families.rotary import read_rotary
from edgeprune.intake.families.window import read_mixed_window
from edgeprune.schema.model import SiteRole

__all__ = ["PHI3", "Phi3Family"]

_LONGROPE = ("longrope", "su", "yarn")
"""Names of it; the second and third are those of older releases, which transformers renames for this type."""
_SHORT_POSITIONS = 4096


class Phi3Family(LlamaLike):
    """See the module."""

    name = "phi3"
    engine_reason = (
        "mobius 0.1.0 keeps gate and up as one matrix, and onnxruntime refuses its rotation of an odd part of a head"
    )
    defaults = MappingProxyType({"phi3": Defaults(num_kv_heads=None, max_positions=4096, norm_epsilon=1e-5)})
    model_types = tuple(defaults)
    packed = MappingProxyType({"self_attn.qkv_proj": ("q", "k", "v"), "mlp.gate_up_proj": ("gate", "up")})

    def biased_roles(self, config: dict[str, Any]) -> frozenset[SiteRole]:
        """None: transformers reads no flag for it."""
        return frozenset()

    def rotary_dim(self, config: dict[str, Any], head_dim: int) -> int:
        """All or the first part of a head."""
        return read_rotary(config, head_dim=head_dim, types=("default", *_LONGROPE))

    def max_positions(self, config: dict[str, Any], defaults: Defaults) -> int:
        """Those of the short texts where there is longrope."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if (rope.get("rope_type") or rope.get("type")) in _LONGROPE:
            key = "original_max_position_embeddings"
            found = read_size({**config, **rope}, key, limit=POSITION_LIMIT, default=_SHORT_POSITIONS)
            return min(found, super().max_positions(config, defaults))
        return super().max_positions(config, defaults)

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """One for all blocks."""
        return read_mixed_window(config, block_count=block_count)


PHI3 = Phi3Family()
