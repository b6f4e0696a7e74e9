"""Llama-like decoders: RMS norms, rotary positions, grouped key and value heads, a gated MLP.

Covers `llama` (SmolLM and SmolLM2 carry this type too), `mistral`, `qwen2` (biased q, k, v) and `qwen3` (norms on
queries and keys). Defaults of absent fields are those of transformers 5.23.
"""

from dataclasses import dataclass
from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import (
    BLOCK_LIMIT,
    POSITION_LIMIT,
    VOCABULARY_LIMIT,
    WIDTH_LIMIT,
    read_flag,
    read_number,
    read_size,
    read_text,
)
from edgeprune.intake.families.base import FamilyShapes
from edgeprune.intake.families.rotary import check_rotary
from edgeprune.intake.families.window import read_window
from edgeprune.schema.model import BlockSpec, SiteRole, SiteSpec, site_name

__all__ = ["LLAMA", "LlamaFamily"]


@dataclass(frozen=True, kw_only=True)
class _Defaults:
    """What transformers assumes where config.json is silent."""

    num_kv_heads: int | None
    """None: as many as query heads."""
    max_positions: int
    head_dim: int | None = None
    """None: hidden size / heads."""


_DEFAULTS = {
    "llama": _Defaults(num_kv_heads=None, max_positions=2048),
    "mistral": _Defaults(num_kv_heads=8, max_positions=131_072),
    "qwen2": _Defaults(num_kv_heads=32, max_positions=32_768),
    "qwen3": _Defaults(num_kv_heads=32, max_positions=32_768, head_dim=128),
}

_ACTIVATIONS = ("silu", "swish")

_MODULES: dict[SiteRole, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class LlamaFamily:
    """See the module."""

    name = "llama"
    model_types: tuple[str, ...] = tuple(_DEFAULTS)

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a Llama-like configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: mixed attention windows, unknown rotary scaling or activation.
        """
        kind = config["model_type"]
        defaults = _DEFAULTS[kind]
        hidden = read_size(config, "hidden_size", limit=WIDTH_LIMIT)
        block_count = read_size(config, "num_hidden_layers", limit=BLOCK_LIMIT)
        heads = read_size(config, "num_attention_heads", limit=WIDTH_LIMIT)
        # An explicit null means "as many as query heads" in every type, an absent key means the type's default.
        absent = heads if "num_key_value_heads" in config else defaults.num_kv_heads or heads
        kv_heads = read_size(config, "num_key_value_heads", limit=WIDTH_LIMIT, default=absent)
        has_own_dim = config.get("head_dim") is not None or defaults.head_dim is not None
        if hidden % heads != 0 and (kind == "llama" or not has_own_dim):
            raise ModelError(
                f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; "
                "the file is malformed."
            )
        if heads % kv_heads != 0:
            raise ModelError(
                f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}; "
                "the file is malformed."
            )
        head_dim = read_size(config, "head_dim", limit=WIDTH_LIMIT, default=defaults.head_dim or hidden // heads)
        activation = read_text(config, "hidden_act", default="silu")
        if activation not in _ACTIVATIONS:
            raise UnsupportedArchitectureError(
                f"The activation {activation!r} in config.json is not supported for {kind}; it must be silu."
            )
        check_rotary(config, head_dim=head_dim)
        inner = read_size(config, "intermediate_size", limit=WIDTH_LIMIT)
        biased = _biased_roles(config, kind)
        norms = 2 * hidden + (2 * head_dim if kind == "qwen3" else 0)
        widths = _widths(hidden, heads * head_dim, kv_heads * head_dim, inner)
        blocks = tuple(
            BlockSpec(
                index=index,
                num_heads=heads,
                num_kv_heads=kv_heads,
                head_dim=head_dim,
                intermediate_size=inner,
                sites=tuple(
                    SiteSpec(
                        name=site_name(index, role),
                        role=role,
                        in_features=width_in,
                        out_features=width_out,
                        has_bias=role in biased,
                    )
                    for role, (width_out, width_in) in widths.items()
                ),
                norm_parameter_count=norms,
            )
            for index in range(block_count)
        )
        return FamilyShapes(
            hidden_size=hidden,
            vocab_size=read_size(config, "vocab_size", limit=VOCABULARY_LIMIT),
            max_positions=read_size(
                config, "max_position_embeddings", limit=POSITION_LIMIT, default=defaults.max_positions
            ),
            is_tied=read_flag(config, "tie_word_embeddings", default=False),
            position_kind="rotary",
            rotary_dim=head_dim,
            norm_kind="rms",
            norm_epsilon=read_number(config, "rms_norm_eps", default=1e-6),
            activation=activation,
            is_gated=True,
            sliding_window=read_window(config, kind, block_count=block_count),
            blocks=blocks,
            final_norm_parameter_count=hidden,
        )

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without `model.`."""
        hidden = shapes.hidden_size
        expected: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (shapes.vocab_size, hidden)}
        for block in shapes.blocks:
            prefix = f"layers.{block.index}."
            expected[f"{prefix}input_layernorm.weight"] = (hidden,)
            expected[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
            if block.norm_parameter_count > 2 * hidden:
                expected[f"{prefix}self_attn.q_norm.weight"] = (block.head_dim,)
                expected[f"{prefix}self_attn.k_norm.weight"] = (block.head_dim,)
            for site in block.sites:
                module = prefix + _MODULES[site.role]
                expected[f"{module}.weight"] = (site.out_features, site.in_features)
                if site.has_bias:
                    expected[f"{module}.bias"] = (site.out_features,)
        expected["norm.weight"] = (hidden,)
        if not shapes.is_tied:
            expected["lm_head.weight"] = (shapes.vocab_size, hidden)
        return expected

    def strip(self, name: str) -> str | None:
        """A stored name without `model.`; None for the rotary frequencies old checkpoints carry."""
        if name.endswith("rotary_emb.inv_freq"):
            return None
        return name.removeprefix("model.")


def _biased_roles(config: dict[str, Any], kind: str) -> frozenset[str]:
    """Sites with a bias; each type reads only the flags its own code reads."""
    if kind == "qwen2":
        return frozenset("qkv")
    roles: set[str] = set()
    if kind in ("llama", "qwen3") and read_flag(config, "attention_bias", default=False):
        roles |= {"q", "k", "v", "o"}
    if kind == "llama" and read_flag(config, "mlp_bias", default=False):
        roles |= {"gate", "up", "down"}
    return frozenset(roles)


def _widths(hidden: int, query: int, key: int, inner: int) -> dict[SiteRole, tuple[int, int]]:
    """Role -> (out, in)."""
    return {
        "q": (query, hidden),
        "k": (key, hidden),
        "v": (key, hidden),
        "o": (hidden, query),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }


LLAMA = LlamaFamily()
