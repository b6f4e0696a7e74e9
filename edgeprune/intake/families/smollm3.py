"""SmolLM3: a Llama in which every fourth block, or those that config.json names, has no rotary positions."""

from types import MappingProxyType
from typing import Any

from edgeprune.errors import ModelError
from edgeprune.intake.config import read_flag
from edgeprune.intake.families.llama import Defaults, LlamaLike
from edgeprune.intake.families.window import read_mixed_window
from edgeprune.schema.model import SiteRole

__all__ = ["SMOLLM3", "SmolLM3Family"]

_BLOCK_KEY = "no_rope_layers"


class SmolLM3Family(LlamaLike):
    """See the module."""

    name = "smollm3"
    engine_reason = "mobius 0.1.0 loses the sliding windows of releases that have them"
    defaults = MappingProxyType({"smollm3": Defaults(num_kv_heads=4, max_positions=32_768, is_tied=True)})
    model_types = tuple(defaults)

    def biased_roles(self, config: dict[str, Any]) -> frozenset[SiteRole]:
        """As the two flags say."""
        mlp: frozenset[SiteRole] = frozenset({"gate", "up", "down"})
        attention = super().biased_roles(config)
        return attention | mlp if read_flag(config, "mlp_bias", default=False) else attention

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """The window of the blocks that have one; the list of blocks without rotation is checked too."""
        listed = config.get(_BLOCK_KEY)
        if listed is not None and (
            not isinstance(listed, list) or len(listed) < block_count or any(entry not in (0, 1) for entry in listed)
        ):
            raise ModelError(
                f"config.json: {_BLOCK_KEY} is not a list of 0 and 1 for {block_count} blocks; the file is malformed."
            )
        if not read_flag(config, "use_sliding_window", default=False):
            return None
        return read_mixed_window(config, block_count=block_count)


SMOLLM3 = SmolLM3Family()
