"""Bytes of a bundle on disk: tensors, graph file, tokenizer and configuration; `eval/` and the manifest not counted.

Formulas: `schema.kernel.stored_bytes` for every matrix, 4 bytes for every bias, norm and position entry, rotary
tables [context, rotary_dim / 2] twice in float32, `structure` for the graph file. A trimmed tokenizer is written anew,
without the white space its source may have, and its first tokens are the short ones: its bytes are those calibration
wrote for the kept counts it scored, linear between them, and scaled by the kept vocabulary where it wrote none.
"""

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace

from edgeprune.schema.kernel import stored_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.shapes import stored_matrices

__all__ = [
    "CONFIG_BYTES",
    "block_tensor_bytes",
    "fixed_tensor_bytes",
    "site_tensor_bytes",
    "table_tensor_bytes",
    "tokenizer_bytes",
]

FLOAT_BYTES = 4
CONFIG_BYTES = 4_500
"""config.json, genai_config.json, generation_config.json and the model card."""
TOKENIZER_FIXED_BYTES = 1_500
"""Normaliser, pre-tokeniser, special tokens and tokenizer_config.json, which trimming leaves."""


def site_tensor_bytes(site: SiteSpec, *, kernel: str, rank: int | None) -> int:
    """Stored bytes of one site: its matrix or both parts in the site's form, its bias, and its row order (int32)."""
    vectors = int(site.has_bias) + int(replace(site, rank=rank).has_row_order)
    matrices = stored_matrices(site.in_features, site.out_features, rank, site.form)
    parts = [stored_bytes(kernel, in_features=width, out_features=height) for width, height in matrices]
    return sum(parts) + FLOAT_BYTES * vectors * site.out_features


def block_tensor_bytes(block: BlockSpec) -> int:
    """Norm gains and biases of a block, and the scales of its cache where that has 8 bits."""
    scales = 0 if block.kv_bits == 32 else 2 * block.num_kv_heads * block.head_dim
    return FLOAT_BYTES * (block.norm_parameter_count + scales)


def table_tensor_bytes(spec: ModelSpec, *, vocab_size: int, kernel: str) -> int:
    """Embedding and head; one table when they are tied."""
    one = stored_bytes(kernel, in_features=spec.hidden_size, out_features=vocab_size)
    return one if spec.is_tied else 2 * one


def fixed_tensor_bytes(spec: ModelSpec, *, context_tokens: int) -> int:
    """Final norm and position tables, which no recipe changes; tables are cut to the context."""
    rows = min(context_tokens, spec.max_positions)
    if spec.position_kind == "learned":
        positions = rows * spec.hidden_size * FLOAT_BYTES
    else:
        positions = spec.rotary_table_count * 2 * rows * ((spec.rotary_dim or 0) // 2) * FLOAT_BYTES
    return FLOAT_BYTES * spec.final_norm_parameter_count + positions


def tokenizer_bytes(spec: ModelSpec, *, vocab_size: int, written: Mapping[int, int] | None = None) -> int:
    """Tokenizer files with that many tokens.

    Args:
        spec: the dense model, whose files are passed on as they are where all tokens stay.
        vocab_size: tokens kept.
        written: kept count -> bytes of the trimmed tokenizer.json.
    """
    if vocab_size >= spec.vocab_size:
        return spec.tokenizer_bytes
    if not written:
        fixed = min(TOKENIZER_FIXED_BYTES, spec.tokenizer_bytes)
        return fixed + round((spec.tokenizer_bytes - fixed) * vocab_size / spec.vocab_size)
    counts = sorted(written)
    if not counts[0] <= vocab_size <= counts[-1]:
        near = counts[0] if vocab_size < counts[0] else counts[-1]
        return round(written[near] * vocab_size / near)
    return round(float(np.interp(vocab_size, counts, [written[count] for count in counts])))
