"""Predicts what applying a recipe block by block needs: the largest of its steps, each of which holds about one matrix.

Counted is anonymous memory, which no file backs: mapped weights are pages of their files, and the system takes them
back when memory is short. Of the steps, by width `in` of a site's input and its height `out`:

    measuring     hidden states of all windows twice, the Grams of one block (or the inputs, where those are smaller),
                  one product of the widest input, and what a block computes for one batch
    factoring     the Gram and its triangle, and five copies of the matrix, in float64
    rounding      with GPTQ the Grams of a block, one H in float64 and U in float32, and four copies of the matrix;
                  to nearest six copies; of the tables, four copies of the larger one
    comparing     the bundle's weights as the kernels want them, and torch's logits
"""

from pathlib import Path

from edgeprune.pipeline.host import free_resources
from edgeprune.schema.kernel import parse_kernel, stored_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.run import HostNeeds
from edgeprune.shapes import edit_shapes, site_parameter_count

__all__ = ["LIBRARY_ANONYMOUS_BYTES", "predict_by_block", "step_bytes"]

LIBRARY_ANONYMOUS_BYTES = 500_000_000
"""A process with torch, transformers, mobius and onnxruntime imported, and what the allocator keeps of temporaries."""

_PREPARED = 1.25
"""Bytes of the copy onnxruntime makes of int4 weights over their own: 1.24 in blocks of 32, 1.10 of 128 (1.31)."""
_BATCH_TOKENS = 512
_STREAM_TOKENS = 8_192
_SIMILARITY_TOKENS = 2_048
_PARITY_LOGITS = 5 * 96
"""Rows of logits that are compared, torch's and one of the runtime's at a time."""


def predict_by_block(spec: ModelSpec, recipe: Recipe, folder: Path, *, token_count: int) -> HostNeeds:
    """Memory and disk of a recipe applied block by block to this model, and what is free.

    Raises:
        UsageError: the recipe does not fit the model.
    """
    steps = step_bytes(spec, recipe, token_count=token_count)
    edited = edit_shapes(spec, recipe)
    weights = _bundle_bytes(edited)
    # Rounded weights wait in files as they are stored, factors and tables in float32 besides.
    factored = 4 * sum(
        site_parameter_count(site) for block in edited.blocks for site in block.sites if site.rank is not None
    )
    tables = 4 * (1 if spec.is_tied else 2) * spec.vocab_size * spec.hidden_size
    kept = set(_ranked_blocks(recipe))
    grams = sum(_gram_bytes(block, spec, token_count) for block in spec.blocks if block.index in kept)
    directions = 4 * min(token_count, _SIMILARITY_TOKENS) * spec.hidden_size * len(spec.blocks)
    disk = 2 * weights + factored + tables + 2 * (grams + directions) + spec.tokenizer_bytes + 20_000_000
    free_memory, free_disk = free_resources(folder)
    return HostNeeds(
        memory_bytes=max(steps.values()),
        disk_bytes=disk,
        free_memory_bytes=free_memory,
        free_disk_bytes=free_disk,
    )


def step_bytes(spec: ModelSpec, recipe: Recipe, *, token_count: int) -> dict[str, int]:
    """Step -> anonymous memory at its peak, the libraries included."""
    edited = edit_shapes(spec, recipe)
    width = max(max(site.in_features for site in block.sites) for block in spec.blocks)
    block = max(_gram_bytes(block, spec, token_count) for block in spec.blocks)
    states = 2 * 4 * token_count * spec.hidden_size
    batch = 4 * _BATCH_TOKENS * max(6 * spec.hidden_size + 4 * block.intermediate_size for block in spec.blocks)
    largest = 4 * max(site.in_features * site.out_features for block in spec.blocks for site in block.sites)
    found = {"measuring": states + block + 4 * width**2 + batch + 2 * largest}
    ranked = {edit.name for edit in recipe.sites if edit.rank is not None}
    if ranked:
        found["factoring"] = max(
            8 * (2 * site.in_features**2 + 5 * site.in_features * site.out_features)
            for block_spec in spec.blocks
            for site in block_spec.sites
            if site.name in ranked
        )
    table = 4 * spec.vocab_size * spec.hidden_size
    found["rounding"] = 6 * largest
    if recipe.rounding == "gptq":
        held = min(_STREAM_TOKENS, token_count)
        grams = max(_full_gram_bytes(block, spec) for block in spec.blocks)
        found["rounding"] = 2 * 4 * held * spec.hidden_size + grams + 12 * width**2 + 4 * largest
    found["tables"] = 4 * table if parse_kernel(recipe.table_kernel).bits != 32 else 2 * table
    found["comparing"] = round(_PREPARED * _bundle_bytes(edited)) + 4 * 2 * _PARITY_LOGITS * spec.vocab_size + largest
    return {name: LIBRARY_ANONYMOUS_BYTES + size for name, size in found.items()}


def _ranked_blocks(recipe: Recipe) -> list[int]:
    return sorted({int(edit.name.split(".")[1]) for edit in recipe.sites if edit.rank is not None})


def _inputs(block: BlockSpec, spec: ModelSpec) -> list[int]:
    """Widths of the inputs that sites share."""
    attention = [spec.hidden_size, block.num_heads * block.head_dim] if block.has_attention else []
    return attention + ([spec.hidden_size, block.intermediate_size] if block.has_mlp else [])


def _full_gram_bytes(block: BlockSpec, spec: ModelSpec) -> int:
    return sum(8 * width**2 for width in _inputs(block, spec))


def _gram_bytes(block: BlockSpec, spec: ModelSpec, token_count: int) -> int:
    return sum(min(8 * width**2, 4 * token_count * width) for width in _inputs(block, spec))


def _bundle_bytes(edited: ModelSpec) -> int:
    """The matrices of a bundle; a tied table is prepared for the head besides being stored for the embedding."""
    table = stored_bytes(edited.table_kernel, in_features=edited.hidden_size, out_features=edited.vocab_size)
    total = 2 * table
    for block in edited.blocks:
        for site in block.sites:
            if site.rank is None:
                total += stored_bytes(site.kernel, in_features=site.in_features, out_features=site.out_features)
            else:
                total += stored_bytes(site.kernel, in_features=site.in_features, out_features=site.rank)
                total += stored_bytes(site.kernel, in_features=site.rank, out_features=site.out_features)
    return total
