"""OPT: layer norms with biases, learned positions stored from row 2 on, a plain MLP.

Covers the releases whose norms stand before attention and MLP, which are all but opt-350m. Defaults are those of
transformers 5.23.
"""

from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import (
    BLOCK_LIMIT,
    POSITION_LIMIT,
    VOCABULARY_LIMIT,
    WIDTH_LIMIT,
    read_flag,
    read_size,
    read_text,
)
from edgeprune.intake.families.base import Engine, FamilyShapes
from edgeprune.intake.families.plain import plain_block
from edgeprune.schema.model import SiteRole

__all__ = ["OPT", "OPTFamily"]

_ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")
_OFFSET = 2
_NORM_EPSILON = 1e-5
"""Of torch's LayerNorm: the configuration has no field for it."""

_MODULES: dict[SiteRole, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.out_proj",
    "up": "fc1",
    "down": "fc2",
}


class OPTFamily:
    """See the module."""

    name = "opt"
    model_types: tuple[str, ...] = ("opt",)
    engine: Engine = "wired"
    engine_reason = "mobius 0.1.0 takes a norm epsilon of 1e-6 where the model has 1e-5"

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes an OPT configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: norms behind the parts or without gains, projected embeddings, or an unknown
                activation.
        """
        hidden = read_size(config, "hidden_size", limit=WIDTH_LIMIT, default=768)
        _refuse_variants(config, hidden)
        heads = read_size(config, "num_attention_heads", limit=WIDTH_LIMIT, default=12)
        block_count = read_size(config, "num_hidden_layers", limit=BLOCK_LIMIT, default=12)
        inner = read_size(config, "ffn_dim", limit=WIDTH_LIMIT, default=3072)
        if hidden % heads != 0:
            raise ModelError(
                f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; "
                "the file is malformed."
            )
        biased = frozenset(_MODULES) if read_flag(config, "enable_bias", default=True) else frozenset()
        return FamilyShapes(
            hidden_size=hidden,
            vocab_size=read_size(config, "vocab_size", limit=VOCABULARY_LIMIT, default=50_272),
            max_positions=read_size(config, "max_position_embeddings", limit=POSITION_LIMIT, default=2048),
            position_offset=_OFFSET,
            is_tied=read_flag(config, "tie_word_embeddings", default=True),
            position_kind="learned",
            rotary_dim=None,
            norm_kind="layer",
            norm_epsilon=_NORM_EPSILON,
            activation=read_text(config, "activation_function", default="relu"),
            is_gated=False,
            sliding_window=None,
            blocks=tuple(
                plain_block(index, hidden=hidden, heads=heads, inner=inner, biased=biased)
                for index in range(block_count)
            ),
            final_norm_parameter_count=2 * hidden,
        )

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without `model.` and `decoder.`."""
        hidden = shapes.hidden_size
        expected: dict[str, tuple[int, ...]] = {
            "embed_tokens.weight": (shapes.vocab_size, hidden),
            "embed_positions.weight": (shapes.max_positions + shapes.position_offset, hidden),
        }
        for block in shapes.blocks:
            prefix = f"layers.{block.index}."
            for norm in ("self_attn_layer_norm", "final_layer_norm"):
                expected[f"{prefix}{norm}.weight"] = expected[f"{prefix}{norm}.bias"] = (hidden,)
            for site in block.sites:
                expected[f"{prefix}{_MODULES[site.role]}.weight"] = (site.out_features, site.in_features)
                if site.has_bias:
                    expected[f"{prefix}{_MODULES[site.role]}.bias"] = (site.out_features,)
        expected["final_layer_norm.weight"] = expected["final_layer_norm.bias"] = (hidden,)
        if not shapes.is_tied:
            expected["lm_head.weight"] = (shapes.vocab_size, hidden)
        return expected

    def strip(self, name: str) -> str | None:
        """A stored name without `model.` and `decoder.`."""
        return name.removeprefix("model.").removeprefix("decoder.")


def _refuse_variants(config: dict[str, Any], hidden: int) -> None:
    if not read_flag(config, "do_layer_norm_before", default=True):
        raise UnsupportedArchitectureError(
            "The model is an OPT whose norms stand behind attention and MLP (do_layer_norm_before in config.json, as "
            "in opt-350m), which is not supported; take another size."
        )
    if read_flag(config, "_remove_final_layer_norm", default=False):
        raise UnsupportedArchitectureError(
            "The model is an OPT without a norm before the head (_remove_final_layer_norm in config.json), which is "
            "not supported."
        )
    if not read_flag(config, "layer_norm_elementwise_affine", default=True):
        raise UnsupportedArchitectureError(
            "The model is an OPT whose norms have no gains (layer_norm_elementwise_affine in config.json), which is "
            "not supported."
        )
    if read_size(config, "word_embed_proj_dim", limit=WIDTH_LIMIT, default=hidden) != hidden:
        raise UnsupportedArchitectureError(
            "The model is an OPT whose embedding is narrower than its blocks (word_embed_proj_dim in config.json), "
            "which is not supported."
        )
    activation = read_text(config, "activation_function", default="relu")
    if activation not in _ACTIVATIONS:
        raise UnsupportedArchitectureError(
            f"The activation {activation!r} in config.json is not supported for opt; {', '.join(_ACTIVATIONS)} are."
        )


OPT = OPTFamily()
