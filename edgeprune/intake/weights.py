"""`WeightShapes`: how many bytes a model's weights take at each precision, also where no family reads the model.

A `ModelSpec` promises that EdgePrune can compress and export what it describes. For architectures that it cannot, the
published configuration still tells every matrix; that is enough for parameters and bytes, not for memory or time.
The layouts below follow the modules of transformers 5.23 (`models/<model_type>/modeling_<model_type>.py`);
`mobilellm` follows the code beside facebook/MobileLLM-125M. A test counts them against transformers itself.
"""

from dataclasses import dataclass
from typing import Any

from edgeprune.errors import UnsupportedArchitectureError
from edgeprune.intake.config import (
    BLOCK_LIMIT,
    POSITION_LIMIT,
    VOCABULARY_LIMIT,
    WIDTH_LIMIT,
    read_flag,
    read_size,
)
from edgeprune.schema.kernel import stored_bytes

__all__ = ["LAYOUT_TYPES", "Matrix", "WeightShapes", "weight_shapes"]

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """`count` matrices of one shape."""

    in_features: int
    out_features: int
    count: int


@dataclass(frozen=True, kw_only=True)
class WeightShapes:
    """Everything a model stores."""

    matrices: tuple[Matrix, ...]
    """Projections and tables; a tied table once."""
    vector_parameter_count: int
    """Norms, biases and learned positions, which no kernel quantises."""
    max_positions: int

    @property
    def parameter_count(self) -> int:
        """Stored parameters."""
        matrices = sum(matrix.in_features * matrix.out_features * matrix.count for matrix in self.matrices)
        return matrices + self.vector_parameter_count

    def stored_bytes(self, kernel: str) -> int:
        """Bytes of all tensors with every matrix under one kernel.

        Raises:
            UsageError: no such kernel.
        """
        matrices = sum(
            matrix.count * stored_bytes(kernel, in_features=matrix.in_features, out_features=matrix.out_features)
            for matrix in self.matrices
        )
        return matrices + FLOAT_BYTES * self.vector_parameter_count


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What a decoder of one type stores, where it differs from a Llama."""

    is_gated: bool = True
    block_norms: int = 2
    """Vectors of the hidden size in a block: gains, and biases where the norm has them."""
    final_norms: int = 1
    norms_heads: bool = False
    """Queries and keys have a gain of one head's size each."""
    norms_projections: bool = False
    """Queries and keys have a gain of their whole width each."""
    is_biased: bool = False
    """All projections have a bias, where the configuration does not say otherwise."""
    qkv_bias_key: str | None = None
    """Flag of the configuration that gives queries, keys and values a bias."""
    is_tied: bool = False
    """Where the configuration does not say."""
    tied_key: str = "tie_word_embeddings"
    has_head_bias: bool = False
    extra_positions: int | None = None
    """Rows a learned position table has beyond the positions; None for rotary positions."""
    refused_flags: tuple[str, ...] = ()
    """Flags that change what is stored in ways not read here."""


_LAYOUTS: dict[str, _Layout] = {
    "gemma": _Layout(is_tied=True),
    "gemma2": _Layout(block_norms=4, is_tied=True),
    "gemma3_text": _Layout(block_norms=4, norms_heads=True, is_tied=True),
    "gpt_neox": _Layout(is_gated=False, block_norms=4, final_norms=2, is_biased=True),
    "granite": _Layout(),
    "mobilellm": _Layout(tied_key="share_embedding", refused_flags=("layer_sharing",)),
    "olmo": _Layout(block_norms=0, final_norms=0),
    "olmo2": _Layout(norms_projections=True),
    "opt": _Layout(is_gated=False, block_norms=4, final_norms=2, is_biased=True, is_tied=True, extra_positions=2),
    "phi": _Layout(is_gated=False, final_norms=2, is_biased=True, has_head_bias=True, refused_flags=("qk_layernorm",)),
    "phi3": _Layout(),
    "smollm3": _Layout(is_tied=True),
    "stablelm": _Layout(
        block_norms=4,
        final_norms=2,
        qkv_bias_key="use_qkv_bias",
        refused_flags=("qk_layernorm", "use_parallel_residual"),
    ),
}

LAYOUT_TYPES = tuple(_LAYOUTS)
"""`model_type` values whose weights can be counted."""


def weight_shapes(config: dict[str, Any]) -> WeightShapes:
    """The weights a configuration describes.

    Raises:
        ModelError: a field is missing or malformed.
        UnsupportedArchitectureError: not one of `LAYOUT_TYPES`, or a variant of it that stores something else.
    """
    kind = config.get("model_type")
    layout = _LAYOUTS.get(str(kind))
    if layout is None:
        raise UnsupportedArchitectureError(
            f"The weights of the architecture {kind!r} cannot be counted from its configuration; "
            f"those of {', '.join(LAYOUT_TYPES)} can."
        )
    hidden = read_size(config, "hidden_size", limit=WIDTH_LIMIT)
    _refuse_variants(config, layout, hidden)
    blocks = read_size(config, "num_hidden_layers", limit=BLOCK_LIMIT)
    heads = read_size(config, "num_attention_heads", limit=WIDTH_LIMIT)
    kv_heads = read_size(config, "num_key_value_heads", limit=WIDTH_LIMIT, default=heads)
    head_dim = read_size(config, "head_dim", limit=WIDTH_LIMIT, default=max(1, hidden // heads))
    inner = read_size(config, "intermediate_size", "ffn_dim", limit=WIDTH_LIMIT, default=4 * hidden)
    vocab = read_size(config, "vocab_size", limit=VOCABULARY_LIMIT)
    positions = read_size(config, "max_position_embeddings", limit=POSITION_LIMIT)
    query, key = heads * head_dim, kv_heads * head_dim
    is_tied = read_flag(config, layout.tied_key, default=layout.is_tied)
    matrices = (
        Matrix(in_features=hidden, out_features=query, count=blocks),
        Matrix(in_features=hidden, out_features=key, count=2 * blocks),
        Matrix(in_features=query, out_features=hidden, count=blocks),
        Matrix(in_features=hidden, out_features=inner, count=(2 if layout.is_gated else 1) * blocks),
        Matrix(in_features=inner, out_features=hidden, count=blocks),
        Matrix(in_features=hidden, out_features=vocab, count=1 if is_tied else 2),
    )
    block = layout.block_norms * hidden
    block += 2 * head_dim if layout.norms_heads else 0
    block += query + key if layout.norms_projections else 0
    block += _biases(config, layout, query=query, key=key, hidden=hidden, inner=inner)
    outside = layout.final_norms * hidden + (vocab if layout.has_head_bias else 0)
    if layout.extra_positions is not None:
        outside += (positions + layout.extra_positions) * hidden
    return WeightShapes(matrices=matrices, vector_parameter_count=blocks * block + outside, max_positions=positions)


def _biases(config: dict[str, Any], layout: _Layout, *, query: int, key: int, hidden: int, inner: int) -> int:
    """Bias entries of one block."""
    attention = query + 2 * key + hidden
    mlp = (2 if layout.is_gated else 1) * inner + hidden
    if layout.qkv_bias_key is not None:
        return query + 2 * key if read_flag(config, layout.qkv_bias_key, default=False) else 0
    count = attention if read_flag(config, "attention_bias", default=layout.is_biased) else 0
    return count + (mlp if layout.is_biased or read_flag(config, "mlp_bias", default=False) else 0)


def _refuse_variants(config: dict[str, Any], layout: _Layout, hidden: int) -> None:
    kind = config["model_type"]
    for flag in layout.refused_flags:
        if read_flag(config, flag, default=False):
            raise UnsupportedArchitectureError(
                f"The weights of a {kind} model with {flag} cannot be counted from its configuration."
            )
    projected = config.get("word_embed_proj_dim")
    if projected is not None and projected != hidden:
        raise UnsupportedArchitectureError(
            f"The weights of a {kind} model whose word_embed_proj_dim differs from hidden_size cannot be counted "
            "from its configuration."
        )
