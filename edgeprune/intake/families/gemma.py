"""Gemma: a Llama with gains stored as their difference from one, a scaled embedding and a GELU gate.

Gemma 2 adds norms behind attention and MLP, caps on the scores of attention and on the logits, and blocks that attend
to a window among those that attend to everything; Gemma 3 (text) drops the caps, norms each head and gives each kind of
block its own rotary positions. Gains, scales, caps and windows change no shape; the adapters know them. Defaults are
those of transformers 5.23.
"""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import read_flag
from edgeprune.intake.families.base import FamilyShapes
from edgeprune.intake.families.llama import Defaults, LlamaLike
from edgeprune.intake.families.rotary import check_rotary
from edgeprune.intake.families.window import read_mixed_window

__all__ = ["GEMMA", "GEMMA2", "GEMMA3", "Gemma2Family", "Gemma3Family", "GemmaFamily"]

_GELU = "gelu_pytorch_tanh"
_SANDWICH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


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
    engine_reason = "mobius 0.1.0 builds it too, from a tree of its own; here all Gemmas are wired alike"
    defaults = MappingProxyType(
        {"gemma": Defaults(num_kv_heads=16, max_positions=8192, head_dim=256, is_tied=True, activation=_GELU)}
    )
    model_types = tuple(defaults)

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """None: every block attends to everything."""
        return None


class Gemma2Family(GemmaLike):
    """Gemma 2."""

    name = "gemma2"
    engine_reason = "mobius 0.1.0 loses the sliding windows"
    defaults = MappingProxyType(
        {"gemma2": Defaults(num_kv_heads=4, max_positions=8192, head_dim=256, is_tied=True, activation=_GELU)}
    )
    model_types = tuple(defaults)
    activation_key = "hidden_activation"
    block_norms = _SANDWICH

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """That of the blocks that have one, by `layer_types` or every other."""
        return read_mixed_window(config, block_count=block_count, default=4096)


class Gemma3Family(GemmaLike):
    """Gemma 3, the text model."""

    name = "gemma3"
    engine_reason = "mobius 0.1.0 loses the sliding windows, and takes the query scale from the head's size"
    defaults = MappingProxyType(
        {"gemma3_text": Defaults(num_kv_heads=4, max_positions=131_072, head_dim=256, is_tied=True, activation=_GELU)}
    )
    model_types = tuple(defaults)
    activation_key = "hidden_activation"
    block_norms = _SANDWICH
    head_norm_types = frozenset({"gemma3_text"})

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """As the other Gemmas', with a rotary table for each kind of block.

        Args:
            config: config.json.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: attention in both directions, unknown rotary scaling or activation.
        """
        kinds = set(config.get("layer_types") or ("sliding_attention", "full_attention"))
        return replace(super().shapes(config), rotary_table_count=len(kinds))

    def rotary_dim(self, config: dict[str, Any], head_dim: int) -> int:
        """All of a head, once both kinds of blocks are known to be rotated in ways that are read."""
        rope = config.get("rope_parameters") or {}
        check_rotary({**config, "rope_parameters": None}, head_dim=head_dim)
        if not isinstance(rope, dict):
            raise ModelError(f"config.json: the rotary parameters are {rope!r}, not an object; the file is malformed.")
        for kind in ("full_attention", "sliding_attention"):
            check_rotary({"rope_parameters": rope.get(kind)}, head_dim=head_dim)
        return head_dim

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """That of the blocks that have one, by `layer_types` or all but every sixth."""
        return read_mixed_window(config, block_count=block_count, default=4096)


GEMMA = GemmaFamily()
GEMMA2 = Gemma2Family()
GEMMA3 = Gemma3Family()
