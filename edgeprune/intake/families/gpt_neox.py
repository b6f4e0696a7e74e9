"""GPT-NeoX and Pythia: layer norms with biases, heads rotated in part, attention and MLP side by side, a plain MLP.

Queries, keys and values are stored in one matrix, head by head. Defaults are those of transformers 5.23.
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
from edgeprune.intake.families.plain import plain_block
from edgeprune.intake.families.rotary import read_rotary

__all__ = ["GPT_NEOX", "GPTNeoXFamily"]

_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu")
_ATTENTION = ("q", "k", "v", "o")


class GPTNeoXFamily:
    """See the module."""

    name = "gpt_neox"
    model_types: tuple[str, ...] = ("gpt_neox",)
    engine: Engine = "wired"
    engine_reason = (
        "mobius 0.1.0 knows no attention and MLP in a row, and onnxruntime refuses its rotation of an odd part of a "
        "head"
    )

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a GPT-NeoX configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: unknown rotary scaling or activation.
        """
        hidden = read_size(config, "hidden_size", limit=WIDTH_LIMIT)
        heads = read_size(config, "num_attention_heads", limit=WIDTH_LIMIT)
        block_count = read_size(config, "num_hidden_layers", limit=BLOCK_LIMIT)
        inner = read_size(config, "intermediate_size", limit=WIDTH_LIMIT)
        if hidden % heads != 0:
            raise ModelError(
                f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; "
                "the file is malformed."
            )
        activation = read_text(config, "hidden_act", default="gelu")
        if activation not in _ACTIVATIONS:
            raise UnsupportedArchitectureError(
                f"The activation {activation!r} in config.json is not supported for gpt_neox; "
                f"{', '.join(_ACTIVATIONS)} are."
            )
        head_dim = hidden // heads
        # Releases before transformers 5 name the share of a head that is rotated `rotary_pct`.
        rotary_dim = read_rotary(
            {**config, "partial_rotary_factor": config.get("partial_rotary_factor", config.get("rotary_pct"))},
            head_dim=head_dim,
            partial_default=0.25,
        )
        has_bias = read_flag(config, "attention_bias", default=True)
        biased = frozenset({"up", "down", *(_ATTENTION if has_bias else ())})
        return FamilyShapes(
            hidden_size=hidden,
            vocab_size=read_size(config, "vocab_size", limit=VOCABULARY_LIMIT),
            max_positions=read_size(config, "max_position_embeddings", limit=POSITION_LIMIT, default=2048),
            is_tied=read_flag(config, "tie_word_embeddings", default=False),
            position_kind="rotary",
            rotary_dim=rotary_dim,
            norm_kind="layer",
            norm_epsilon=read_number(config, "layer_norm_eps", default=1e-5),
            activation=activation,
            is_gated=False,
            sliding_window=None,
            blocks=tuple(
                plain_block(index, hidden=hidden, heads=heads, inner=inner, biased=biased)
                for index in range(block_count)
            ),
            final_norm_parameter_count=2 * hidden,
        )

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without `gpt_neox.`."""
        hidden = shapes.hidden_size
        expected: dict[str, tuple[int, ...]] = {"embed_in.weight": (shapes.vocab_size, hidden)}
        for block in shapes.blocks:
            prefix = f"layers.{block.index}."
            for norm in ("input_layernorm", "post_attention_layernorm"):
                expected[f"{prefix}{norm}.weight"] = expected[f"{prefix}{norm}.bias"] = (hidden,)
            sites = {site.role: site for site in block.sites}
            matrices = {
                "attention.query_key_value": (3 * hidden, hidden, sites["q"].has_bias),
                "attention.dense": (hidden, hidden, sites["o"].has_bias),
                "mlp.dense_h_to_4h": (block.intermediate_size, hidden, True),
                "mlp.dense_4h_to_h": (hidden, block.intermediate_size, True),
            }
            for module, (out_features, in_features, has_bias) in matrices.items():
                expected[f"{prefix}{module}.weight"] = (out_features, in_features)
                if has_bias:
                    expected[f"{prefix}{module}.bias"] = (out_features,)
        expected["final_layer_norm.weight"] = expected["final_layer_norm.bias"] = (hidden,)
        if not shapes.is_tied:
            expected["lm_head.weight"] = (shapes.vocab_size, hidden)
        return expected

    def strip(self, name: str) -> str | None:
        """A stored name without `gpt_neox.`; None for masks and frequencies that old checkpoints carry.

        The head was `embed_out` before transformers 5.
        """
        if name.endswith((".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq")):
            return None
        return "lm_head.weight" if name == "embed_out.weight" else name.removeprefix("gpt_neox.")


GPT_NEOX = GPTNeoXFamily()
