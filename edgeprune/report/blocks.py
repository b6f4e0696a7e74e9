"""What was removed from each block, from the shapes before and after."""

from edgeprune.schema.kernel import FLOAT32, stored_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.schema.report import BlockRow
from edgeprune.shapes import block_parameter_count, stored_matrices

__all__ = ["block_bytes", "block_rows", "vocabulary_text"]


def block_rows(dense_spec: ModelSpec, edited_spec: ModelSpec) -> tuple[BlockRow, ...]:
    """One row for every block of the dense model."""
    edited = {block.index: block for block in edited_spec.blocks}
    return tuple(_row(block, edited.get(block.index)) for block in dense_spec.blocks)


def vocabulary_text(dense_spec: ModelSpec, edited_spec: ModelSpec) -> str:
    """Such as `5,120 of 8,192 tokens, tables int8_b32_a4`."""
    return f"{edited_spec.vocab_size:,} of {dense_spec.vocab_size:,} tokens, tables {edited_spec.table_kernel}"


def block_bytes(block: BlockSpec) -> int:
    """Stored bytes of a block: sites, biases and norms."""
    return 4 * block.norm_parameter_count + sum(map(_site_bytes, block.sites))


def _row(dense: BlockSpec, edited: BlockSpec | None) -> BlockRow:
    if edited is None:
        return BlockRow(
            index=dense.index,
            is_dropped=True,
            kept_fraction=0.0,
            bytes_kept_fraction=0.0,
            sites={},
            channels=f"0 of {dense.intermediate_size}",
            groups=f"0 of {dense.num_kv_heads}",
        )
    return BlockRow(
        index=dense.index,
        is_dropped=False,
        kept_fraction=block_parameter_count(edited) / block_parameter_count(dense),
        bytes_kept_fraction=block_bytes(edited) / block_bytes(dense),
        sites={site.role: _form(site) for site in edited.sites},
        channels=f"{edited.intermediate_size} of {dense.intermediate_size}",
        groups=f"{edited.num_kv_heads} of {dense.num_kv_heads}",
    )


def _form(site: SiteSpec) -> str:
    if site.rank is None:
        return site.kernel if site.kernel != FLOAT32 else "dense fp32"
    form = "" if site.form == "factors" else f" {site.form}"
    return f"rank {site.rank}{form} {site.kernel}"


def _site_bytes(site: SiteSpec) -> int:
    vectors = int(site.has_bias) + int(site.has_row_order)
    matrices = stored_matrices(site.in_features, site.out_features, site.rank, site.form)
    parts = [stored_bytes(site.kernel, in_features=width, out_features=height) for width, height in matrices]
    return sum(parts) + 4 * vectors * site.out_features
