"""v and o of one block with few values a head, from the statistics of the model as it is (`merged_values`)."""

import torch
from torch import nn

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.compress.factor_site import site_inputs
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.merged_values import first_of_heads, merge_values, value_bases
from edgeprune.compress.passes import Work, check_finite
from edgeprune.errors import ModelError
from edgeprune.schema.model import BlockSpec, site_name
from edgeprune.schema.recipe import SiteEdit

__all__ = ["merge_block_values"]


def merge_block_values(work: Work, block: nn.Module, spec: BlockSpec, edit: SiteEdit) -> None:
    """Put `HeadRows` and `HeadColumns` in the places of v and o.

    Args:
        work: whose statistics count.
        block: of the model.
        spec: with the heads it has.
        edit: of v; that of o has as much of every head.

    Raises:
        ModelError: weights or statistics that are not finite.
    """
    assert edit.rank is not None
    adapter = work.loaded.adapter
    value, output = adapter.site(block, "v"), adapter.site(block, "o")
    assert isinstance(value, nn.Linear)
    assert isinstance(output, nn.Linear)
    name = site_name(spec.index, "o")
    inputs = site_inputs(name, output, work.stats)
    check_finite(f"The input statistics of {name}", inputs.gram)
    kept = edit.rank // spec.num_kv_heads
    try:
        with one_thread():
            bases = value_bases(
                inputs.weight,
                inputs.gram,
                head_count=spec.num_heads,
                group_count=spec.num_kv_heads,
                output_gram=inputs.output_gram,
            )
            merged = merge_values(
                value.weight.detach(),
                None if value.bias is None else value.bias.detach(),
                inputs.weight,
                inputs.bias,
                bases=bases,
                kept=kept,
                gram=inputs.gram,
                mean=inputs.mean,
            )
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ModelError(
            f"The values of block {spec.index} cannot be weighed ({error}); the model's weights or the calibration "
            "statistics are not finite, check the model or calibrate again."
        ) from error
    check_finite(name, *merged)
    bias = None
    if merged.rows_bias is not None:
        bias = torch.zeros(value.out_features)
        bias[first_of_heads(spec.num_kv_heads, spec.head_dim, kept)] = merged.rows_bias.float()
    rows = HeadRows(merged.rows.float().contiguous(), spec.num_kv_heads, value.out_features, bias)
    columns_bias = None if merged.columns_bias is None else merged.columns_bias.float()
    columns = HeadColumns(merged.columns.float().contiguous(), spec.num_heads, output.in_features, columns_bias)
    adapter.set_site(block, "v", rows)
    adapter.set_site(block, "o", columns)
