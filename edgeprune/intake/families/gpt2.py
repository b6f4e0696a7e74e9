"""GPT-2: layer norms with biases, learned positions, one fused query-key-value matrix, a plain MLP.

Matrices are stored as Conv1D, [in, out]; a site is still y = W x + b with W [out, in].
"""

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
from edgeprune.intake.families.base import Engine, FamilyShapes
from edgeprune.schema.model import BlockSpec, SiteRole, SiteSpec, site_name

__all__ = ["GPT2", "GPT2Family"]

_ACTIVATIONS = ("gelu_new", "gelu", "gelu_pytorch_tanh", "relu", "silu")

_MODULES: dict[SiteRole, str] = {"qkv": "attn.c_attn", "o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}


class GPT2Family:
    """See the module."""

    name = "gpt2"
    model_types: tuple[str, ...] = ("gpt2",)
    engine: Engine = "mobius"
    engine_reason = ""

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a GPT-2 configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: cross attention, scaling by block index, or an unknown activation.
        """
        _refuse_variants(config)
        hidden = read_size(config, "n_embd", "hidden_size", limit=WIDTH_LIMIT, default=768)
        heads = read_size(config, "n_head", "num_attention_heads", limit=WIDTH_LIMIT, default=12)
        block_count = read_size(config, "n_layer", "num_hidden_layers", limit=BLOCK_LIMIT, default=12)
        if hidden % heads != 0:
            raise ModelError(
                f"config.json: n_embd {hidden} is not a multiple of n_head {heads}; the file is malformed."
            )
        inner = read_size(config, "n_inner", limit=WIDTH_LIMIT, default=4 * hidden)
        widths: dict[SiteRole, tuple[int, int]] = {
            "qkv": (3 * hidden, hidden),
            "o": (hidden, hidden),
            "up": (inner, hidden),
            "down": (hidden, inner),
        }
        blocks = tuple(
            BlockSpec(
                index=index,
                num_heads=heads,
                num_kv_heads=heads,
                head_dim=hidden // heads,
                intermediate_size=inner,
                sites=tuple(
                    SiteSpec(
                        name=site_name(index, role),
                        role=role,
                        in_features=width_in,
                        out_features=width_out,
                        has_bias=True,
                    )
                    for role, (width_out, width_in) in widths.items()
                ),
                norm_parameter_count=4 * hidden,
            )
            for index in range(block_count)
        )
        return FamilyShapes(
            hidden_size=hidden,
            vocab_size=read_size(config, "vocab_size", limit=VOCABULARY_LIMIT, default=50_257),
            max_positions=read_size(
                config, "n_positions", "max_position_embeddings", limit=POSITION_LIMIT, default=1024
            ),
            is_tied=read_flag(config, "tie_word_embeddings", default=True),
            position_kind="learned",
            rotary_dim=None,
            norm_kind="layer",
            norm_epsilon=read_number(config, "layer_norm_epsilon", default=1e-5),
            activation=read_text(config, "activation_function", default="gelu_new"),
            is_gated=False,
            sliding_window=None,
            blocks=blocks,
            final_norm_parameter_count=2 * hidden,
        )

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without `transformer.`."""
        hidden = shapes.hidden_size
        expected: dict[str, tuple[int, ...]] = {
            "wte.weight": (shapes.vocab_size, hidden),
            "wpe.weight": (shapes.max_positions, hidden),
        }
        for block in shapes.blocks:
            prefix = f"h.{block.index}."
            for norm in ("ln_1", "ln_2"):
                expected[f"{prefix}{norm}.weight"] = (hidden,)
                expected[f"{prefix}{norm}.bias"] = (hidden,)
            for site in block.sites:
                expected[f"{prefix}{_MODULES[site.role]}.weight"] = (site.in_features, site.out_features)
                expected[f"{prefix}{_MODULES[site.role]}.bias"] = (site.out_features,)
        expected["ln_f.weight"] = (hidden,)
        expected["ln_f.bias"] = (hidden,)
        if not shapes.is_tied:
            expected["lm_head.weight"] = (shapes.vocab_size, hidden)
        return expected

    def strip(self, name: str) -> str | None:
        """A stored name without `transformer.`; None for the causal masks old checkpoints carry."""
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            return None
        return name.removeprefix("transformer.")


def _refuse_variants(config: dict[str, Any]) -> None:
    if read_flag(config, "add_cross_attention", default=False):
        raise UnsupportedArchitectureError(
            "The model is a GPT-2 with cross attention (add_cross_attention in config.json), the decoder of an "
            "encoder-decoder, which is not supported."
        )
    if read_flag(config, "scale_attn_by_inverse_layer_idx", default=False):
        raise UnsupportedArchitectureError(
            "The model scales attention by block index (scale_attn_by_inverse_layer_idx in config.json), which does "
            "not survive dropping blocks and is not supported."
        )
    if not read_flag(config, "scale_attn_weights", default=True):
        raise UnsupportedArchitectureError(
            "The model does not scale attention weights (scale_attn_weights in config.json), which is not supported."
        )
    activation = read_text(config, "activation_function", default="gelu_new")
    if activation not in _ACTIVATIONS:
        raise UnsupportedArchitectureError(
            f"The activation {activation!r} in config.json is not supported for gpt2; {', '.join(_ACTIVATIONS)} are."
        )


GPT2 = GPT2Family()
